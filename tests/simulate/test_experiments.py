"""The experiments: choosing them, measuring for real, going on after a stop."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import pytest
from polling import poll

from lab.cell import Stretch, halves_apart
from lab.kept import Results
from lab.plan import (
    DEFAULT,
    LEVERS,
    REFERENCE,
    Cell,
    Plan,
    PlanError,
    Session,
    Setting,
    cells,
    sessions,
    shuffle,
)
from lab.run import FASTEST, _begin, _probe, _ramp_up, most_users, report_problems
from lab.search import FIRST_PROBE, GROWTH, Outcome
from lab.stacks import COMPOSE
from users.http_connection import Response
from users.tally import Tally

ROOT = Path(__file__).parents[2]
EDGE = "edge cache on"
POOL_OFF = "cache off, pool off"
PLAN = ["--rows", "1000", "--seconds", "3", "--warm-up", "1", "--spawn-rate", "20"]
A_PLAN = Plan("cells", "local", 1000, 42, 1, 20, 1, 3, 0.05, 12_000, {}, "abc", {"cores": 2})


def command(*options, simulate=ROOT / "simulate", **variables):
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("LOCUST_", "POSTGRES_"))}
    environ["PYTHONPATH"] = f"{simulate}:{ROOT / 'local'}"
    return {
        "args": [sys.executable, "-m", "lab", *map(str, options)],
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
        "env": environ | variables,
    }


def experiments(*options, timeout=150, **variables):
    return subprocess.run(**command(*options, **variables), timeout=timeout)


def kept(folder, kind):
    """Cells or searches by name."""
    paths = sorted((folder / kind).glob("*.json"))
    return {path.stem: json.loads(path.read_text()) for path in paths}


@pytest.fixture(scope="module")
def folder():
    with tempfile.TemporaryDirectory(prefix="weather-tests-") as folder:
        Path(folder).chmod(0o755)  # as root, PostgreSQL and nginx run as another user
        yield Path(folder)


@pytest.fixture(scope="module")
def searched(folder):
    """A search that ends at the plan's highest number of users."""
    out = folder / "capacity"
    options = ["--quick", "--levers", "1 replica", "--most-users", "20", "--rows", "1000"]
    options += ["--seconds", "2", "--data-dir", folder / "data", "--out", out]
    return experiments(*options), options, out


def test_a_capacity_is_searched(searched):
    result, _, out = searched
    assert result.returncode == 0, result.stdout + result.stderr
    ((name, found),) = kept(out, "searches").items()
    assert name == "random_1-replica_1"
    assert (found["capacity"], found["censored"], found["invalid"]) == (20, True, [])
    assert found["bound"] == "--most-users 20"
    assert found["setting"] == asdict(Setting(replicas=1))
    (probe,) = found["probes"]
    assert (probe["users"], probe["holds"], probe["reasons"]) == (20, True, [])
    assert probe["window"]["good"] == probe["window"]["sent"] > 10
    answers = probe["replicas"]["answers"]
    assert answers["memory"] == sum(answers.values()) > 10, "the caches are warm"
    assert probe["replicas"]["pool"]["limit"] == {"mean": 15, "max": 15}
    assert probe["replicas"]["unread"] == 0
    assert probe["window"]["p95_ms"] > 0
    assert found["nginx"]["requests"] == found["nginx"]["sent"] > probe["window"]["sent"]
    assert "at least 20 users" in result.stdout
    assert result.stdout.endswith(f"report: {out / 'report.html'}\n")


def test_the_plan_says_how_to_measure_it_again(searched):
    _, _, out = searched
    plan = json.loads((out / "plan.json").read_text())
    assert plan["command"].startswith("make experiments ARGS='--quick --levers ")
    assert (plan["kind"], plan["rows"], plan["seconds"], plan["target"]) == (
        "quick",
        1000,
        2,
        "local",
    )
    (found,) = kept(out, "searches").values()
    assert found["revision"] == plan["revision"] != ""
    assert found["machine"] == plan["machine"]
    assert plan["versions"]["locust"]


def test_a_second_start_measures_nothing_anew(searched):
    _, options, _ = searched
    again = experiments(*options)
    assert again.returncode == 0
    assert "1 searches, 0 to measure" in again.stdout


