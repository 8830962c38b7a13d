"""The figures that READMEs take from kept results are the ones that were measured.

Every number of a table's cell, or of a sentence, is compared with its source, rounded as printed.
A new row of a table without a source is a failure, too.
"""

import json
import re
import subprocess
from collections import Counter
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pytest
from scale import BYTES_PER_ROW, project

from lab import findings, judge, results
from populator.rows import Generator, Segment, draw_cities
from users.patterns import PATTERNS

ROOT = Path(__file__).parents[1]
NUMBER = re.compile(r"(?<!\w)\d[\d,]*(?:\.\d+)?")  # not the 95 of p95
RUNS = sorted(path.parent.name for path in (ROOT / "simulate/results").glob("*/plan.json"))
DATE = datetime(2026, 1, 1, tzinfo=UTC)  # of timestamps, which no README quotes


@cache
def readme(path="README.md"):
    return (ROOT / path).read_text()


def table(first_header, path="README.md"):
    """The rows below a header line that begins so, each a list of its cells."""
    (start,) = re.findall(
        rf"^\| {re.escape(first_header)} \|.*\n\|[- |]+\n((?:\|.*\n)+)", readme(path), re.M
    )
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in start.splitlines()]


def sentence(pattern, path="README.md"):
    """What the groups of a pattern hold; in the pattern, a space is any white space."""
    found = re.findall(pattern.replace(" ", r"\s+"), readme(path))
    assert len(found) == 1, f"{path} has {len(found)} times: {pattern}"
    return found[0] if isinstance(found[0], str) else " ".join(found[0])


def assert_says(text, *values):
    """The numbers in the text are these values, each rounded as it is printed."""
    printed = [number.replace(",", "") for number in NUMBER.findall(text)]
    assert len(printed) == len(values), f"{text!r} should have {len(values)} numbers: {values}"
    for number, value in zip(printed, values, strict=True):
        half_a_step = 0.5 * 10 ** -len(number.partition(".")[2])
        assert abs(float(number) - value) <= half_a_step + 1e-9, f"{text!r}: measured {value}"


@cache
def summary(name):
    return json.loads((ROOT / f"benchmarks/results/{name}.json").read_text())["summary"]


def median(name, key):
    return summary(name)[key]["median"]


@cache
def kept(run):
    """A folder below simulate/results."""
    return results.load(ROOT / "simulate" / "results" / run)


def cells(run, lever, pattern, users):
    """The warm cells of a lever, pattern and number of users: one or none."""
    return [
        cell
        for cell in kept(run).valid_cells
        if (cell["lever"], cell["pattern"], cell["users"]) == (lever, pattern, users)
    ]


@pytest.mark.parametrize("run", RUNS)
def test_a_run_is_of_one_revision_machine_and_plan(run):
    plan = kept(run).plan
    assert not plan["revision"].endswith("-dirty")
    for found in [*kept(run).cells, *kept(run).searches]:
        assert (found["revision"], found["machine"]) == (plan["revision"], plan["machine"])


@pytest.mark.parametrize("run", RUNS)
def test_nothing_kept_is_invalid(run):
    assert not [one for one in [*kept(run).cells, *kept(run).searches] if one["invalid"]]


@pytest.mark.parametrize("run", RUNS)
def test_a_kept_run_is_small(run):
    command = ["git", "ls-files", "-z", f"simulate/results/{run}"]
    names = subprocess.check_output(command, cwd=ROOT, text=True).split("\0")
    sizes = [path.stat().st_size for name in names if name and (path := ROOT / name).exists()]
    assert 0 < sum(sizes) < 1_500_000  # bytes; 100 searches are 1,269,067


LOADING = {
    "ready to serve": "ready, s",
    "`pgbench -i -s 100`": "pgbench, s",
    "ready / pgbench": "ready / pgbench",
    "copying while generating": "copying / server-side COPY, 1 stream",
    "the same against two": "copying / server-side COPY, 2 streams",
}


@pytest.mark.parametrize("row", table("10 million rows"), ids=lambda row: row[0][:20])
def test_how_fast_it_loads(row):
    (key,) = [key for start, key in LOADING.items() if row[0].startswith(start)]
    spread = summary("load")[key]
    for text, column in zip(row[1:], ("median", "min", "max"), strict=True):
        assert_says(text, spread[column])


def test_loading_other_sizes():
    rates = [
        median("load", f"{rows:,} rows: rows_per_second") / 1e6
        for rows in (10**6, 10**7, 3 * 10**7, 10**5)
    ]
    said = sentence(r"are copied at (.+?) million rows/s; 100,000 rows at (\S+),")
    assert_says(said, *rates)


