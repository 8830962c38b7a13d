"""The report, made from results of synthetic stacks whose behaviour is known."""

import csv
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from synthetic import SyntheticStack, capacity_searches, cell, keep, point, probe, search

from lab import findings, report, results, text
from lab.results import Estimate

SIMULATE = Path(__file__).parents[2] / "simulate"
PATTERNS = ("random", "fixed", "weighted", "zipf")
EDGE = "edge cache on"
FIVE = [search(repeat=n) for n in range(1, 6)]
OTHERS = [search(pattern=pattern) for pattern in PATTERNS[1:]]
UNCLEAR_EDGE = [search(EDGE, repeat=n, capacity=c) for n, c in ((1, 8000), (2, 13_000))]
LARGE = SyntheticStack(capacity=20_000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Everything that a report can show."""
    cells = [cell(pattern=pattern, users=users) for pattern in PATTERNS for users in (500, 1000)]
    cells += [cell(users=4000), cell(users=7777, invalid=["generator used 99 % CPU"])]
    cells += [cell(users=0, rate=700), cell(users=0, rate=9000, flags=["UNSUSTAINED: 4,000/s"])]
    cells.append(cell("cache off", flags=["SATURATED: 2 % idle <b>"]))
    folder = keep(tmp_path_factory.mktemp("run") / "everything", capacity_searches(), cells)
    report.write(folder)
    return folder


@pytest.fixture(scope="module")
def markdown(folder):
    return (folder / "report.md").read_text()


def write(folder, searches=(), cells=(), **plan):
    """The Markdown of a run."""
    report.write(keep(folder, searches, cells, **plan))
    return (folder / "report.md").read_text()


def section(markdown, heading):
    """The lines of a section that belong to tables, as lists of cells."""
    (found,) = re.findall(rf"## {heading}\n(.*?)(?=\n## |\Z)", markdown, re.DOTALL)
    return [
        [one.strip() for one in line.split("|")[1:-1]]
        for line in found.splitlines()
        if line.startswith("|")
    ]


def tips(path):
    """What the marks of a chart say."""
    root = ElementTree.parse(path).getroot()  # noqa: S314 - our own file
    return [title.text for title in root.iter("{http://www.w3.org/2000/svg}title")]


def test_every_chart_is_there_well_formed_and_part_of_the_page(folder, markdown):
    names = re.findall(r"\]\((.+?\.svg)\)", markdown)
    assert names == [
        *("capacity.svg", "demand.svg", "over-users.svg", "over-users-levers.svg"),
        *("over-time.svg", "tiers.svg", "failures.svg", "cpu.svg", "open-loop.svg"),
    ]
    page = (folder / "report.html").read_text()
    assert page.count("<svg") == len(names)
    for name in names:
        assert tips(folder / name), name
        assert tips(folder / name)[0] in page


def test_the_capacity_table_has_users_intervals_and_factors(markdown):
    rows = {row[0]: row[1:] for row in section(markdown, "How many users each setting carries")}
    assert rows["lever"] == [*PATTERNS]
    assert re.fullmatch(r"2,9\d\d \[2,\d{3} to [23],\d{3}\]", rows["default settings"][0])
    assert re.search(r"<br>x 0.(79|80) \[", rows["1 replica<br>against default settings"][0])
    assert rows["edge cache on<br>against default settings"][0].startswith("at least 1")
    assert "<br>x 0.42 [" in rows["cache off, pool off<br>against cache off"][0]  # 0.25 / 0.6


def test_patterns_of_one_lever_alone_have_rows_of_their_own(tmp_path):
    searches = [search("1 replica"), search(), search(pattern="zipf", capacity=9000)]
    shown = section(write(tmp_path, searches), "How many users each setting carries")
    assert [row[0] for row in shown if row[0][0] != "-"] == [
        *("lever", "default settings", "default settings, zipf users"),
        "1 replica<br>against default settings",
    ]
    assert shown[0][1:] == ["users, random unless said"]
    told = [tip.partition(": ")[0] for tip in tips(tmp_path / "capacity.svg")]
    assert told == ["default settings", "default settings, zipf users", "1 replica"]
    assert shown[3][1].startswith(("8,", "9,"))
    assert len(tips(tmp_path / "demand.svg")) == 2 * 5, "of the pattern that has two levers"


def test_the_capacity_of_one_search_has_no_interval(tmp_path):
    rows = section(write(tmp_path, [search()], kind="quick"), "How many users each setting carries")
    assert re.fullmatch(r"[23],\d{3}", rows[2][1])


def test_a_lever_says_what_it_buys_where_the_time_went_and_what_ended_it(markdown):
    (line,) = re.findall(r"- \*\*cache off, pool off\*\*: (.*)", markdown)
    assert "Carries 0.41 to 0.42 times the random, fixed, weighted, zipf users of cache off" in line
    assert "PostgreSQL, not cached 100 %" in line
    assert re.search(r"ms of CPU \(Flask [\d.]+, ", line)
    assert re.search(r"With 8\d\d users it ends: p95 480 ms > 250 ms. Of all requests", line)
    (line,) = re.findall(r"- \*\*WEB_CONCURRENCY=2\*\*: (.*)", markdown)
    assert "No difference to default settings was found" in line
    (line,) = re.findall(r"- \*\*cache off\*\*: (.*)", markdown)
    assert "times the random, fixed, weighted, zipf users of memory off (Redis alone)" in line


def test_at_least_is_neither_no_difference_nor_fewer(tmp_path):
    """The generator ended some searches below, some above the reference's capacity."""
    found = [(1, 2000), (2, 9000)]
    edge = [search(EDGE, repeat=n, capacity=c, censored=True) for n, c in found]
    one = keep(tmp_path / "one", [search(repeat=n) for n in (1, 2)])
    shown = write(tmp_path / "other", [*(search(repeat=n) for n in (1, 2)), *edge])
    (line,) = re.findall(r"- \*\*edge cache on\*\*: (.*)", shown)
    assert line.startswith("Carries at least 1.")
    assert "No difference" not in line
    more = [search(repeat=n, capacity=c, censored=True) for n, c in found]
    report.compare((one, keep(tmp_path / "more", more)))
    assert "- settings and patterns: not known: 1 of 1\n" in (one / "compare-more.md").read_text()


def test_where_only_the_generator_was_at_its_end_is_no_point_of_the_curve():
    ended = probe(SyntheticStack(), 9000) | {"limits": ["generator used 97 % CPU"]}
    assert len(results.curve([probe(SyntheticStack(), 1000), ended])) == 1


def test_two_numbers_of_users_are_no_curve(tmp_path):
    cells = [cell(users=users) for users in (500, 1000, 3000)]
    write(tmp_path / "two", cells=cells[:2])
    assert not (tmp_path / "two" / "over-users.svg").exists()
    write(tmp_path / "three", cells=cells)
    assert len(tips(tmp_path / "three" / "over-users.svg")) == 3


def test_what_an_overloaded_cell_spends_is_not_called_that_of_the_setting(tmp_path):
    run = results.load(keep(tmp_path, cells=[cell(users=1000), cell(users=9000)]))
    assert results.at_the_knee(run)["random"]["default settings"]["users"] == 1000
    report.write(tmp_path)
    assert "What more users take" not in (tmp_path / "report.md").read_text()


def test_failing_fast_never_looks_better_than_answering_slowly(tmp_path):
    stacks = {
        "1 replica": {"answer_ms": 1.0, "refused": 0.5},
        "2 replicas": {"answer_ms": 50.0},
    }
    searches = [
        search(lever, repeat=repeat, **stack)
        for lever, stack in stacks.items()
        for repeat in (1, 2)
    ]
    cells = [cell(lever, stack=SyntheticStack(**stack)) for lever, stack in stacks.items()]
    shown = write(tmp_path, searches, cells)
    rows = {row[0]: row for row in section(shown, "How many users each setting carries")}
    assert rows["1 replica<br>against default settings"][1].startswith("0 ")
    assert rows["2 replicas<br>against default settings"][1].startswith("2,9")
    found = {row[0]: row for row in section(shown, "Everything measured") if "1,000 users" in row}
    goodput = {lever: float(row[6].replace(",", "")) for lever, row in found.items()}
    assert goodput["1 replica"] < 0.6 * goodput["2 replicas"]
    assert re.search(r"window: (50.0\d|49.9\d) % good answers < 99.9 %", found["1 replica"][4])
    assert found["2 replicas"][4] == "holds"


@pytest.mark.parametrize("chart", ["over-users", "over-time"])
def test_a_chart_counts_right_answers_alone(tmp_path, chart):
    drawn = []
    for stack in ({"answer_ms": 1.0, "refused": 0.5}, {"answer_ms": 50.0}):
        write(tmp_path, [search(**stack)], [cell(stack=SyntheticStack(**stack))])
        numbers = [
            [float(number.replace(",", "")) for number in found.groups()]
            for tip in tips(tmp_path / f"{chart}.svg")
            if (found := re.search(r"([\d,]+) users.* goodput ([\d,]+)/s, failed ([\d,]+)/s", tip))
        ]
        drawn.append([one for one in numbers if one[0] <= 3000])
    fast, slow = drawn
    assert len(fast) >= 3
    assert len(slow) >= 3
    for users, goodput, failed in fast:
        assert goodput == pytest.approx(failed, abs=1.1)
        assert goodput == pytest.approx(users / 3, rel=0.05)  # half of those who think 1.5 s
    for users, goodput, failed in slow:
        assert failed == 0
        assert goodput > 0.55 * users


def test_the_curve_counts_right_answers_alone():
    stack = SyntheticStack(answer_ms=1.0, refused=0.5)
    (point,) = results.curve([probe(stack, 1500), probe(stack, 1500)])
    assert point["goodput"] == pytest.approx(500)
    assert point["failed"] == pytest.approx(500)


def test_an_invalid_cell_is_listed_with_its_reason_and_drawn_nowhere(folder, markdown):
    assert "1 of 13 cells are INVALID" in markdown
    lines = [row for row in section(markdown, "Everything measured") if "7,777 users" in row]
    assert [row[4] for row in lines] == ["INVALID: generator used 99 % CPU"]
    for path in folder.glob("*.svg"):
        assert "7,777" not in path.read_text()


def test_a_stack_that_answers_nothing_right_has_a_report_that_says_so(tmp_path):
    shown = write(tmp_path, [search(refused=1.0)], [cell(stack=SyntheticStack(refused=1.0))])
    assert "**MISSED**" in shown
    (row,) = [row for row in section(shown, "Everything measured") if "1,000 users" in row]
    assert row[6:12] == ["0", "-", "-", "-", "-", "100 %"]


def test_an_invalid_search_is_listed_and_counts_nowhere(tmp_path):
    wrong = search(repeat=2, capacity=9000) | {"invalid": ["3 wrong answers"]}
    shown = write(tmp_path, [search(), wrong])
    assert "1 of 2 searches are INVALID" in shown
    assert section(shown, "How many users each setting carries")[2][1].startswith("2,")
    verdicts = {row[-1] for row in section(shown, "Everything measured") if row[2] == "2"}
    assert verdicts == {"INVALID: 3 wrong answers"}
    assert not [tip for tip in tips(tmp_path / "over-users.svg") if tip.startswith(("8,", "9,"))]


def test_around_a_capacity_are_the_probes_of_the_median_search():
    searches = [search(repeat=n, capacity=c) for n, c in ((1, 1000), (2, 3000), (3, 9000))]
    lucky = probe(SyntheticStack(capacity=9999), 8000)  # held by chance, beyond the result
    searches[1]["probes"].append(lucky)
    found = results.capacities(searches)["default settings"]["random"]
    assert found.knee["users"] == searches[1]["capacity"]
    assert found.beyond["users"] == pytest.approx(3300, rel=0.05)


def test_without_an_invalid_cell_the_same_cell_is_drawn(tmp_path):
    write(tmp_path, cells=[cell(users=500), cell(users=7777)])
    assert "7,777" in (tmp_path / "over-time.svg").read_text()


def test_flags_stand_where_the_numbers_do(folder, markdown):
    (row,) = [row for row in section(markdown, "Open loop") if "9,000" in row]
    assert row[4] != "-"  # goodput
    assert row[5:11] == ["-"] * 6
    assert row[2].startswith("UNSUSTAINED: 4,000/s")
    assert "9,000/s" not in (folder / "open-loop.svg").read_text()
    assert "SATURATED: 2 % idle" in markdown


def test_a_searchs_latencies_are_saturated_where_no_core_is_idle(tmp_path):
    busy = search()
    for one in busy["probes"]:
        one["machine_load"]["idle_mean"] = 1.5
    assert "1.5 % of the cores are idle (SATURATED" in write(tmp_path, [busy])


@pytest.mark.parametrize(
    ("searches", "cells", "word"),
    [
        ([*FIVE, *OTHERS, search(EDGE, capacity=12_000)], [], "kept"),
        ([*FIVE, *OTHERS], [cell(EDGE, users=10_000, stack=LARGE)], "kept"),
        ([*FIVE, *OTHERS], [], "kept as far as measured"),
        ([*FIVE, search(EDGE, capacity=12_000)], [], "kept as far as measured"),
        ([*FIVE, *OTHERS, *UNCLEAR_EDGE], [], "kept as far as measured"),
        ([search(EDGE, capacity=5000, censored=True)], [], "not judged"),
        ([search(EDGE, capacity=12_000, censored=True)], [], "kept as far as measured"),
        ([search(repeat=n, capacity=900) for n in range(1, 6)], [], "MISSED"),
        ([search(repeat=n, capacity=c) for n, c in ((1, 800), (2, 1300))], [], "not judged"),
        ([search("1 replica", capacity=5)], [], "not judged"),
        ([], [cell(users=1000)], "kept as far as measured"),
        ([], [cell(users=900)], "not judged"),
        ([], [cell(users=4000)], "not judged"),
        ([], [cell(users=1000, stack=SyntheticStack(refused=0.01))], "MISSED"),
        ([], [cell(users=1000, stack=SyntheticStack(answer_ms=400))], "MISSED"),
        ([], [cell(users=1000), cell(users=900, stack=SyntheticStack(refused=0.01))], "MISSED"),
        ([], [cell(users=1000, invalid=["a worker was lost"])], "not judged"),
        ([], [cell(users=0, rate=700)], "not judged"),
    ],
)
def test_the_verdict(tmp_path, searches, cells, word):
    verdict = findings.verdict(results.load(keep(tmp_path, searches, cells)))
    assert verdict.word == word
    gaps = [
        reason for reason in verdict.reasons if reason.startswith(("not measured", "not known"))
    ]
    assert gaps or word in ("kept", "MISSED")
    if word == "kept":
        assert not gaps


def test_what_is_promised_and_not_measured_is_named(tmp_path):
    verdict = findings.verdict(results.load(keep(tmp_path, [search(), search(pattern="zipf")])))
    assert verdict.reasons[-2:] == [
        "not measured: default settings: fixed, weighted users",
        "not measured: edge cache on",
    ]


def test_a_coarse_run_says_so(tmp_path, markdown):
    assert "\n- coarse: short windows" in write(tmp_path, [search()], kind="quick")
    assert "\n- coarse" not in markdown


def test_tiers_and_failures_and_cpu_add_up():
    found = point(SyntheticStack(refused=0.25), 1000)
    window = found["window"]
    assert sum(results.tiers(found).values()) == pytest.approx(100)
    assert results.tiers(found)["memory"] == pytest.approx(75, abs=0.1)
    assert results.tiers(found)["refused or wrong"] == pytest.approx(25, abs=0.1)
    assert sum(results.failures(window).values()) == pytest.approx(25, abs=0.1)
    busy = results.machine(cell(), cores=2)
    assert sum(busy.values()) == pytest.approx(100)
    assert busy["idle"] == 20


def test_connections_are_what_the_replicas_say(tmp_path):
    full = search("cache off", tier="uncached")
    for one in full["probes"]:
        one["replicas"]["pool"]["waiting"]["max"] = 7
        one["replicas"]["flights_joined"] = 1234
    off = search("cache off, pool off", tier="uncached")
    for one in off["probes"]:
        one["replicas"]["pool"]["limit"]["max"] = 0
        one["replicas"]["opened_per_second"] = 123.4
    shown = write(tmp_path, [search(), full, off])
    assert (
        "Of 45 connections to PostgreSQL at most 19 are in use, and up to 7 requests wait" in shown
    )
    assert "\n- **default settings**: " in shown
    assert "memory 100 %. PostgreSQL is not asked." in shown
    assert "123 connections to PostgreSQL a second." in shown
    rows = {row[0]: row[2:] for row in section(shown, "Connections to PostgreSQL")}
    assert rows["cache off"][1:5] == ["19", "19", "45", "7"]
    assert rows["default settings"][1:5] == ["0", "15", "45", "0"]
    assert (rows["cache off"][-1], rows["cache off, pool off"][6]) == ("1,234", "123")


def test_who_refused_is_told_by_phase(markdown):
    rows = section(markdown, "Who refused, and when")
    found = {(row[0], row[2]): row for row in rows if row[1] == "random"}
    phases = [phase for what, phase in found if what == "default settings, 4,000 users"]
    assert phases == ["warm-up", "window"]
    phases = [phase for what, phase in found if what.startswith("1 replica")]
    assert phases == ["arrival", "window"]
    (row,) = [
        row for row in found.values() if row[0].startswith("1 replica") and row[2] == "window"
    ]
    failed, by_nginx, by_pool = row[4:7]
    assert failed.endswith(" %")
    assert int(by_nginx.replace(",", "")) == pytest.approx(9 * int(by_pool), rel=0.2)


def test_the_model_tells_how_many_replicas_users_need(tmp_path):
    searches = [
        search(lever, repeat=repeat, capacity=capacity)
        for lever, capacity in (
            ("1 replica", 1000),
            ("2 replicas", 1900),
            ("default settings", 2700),
        )
        for repeat in range(1, 6)
    ]
    table = section(write(tmp_path, searches), "More replicas: a model")
    rows = {row[0]: row[1] for row in table}
    predicted, measured, error = re.fullmatch(
        r"([\d,]+), measured ([\d,]+)<br>\(([+-][\d.]+) %\)",
        rows["users with 3, predicted from the others"],
    ).groups()
    assert predicted != measured
    assert float(error) == pytest.approx(0, abs=5)
    assert rows["replicas for 1,000 users"] == "2"  # one carries 970 to 1,000
    assert rows["replicas for 3,000 users"] == "4"


def test_a_model_claims_nothing_beyond_what_was_measured(tmp_path):
    """A point of return is shown where it was reached, and where a prediction failed it says so."""
    collapse = search()
    collapse["probes"].append(probe(SyntheticStack(), 20_000))
    rows = {row[0]: row[1] for row in section(write(tmp_path, [collapse]), "More users: a model")}
    assert rows["lambda, 1/s"] == "66.7"
    assert rows["holds there"] == "no: more than 25 % off"
    calm = write(tmp_path / "calm", [search(censored=True)])
    rows = {row[0]: row[1] for row in section(calm, "More users: a model")}
    assert rows["point of return, users"].startswith("none up to 2,9")
    assert rows["holds there"] == "yes"


def test_what_users_take_in_cores():
    point = cell(users=1500)
    point["cpu"] = {"flask": {"mean": 50}, "generator": {"mean": 10}, "nginx": {"mean": 25}}
    point["window"]["goodput"] = 1000.0
    assert results.demands(point)["Flask"] == pytest.approx(0.5)  # ms
    (table,) = findings.cores_needed({"default settings": point})
    (row,) = table.rows
    # nginx, Flask, Redis, PostgreSQL, generator, lab, the stack
    assert row[1:] == ["1.67", "3.33", "0", "0", "0.667", "0", "5"]


def test_the_csv_files_have_every_cell_probe_and_capacity(folder):
    with (folder / "cells.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 13
    assert {row["invalid"] for row in rows} == {"", "generator used 99 % CPU"}
    assert float(rows[0]["window.p95_ms"]) > 0
    with (folder / "probes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == sum(len(search["probes"]) for search in capacity_searches())
    assert rows[0]["lever"] == "default settings"
    assert rows[0]["replicas.pool.limit.max"] == "45"
    with (folder / "capacities.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10 * 4
    assert float(rows[0]["users.low"]) < float(rows[0]["users.mean"])


def test_two_folders_side_by_side(tmp_path):
    local = keep(tmp_path / "local", [search(repeat=n) for n in range(1, 6)])
    searches = [search(repeat=n, capacity=1500) for n in range(1, 6)] + [search("1 replica")]
    compose = keep(tmp_path / "compose", searches, target="compose")
    assert report.compare((local, compose)) == local / "compare-compose.html"
    shown = (local / "compare-compose.md").read_text()
    rows = section(shown, "How many users each setting carries")
    assert [row[:2] for row in rows[2:]] == [["default settings", "random"]]
    assert rows[2][-1] == "x 0.50 [0.50 to 0.50]"
    assert "- settings and patterns: fewer: 1 of 1" in shown
    assert "- they differ in target too" in shown
    assert ["target", "local", "compose"] in section(shown, "What was the same, and what was not")
    assert len(tips(local / "compare-compose.svg")) == 2


def test_folders_with_nothing_in_common_are_refused(tmp_path):
    one, other = keep(tmp_path / "a", [search()]), keep(tmp_path / "b", [search("1 replica")])
    with pytest.raises(SystemExit, match="have no search of the same lever and pattern"):
        report.compare((one, other))


def test_what_was_recorded_is_escaped(folder):
    page = (folder / "report.html").read_text()
    assert "p95 480 ms &gt; 250 ms" in page
    assert "2 % idle &lt;b&gt;" in page


def test_the_manifest_and_the_command_that_makes_it_again(markdown):
    assert "make experiments ARGS='--rows 200000'" in markdown
    rows = {row[0]: row[1] for row in section(markdown, "Manifest")}
    assert (rows["cpu"], rows["revision"], rows["locust"]) == ("Abacus", "0123456789ab", "2.47.0")
    assert rows["measured at"] == "2026-11-26T10:00:00+00:00 to 2026-11-26T10:05:00+00:00"
    assert "warm up" not in rows, "searches have none"


def test_a_chart_that_has_no_numbers_any_more_goes(tmp_path):
    write(tmp_path, [search()], [cell()])
    assert (tmp_path / "over-time.svg").exists()
    for path in tmp_path.glob("cells/*"):
        path.unlink()
    report.write(tmp_path)
    assert not (tmp_path / "over-time.svg").exists()


def test_the_program(tmp_path):
    command = [sys.executable, "-m", "lab.report"]
    (tmp_path / "empty").mkdir()
    empty = subprocess.run(
        [*command, tmp_path / "empty"], cwd=SIMULATE, capture_output=True, text=True
    )
    assert empty.returncode == 1
    assert empty.stderr.strip().endswith("holds no recorded cells and no searches")
    folder = keep(tmp_path / "run", [search()])
    done = subprocess.run([*command, folder], cwd=SIMULATE, capture_output=True, text=True)
    assert done.stdout == f"written to {folder / 'report.html'}\n", done.stderr


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.4249, "0.425"),
        (0.42, "0.42"),
        (8.3, "8.3"),
        (152.4, "152"),
        (1234.5, "1,230"),
        (0, "0"),
        (0.05, "0.05"),
        (None, "-"),
    ],
)
def test_three_significant_digits(value, shown):
    assert text.digits(value) == shown


@pytest.mark.parametrize(
    ("estimate", "shown"),
    [
        (Estimate(3180.4, 3050.0, 3310.0), "3,180 [3,050 to 3,310]"),
        (Estimate(12_000, None, None, at_least=True), "at least 12,000"),
        (Estimate(50, -20.0, 120.0), "50 [0 to 120]"),
    ],
)
def test_users_with_their_interval(estimate, shown):
    assert text.users(estimate) == shown
