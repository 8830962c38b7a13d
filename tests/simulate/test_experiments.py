"""The experiments: choosing cells, measuring for real, resuming, the search for the limit."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import pytest

from lab.plan import Cell, PlanError, matrix, open_loop, quick, select
from lab.report import load
from lab.run import find_limit

ROOT = Path(__file__).parents[2]
CELL = ["--patterns", "random", "--users", "20"]
CELL += ["--only", "replicas=1", "pooling=on", "cache=on", "edge=on"]
PLAN = ["--rows", "1000", "--seconds", "3", "--warm-up", "1", "--spawn-rate", "20"]


def experiments(*options, timeout=150, simulate=ROOT / "simulate", **variables):
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("LOCUST_", "POSTGRES_"))}
    environ["PYTHONPATH"] = f"{simulate}:{ROOT / 'local'}"
    return subprocess.run(
        [sys.executable, "-m", "lab", *options],
        capture_output=True,
        text=True,
        env=environ | variables,
        timeout=timeout,
    )


@pytest.fixture(scope="module")
def folder():
    with tempfile.TemporaryDirectory(prefix="weather-tests-") as folder:
        Path(folder).chmod(0o755)  # as root, PostgreSQL and nginx run as another user
        yield Path(folder)


@pytest.fixture(scope="module")
def measured(folder):
    """One cell, with the edge cache, measured by two worker processes."""
    out = ["--data-dir", folder / "data", "--out", folder / "results"]
    return experiments(*CELL, *PLAN, "--processes", "2", *out), out


def test_a_cell_is_measured_and_valid(measured, folder):
    result, _ = measured
    assert result.returncode == 0, result.stdout + result.stderr
    ((cell, recorded),) = load(folder / "results").items()
    assert cell == Cell("random", 20, replicas=1, edge=True)
    assert recorded["invalid"] == []
    window = recorded["window"]
    assert window["requests"] > 20
    assert (window["failures"], window["fewest_users"], window["fewest_workers"]) == (0, 20, 2)
    assert window["answers"]["X-Edge-Cache"] == {"hit": window["requests"]}, "the caches are warm"
    assert recorded["nginx"]["requests"] == recorded["total"]["requests"]
    assert {"nginx", "PostgreSQL", "Redis", "flask", "generator 2"} <= recorded["cpu"].keys()
    assert recorded["connections"]["max"] >= 1
    assert recorded["machine"]["revision"]
    assert recorded["versions"]["locust"]


def test_the_report_is_written(measured, folder):
    result, _ = measured
    path = folder / "results" / "report.html"
    assert result.stdout.endswith(f"report: {path}\n")
    assert "1 cell" in path.read_text()


def test_a_cell_is_measured_in_containers(docker_engine, folder):
    project = f"test-{os.getpid()}"
    out = folder / "compose"
    try:
        result = experiments(
            *(*CELL, *PLAN, "--target", "compose", "--out", out),
            timeout=300,
            COMPOSE_PROJECT_NAME=project,
        )
    finally:
        command = ["docker", "compose", "-p", f"{project}-experiments", "down", "--volumes"]
        subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    assert result.returncode == 0, result.stdout + result.stderr
    ((cell, recorded),) = load(out).items()
    assert cell == Cell("random", 20, replicas=1, edge=True)
    assert recorded["invalid"] == []
    total = recorded["total"]
    assert recorded["nginx"]["requests"] == total["requests"] + total["cut_off"] > 20
    assert {"nginx", "PostgreSQL", "Redis", "flask"} <= recorded["cpu"].keys()
    assert recorded["connections"]["max"] >= 1
    assert recorded["versions"]["docker"]


def test_a_second_start_measures_nothing_anew(measured, folder):
    _, out = measured
    (path,) = (folder / "results" / "cells").glob("*.json")
    before = path.stat().st_mtime_ns
    again = experiments(*CELL, *PLAN, "--processes", "2", *out)
    assert again.returncode == 0
    assert "1 cells, 0 to measure" in again.stdout
    assert path.stat().st_mtime_ns == before


def test_an_invalid_cell_and_a_missed_service_level_fail_the_run(measured, folder):
    _, out = measured
    (path,) = (folder / "results" / "cells").glob("*.json")
    result = json.loads(path.read_text())
    missed = Cell("random", 30)
    result["cell"] = asdict(missed)
    result["window"]["p95_ms"] = 999.0
    slow = path.with_name(f"{missed.name}.json")
    slow.write_text(json.dumps(result))
    options = ["--patterns", "random", "--users", "30", *PLAN, "--processes", "2", *out]
    again = experiments(*options, "--only", "replicas=3", "pooling=on", "cache=on", "edge=off")
    slow.unlink()
    assert again.returncode == 1
    assert "p95 999 ms > 250 ms" in again.stdout


def test_another_plan_is_refused(measured):
    _, out = measured
    other = experiments(*CELL, *PLAN, "--processes", "1", *out)
    assert other.returncode == 2
    assert "was measured with another plan: choose another --out" in other.stderr


def test_an_open_loop_is_measured_and_valid(measured, folder):
    out = ["--data-dir", folder / "data", "--out", folder / "open-loop"]
    options = ["--patterns", "weighted", "--open-loop", "50", *PLAN]
    result = experiments(*options, *out)
    assert result.returncode == 0, result.stdout + result.stderr
    ((cell, recorded),) = load(folder / "open-loop").items()
    assert cell == Cell("weighted", users=0, rate=50)
    assert recorded["window"]["requests"] == 50 * 3
    assert recorded["window"]["p95_ms"] >= recorded["window"]["service_p95_ms"]
    assert recorded["nginx"]["requests"] == recorded["total"]["requests"] == 50 * 4


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


def test_a_new_pattern_is_a_file_and_an_entry(measured, folder, simulate_with_ports):
    out = folder / "ports"
    options = [*PLAN, "--data-dir", folder / "data", "--out", out, "--users", "20"]
    options += ["--only", "replicas=1", "pooling=on", "cache=on", "edge=off"]
    result = experiments("--patterns", "ports", *options, simulate=simulate_with_ports)
    assert result.returncode == 0, result.stdout + result.stderr
    ((cell, recorded),) = load(out).items()
    assert (cell.pattern, recorded["invalid"]) == ("ports", [])
    assert recorded["window"]["requests"] > 20

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
        (["--only", "colour=red"], "--only colour=...: expected one of pattern, users,"),
        (["--only", "edge"], "--only edge: expected FIELD=VALUE"),
        (["--only", "users=7"], "no cell fits"),
        (["--quick", "--find-limit"], "not allowed with"),
    ],
)
def test_a_bad_option_is_named(options, message):
    result = experiments(*options, "--list")
    assert result.returncode == 2
    assert message in result.stderr


def test_the_matrix_is_complete():
    cells = matrix(["random", "fixed", "weighted"], [100, 1000], ["warm", "cold"], repeats=2)
    assert len(set(cells)) == len(cells) == 3 * 2 * 2 * 2 * 2 * 2 * 2 * 2
    assert len({cell.name for cell in cells}) == len(cells)


def test_make_experiments_finds_its_packages_and_lists_as_many_cells_as_the_readme_says():
    readme = (ROOT / "simulate" / "README.md").read_text()
    for options, cells in (("--list", "144 cells"), ("--list --quick", "18 cells")):
        make = ["make", "-s", "-o", ".venv/.local", "-o", ".venv/.simulate", "experiments"]
        result = subprocess.run(
            [*make, f"ARGS={options}"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert f"{len(result.stdout.splitlines())} cells" == cells
        assert cells in readme


def test_quick_moves_each_lever_once_and_the_pool_without_the_cache():
    cells = quick(["random"])
    assert len({cell.levers for cell in cells}) == 5
    assert [cell.cache for cell in cells if not cell.pooling] == [False]
    assert len({cell.users for cell in cells}) == 2


def test_select():
    cells = matrix(["random", "fixed"], [100, 1000], ["warm"], repeats=1)
    chosen = select(cells, {"pattern": ["fixed"], "edge": ["on", "off"], "users": ["100"]})
    assert {(cell.pattern, cell.users) for cell in chosen} == {("fixed", 100)}
    assert len(chosen) == 2 * 2 * 2 * 2
    assert select(open_loop(["zipf"], [5, 7], 1), {"rate": ["7"]}) == [Cell("zipf", 0, 7)]
    with pytest.raises(PlanError):
        select(cells, {"users": ["5"]})


@pytest.mark.parametrize("limit", [0, 150, 199, 200, 1234, 9876])
def test_the_limit_is_found_within_5_percent(limit):
    probes = []

    def holds(users):
        probes.append(users)
        return users <= limit

    found = find_limit(holds)
    assert found <= limit
    assert limit - found <= max(0.05 * limit, 10)
    assert len(probes) < 16
