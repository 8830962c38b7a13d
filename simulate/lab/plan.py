"""Which experiments to run: settings of the stack, and the cells and searches that use them.

A lever is a setting of the stack that is moved to see what it buys. A cell is a measurement of one
lever under a given load; a search finds the highest number of users that a lever carries.
"""

import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

DEFAULT = "default settings"
EDGE = "edge cache on"
REDIS_ALONE = "memory off (Redis alone)"
CACHE_OFF = "cache off"


class PlanError(ValueError):
    """What is asked for makes no sense, or not in that folder; the text is one line."""


@dataclass(frozen=True)
class Setting:
    """How the levers of a stack stand; the defaults are the stack's own."""

    replicas: int = 3
    pooling: bool = True
    cache: bool = True  # Redis, and the replicas' memory in front of it
    memory: bool = True
    edge: bool = False
    pool_max: int = 15
    workers: int = 1  # processes of each replica

    @property
    def words(self) -> str:
        """The levers for people."""
        parts = [_number(self.replicas, "replica"), "pool" if self.pooling else "no pool"]
        parts.append("cache" if self.cache else "no cache")
        if self.cache:
            parts.append("memory" if self.memory else "no memory")
        parts.append("edge cache" if self.edge else "no edge cache")
        if self.pool_max != Setting.pool_max:
            parts.append(f"POOL_MAXCONN={self.pool_max}")
        if self.workers != Setting.workers:
            parts.append(f"{_number(self.workers, 'worker')} each")
        return ", ".join(parts)

    @property
    def environ(self) -> dict[str, str]:
        """The variables with which a stack runs like this."""
        return {
            "FLASK_REPLICAS": str(self.replicas),
            "USE_POOLING": _on(self.pooling),
            "CACHE": _on(self.cache),
            "MEMORY_CACHE": _on(self.memory),
            "EDGE_CACHE": _on(self.edge),
            "POOL_MINCONN": str(min(5, self.pool_max)),
            "POOL_MAXCONN": str(self.pool_max),
            "WEB_CONCURRENCY": str(self.workers),
        }


LEVERS = {  # in the order of the report's table
    DEFAULT: Setting(),
    "1 replica": Setting(replicas=1),
    "2 replicas": Setting(replicas=2),
    EDGE: Setting(edge=True),
    REDIS_ALONE: Setting(memory=False),
    CACHE_OFF: Setting(memory=False, cache=False),
    "cache off, pool off": Setting(memory=False, cache=False, pooling=False),
    "cache off, POOL_MAXCONN=1": Setting(memory=False, cache=False, pool_max=1),
    "cache off, POOL_MAXCONN=5": Setting(memory=False, cache=False, pool_max=5),
    "WEB_CONCURRENCY=2": Setting(workers=2),
}
# What a lever's effect is measured against, so that one setting is moved at a time. The pool is
# moved without the caches: warm ones hardly ever ask PostgreSQL.
REFERENCE = {name: CACHE_OFF if name.startswith(f"{CACHE_OFF},") else DEFAULT for name in LEVERS}
REFERENCE[CACHE_OFF] = REDIS_ALONE


@dataclass(frozen=True, order=True)
class Session:
    """A stack with a lever's setting, and the pattern of those who use it."""

    lever: str
    pattern: str
    repeat: int = 1

    @property
    def setting(self) -> Setting:
        return LEVERS[self.lever]

    @property
    def name(self) -> str:
        """Says everything about it; a file name."""
        return f"{self.pattern}_{_slug(self.lever)}_{self.repeat}"

    @property
    def facts(self) -> dict[str, Any]:
        """What a kept result says of its session."""
        return {
            "lever": self.lever,
            "setting": asdict(self.setting),
            "pattern": self.pattern,
            "repeat": self.repeat,
        }


@dataclass(frozen=True, order=True)
class Cell:
    """One load on a session's stack."""

    session: Session
    users: int = 0  # of a closed loop; 0 in an open loop
    rate: int = 0  # requests/s of an open loop; 0 in a closed loop
    start: str = "warm"  # or cold: the caches are empty when the load begins

    @property
    def name(self) -> str:
        """Says everything about the cell; a file name."""
        load = f"{self.rate}-per-s" if self.rate else f"{self.users}-users"
        return f"{self.session.name}_{load}_{self.start}"


@dataclass(frozen=True)
class Plan:
    """What all measurements of a folder have in common."""

    kind: str  # capacity, quick, cells or open-loop
    target: str  # local: plain processes; compose: containers; aws: from inside the cluster
    rows: int
    seed: int  # of the order
    processes: int  # of the generator
    spawn_rate: int  # users/s, in cells
    warm_up: int  # seconds between the arrival and the window, in cells
    seconds: int  # of the window
    precision: float  # of a search: its relative standard error
    most_users: int  # of a search
    settings: dict[str, str]  # variables of the stack that differ from its defaults
    revision: str
    machine: dict[str, Any]

    def differences(self, kept: dict[str, Any]) -> list[str]:
        """The fields in which a kept plan is another one."""
        return [name for name, value in asdict(self).items() if kept.get(name) != value]


def sessions(rows: Sequence[tuple[str, str]], repeats: int) -> list[Session]:
    """Each lever and its pattern, repeat by repeat."""
    return [
        Session(lever, pattern, repeat)
        for repeat in range(1, repeats + 1)
        for lever, pattern in rows
    ]


def cells(
    session: Session, users: Iterable[int], rates: Iterable[int], starts: Iterable[str]
) -> list[Cell]:
    """A session's cells, from a low load to a high one."""
    loads = [{"users": number} for number in sorted(users)]
    loads += [{"rate": rate} for rate in sorted(rates)]
    return [Cell(session, start=start, **load) for start in starts for load in loads]


def shuffle(ordered: Iterable[Session], seed: int) -> list[Session]:
    """One repeat after the other, each in an order of its own: what drifts meets all alike."""
    rng = random.Random(seed)
    return sorted(ordered, key=lambda session: (session.repeat, rng.random()))


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count > 1 else ''}"


def _on(value: bool) -> str:
    return "on" if value else "off"


def _slug(text: str) -> str:
    return re.sub("[^a-z0-9]+", "-", text.lower()).strip("-")
