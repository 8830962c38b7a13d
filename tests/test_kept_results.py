"""The figures that READMEs take from kept results are the ones that were measured.

Every number of a table's cell, or of a sentence, is compared with its source, rounded as printed.
A new row of a table without a source is a failure, too.
"""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pytest

from lab.plan import DEFAULTS, Cell
from lab.report import load
from populator.rows import Generator, Segment, draw_cities

ROOT = Path(__file__).parents[1]
NUMBER = re.compile(r"(?<!\w)\d[\d,]*(?:\.\d+)?")  # not the 95 of p95
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
def cells(run):
    return load(ROOT / "simulate" / "results" / run)


def result(run, pattern="random", users=0, rate=0, **levers):
    cell = Cell(pattern, users, rate, **levers)
    return cells(run)[cell]


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
    said = sentence(r"copying (\S+ and \S+) million rows/s", "data-populator/README.md")
    assert_says(said, *rates[1:3])


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("README.md", r"needs (\S+) MB at most"),
        ("data-populator/README.md", r"at most (\S+) MB of memory"),
    ],
)
def test_the_populators_memory(path, pattern):
    peaks = [spread["max"] for name, spread in summary("load").items() if "peak_mb" in name]
    assert_says(sentence(pattern, path), max(peaks))


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


def test_pages_at_a_fixed_rate():
    said = sentence(r"p99 of the form and that of 10 locations are (\S+) ms")
    for page in ("form", "locations"):
        assert_says(said, median("serve", f"{page}, 800/s: p99_ms"))


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


def times(window, *percents):
    return [window[f"p{percent}_ms"] for percent in percents]


@pytest.mark.parametrize("row", table("run"), ids=lambda row: f"{row[0]}-{row[2]}")
def test_the_runs(row):
    run, users, pattern, *said = row
    window = result(run, pattern, int(users.replace(",", "")), edge=run == "headline")["window"]
    values = [window["requests_per_second"], *times(window, 50, 95, 99), window["failures"]]
    for text, value in zip(said, values, strict=True):
        assert_says(text, value)


SETTINGS = {
    "default: 3 replicas, pool, cache": {},
    "edge cache on": {"edge": True},
    "1 replica": {"replicas": 1},
    "no pool": {"pooling": False},
    "no cache": {"cache": False},
    "no cache, no pool": {"cache": False, "pooling": False},
}


@pytest.mark.parametrize("row", table("settings"), ids=lambda row: row[0])
def test_what_each_lever_buys(row):
    measured = result("levers-3000", users=3000, **SETTINGS[row[0]])
    window = measured["window"]
    values = [window["requests_per_second"], *times(window, 50, 95), window["failures"]]
    values.append(measured["connections"]["max"])
    for text, value in zip(row[1:], values, strict=True):
        assert_says(text, value)
    assert round(window["seconds"]) == 10, "the column says: failures in 10 s"


def test_at_1000_users_one_setting_fails():
    said = sentence(r"without cache and pool, which fails (\S+) requests in 6 s")
    failed = {
        cell: measured["window"]["failures"]
        for cell, measured in cells("levers").items()
        if cell.pattern == "random" and measured["window"]["failures"]
    }
    neither = replace(DEFAULTS, users=1000, cache=False, pooling=False)
    assert failed.keys() == {neither}
    assert_says(said, failed[neither])


def test_the_limit():
    limit = json.loads((ROOT / "simulate/results/limit/limit-random.json").read_text())
    p95 = {probe["users"]: probe["p95_ms"] for probe in limit["probes"]}
    held = limit["limit"]
    too_many = min(users for users in p95 if users > held)
    said = sentence(
        r"(\S+) random users are served with p95 (\S+) ms and no failure; (\S+) are too many"
        r" \(.+?\): p95 is (\S+) ms then, and at (\S+) the replicas"
    )
    assert_says(said, held, p95[held], too_many, p95[too_many], max(p95))


BOTTLENECKS = {  # before, after
    '"sorry, too many clients already"': ("no cache, no pool", "no cache"),
    "too many database queries": ("no cache", "default: 3 replicas, pool, cache"),
}


@pytest.mark.parametrize("row", table("what you see | before"), ids=lambda row: row[0][:20])
def test_the_bottlenecks(row):
    (settings,) = [both for start, both in BOTTLENECKS.items() if row[0].startswith(start)]
    for text, name in zip(row[1:], settings, strict=True):
        measured = result("levers-3000", users=3000, **SETTINGS[name])
        values = [measured["window"]["failures"], 10, *times(measured["window"], 95)]
        if "connections" in text:
            values.append(measured["connections"]["max"])
        assert_says(text, *values)


def test_the_open_loop():
    window = result("open-loop", rate=2400)["window"]
    said = sentence(
        r"of (\S+) requests/s, .+?, (\S+) are answered, half of them within (\S+) ms of being sent,"
        r" but (\S+) s after they were due"
    )
    values = [window["requests_per_second"], window["service_p50_ms"], window["p50_ms"] / 1000]
    assert_says(said, 2400, *values)


def test_warm_caches_leave_postgresql_idle():
    said = sentence(r"PostgreSQL uses (\S+) % of a core, with and without the pool")
    for pooling in (True, False):
        measured = result("levers-3000", users=3000, pooling=pooling)
        assert_says(said, measured["cpu"]["PostgreSQL"]["mean"])


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