def test_another_plan_is_refused(searched):
    _, options, out = searched
    other = experiments(*options, "--seconds", "3")
    assert other.returncode == 2
    assert other.stderr == f"{out} was measured with another seconds: choose another --out\n"


@pytest.fixture(scope="module")
def stopped(folder):
    """Two cells of two worker processes, stopped by Ctrl-C after the first of them."""
    out = folder / "cells"
    options = ["--cells", "10", "20", "--levers", EDGE, "--processes", "2", *PLAN]
    options += ["--data-dir", folder / "data", "--out", out]
    with subprocess.Popen(**command(*options)) as process:
        poll(lambda: kept(out, "cells"), 60)
        started = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    return process.returncode, errors, started, options, out


def test_ctrl_c_leaves_no_process_behind(stopped):
    returncode, errors, started, _, out = stopped
    assert (returncode, errors) == (130, "stopped; the same command goes on where it was\n")
    assert len(started) > 5
    assert not [process for process in started if process.is_running()]
    assert len(kept(out, "cells")) == 1


def test_the_same_command_goes_on(stopped):
    *_, options, out = stopped
    result = experiments(*options)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "2 cells, 1 to measure" in result.stdout
    names = [f"random_edge-cache-on_1_{users}-users_warm" for users in (10, 20)]
    assert list(kept(out, "cells")) == names
    for users, cell in zip((10, 20), kept(out, "cells").values(), strict=True):
        assert (cell["users"], cell["rate"], cell["start"]) == (users, 0, "warm")
        assert cell["invalid"] == []
        window = cell["window"]
        assert window["seconds"] == pytest.approx(3, abs=0.5)
        assert (window["failed"], window["fewest_users"], window["fewest_workers"]) == (0, users, 2)
        assert window["tiers"]["edge"] == window["sent"] > users, "the caches are warm"
        assert cell["nginx"]["requests"] == cell["nginx"]["sent"]
        assert cell["phases"]["window"] == window
        assert {"nginx", "PostgreSQL", "Redis", "flask", "generator 2", "lab"} <= cell["cpu"].keys()
        assert 0 <= cell["machine_load"]["idle_min"] <= cell["machine_load"]["idle_mean"] <= 100
        assert sum(cell["replicas"]["answers"].values()) == 0, "nginx answers"
        assert cell["replicas"]["pool"]["limit"]["max"] == 45
        assert cell["window_starts"] < cell["window_ends"] <= cell["series"][-1]["t"] + 0.1


def test_cold_caches_that_expire_meanwhile_and_several_workers(folder):
    out = folder / "long"
    options = ["--cells", "20", "--levers", "WEB_CONCURRENCY=2", "--starts", "cold", "--long"]
    options += [*PLAN, "--data-dir", folder / "data", "--out", out]
    result = experiments(*options)
    assert result.returncode == 0, result.stdout + result.stderr
    plan = json.loads((out / "plan.json").read_text())
    assert plan["settings"] == {"CACHE_EXPIRY": "20"}
    (cell,) = kept(out, "cells").values()
    assert (cell["start"], cell["invalid"]) == ("cold", [])
    found = cell["replicas"]
    assert found["answers"]["computed"] > 0.5 * sum(found["answers"].values()) > 5
    assert found["waits"] >= found["answers"]["computed"]
    assert found["pool"]["limit"]["max"] == 3 * 2 * 7, "each worker has its part of 15"


def test_a_cell_is_measured_in_containers(docker_engine, folder):
    project = f"test-{os.getpid()}"
    out = folder / "compose"
    options = ["--cells", "20", "--levers", "2 replicas", *PLAN, "--target", "compose"]
    try:
        result = experiments(*options, "--out", out, timeout=300, COMPOSE_PROJECT_NAME=project)
    finally:
        down = ["docker", "compose", "-p", f"{project}-experiments", "down", "--volumes"]
        subprocess.run(down, cwd=ROOT, capture_output=True, check=True)
    assert kept(out, "cells"), result.stdout + result.stderr
    (cell,) = kept(out, "cells").values()
    assert cell["invalid"] == []
    assert cell["nginx"]["requests"] == cell["nginx"]["sent"] > 20
    answers = cell["replicas"]["answers"]
    assert answers["memory"] == sum(answers.values()) > 20, "the caches are warm"
    assert cell["window"]["replicas"].keys() == {"flask", "flask_replica_1"}
    assert {"nginx", "PostgreSQL", "Redis", "flask", "generator"} <= cell["cpu"].keys()
    assert cell["replicas"]["pool"]["limit"]["max"] == 30
    assert json.loads((out / "plan.json").read_text())["versions"]["docker"]


