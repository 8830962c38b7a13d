"""Reads what a run kept, and says what it amounts to: capacities, curves, who did the work."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import statistics
from lab.plan import LEVERS, REFERENCE

Point = Mapping[str, Any]  # a probe of a search, or a cell: users, window, cpu, ...

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
    "cached": "memory or Redis",
    "computed": "PostgreSQL, then cached",
    "uncached": "PostgreSQL, not cached",
    "refused": "refused or wrong",
}
PARTS = ("nginx", "Flask", "Redis", "PostgreSQL", "generator")


@dataclass(frozen=True)
class Run:
    """One folder: what was planned, and everything that was measured."""

    name: str
    plan: dict[str, Any]
    cells: list[dict[str, Any]]
    searches: list[dict[str, Any]]

    @property
    def valid(self) -> list[dict[str, Any]]:
        """The cells that count; no chart shows another."""
        return [cell for cell in self.cells if not cell["invalid"]]

    @property
    def patterns(self) -> list[str]:
        return list(dict.fromkeys(one["pattern"] for one in [*self.searches, *self.cells]))


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval, whose bounds are None after a single measurement."""

    mean: float
    low: float | None
    high: float | None
    at_least: bool = False  # the generator or the plan ended a search

    @property
    def undecided(self) -> bool:
        """Whether a ratio with this interval may as well be 1."""
        return self.low is not None and self.high is not None and self.low <= 1 <= self.high


@dataclass(frozen=True)
class Capacity:
    """The searches of one lever and pattern."""

    lever: str
    pattern: str
    users: Estimate
    factor: Estimate | None  # against the lever's reference
    reference: str
    repeats: int
    knee: Point | None  # the most users with which the service level held
    beyond: Point | None  # the fewest with which it did not


def load(folder: Path) -> Run:
    """Everything in the folder; ends the program if it holds nothing."""
    cells, searches = (
        [json.loads(path.read_text()) for path in sorted(folder.glob(f"{kind}/*.json"))]
        for kind in ("cells", "searches")
    )
    if not cells and not searches:
        sys.exit(f"{folder} holds no recorded cells and no searches")
    plan = json.loads((folder / "plan.json").read_text())
    searches.sort(key=lambda search: (_rank(search["lever"]), search["repeat"]))
    cells.sort(key=lambda cell: (_rank(lever_of(cell)), cell["users"], cell["rate"]))
    return Run(folder.resolve().name, plan, cells, searches)


def lever_of(point: Mapping[str, Any]) -> str:
    """The name of the lever whose setting it has; the setting itself where none has."""
    if "lever" in point:
        return point["lever"]
    setting = point["setting"]
    names = (name for name, known in LEVERS.items() if vars(known) == setting)
    return next(names, ", ".join(f"{name}={value}" for name, value in setting.items()))


def capacities(searches: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Capacity]]:
    """By lever, in the order of the table, and pattern."""
    groups: dict[tuple[str, str], dict[int, Mapping[str, Any]]] = {}
    for search in searches:
        groups.setdefault((search["lever"], search["pattern"]), {})[search["repeat"]] = search
    table: dict[str, dict[str, Capacity]] = {}
    for (lever, pattern), repeats in groups.items():
        reference = REFERENCE.get(lever, "default settings")
        values = [search["capacity"] for search in repeats.values()]
        probes = [probe for search in repeats.values() for probe in search["probes"]]
        held = [probe for probe in probes if probe["holds"]]
        missed = [probe for probe in probes if not probe["holds"]]
        table.setdefault(lever, {})[pattern] = Capacity(
            lever,
            pattern,
            Estimate(*statistics.interval(values), any(s["censored"] for s in repeats.values())),
            ratio(groups.get((reference, pattern), {}), repeats) if lever != reference else None,
            reference,
            len(values),
            max(held, key=lambda probe: probe["users"], default=None),
            min(missed, key=lambda probe: probe["users"], default=None),
        )
    return table


def ratio(
    base: Mapping[int, Mapping[str, Any]], other: Mapping[int, Mapping[str, Any]]
) -> Estimate | None:
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
    """Goodput and failures per second, means over the points of each number of users."""
    by_users: dict[int, list[Point]] = {}
    for point in points:
        if point["window"]["sent"]:
            by_users.setdefault(point["users"], []).append(point["window"])
    return [
        {
            "users": users,
            "goodput": _mean(window["goodput"] for window in windows),
            "failed": _mean(window["failed"] / window["seconds"] for window in windows),
            "p95_ms": _mean(w["p95_ms"] for w in windows if w["p95_ms"] is not None),
        }
        for users, windows in sorted(by_users.items())
    ]


def at_the_knee(run: Run) -> dict[str, dict[str, Point]]:
    """By pattern and lever: where the stack is as busy as it may be.

    Of searches the probe with the most users that held; without searches the valid cell with the
    most users.
    """
    points: dict[str, dict[str, Point]] = {}
    for lever, by_pattern in capacities(run.searches).items():
        for pattern, capacity in by_pattern.items():
            if capacity.knee:
                points.setdefault(pattern, {})[lever] = capacity.knee
    if not points:
        for cell in (cell for cell in run.valid if not cell["rate"]):  # most users last
            points.setdefault(cell["pattern"], {})[lever_of(cell)] = cell
    return points


def tiers(window: Mapping[str, Any]) -> dict[str, float]:
    """Percent of all requests that each tier answered; with the refused ones they are 100."""
    return {
        name: 100 * window["tiers"].get(key, 0) / (window["sent"] or 1)
        for key, name in TIERS.items()
    }


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


def demands(point: Point) -> dict[str, float]:
    """CPU milliseconds of each part for one right answer: its service demand."""
    goodput = point["window"]["goodput"]
    return {part: 10 * percent / goodput for part, percent in cpu(point).items()} if goodput else {}


def _mean(values: Iterable[float]) -> float | None:
    values = list(values)
    return sum(values) / len(values) if values else None


def _rank(lever: str) -> int:
    names = list(LEVERS)
    return names.index(lever) if lever in names else len(names)