def test_the_populators_memory():
    peaks = [spread["max"] for name, spread in summary("load").items() if "peak_mb" in name]
    assert_says(sentence(r"needs (\S+) MB at most"), max(peaks))


@cache
def scale():
    """What was measured of each table, in the order of the columns."""
    return json.loads((ROOT / "benchmarks/results/scale-1.json").read_text())["tables"]


SCALE = {  # the keys of each row of the table, and their unit
    "copied, million rows/s": (1e6, "copied_rows_per_second"),
    "ready to serve, s": (1, "ready_s"),
    "a million rows more, s": (1, "growth_s"),
    "memory of the populator, MB": (1, "populator_mb"),
    "memory of the server's processes, MB": (1, "server_mb"),
    "WAL of the load, bytes a row": (1, "wal_bytes_per_row"),
    "data-query after a load, s": (1, "full_gate_s"),
    "data-query at a later start, s": (1, "gate_s"),
    "data-populator at a later start, s": (1, "populator_start_s"),
    "rows of a location": (1, "rows_per_location"),
    "lookup, warm: p50, p99, us": (1, "warm_p50_us", "warm_p99_us"),
    "lookup, cold: p50, p99, ms": (1000, "cold_p50_us", "cold_p99_us"),
    "p99 before a checkpoint, us": (1, "before_checkpoint_p99_us"),
    "p99 beside a checkpoint, us": (1, "beside_checkpoint_p99_us"),
}


@pytest.mark.parametrize(
    "row", table("rows in the table", "data-populator/README.md"), ids=lambda row: row[0][:25]
)
def test_how_it_scales(row):
    tables = list(scale().values())
    assert len(row) == 1 + len(tables)
    for text, measured in zip(row[1:], tables, strict=True):
        if row[0] == "on disk, bytes a row":
            sizes = [measured[name] for name in BYTES_PER_ROW if name in measured]
            values = [sum(sizes)] if sizes else []
        else:
            unit, *names = SCALE[row[0]]
            values = [measured[name] / unit for name in names if measured.get(name) is not None]
        assert_says(text, *values)


def test_a_scale_that_was_computed_and_measured():
    small, large = list(scale().values())[1:3]
    predicted = project(small, large["rows"])
    names = ("ready_s", "full_gate_s", "warm_p50_us")
    said = sentence(
        r"would take (\S+) s to load, (\S+) s to check and (\S+) us for a lookup;"
        r" measured were ([^.]+)\.",
        "data-populator/README.md",
    )
    assert_says(said, *(predicted[name] for name in names), *(large[name] for name in names))
    said = sentence(r"rows takes (\S+) times what ten loads", "data-populator/README.md")
    assert_says(said, large["ready_s"] / small["ready_s"] / 10)
    said = sentence(r"in (\d+) checkpoints, after", "data-populator/README.md")
    assert_says(said, large["checkpoints_by_wal"])


ANSWERING = {
    "nginx, a constant": "nginx constant",
    "nginx's edge cache": "edge cache",
    "bare Flask, a constant": "bare Flask",
    "memory and Redis (default)": "memory and Redis",
    "Redis alone": "Redis alone",
    "PostgreSQL, every request": "PostgreSQL",
}


@pytest.mark.parametrize("row", table("who answers"), ids=lambda row: row[0])
def test_how_fast_it_answers(row):
    variant = ANSWERING[row[0]]
    spreads = summary("serve")
    assert_says(row[1], median("serve", f"{variant}: requests_per_second"))
    assert_says(row[2], median("serve", f"{variant}: p99_ms"))
    at_fixed_rate = spreads.get(f"{variant}, 800/s: p99_ms") if row[3] else None
    assert_says(row[3], *([at_fixed_rate["median"]] if at_fixed_rate else []))
    ceiling = {"edge cache": "constant"}.get(variant, "bare Flask")
    ratio = spreads.get(f"{variant} / {ceiling}", {})
    assert_says(row[4], *(ratio[column] for column in ("median", "min", "max") if ratio))


def test_answering_with_one_replica():
    said = sentence(r"With 1 replica the last three are (.+?) of bare Flask")
    variants = ("memory and Redis", "Redis alone", "PostgreSQL")
    assert_says(said, *(median("serve", f"{v} / bare Flask, 1 replica") for v in variants))


def test_what_a_request_costs_the_generator():
    said = sentence(
        r"takes (\S+) us of CPU through Locust's FastHttpUser and (\S+) us over\s+"
        r"`users/http_connection.py`: (\S+) times \(([^;]+);",
        "simulate/README.md",
    )
    clients = ("FastHttpUser", "HttpConnection")
    ratio = summary("http_client")["cpu_us, HttpConnection / FastHttpUser"]
    values = [median("http_client", f"{client}: cpu_us") for client in clients]
    assert_says(said, *values, *(ratio[name] for name in ("median", "min", "max")))


