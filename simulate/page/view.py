"""What the tab "Stack" shows of the replicas: their rates, shares and percentiles."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from page.replicas import Replica, add, quantile

TIERS = {  # as in weather_answers_total: how they are named here
    "memory": "memory of a replica",
    "redis": "Redis",
    "stale": "memory or Redis, while computed anew",
    "computed": "PostgreSQL, kept then",
    "uncached": "PostgreSQL, not kept",
}
REASONS = {"pool": "pool is full", "database": "PostgreSQL", "time": "the 2 s were over"}
ANSWERS, REFUSED = "weather_answers_total", "weather_refused_total"
OPENED = "weather_connections_opened_total"
CPU = "process_cpu_seconds_total"
DURATIONS = "weather_http_request_duration_seconds_bucket"
P95 = 0.95


class Tier(NamedTuple):
    """Who gave averages: how many per second, their share and their p95."""

    name: str
    rate: float
    share: float
    p95: float | None  # seconds


class Line(NamedTuple):
    """One replica; rates are per second and None while there is nothing to compare with."""

    name: str
    problem: str
    answers: float | None
    p95: float | None  # seconds
    refused: float | None
    in_use: int
    connections: int
    most_connections: int
    waiting: int
    opened: float | None
    opened_in_all: int
    cpu: float | None  # cores


@dataclass(frozen=True)
class View:
    """All that the tab shows."""

    compared: bool  # whether there was an earlier look, so that rates are known
    tiers: Sequence[Tier]
    lines: Sequence[Line]
    refused: Sequence[tuple[str, float]]


def view(replicas: Sequence[Replica], edge: float) -> View:
    """``edge``: answers per second of nginx's own cache, which the replicas don't see."""
    by_tier = add(replica.by(ANSWERS, "tier") for replica in replicas)
    tiers = [(name, by_tier.get(tier, 0.0), _p95(replicas, tier)) for tier, name in TIERS.items()]
    if edge:
        tiers.insert(0, ("nginx's cache, by Locust's count", edge, None))
    total = sum(rate for _, rate, _ in tiers)
    by_reason = add(replica.by(REFUSED, "reason") for replica in replicas)
    return View(
        compared=any(replica.rate(ANSWERS) is not None for replica in replicas),
        tiers=[Tier(name, rate, rate / total if total else 0.0, p95) for name, rate, p95 in tiers],
        lines=[_line(replica) for replica in replicas],
        refused=[(name, by_reason.get(reason, 0.0)) for reason, name in REASONS.items()],
    )


def _line(replica: Replica) -> Line:
    return Line(
        name=replica.name,
        problem=replica.now.problem,
        answers=replica.rate(ANSWERS),
        p95=quantile(P95, replica.by(DURATIONS, "le", route="/query") or {}),
        refused=replica.rate(REFUSED),
        in_use=int(replica.gauge("weather_pool_in_use_connections")),
        connections=int(replica.gauge("weather_pool_connections")),
        most_connections=int(replica.gauge("weather_pool_max_connections")),
        waiting=int(replica.gauge("weather_pool_waiting_requests")),
        opened=replica.rate(OPENED),
        opened_in_all=int(replica.gauge(OPENED)),
        cpu=replica.rate(CPU),
    )


def _p95(replicas: Sequence[Replica], tier: str) -> float | None:
    buckets = [replica.by(DURATIONS, "le", route="/query", tier=tier) for replica in replicas]
    return quantile(P95, add(buckets))
