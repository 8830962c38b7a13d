"""Makes the report of a run, Markdown and HTML with charts, from its recorded cells."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lab import charts, judge, shares
from lab.document import Block, Image, Table, as_html, as_markdown
from lab.plan import DEFAULTS, LEVERS, Cell

Result = dict[str, Any]


def load(folder: Path) -> dict[Cell, Result]:
    """All recorded cells."""
    results = {}
    for path in sorted(folder.glob("cells/*.json")):
        result = json.loads(path.read_text())
        results[Cell(**result["cell"])] = result
    return dict(sorted(results.items()))


def write(folder: Path, suffix: str = "svg") -> None:
    """Write report.md, report.html and the charts beside the cells."""
    results = load(folder)
    if not results:
        sys.exit(f"{folder} holds no recorded cells")
    blocks = build(folder, results, suffix)
    (folder / "report.md").write_text(as_markdown(blocks))
    (folder / "report.html").write_text(as_html(blocks))


def build(folder: Path, results: Mapping[Cell, Result], suffix: str) -> list[Block]:
    """The report as blocks; draws the charts into the folder."""
    valid = {cell: result for cell, result in results.items() if not result["invalid"]}
    closed = {cell: result for cell, result in valid.items() if not cell.rate}
    return [
        f"# Experiments: {folder.name}",
        *_verdict(results),
        *_over_time(folder, closed, suffix),
        *_over_users(folder, closed, suffix),
        *_levers(folder, closed, suffix),
        *_open_loop(folder, {cell: r for cell, r in valid.items() if cell.rate}, suffix),
        *_limits(folder),
        *_all_cells(results),
        *_manifest(list(results.values())),
    ]


def _verdict(results: Mapping[Cell, Result]) -> list[Block]:
    valid = {cell: result for cell, result in results.items() if not result["invalid"]}
    levels = judge.SERVICE_LEVELS
    missed = [
        [cell.name, problem]
        for cell, result in valid.items()
        for problem in judge.missed(result, levels)
    ]
    blocks: list[Block] = [
        f"{len(results)} cells were measured; {len(results) - len(valid)} of them are INVALID and "
        "left out of the charts."
    ]
    if missed:
        return [*blocks, "Service levels that were missed:", Table(["cell", "problem"], missed)]
    if not any(level.applies(cell) for level in levels for cell in valid):
        return [*blocks, "No service level applies to these cells."]
    return [*blocks, "Every service level was kept."]


def _over_time(folder: Path, results: Mapping[Cell, Result], suffix: str) -> list[Block]:
    shown = _only_settings(results) or DEFAULTS
    chosen = {
        pattern: result
        for pattern, cells in _by_pattern(results).items()
        if (result := _at_most_users(cells, shown))
    }
    if not chosen:
        return []
    charts.over_time(folder / f"over-time.{suffix}", chosen)
    users = ", ".join(f"{pattern}: {r['cell']['users']:,}" for pattern, r in chosen.items())
    return [
        "## Over time",
        f"Settings: {shown.settings}; the largest number of users ({users}). The grey stretch is "
        "the one that was measured; before it users arrive and warm up.",
        Image(f"over-time.{suffix}", "Users, requests/s and response times over time"),
    ]


def _over_users(folder: Path, results: Mapping[Cell, Result], suffix: str) -> list[Block]:
    curves = {
        pattern: [result for cell, result in cells.items() if cell.levers == DEFAULTS.levers]
        for pattern, cells in _by_pattern(results).items()
    }
    if not any(len(curve) > 1 for curve in curves.values()):
        return []
    charts.over_users(folder / f"over-users.{suffix}", curves)
    return [
        "## Over users",
        "Default settings. While the stack keeps up, requests/s is users / (think time + response "
        "time): it tells how many users there are, not how fast the stack is.",
        Image(f"over-users.{suffix}", "Requests/s and percentiles over the number of users"),
    ]


def _levers(folder: Path, results: Mapping[Cell, Result], suffix: str) -> list[Block]:
    groups = {}
    for pattern, cells in _by_pattern(results).items():
        moved = {
            name: result
            for name, change in LEVERS.items()
            if (result := _at_most_users(cells, replace(DEFAULTS, **change)))
        }
        if len(moved) > 1:
            groups[pattern] = moved
    if not groups:
        return []
    users = sorted({r["cell"]["users"] for moved in groups.values() for r in moved.values()})
    draw = [
        ("p95", "p95, ms", lambda result: result["window"]["p95_ms"]),
        ("rate", "requests/s", lambda result: result["window"]["requests_per_second"]),
        ("failures", "failures", lambda result: result["window"]["failures"]),
    ]
    for name, label, value in draw:
        charts.bars(folder / f"levers-{name}.{suffix}", groups, value, label)
    charts.bars(
        folder / f"connections.{suffix}",
        groups,
        lambda result: result["connections"]["max"],
        "connections to PostgreSQL, most at once",
        charts.MAX_CONNECTIONS,
    )
    charts.shares(folder / f"tiers.{suffix}", groups, shares.tiers, "answers, %")
    charts.shares(folder / f"replicas.{suffix}", groups, shares.balance, "requests, %")
    charts.shares(folder / f"cpu.{suffix}", groups, shares.cpu, "CPU, % of one core")
    return [
        "## What each lever buys",
        "Levers are moved away from the default settings (3 replicas, pool, cache, no edge cache), "
        f"at {', '.join(f'{count:,}' for count in users)} users. Warm caches hardly ever ask "
        "PostgreSQL, so what the pool buys shows without the cache.",
        Image(f"levers-p95.{suffix}", "95th percentile of the response time"),
        Image(f"levers-rate.{suffix}", "Requests per second"),
        Image(f"levers-failures.{suffix}", "Failed requests"),
        "## Which tier answered",
        "From X-Edge-Cache and X-Cache of every answer.",
        Image(f"tiers.{suffix}", "Share of the answers by tier"),
        "## Balance over the replicas",
        "From nginx's log. Answers of the edge cache reach no replica.",
        Image(f"replicas.{suffix}", "Share of the requests by replica"),
        "## Connections to PostgreSQL",
        f"The dashed line is max_connections ({charts.MAX_CONNECTIONS}).",
        Image(f"connections.{suffix}", "Most connections at once"),
        "## CPU",
        "Mean over the measured seconds; 100 % is one core.",
        Image(f"cpu.{suffix}", "CPU by process"),
    ]


def _open_loop(folder: Path, results: Mapping[Cell, Result], suffix: str) -> list[Block]:
    if not results:
        return []
    names = {f"{cell.pattern}, {cell.rate:,}/s": result for cell, result in results.items()}
    charts.open_loop(folder / f"open-loop.{suffix}", names)
    rows = [
        [
            name,
            f"{result['window']['requests_per_second']:,.0f}",
            *(
                _ms(result["window"][f"{kind}p{percent}_ms"])
                for kind in ("", "service_")
                for percent in (50, 95, 99)
            ),
            f"{result['window']['failures']:,}",
        ]
        for name, result in names.items()
    ]
    header = [
        f"{kind} p{percent}, ms" for kind in ("response", "service") for percent in (50, 95, 99)
    ]
    return [
        "## Open loop",
        "Requests start on a schedule, whatever became of those before. The response time counts "
        "from when a request was due, the service time from when it was sent: a closed loop shows "
        "only the second.",
        Image(f"open-loop.{suffix}", "p99 of response and service time over time"),
        Table(["load", "answered, 1/s", *header, "failures"], rows),
    ]


def _limits(folder: Path) -> list[Block]:
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("limit-*.json"))]
    if not found:
        return []
    rows = [
        [
            limit["cell"]["pattern"],
            f"{probe['users']:,}",
            _ms(probe["p95_ms"]),
            "; ".join(probe["reasons"]) or "holds",
        ]
        for limit in found
        for probe in limit["probes"]
    ]
    limits = "; ".join(f"{limit['cell']['pattern']}: {limit['limit']:,} users" for limit in found)
    return [
        "## The limit",
        f"The highest number of users with p95 <= {found[0]['p95_ms']} ms and no failure: "
        f"{limits}. Every probe:",
        Table(["pattern", "users", "p95, ms", "result"], rows),
    ]


def _all_cells(results: Mapping[Cell, Result]) -> list[Block]:
    rows = []
    for cell, result in results.items():
        window = result["window"]
        rows.append(
            [
                cell.pattern,
                f"{cell.rate:,}/s" if cell.rate else f"{cell.users:,} users",
                cell.settings,
                f"{cell.start}, {cell.repeat}",
                f"{window['requests_per_second']:,.0f}",
                *(_ms(window[f"p{percent}_ms"]) for percent in (50, 95, 99)),
                f"{window['failures']:,}",
                "; ".join(f"INVALID: {reason}" for reason in result["invalid"]) or "valid",
            ]
        )
    header = ["pattern", "load", "settings", "start, repeat", "requests/s"]
    header += ["p50, ms", "p95, ms", "p99, ms", "failures", "verdict"]
    return ["## All cells", Table(header, rows)]


def _manifest(results: Sequence[Result]) -> list[Block]:
    facts: dict[str, list[str]] = {}
    for result in results:
        parts = [result["machine"], result["versions"], result["plan"], result["settings"]]
        for name, value in (item for part in parts for item in part.items()):
            values = facts.setdefault(name, [])
            if str(value) not in values:
                values.append(str(value))
    moments = sorted(facts.pop("measured_at"))
    rows = [["measured", f"{moments[0]} to {moments[-1]}"]]
    rows += [[name, ", ".join(values)] for name, values in facts.items()]
    return ["## Manifest", Table(["", "value"], rows)]


def _by_pattern(results: Mapping[Cell, Result]) -> dict[str, dict[Cell, Result]]:
    """The warm cells by pattern; of repeats the one with the median p95."""
    repeats: dict[Cell, list[Result]] = {}
    for cell, result in results.items():
        if cell.start == DEFAULTS.start:
            repeats.setdefault(replace(cell, repeat=1), []).append(result)
    patterns: dict[str, dict[Cell, Result]] = {}
    for cell, same in repeats.items():
        ranked = sorted(same, key=lambda result: result["window"]["p95_ms"])
        patterns.setdefault(cell.pattern, {})[cell] = ranked[len(ranked) // 2]
    return patterns


def _only_settings(results: Mapping[Cell, Result]) -> Cell | None:
    """A cell with the settings that all of them have, if they have the same."""
    cells = list(results)
    return cells[0] if len({cell.levers for cell in cells}) == 1 else None


def _at_most_users(results: Mapping[Cell, Result], wanted: Cell) -> Result | None:
    """The result with these levers and the largest number of users."""
    fitting = [cell for cell in results if cell.levers == wanted.levers]
    return results[max(fitting, key=lambda cell: cell.users)] if fitting else None


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="below simulate/results")
    parser.add_argument("--png", action="store_true", help="charts as PNG instead of SVG")
    options = parser.parse_args()
    write(options.folder, "png" if options.png else "svg")
    print(f"written to {options.folder / 'report.html'}")


if __name__ == "__main__":
    main()
