"""Makes the report of a run, as a page and as Markdown, and what spreadsheets and scripts read."""

import argparse
import csv
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from lab import charts, findings, judge, results, tables, words
from lab.results import Load, Point, Run
from lab.tables import Table, load_of
from lab.text import count

MOST_PANELS = {"over-users-levers": 20}  # of a chart; others at most 4
TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=select_autoescape(["html"]),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)

Panels = Mapping[str, Mapping[str, Point]]  # by pattern and lever


@dataclass(frozen=True)
class Chart:
    file: Path
    text: str

    @property
    def svg(self) -> str:
        return self.file.read_text()


@dataclass(frozen=True)
class Section:
    """What stands below one heading, in this order."""

    heading: str
    text: Sequence[str] = ()
    code: str = ""
    tables: Sequence[Table] = ()
    charts: Sequence[Chart] = ()
    items: Mapping[str, str] = field(default_factory=dict)
    folded: Mapping[str, Table] = field(default_factory=dict)
    files: Sequence[str] = ()

    @property
    def empty(self) -> bool:
        return not (self.tables or self.charts or self.items or self.folded)


def write(folder: Path) -> None:
    """Write report.html, report.md, the charts, cells.csv, probes.csv and capacities.csv into it.

    Ends the program with one line if the folder holds nothing.
    """
    run = results.load(folder)
    sections = [section for section in _sections(run, folder) if not section.empty]
    _render(folder / "report", f"Experiments: {run.name}", findings.verdict(run), sections)
    _write_csv(folder / "cells.csv", map(_flat, run.cells))
    probes = (search | probe for search in run.searches for probe in search["probes"])
    _write_csv(folder / "probes.csv", map(_flat, probes))
    found = (one for row in run.capacities.values() for one in row.values())
    _write_csv(folder / "capacities.csv", map(_capacity, found))


def compare(folders: tuple[Path, Path]) -> Path:
    """Put the capacities of two runs side by side, in the folder of the first; the page's path.

    Ends the program with one line if they have no lever and pattern in common.
    """
    runs = [results.load(folder) for folder in folders]
    names = [run.name for run in runs]
    pairs = results.side_by_side(runs)
    if not pairs:
        sys.exit(f"{folders[0]} and {folders[1]} have no search of the same lever and pattern")
    base = folders[0] / f"compare-{names[1]}"
    chart = Chart(base.with_suffix(".svg"), f"Capacity of {names[0]} and of {names[1]}")
    panels: dict[str, dict[str, dict[str, results.Estimate]]] = {}
    for pair in pairs:
        both = dict(zip(names, pair.users, strict=True))
        panels.setdefault(pair.pattern, {})[pair.lever] = both
    charts.capacity(chart.file, panels, chart.text)
    sections = [
        Section(
            "How many users each setting carries",
            [f"{words.CAPACITY} {words.COMPARE}"],
            tables=[tables.side_by_side(names, pairs)],
            charts=[chart],
        ),
        Section("What was the same, and what was not", tables=[tables.manifests(runs)]),
    ]
    _render(base, f"Compared: {' and '.join(names)}", findings.compared(pairs, runs), sections)
    return base.with_suffix(".html")


def _sections(run: Run, folder: Path) -> Iterable[Section]:
    """Everything below the verdict, the most important first; draws the charts."""
    table, points, loads = run.capacities, results.at_the_knee(run), results.loads(run)
    inside = {} if run.from_outside else points
    drawn = _draw(run, folder, points, inside, loads)

    def some(*names: str) -> list[Chart]:
        return [drawn[name] for name in names if name in drawn]

    if table:
        yield Section(
            "How many users each setting carries",
            [f"{words.CAPACITY} {words.FACTOR}"],
            tables=[tables.capacity(table, run.patterns)],
            charts=some("capacity"),
        )
    yield Section(
        "What each lever buys, and where the time went",
        [words.LEVERS],
        charts=some("demand"),
        items={
            lever: findings.lever(row, {p: v[lever] for p, v in points.items() if lever in v})
            for lever, row in table.items()
        },
    )
    yield Section("Over users", [words.USERS], charts=some("over-users", "over-users-levers"))
    yield Section("Over time", [words.TIME], charts=some("over-time"))
    yield Section("Who answered", [words.TIERS], charts=some("tiers"))
    failed = tables.failures(_stretches(run))
    title = f"Who refused, in {len(failed.rows)} stretches with failures"
    folded = {title: failed} if failed.rows else {}
    yield Section("Who refused, and when", [words.FAILURES], charts=some("failures"), folded=folded)
    busy = {"Every setting where it is busiest": tables.knee(inside)} if inside else {}
    yield Section("CPU", [words.CPU], charts=some("cpu"), folded=busy)
    pools = [tables.replicas(inside)] if inside else []
    yield Section("Connections to PostgreSQL", [words.CONNECTIONS], tables=pools)
    open_loops = [cell for cell in run.cells if cell["rate"]]
    yield Section(
        "Open loop",
        [words.OPEN_LOOP],
        tables=[tables.open_loop(open_loops)] if open_loops else [],
        charts=some("open-loop"),
    )
    yield Section(
        "More replicas: a model",
        [words.REPLICAS.format(cores=run.plan["machine"].get("cores"))],
        tables=findings.over_replicas(run.valid_searches),
    )
    reference = {pattern: next(iter(levers.values())) for pattern, levers in loads.items()}
    yield Section("More users: a model", [words.LAW], tables=findings.over_users(reference))
    first = next(iter(inside.values()), {})
    cores = findings.cores_needed(first) if table else []
    yield Section("What more users take", [words.CORES], tables=cores)
    folded = {f"All {len(run.cells)} cells": tables.cells(run)} if run.cells else {}
    if run.searches:
        count_of_probes = sum(len(search["probes"]) for search in run.searches)
        title = f"All {count_of_probes} probes of {len(run.searches)} searches"
        folded[title] = tables.probes(run)
    files = ("capacities.csv", "probes.csv", "cells.csv")
    yield Section("Everything measured", folded=folded, files=files)
    yield Section(
        "Manifest", [words.MANIFEST], code=run.plan["command"], tables=[tables.manifest(run)]
    )


