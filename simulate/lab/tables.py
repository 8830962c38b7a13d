"""The report's tables: rows of texts from the numbers of a run."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lab import judge, results
from lab.results import Capacity, Pair, Point, Run
from lab.text import count, digits, factor, ms, percent, users

CELLS_ALONE = ("spawn_rate", "warm_up")  # of a plan; searches have no use for them


@dataclass(frozen=True)
class Table:
    """``texts`` columns from the left hold words, the others numbers."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: int = 1


def capacity(table: Mapping[str, Mapping[str, Capacity]], patterns: Sequence[str]) -> Table:
    """The headline: users by lever and pattern, and below them the factor to the reference."""
    shown, columns = results.as_rows(table, patterns)
    rows = []
    for name, row in shown.items():
        first = next(iter(row.values()))
        against = f"\nagainst {first.reference}" if first.reference != first.lever else ""
        rows.append([name + against, *(_capacity(row[column]) for column in columns)])
    return Table(["lever", *columns], rows)


def _capacity(found: Capacity) -> str:
    return users(found.users) + (f"\n{factor(found.factor)}" if found.factor else "")


def knee(points: Mapping[str, Mapping[str, Point]]) -> Table:
    header = ["lever", "pattern", "users", "goodput, 1/s", "p50", "p95", "p99", "p99.9"]
    header += ["CPU per right answer", "idle"]
    rows = []
    for pattern, levers in points.items():
        for lever, point in levers.items():
            rows.append(
                [
                    *(lever, pattern, count(point["users"])),
                    *outcome(point),
                    ms(sum(results.demands(point).values()) or None),
                    _idle(point),
                ]
            )
    return Table(header, rows, texts=2)


def replicas(points: Mapping[str, Mapping[str, Point]]) -> Table:
    """The pools and what went through them, as the replicas count it."""
    header = ["lever", "pattern", "in use: mean", "most", "open", "limit", "most waiting"]
    header += ["wait, mean", "opened, 1/s", "refused by pool", "by PostgreSQL", "flights joined"]
    rows = []
    for pattern, levers in points.items():
        for lever, point in levers.items():
            found = point["replicas"]
            size, in_use, limit, waiting = (
                found["pool"][name] or dict.fromkeys(("mean", "max"))
                for name in ("size", "in_use", "limit", "waiting")
            )
            rows.append(
                [
                    *(lever, pattern, digits(in_use["mean"])),
                    *(count(one["max"]) for one in (in_use, size, limit, waiting)),
                    *(ms(found["wait_ms"]), digits(found["opened_per_second"])),
                    *(count(found["refused"][reason]) for reason in ("pool", "database")),
                    count(found["flights_joined"]),
                ]
            )
    return Table(header, rows, texts=2)


def load_of(cell: Mapping[str, Any]) -> str:
    """The load that a cell was put under."""
    return f"{count(cell['rate'])}/s" if cell["rate"] else f"{count(cell['users'])} users"


def outcome(point: Point) -> list[str]:
    """Goodput and percentiles; of a rate that was not sustained there are no percentiles."""
    window = point["window"]
    names = ("p50_ms", "p95_ms", "p99_ms", "p999_ms")
    times = ["-"] * 4 if judge.unsustained(point) else [ms(window[name]) for name in names]
    return [count(window["goodput"]), *times]


def _idle(point: Point) -> str:
    share = percent(point["machine_load"]["idle_mean"])
    return f"{share}, {judge.SATURATED}" if judge.saturated(point) else share


def _failed(window: Mapping[str, Any]) -> str:
    return percent(100 * window["failed"] / (window["sent"] or 1))


def failures(points: Iterable[tuple[str, str, str, Mapping[str, Any]]]) -> Table:
    """Of stretches (what, pattern, phase, summary) with failures: who refused how many."""
    failed = [point for point in points if point[3]["failed"]]
    found = {who for *_, part in failed for who in part["failures"]}
    refusers = {who: name for who, name in results.REFUSERS.items() if who in found}
    rows = [
        [
            *(what, pattern, phase, count(part["sent"]), _failed(part)),
            *(count(part["failures"].get(who, 0)) for who in refusers),
        ]
        for what, pattern, phase, part in failed
    ]
    return Table(["what", "pattern", "phase", "requests", "failed", *refusers.values()], rows, 3)