def test_pages_at_a_fixed_rate():
    said = sentence(r"the p99 of the form is (\S+) ms, that of 10 locations (\S+) ms")
    pages = ("form", "locations")
    assert_says(said, *(median("serve", f"{page}, 800/s: p99_ms") for page in pages))


def test_a_lookup():
    average, ping, small = (
        median("serve", f"{name}: p50_us")
        for name in ("average", "SELECT 1", "average, 100,000 rows")
    )
    ratio = summary("serve")["average / SELECT 1"]
    said = sentence(r"A lookup takes (\S+) us .+?, `SELECT 1` takes (\S+) us \(([^)]+)\),")
    assert_says(said, average, ping, *(ratio[name] for name in ("median", "min", "max")))
    said = sentence(r"in a table of 100,000 rows (\S+) us \((\S+) times\)")
    assert_says(said, small, median("serve", "average / the same of 100,000 rows"))


TUNING = {
    "`EDGE_CACHE=on`": ("memory and Redis", "edge cache"),
    "`MEMORY_CACHE=true`": ("Redis alone", "memory and Redis"),
    "`CACHE=true`": ("PostgreSQL", "Redis alone"),
    "3 replicas instead of 1": ("memory and Redis, 1 replica", "memory and Redis"),
}


@pytest.mark.parametrize("row", table("setting")[:4], ids=lambda row: row[0])
def test_tuning(row):
    said = row[1].partition(" requests/s")[0]
    assert_says(said, *(median("serve", f"{v}: requests_per_second") for v in TUNING[row[0]]))


@pytest.mark.parametrize("row", table("lever"), ids=lambda row: row[0])
def test_how_many_users_a_lever_carries(row):
    capacity = kept("capacity").capacities[row[0]]["random"]
    knee = capacity.knee
    assert ("at least" in row[1]) == capacity.users.at_least
    assert_says(row[1], capacity.users.mean)
    bounds = () if capacity.users.at_least else (capacity.users.low, capacity.users.high)
    assert_says(row[2], *bounds)
    factor = capacity.factor
    values = (factor.mean, factor.low, factor.high) if factor else ()
    assert_says(row[3], *(values[:1] if factor and factor.at_least else values))
    assert_says(row[4], sum(results.demands(knee).values()))


@pytest.mark.parametrize("row", table("lever"), ids=lambda row: row[0])
def test_how_many_users_a_lever_carries_in_containers(row):
    levers = kept("compose").capacities
    users = levers[row[0]]["random"].users if row[0] in levers else None
    assert ("at least" in row[5]) == bool(users and users.at_least)
    values = (users.mean, users.low, users.high) if users else ()
    assert_says(row[5], *(values[:1] if users and users.at_least else values))


def test_what_containers_carry_against_plain_processes():
    said = sentence(
        r"In containers the default settings carry (\S+) times the users, with the cache off it is"
        r" (\S+) times and without a pool (\S+) times \("
    )
    pairs = results.side_by_side([kept("capacity"), kept("compose")])
    ratios = {pair.lever: pair.ratio for pair in pairs}
    levers = ("default settings", "cache off", "cache off, pool off")
    assert_says(said, *(ratios[lever].mean for lever in levers))


@pytest.mark.parametrize("row", table("users that each carries"), ids=lambda row: row[0])
def test_how_many_users_of_each_pattern_a_lever_carries(row):
    assert len(row) == 1 + len(PATTERNS)
    for text, pattern in zip(row[1:], PATTERNS, strict=True):
        users = kept("patterns").capacities[row[0]][pattern].users
        assert_says(text, users.mean, users.low, users.high)


def test_where_a_pattern_makes_a_difference():
    said = sentence(
        r"of the (\S+) comparisons with random users one found a difference\. With Redis alone"
        r" (\S+) times as many weighted users fit \(([^)]+)\)"
    )
    rows = results.group_repeats(kept("patterns").valid_searches)
    ratios = {
        (lever, pattern): results.ratio(rows[lever, "random"], repeats)
        for (lever, pattern), repeats in rows.items()
        if pattern != "random"
    }
    ((which, ratio),) = [item for item in ratios.items() if not item[1].undecided]
    assert which == ("memory off (Redis alone)", "weighted")
    assert_says(said, len(ratios), ratio.mean, ratio.low, ratio.high)


def test_what_measuring_once_more_finds():
    said = sentence(r"measured once more, hours later: (\S+ to \S+) times as many users")
    again = kept("patterns").capacities
    first = kept("capacity").capacities
    ratios = [
        row["random"].users.mean / first[lever]["random"].users.mean for lever, row in again.items()
    ]
    assert_says(said, min(ratios), max(ratios))


