"""Which experiments to run: cells of a matrix, and the plan that all cells of a run share.

A cell is one experiment: who asks for what, and how the levers stand. A lever is a setting of the
stack that experiments move: replicas, pool, cache, edge cache.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

DEFAULT_PATTERNS = ("random", "fixed", "weighted")  # of the matrix; --patterns names others
QUICK_USERS = (300, 1000)


class PlanError(ValueError):
    """A selection that makes no sense; the text is one line for the user."""


@dataclass(frozen=True, order=True)
class Cell:
    """One experiment."""

    pattern: str = "random"
    users: int = 1000  # of the closed loop; 0 in an open loop
    rate: int = 0  # requests/s of the open loop; 0 in a closed loop
    replicas: int = 3
    pooling: bool = True
    cache: bool = True
    edge: bool = False
    start: str = "warm"  # or cold: the caches are empty when the load begins
    repeat: int = 1

    @property
    def name(self) -> str:
        """Says everything about the cell; a file name."""
        load = f"{self.rate}-per-s" if self.rate else f"{self.users}-users"
        settings = [
            f"replicas-{self.replicas}",
            f"pooling-{_on(self.pooling)}",
            f"cache-{_on(self.cache)}",
            f"edge-{_on(self.edge)}",
        ]
        return "_".join([self.pattern, load, *settings, self.start, str(self.repeat)])

    @property
    def levers(self) -> tuple[int, bool, bool, bool]:
        return self.replicas, self.pooling, self.cache, self.edge

    @property
    def settings(self) -> str:
        """The levers in words."""
        replicas = f"{self.replicas} replica{'s' if self.replicas > 1 else ''}"
        switches = (("pool", self.pooling), ("cache", self.cache), ("edge", self.edge))
        return ", ".join([replicas, *(f"{what} {_on(on)}" for what, on in switches)])


DEFAULTS = Cell()
LEVERS = {  # names of what is moved away from DEFAULTS
    "default settings": {},
    "1 replica": {"replicas": 1},
    "no pool": {"pooling": False},
    "no cache": {"cache": False},
    "no cache, no pool": {"cache": False, "pooling": False},
    "with edge cache": {"edge": True},
}


@dataclass(frozen=True)
class Plan:
    """What all cells of a run have in common."""

    target: str  # local: plain processes; compose: containers
    rows: int
    spawn_rate: int  # users/s
    warm_up: int  # seconds under full load before the measured ones
    seconds: int  # measured
    processes: int  # of the generator
    seed: int  # of the order


def matrix(
    patterns: Sequence[str], users: Sequence[int], starts: Sequence[str], repeats: int
) -> list[Cell]:
    """Every combination."""
    switch = (True, False)
    return [
        Cell(pattern, count, 0, replicas, pooling, cache, edge, start, repeat)
        for pattern, count, replicas, pooling, cache, edge, start, repeat in itertools.product(
            patterns, users, (1, 3), switch, switch, switch, starts, range(1, repeats + 1)
        )
    ]


def quick(patterns: Sequence[str]) -> list[Cell]:
    """The default settings under two loads, and each lever moved by itself.

    Except for the pool, which is moved without the cache: warm caches hardly ever ask PostgreSQL.
    """
    few, many = QUICK_USERS
    moved = [change for change in LEVERS.values() if change != {"pooling": False}]
    return [
        cell
        for pattern in patterns
        for cell in [
            Cell(pattern, few),
            *(dataclasses.replace(DEFAULTS, pattern=pattern, users=many, **m) for m in moved),
        ]
    ]


def open_loop(patterns: Sequence[str], rates: Sequence[int], repeats: int) -> list[Cell]:
    """The default settings, asked at fixed rates."""
    return [
        Cell(pattern, users=0, rate=rate, repeat=repeat)
        for pattern, rate, repeat in itertools.product(patterns, rates, range(1, repeats + 1))
    ]


def select(cells: Iterable[Cell], conditions: Mapping[str, Sequence[str]]) -> list[Cell]:
    """The cells whose fields have one of the values; raises PlanError if there are none."""
    names = [field.name for field in dataclasses.fields(Cell)]
    for name in conditions:
        if name not in names:
            raise PlanError(f"--only {name}=...: expected one of {', '.join(names)}")
    chosen = [
        cell
        for cell in cells
        if all(_text(getattr(cell, name)) in values for name, values in conditions.items())
    ]
    if not chosen:
        raise PlanError("no cell fits: see --list for all of them")
    return chosen


def _text(value: object) -> str:
    return _on(value) if isinstance(value, bool) else str(value)


def _on(value: bool) -> str:
    return "on" if value else "off"
