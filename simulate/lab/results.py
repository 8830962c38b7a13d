"""Reads what a run kept, and says what it amounts to: capacities, curves, who did the work."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lab import judge, model, statistics
from lab.plan import DEFAULT, LEVERS, REFERENCE
from lab.replica_metrics import tier_shares
from users.patterns import PATTERNS

Point = Mapping[str, Any]  # a probe of a search, or a cell: users, window, cpu, ...
Search = Mapping[str, Any]

REFUSERS = {
    "nginx": "nginx",
    "pool": "pool of connections",
    "database": "PostgreSQL",
    "time": "no time left",
    "late": "later than 2 s",
    "wrong": "wrong answer",
    "network": "no answer",
}
TIERS = {
    "edge": "edge cache",
    "memory": "memory",
    "redis": "Redis",
    "stale": "old one, while a new one is computed",
    "computed": "PostgreSQL, then cached",
    "uncached": "PostgreSQL, not cached",
    "origin": "a replica, of unknown tier",
    "refused": "refused or wrong",
}
THINK = 1.5  # seconds a user thinks between requests, on average
USERS = 100  # a unit of N in the model over users: the goodput of one user says little
USERS_ALONE = USERS / THINK  # requests/s that so many users send if no answer takes time
STACK = ("nginx", "Flask", "Redis", "PostgreSQL")
PARTS = (*STACK, "generator", "lab")
FEWEST_POINTS = 3  # of a curve, and of the model that is fitted to it
NEAR = 0.05  # numbers of users that are apart by less are one point of a curve


@dataclass(frozen=True)
class Run:
    """One folder: what was planned, and everything that was measured."""

    name: str
    plan: dict[str, Any]
    cells: list[dict[str, Any]]
    searches: list[dict[str, Any]]

    @property
    def from_outside(self) -> bool:
        """Whether only answers were seen, and nothing of the stack's processes and replicas."""
        return self.plan["target"] == "aws"

    @property
    def valid_searches(self) -> list[dict[str, Any]]:
        """Those whose capacity counts."""
        return [search for search in self.searches if not search["invalid"]]

    @property
    def valid_cells(self) -> list[dict[str, Any]]:
        """The cells that count; no chart shows another."""
        return [cell for cell in self.cells if not cell["invalid"]]

    @property
    def closed_loops(self) -> list[dict[str, Any]]:
        """The cells that count and have users; of a lever and pattern the most users last."""
        return [cell for cell in self.valid_cells if not cell["rate"]]

    @property
    def span(self) -> tuple[str, str]:
        """When the first and the last of it was measured: ISO dates and times, UTC."""
        moments = [one["measured_at"] for one in [*self.searches, *self.cells]]
        return min(moments), max(moments)

    @cached_property
    def capacities(self) -> dict[str, dict[str, "Capacity"]]:
        """By lever, in the order of the table, and pattern."""
        return capacities(self.valid_searches)

    @property
    def patterns(self) -> list[str]:
        measured = {one["pattern"] for one in [*self.searches, *self.cells]}
        return [pattern for pattern in PATTERNS if pattern in measured]


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval, whose bounds are None after a single measurement."""

    mean: float
    low: float | None
    high: float | None
    at_least: bool = False  # the generator or the plan ended a search

    @property
    def undecided(self) -> bool:
        """Whether a ratio with this interval may as well be 1; one that is "at least" is not."""
        if self.at_least or self.low is None or self.high is None:
            return False
        return self.low <= 1 <= self.high


@dataclass(frozen=True)
class Capacity:
    """The searches of one lever and pattern."""

    lever: str
    pattern: str
    users: Estimate
    factor: Estimate | None  # against the lever's reference
    reference: str
    repeats: int
    knee: Point | None  # of the median search: the most users with which the service level held
    beyond: Point | None  # and the fewest with which it did not
    bound: str  # what ended a search before the stack did; empty if nothing


@dataclass(frozen=True)
class Pair:
    """The capacity of one lever and pattern in two runs."""

    lever: str
    pattern: str
    users: tuple[Estimate, Estimate]
    ratio: Estimate | None  # the second against the first


@dataclass(frozen=True)
class Load:
    """Goodput over the number of users."""

    curve: list[dict[str, float]]
    capacity: float | None = None  # users
    law: model.Model | None = None  # N in hundreds of users


def load(folder: Path) -> Run:
    """Everything in the folder; ends the program if it holds nothing."""
    cells, searches = (
        [json.loads(path.read_text()) for path in sorted(folder.glob(f"{kind}/*.json"))]
        for kind in ("cells", "searches")
    )
    if not cells and not searches:
        sys.exit(f"{folder} holds no recorded cells and no searches")
    plan = json.loads((folder / "plan.json").read_text())
    searches.sort(key=lambda search: (*_rank(search), search["repeat"]))
    cells.sort(key=lambda cell: (*_rank(cell), cell["users"], cell["rate"]))
    return Run(folder.resolve().name, plan, cells, searches)


def capacities(searches: Sequence[Search]) -> dict[str, dict[str, Capacity]]:
    """By lever, in the order of the table, and pattern; give it valid searches."""
    groups = group_repeats(searches)
    table: dict[str, dict[str, Capacity]] = {}
    for (lever, pattern), repeats in groups.items():
        reference = REFERENCE.get(lever, DEFAULT)
        found = list(repeats.values())
        typical = sorted(found, key=lambda one: one["capacity"])[len(found) // 2]
        values = [search["capacity"] for search in found]
        table.setdefault(lever, {})[pattern] = Capacity(
            lever,
            pattern,
            Estimate(*statistics.interval(values), any(search["censored"] for search in found)),
            ratio(groups.get((reference, pattern), {}), repeats) if lever != reference else None,
            reference,
            len(values),
            *_around(typical),
            next((search["bound"] for search in found if search["censored"]), ""),
        )
    return table


def as_rows(
    table: Mapping[str, Mapping[str, Capacity]], patterns: Sequence[str]
) -> tuple[Mapping[str, Mapping[str, Capacity]], Sequence[str]]:
    """A table's rows and columns, by default lever and pattern.

    Where most fields would be empty there is one column, and rows of other patterns say so.
    """
    if all(row.keys() == set(patterns) for row in table.values()):
        return table, patterns
    column = f"users, {patterns[0]} unless said"
    rows = {
        lever if pattern == patterns[0] else f"{lever}, {pattern} users": {column: found}
        for lever, row in table.items()
        for pattern, found in row.items()
    }
    return rows, [column]


def _around(search: Search) -> tuple[Point | None, Point | None]:
    """The probes next to a search's result: the last that held, the first that did not.

    Chance decides a single probe near the boundary, so its side of the result counts, too.
    """
    capacity = search["capacity"]
    held = [one for one in search["probes"] if one["holds"] and one["users"] <= capacity]
    missed = [one for one in search["probes"] if not one["holds"] and one["users"] > capacity]
    return (
        max(held, key=lambda probe: probe["users"], default=None),
        min(missed, key=lambda probe: probe["users"], default=None),
    )


def group_repeats(
    searches: Sequence[Search],
) -> dict[tuple[str, str], dict[int, Search]]:
    """The repeats by lever and pattern."""
    groups: dict[tuple[str, str], dict[int, Search]] = {}
    for search in searches:
        groups.setdefault((search["lever"], search["pattern"]), {})[search["repeat"]] = search
    return groups


def side_by_side(runs: Sequence[Run]) -> list[Pair]:
    """What two runs both searched for."""
    first, second = (group_repeats(run.valid_searches) for run in runs)
    return [
        Pair(
            *(lever, pattern),
            tuple(run.capacities[lever][pattern].users for run in runs),
            ratio(first[lever, pattern], second[lever, pattern]),
        )
        for lever, pattern in first
        if (lever, pattern) in second
    ]


def ratio(base: Mapping[int, Search], other: Mapping[int, Search]) -> Estimate | None:
    """How many times the users of ``base`` the other carries, from the repeats that both have.

    None where the base is 0, or known only as "at least".
    """
    common = sorted(base.keys() & other.keys())
    before, after = ([side[n]["capacity"] for n in common] for side in (base, other))
    if not common or min(before + after) <= 0 or any(base[n]["censored"] for n in common):
        return None
    censored = any(other[n]["censored"] for n in common)
    return Estimate(*statistics.ratio_interval(before, after), censored)


def curve(points: Iterable[Point]) -> list[dict[str, float]]:
    """Goodput and failures per second against users; means of points that are NEAR.

    Not of those where the generator was at its end: they tell of the generator.
    """
    groups: list[list[Point]] = []
    for point in sorted(points, key=lambda point: point["users"]):
        if not point["window"]["sent"] or point.get("limits"):
            continue
        if groups and point["users"] <= (1 + NEAR) * groups[-1][0]["users"]:
            groups[-1].append(point)
        else:
            groups.append([point])
    return [_mean_point(group) for group in groups]


def _mean_point(group: Sequence[Point]) -> dict[str, float]:
    windows = [point["window"] for point in group]
    return {
        "users": _mean(point["users"] for point in group),
        "goodput": _mean(window["goodput"] for window in windows),
        "failed": _mean(window["failed"] / window["seconds"] for window in windows),
        "p95_ms": _mean(w["p95_ms"] for w in windows if w["p95_ms"] is not None),
    }


def loads(run: Run) -> dict[str, dict[str, Load]]:
    """By pattern and lever: goodput over users, from the probes of searches or else from cells."""
    groups: dict[tuple[str, str], list[Point]] = {}
    for (lever, pattern), repeats in group_repeats(run.valid_searches).items():
        probes = [probe for search in repeats.values() for probe in search["probes"]]
        groups[pattern, lever] = probes
    if not groups:
        for cell in run.closed_loops:
            groups.setdefault((cell["pattern"], cell["lever"]), []).append(cell)
    table: dict[str, dict[str, Load]] = {}
    for (pattern, lever), points in groups.items():
        line = curve(points)
        if len(line) >= FEWEST_POINTS:
            known = run.capacities.get(lever, {}).get(pattern)
            table.setdefault(pattern, {})[lever] = Load(
                line, known.users.mean if known else None, _law(line)
            )
    return table


def _law(line: Sequence[Mapping[str, float]]) -> model.Model | None:
    points = law_points(line)
    return model.fit(points, USERS_ALONE) if len(points) >= FEWEST_POINTS else None


def law_points(line: Sequence[Mapping[str, float]]) -> list[model.Point]:
    """What the model over users is fitted to."""
    return [(point["users"] / USERS, point["goodput"]) for point in line if point["goodput"]]


def at_the_knee(run: Run) -> dict[str, dict[str, Point]]:
    """By pattern and lever: where the stack is as busy as it may be.

    Of the median search the probe just below its result; without searches the cell with the most
    users that did not miss the service level.
    """
    points = _by_pattern(run, lambda capacity: capacity.knee)
    if not points:
        for cell in run.closed_loops:
            if judge.verdict(cell) != "missed":
                points.setdefault(cell["pattern"], {})[cell["lever"]] = cell
    return points


def past_the_knee(run: Run) -> dict[str, dict[str, Point]]:
    """By pattern and lever: the probe with the fewest users of those that did not hold."""
    return _by_pattern(run, lambda capacity: capacity.beyond)


def _by_pattern(run: Run, probe: Callable[[Capacity], Point | None]) -> dict[str, dict[str, Point]]:
    points: dict[str, dict[str, Point]] = {}
    for lever, row in run.capacities.items():
        for pattern, capacity in row.items():
            if found := probe(capacity):
                points.setdefault(pattern, {})[lever] = found
    return points


def over_time(run: Run) -> dict[str, Point]:
    """The cells to look at second by second: of each pattern the first lever, most users.

    With one pattern, of each lever.
    """
    closed = run.closed_loops
    if len({cell["pattern"] for cell in closed}) == 1:
        return {_title(cell): cell for cell in {c["lever"]: c for c in closed}.values()}
    chosen: dict[str, Point] = {}
    for cell in closed:
        known = chosen.setdefault(cell["pattern"], cell)
        if known["lever"] == cell["lever"]:
            chosen[cell["pattern"]] = cell
    return {_title(cell): cell for cell in chosen.values()}


def _title(cell: Point) -> str:
    return f"{cell['users']:,} {cell['pattern']} users, {cell['lever']}"


def tiers(point: Point) -> dict[str, float]:
    """Percent of all requests that each tier answered; with the refused ones they are 100."""
    shares = tier_shares(point)
    return {name: shares[key] for key, name in TIERS.items() if key in shares}


def failures(window: Mapping[str, Any]) -> dict[str, float]:
    """Percent of all requests that each refused."""
    return {
        name: 100 * window["failures"].get(key, 0) / (window["sent"] or 1)
        for key, name in REFUSERS.items()
    }


def cpu(point: Point) -> dict[str, float]:
    """Percent of one core by part: replicas together, the generator's processes together."""
    usage = dict.fromkeys(PARTS, 0.0)
    for name, value in point["cpu"].items():
        part = "Flask" if name.startswith("flask") else name.split()[0]
        usage[part] = usage.get(part, 0.0) + value["mean"]
    return usage


def machine(point: Point, cores: int) -> dict[str, float]:
    """Percent of all cores by part, with idle and the rest they are 100."""
    usage = {part: percent / cores for part, percent in cpu(point).items()}
    idle = point["machine_load"]["idle_mean"] or 0.0
    return usage | {"others": max(0.0, 100 - idle - sum(usage.values())), "idle": idle}


def demands(point: Point) -> dict[str, float]:
    """CPU milliseconds of each part for one right answer: its service demand."""
    goodput = point["window"]["goodput"]
    return {part: 10 * percent / goodput for part, percent in cpu(point).items()} if goodput else {}


def _mean(values: Iterable[float]) -> float | None:
    values = list(values)
    return sum(values) / len(values) if values else None


def _rank(measured: Mapping[str, Any]) -> tuple[int, int]:
    """Levers and patterns in the order in which they are declared."""
    orders = ((list(LEVERS), measured["lever"]), (list(PATTERNS), measured["pattern"]))
    lever, pattern = (order.index(name) if name in order else len(order) for order, name in orders)
    return lever, pattern