def test_weighted_users_share_reads_of_redis():
    said = sentence(r"near the capacity (\S+ to \S+) % of their requests waited for a read")
    shares = []
    rows = results.group_repeats(kept("patterns").valid_searches)
    for search in rows["memory off (Redis alone)", "weighted"].values():
        knee = results.capacities([search])[search["lever"]][search["pattern"]].knee
        shares.append(100 * knee["replicas"]["flights_joined"] / knee["window"]["sent"])
    assert_says(said, min(shares), max(shares))


def test_the_searches_that_the_table_rests_on():
    said = sentence(r"; (\S+|\S+ to \S+) searches for each row")
    searches = kept("capacity").valid_searches
    number = Counter((search["lever"], search["pattern"]) for search in searches)
    assert_says(said, *sorted({min(number.values()), max(number.values())}))
    said = sentence(r"In containers: the same machine, (\S+) searches")
    searches = kept("compose").valid_searches
    assert_says(said, *set(Counter(search["lever"] for search in searches).values()))


BOTTLENECKS = {  # before, after
    "connections come and go": ("cache off, pool off", "cache off"),
    "every request asks PostgreSQL": ("cache off", "default settings"),
    "one core is full": ("1 replica", "default settings"),
    "Python takes the cores": ("default settings", "edge cache on"),
}


@pytest.mark.parametrize("row", table("what you see | before"), ids=lambda row: row[0][:20])
def test_the_bottlenecks(row):
    (levers,) = [both for start, both in BOTTLENECKS.items() if row[0].startswith(start)]
    for text, lever in zip(row[1:], levers, strict=True):
        capacity = kept("capacity").capacities[lever]["random"]
        values = [capacity.users.mean]
        if "PostgreSQL" in text:
            values.append(results.cpu(capacity.knee)["PostgreSQL"])
        assert_says(text, *values)


@pytest.mark.parametrize("row", table("users"), ids=lambda row: "-".join(row[:2]))
def test_the_runs(row):
    users, lever, goodput, *times, failed, in_containers = row
    which = (lever, "random", int(users.replace(",", "")))
    (measured,) = cells("users", *which)
    window = measured["window"]
    assert_says(goodput, window["goodput"])
    for text, percentile in zip(times, ("p50", "p95", "p99"), strict=True):
        assert_says(text, window[f"{percentile}_ms"])
        assert text.startswith("(") == judge.saturated(measured), "no result: in brackets"
    assert_says(failed, failed_percent(window))
    contained = cells("compose-users", *which)
    assert len(contained) == bool(in_containers)
    for measured in contained:
        window = measured["window"]
        assert_says(in_containers, window["p95_ms"], failed_percent(window))
        assert in_containers.startswith("(") == judge.saturated(measured)


def failed_percent(window):
    return 100 * window["failed"] / window["sent"]


def test_the_cores_that_10000_users_keep_busy():
    said = sentence(r"10,000 users keep (\S+) cores busy at least, and Locust (\S+) more")
    points = results.at_the_knee(kept("capacity"))["random"]
    (cores,) = findings.cores_needed(points)
    default = dict(zip(cores.header, cores.rows[0], strict=True))
    assert_says(said, float(default["the stack, at least"]), float(default["generator"]))


@pytest.fixture(scope="module")
def data():
    """Records and temperature by location, of 10 million rows: the generator's own."""
    generator = Generator(42, draw_cities(42), DATE)
    totals = generator.totals([Segment(1, 10_000_000)])
    averages = totals.temperature_sum / totals.records / 100
    return dict(zip(generator.locations, zip(averages, totals.records, strict=True), strict=True))


@pytest.mark.parametrize("path", ["README.md", "flask/README.md"])
def test_answers_are_those_of_10_million_rows(data, path):
    answers = [
        json.loads(line) for line in readme(path).splitlines() if line.startswith('{"location"')
    ]
    assert answers
    for answer in answers:
        average, records = data[answer["location"]]
        assert answer["records"] == records
        assert answer["average_temperature"] == pytest.approx(average, abs=0.0051)


def test_how_many_records_a_location_has(data):
    said = sentence(
        r"a location has (\S+) on average, the rarest (\S+), the most frequent (\S+)\. Temp",
        "data-populator/README.md",
    )
    records = [records for _, records in data.values()]
    average, fewest, most = (int(number.replace(",", "")) for number in said.split())
    assert (fewest, most) == (min(records), max(records))
    assert average == pytest.approx(10_000_000 / len(data), abs=5)