def test_docker_does_not_rotate_the_log_that_the_lab_counts(docker_engine):
    command = [*COMPOSE, "config", "--format", "json"]
    config = json.loads(subprocess.check_output(command, cwd=ROOT))
    logs = {name: service["logging"]["options"] for name, service in config["services"].items()}
    assert logs["nginx"]["max-size"] == "1g"
    assert logs["flask"]["max-size"] == "10m"


@pytest.fixture
def simulate_with_ports(tmp_path):
    """A copy of simulate/ with the pattern that its README adds: a Locust file and an entry."""
    simulate = tmp_path / "simulate"
    shutil.copytree(ROOT / "simulate", simulate, ignore=shutil.ignore_patterns("results"))
    section = (simulate / "README.md").read_text().partition("## Add your own pattern")[2]
    locust_file, choice, entry = re.findall("```python\n(.+?)```", section, re.DOTALL)[:3]
    (simulate / "post" / "port-towns.py").write_text(locust_file)
    registry = simulate / "users" / "patterns.py"
    start = "PATTERNS = {\n"
    registry.write_text(registry.read_text().replace(start, f"{choice}\n\n{start}{entry}"))
    return simulate


def test_a_new_pattern_is_a_file_and_an_entry_in_an_open_loop_too(folder, simulate_with_ports):
    out = folder / "ports"
    options = ["--open-loop", "50", "--patterns", "ports", "--levers", POOL_OFF, *PLAN]
    options += ["--data-dir", folder / "data", "--out", out]
    result = experiments(*options, simulate=simulate_with_ports)
    assert result.returncode == 0, result.stdout + result.stderr
    (cell,) = kept(out, "cells").values()
    assert (cell["pattern"], cell["rate"], cell["invalid"]) == ("ports", 50, [])
    assert cell["window"]["sent"] == 50 * 3
    assert cell["window"]["p95_ms"] >= cell["window"]["service_p95_ms"]
    assert cell["nginx"]["requests"] == cell["nginx"]["sent"] == 50 * 4
    # What the kernel allows is recorded, and that each read opens a connection.
    assert cell["real_time"] == (os.geteuid() == 0)
    assert cell["replicas"]["opened_per_second"] == pytest.approx(50, rel=0.2)
    assert cell["replicas"]["pool"]["limit"]["max"] == 0

    picker = subprocess.run(
        [sys.executable, "-m", "locust", "--config", "simulate/locust.conf", "--list"],
        cwd=simulate_with_ports.parent,
        capture_output=True,
        text=True,
    )
    assert "PortTowns" in picker.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--levers", "turbo"], "invalid choice: 'turbo' (choose from"),
        (["--patterns", "turbo"], "invalid choice: 'turbo' (choose from"),
        (["--cells", "0"], "--cells: '0': expected a whole number from 1"),
        (["--quick", "--cells", "10"], "not allowed with"),
        (["--long"], "--long: only with --cells"),
    ],
)
def test_a_bad_option_is_named(options, message):
    result = experiments(*options, "--list")
    assert result.returncode == 2
    assert message in result.stderr