def _draw(
    run: Run,
    folder: Path,
    points: Panels,
    inside: Panels,
    loads: Mapping[str, Mapping[str, Load]],
) -> dict[str, Chart]:
    """Those charts that the run has numbers for, by name.

    ``inside`` are the points where the stack itself was looked at.
    """
    cores = run.plan["machine"].get("cores")
    rows, _ = results.as_rows(run.capacities, run.patterns)
    users = {
        name: {column: found.users for column, found in row.items()} for name, row in rows.items()
    }
    first = next(iter(loads), None)
    reference = {pattern: next(iter(levers.values())) for pattern, levers in loads.items()}
    lever = next(iter(loads[first])) if first else ""
    wanted = {
        "capacity": (charts.capacity, {"": users} if users else {}, "Capacity by lever"),
        "over-users": (charts.over_users, reference, f"Goodput over users, {lever}"),
        "over-users-levers": (
            charts.over_users,
            loads[first] if first and len(loads[first]) > 1 else {},
            f"Goodput over users by lever, {first} users",
        ),
        "over-time": (charts.over_time, results.over_time(run), "Goodput and times over time"),
        "tiers": (
            partial(charts.shares, label="requests, %"),
            _each(points, results.tiers),
            "Who answered, by lever",
        ),
        "demand": (
            partial(charts.shares, label="CPU ms per right answer", unit="ms"),
            _each(inside, results.demands),
            "CPU for one right answer, by lever",
        ),
        "cpu": (
            partial(charts.shares, label="all cores, %"),
            _each(inside, lambda point: results.machine(point, cores)),
            "How busy the cores are, by lever",
        ),
        "failures": (
            partial(charts.shares, label="requests, %"),
            _each(results.past_the_knee(run), lambda point: results.failures(point["window"])),
            "Who refused past the knee, by lever",
        ),
        "open-loop": (
            charts.open_loop,
            {
                f"{cell['pattern']}, {load_of(cell)}": cell
                for cell in run.valid_cells
                if cell["rate"] and not judge.unsustained(cell)
            },
            "p99 of open loops over time",
        ),
    }
    drawn = {}
    for name, (draw, panels, text) in wanted.items():
        path = folder / f"{name}.svg"
        path.unlink(missing_ok=True)  # of an earlier report
        if panels:
            draw(path, dict(islice(panels.items(), MOST_PANELS.get(name, 4))), text)
            drawn[name] = Chart(path, text)
    return drawn


def _each(
    panels: Panels, parts: Callable[[Point], Mapping[str, float]]
) -> dict[str, dict[str, Mapping[str, float]]]:
    """The parts of each point that has any; without patterns that a single lever was put under."""
    panels = {name: levers for name, levers in panels.items() if len(levers) > 1} or panels
    split = {
        name: {lever: row for lever, point in levers.items() if any((row := parts(point)).values())}
        for name, levers in panels.items()
    }
    return {name: rows for name, rows in split.items() if rows}


def _stretches(run: Run) -> Iterable[tuple[str, str, str, Mapping[str, Any]]]:
    """By phase: the probes past the knee, and all valid cells."""
    for pattern, levers in results.past_the_knee(run).items():
        for lever, probe in levers.items():
            what = f"{lever}, {count(probe['users'])} users"
            yield what, pattern, "arrival", probe["arrival"]
            yield what, pattern, "window", probe["window"]
    for cell in run.valid_cells:
        for phase, part in cell["phases"].items():
            yield f"{cell['lever']}, {load_of(cell)}", cell["pattern"], phase, part


def _render(base: Path, title: str, verdict: findings.Verdict, sections: Sequence[Section]) -> None:
    """As HTML and as Markdown."""
    for suffix in (".html", ".md"):
        template = TEMPLATES.get_template(f"report{suffix}")
        text = template.render(title=title, verdict=verdict, sections=sections)
        base.with_suffix(suffix).write_text(text.strip() + "\n")


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """One level, names joined by dots; of what is longer than a row there is the JSON."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            if name not in ("series", "probes", "errors"):
                flat[prefix + name] = "; ".join(map(str, value))
        else:
            flat[prefix + name] = value
    return flat


def _write_csv(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    rows = list(rows)
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _capacity(found: results.Capacity) -> dict[str, Any]:
    known = {name: getattr(found, name) for name in ("lever", "pattern", "repeats", "bound")}
    known |= _flat(asdict(found.users), "users.") | {"reference": found.reference}
    return known | (_flat(asdict(found.factor), "factor.") if found.factor else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="below simulate/results")
    parser.add_argument("--compare", type=Path, metavar="OTHER", help="another folder beside it")
    options = parser.parse_args()
    if options.compare:
        print(f"written to {compare((options.folder, options.compare))}")
    else:
        write(options.folder)
        print(f"written to {options.folder / 'report.html'}")


if __name__ == "__main__":
    main()