def open_loop(cells: Sequence[Mapping[str, Any]]) -> Table:
    header = ["pattern", "asked, 1/s", "verdict", "answered, 1/s", "goodput, 1/s"]
    header += [f"{kind} {p}" for kind in ("response", "service") for p in ("p50", "p95", "p99")]
    header += ["sent late, p99", "SCHED_RR", "failed"]
    rows = []
    for cell in cells:
        window = cell["window"]
        service = [ms(window[f"service_p{percent}_ms"]) for percent in (50, 95, 99)]
        rows.append(
            [
                *(cell["pattern"], count(cell["rate"]), verdict(cell)),
                *(count(window["answered_per_second"]), *outcome(cell)[:4]),
                *(["-"] * 3 if judge.unsustained(cell) else service),
                ms(window["send_lag_p99_ms"]),
                *("yes" if cell["real_time"] else "no", _failed(window)),
            ]
        )
    return Table(header, rows, texts=3)


def cells(run: Run) -> Table:
    header = ["setting", "pattern", "start", "load", "verdict", "repeat", "goodput, 1/s"]
    header += ["p50", "p95", "p99", "p99.9", "failed", "idle"]
    rows = [
        [
            *(cell["lever"], cell["pattern"], cell["start"]),
            load_of(cell),
            *(verdict(cell), str(cell["repeat"]), *outcome(cell), _failed(cell["window"])),
            percent(cell["machine_load"]["idle_mean"]),
        ]
        for cell in run.cells
    ]
    return Table(header, rows, texts=5)


def probes(run: Run) -> Table:
    header = ["lever", "pattern", "repeat", "users", "goodput, 1/s", "p50", "p95", "p99", "p99.9"]
    header += ["failed", "idle", "result"]
    rows = [
        [
            *(search["lever"], search["pattern"], str(search["repeat"]), count(probe["users"])),
            *(*outcome(probe), _failed(probe["window"])),
            _idle(probe),
            "; ".join(_invalid(search) or probe["reasons"] or ["holds"]),
        ]
        for search in run.searches
        for probe in search["probes"]
    ]
    return Table(header, rows, texts=2)


def manifest(run: Run) -> Table:
    plan = run.plan
    hidden = {"command", *(CELLS_ALONE if run.searches else ())}
    shown = {name: value for name, value in plan.items() if name not in hidden}
    facts = {name: value for name, value in shown.items() if not isinstance(value, dict)}
    for part in ("machine", "versions", "settings"):
        facts |= plan[part]
    facts["measured"] = f"{len(run.searches)} searches, {len(run.cells)} cells"
    facts["measured at"] = " to ".join(run.span)
    rows = [[name.replace("_", " "), str(value)] for name, value in facts.items()]
    return Table(["", "value"], rows, texts=2)


def side_by_side(names: Sequence[str], pairs: Sequence[Pair]) -> Table:
    header = ["lever", "pattern", *(f"{name}, users" for name in names)]
    rows = [
        [pair.lever, pair.pattern, *map(users, pair.users), factor(pair.ratio)] for pair in pairs
    ]
    return Table([*header, f"{names[1]} / {names[0]}"], rows, texts=2)


def manifests(runs: Sequence[Run]) -> Table:
    """What was the same and what was not."""
    columns = [dict(manifest(run).rows) for run in runs]
    names = list(dict.fromkeys(name for column in columns for name in column))
    rows = [[name, *(column.get(name, "-") for column in columns)] for name in names]
    return Table(["", *(run.name for run in runs)], rows, texts=3)


def verdict(cell: Mapping[str, Any]) -> str:
    """INVALID with its reasons, the flags, and whether the service level holds."""
    if judge.verdict(cell) == "not judged":
        return "; ".join([*_invalid(cell), *cell["flags"]]) or "not judged"
    return "; ".join([*cell["flags"], *(judge.problems(cell) or ["holds"])])


def _invalid(measured: Mapping[str, Any]) -> list[str]:
    return [f"INVALID: {reason}" for reason in measured["invalid"]]