def test_make_experiments_finds_its_packages_and_lists_as_many_searches_as_the_readme_says():
    readme = (ROOT / "simulate" / "README.md").read_text()
    searches = (("--list", 65), ("--list --patterns all", 200), ("--list --quick", 10))
    for options, count in searches:
        make = ["make", "-s", "-o", ".venv/.local", "-o", ".venv/.simulate", "experiments"]
        result = subprocess.run(
            [*make, f"ARGS={options}"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        names = result.stdout.splitlines()
        assert len(set(names)) == len(names) == count
        assert f"{count} searches" in readme


def test_a_lever_is_moved_by_itself_away_from_its_reference():
    assert REFERENCE.keys() == LEVERS.keys()
    for name, setting in LEVERS.items():
        reference = asdict(LEVERS[REFERENCE[name]])
        moved = [field for field, value in asdict(setting).items() if value != reference[field]]
        assert len(moved) == (name != DEFAULT), name


def test_a_setting_in_words_and_as_variables():
    assert LEVERS[DEFAULT].words == "3 replicas, pool, cache, memory, no edge cache"
    small = Setting(replicas=1, pooling=False, cache=False, pool_max=1, workers=2)
    assert small.words == (
        "1 replica, no pool, no cache, no edge cache, POOL_MAXCONN=1, 2 workers each"
    )
    assert small.environ["POOL_MINCONN"] == small.environ["POOL_MAXCONN"] == "1"
    assert LEVERS[DEFAULT].environ["POOL_MINCONN"] == "5"
    assert (small.environ["CACHE"], small.environ["FLASK_REPLICAS"]) == ("off", "1")


def test_a_search_has_as_many_users_as_files_may_be_open(monkeypatch):
    monkeypatch.setattr("resource.getrlimit", lambda _: (1024, 4096))
    most, bound = most_users(replace(A_PLAN, processes=2))
    assert (most, bound) == (7992, "open files: ulimit -Hn is 4,096, and each user is one")
    monkeypatch.setattr("resource.getrlimit", lambda _: (1024, 1_048_576))
    assert most_users(A_PLAN) == (12_000, "--most-users 12000")


def test_each_repeat_has_an_order_of_its_own_that_the_seed_decides():
    every = sessions([(lever, name) for lever in LEVERS for name in ("random", "zipf")], 3)
    order = shuffle(every, seed=42)
    assert sorted(order) == sorted(every)
    assert order == shuffle(every, seed=42) != shuffle(every, seed=43)
    assert [session.repeat for session in order] == sorted(session.repeat for session in every)
    first, second = order[:20], order[20:40]
    assert [replace(session, repeat=2) for session in first] != second


def test_cells_of_a_session_go_from_low_to_high():
    session = Session(DEFAULT, "random")
    both = cells(session, [300, 100], [], ["warm", "cold"])
    assert [(cell.users, cell.start) for cell in both] == [
        (100, "warm"),
        (300, "warm"),
        (100, "cold"),
        (300, "cold"),
    ]
    assert [cell.rate for cell in cells(session, [], [50, 20], ["warm"])] == [20, 50]


def test_a_folder_has_one_revision_machine_and_plan(tmp_path):
    Results(tmp_path, A_PLAN, "make experiments").start({"locust": "2"})
    Results(tmp_path, A_PLAN, "make experiments ARGS=--list")
    for change in ({"revision": "abd"}, {"machine": {"cores": 4}}, {"seed": 1}):
        with pytest.raises(PlanError, match=f"another {next(iter(change))}: choose another --out"):
            Results(tmp_path, replace(A_PLAN, **change), "make experiments")


def test_an_invalid_result_is_not_known(tmp_path):
    results, session = Results(tmp_path, A_PLAN, ""), Session(DEFAULT, "random").facts
    results.keep("cells", "good", session, {"invalid": []})
    results.keep("cells", "bad", session, {"invalid": ["3 wrong answers"]})
    assert results.known("cells", "good")["revision"] == "abc"
    assert results.known("cells", "bad") is results.known("cells", "none") is None


def test_a_search_begins_where_an_earlier_one_ended(tmp_path, monkeypatch):
    """Of the same pattern, of another one, of the kept run; else from far below."""
    here, kept = tmp_path / "here", tmp_path / "kept"
    monkeypatch.setattr("lab.run.KEPT", kept)
    results = Results(here, A_PLAN, "")

    def begin(pattern="random", repeat=3):
        return _begin(results, Session(EDGE, pattern, repeat))

    def keep(folder, pattern, capacity, repeat=1):
        session = Session(EDGE, pattern, repeat)
        found = {"invalid": [], "capacity": capacity}
        Results(folder, A_PLAN, "").keep("searches", session.name, session.facts, found)

    assert begin() == (FIRST_PROBE, GROWTH)
    keep(kept, "random", 8000)
    assert begin() == (8000, 1.3)
    keep(here, "zipf", 5000)
    assert begin() == (5000, 1.3)
    keep(here, "random", 6000)
    keep(here, "random", 6200, repeat=2)
    assert begin() == (6100, 1.1)
    keep(here, "fixed", 0)  # not even the fewest held: it says nothing of where to look
    assert begin("fixed") == (round((5000 + 6000 + 6200) / 3), 1.3)


class FakeLoop:
    """Its users come for 4 s and are measured for 4; a real Locust is not late when it is told."""

    users = 0

    def __init__(self, answer_seconds, busiest):
        tally = Tally()
        for _ in range(100):
            tally.count(Response(b"HTTP/1.1 200 OK\r\n\r\n", b""), None, answer_seconds)
        seconds = {"seconds": 1.0, "users": 100, "workers": 1}
        self.lines = [tally.as_line() | seconds | {"time": 1001.0 + n} for n in range(8)]
        # The generator uses half of its core, but for the second one of the arrival.
        spent = [0, 0.5, 0.5 + busiest, *(1.0 + busiest + n / 2 for n in range(6))]
        idle = [{"idle": float(n), "user": float(n)} for n in range(9)]
        self.samples = [
            {"time": 1000.0 + n, "cpu_seconds": {"generator": cpu}, "machine": rest, "replicas": []}
            for n, (cpu, rest) in enumerate(zip(spent, idle, strict=True))
        ]

    def hold(self, _users, **_):
        return Stretch(1000.0, 1004.0, 1004.0, 1008.0)


@pytest.mark.parametrize(
    ("answer_seconds", "busiest", "outcome", "limits"),
    [
        (0.5, 0.97, Outcome.GENERATOR, ["generator used 97 % CPU, more than 90 %"]),
        (0.5, 0.8, Outcome.MISSED, []),
        (0.01, 0.97, Outcome.HOLDS, []),
    ],
)
def test_answers_that_the_generator_made_late_tell_nothing_of_the_stack(
    answer_seconds, busiest, outcome, limits
):
    found, said = _probe(FakeLoop(answer_seconds, busiest), 100, A_PLAN, overloaded=False)
    assert (said, found["limits"]) == (outcome, limits)
    assert found["cpu"]["generator"]["max"] < 60, "not while it was measured"


@pytest.mark.parametrize(
    ("present", "users", "seconds"),
    [(0, 4000, 2), (3000, 4000, 1), (2900, 4000, 2), (6000, 4000, 2), (0, 8 * FASTEST, 8)],
)
def test_users_come_and_go_as_fast_as_the_generator_can(present, users, seconds):
    assert _ramp_up(present, users) == seconds


def test_a_missed_service_level_fails_the_run_and_is_said(capsys):
    cell = Cell(Session(DEFAULT, "random"), users=30)
    summary = {"seconds": 3, "sent": 9, "good_share": 1.0, "p95_ms": 999.0}
    result = {"invalid": [], "flags": ["SATURATED: ..."], "start": "warm"}
    result["phases"] = {"warm-up": summary | {"p95_ms": 1.0}, "window": summary}
    assert not report_problems(cell, result)
    assert capsys.readouterr().out == (
        f"    {cell.name}: window: p95 999 ms > 250 ms\n    {cell.name}: SATURATED: ...\n"
    )


def test_the_halves_of_a_window_are_compared():
    def half(edge, memory, redis):
        tiers = {"edge": edge, "origin": 100 - edge, "refused": 0}
        answers = {"memory": memory, "redis": redis}
        return {"window": {"sent": 100, "tiers": tiers}, "replicas": {"answers": answers}}

    assert halves_apart(half(50, 9, 1), half(50, 9, 1)) == 0
    assert halves_apart(half(50, 9, 1), half(57, 9, 1)) == pytest.approx(7)
    assert halves_apart(half(50, 9, 1), half(50, 8, 2)) == pytest.approx(5)
    assert halves_apart(half(100, 0, 0), half(100, 0, 0)) == 0
