"""What the replicas say of themselves (GET /metrics): tiers, pool, connections, refusals.

A reading is one replica's numbers at a moment; a look is the readings of all replicas, None of
those that did not answer in time.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import gevent
from prometheus_client.parser import text_string_to_metric_families

from users.http_connection import HttpConnection, ProtocolError, Server, request_bytes

TIMEOUT = 1.0  # seconds for each step; an overloaded replica answers this late, too

# Names in flask/weather/metrics.py, and how they are called here.
GAUGES = {
    "weather_pool_connections": "size",
    "weather_pool_in_use_connections": "in_use",
    "weather_pool_max_connections": "limit",
    "weather_pool_waiting_requests": "waiting",
}
COUNTERS = {
    "weather_flights_joined_total": "flights_joined",
    "weather_connections_opened_total": "connections_opened",
    "weather_connection_wait_seconds_count": "waits",
    "weather_connection_wait_seconds_sum": "waited_seconds",
    "weather_redis_errors_total": "redis_errors",
}
BY_LABEL = {"weather_answers_total": "tier", "weather_refused_total": "reason"}
TIERS = ("memory", "redis", "stale", "computed", "uncached")
REASONS = ("pool", "database", "time")

Reading = Mapping[str, float]
Look = Sequence[Reading | None]


class Replicas:
    """A kept connection to each replica, for its metrics alone."""

    def __init__(self, urls: Iterable[str]) -> None:
        """Raises OSError where nobody listens."""
        servers = [Server(url) for url in urls]
        self._connections = [HttpConnection(server, TIMEOUT) for server in servers]
        self._requests = [request_bytes("GET", server.name, "/metrics", {}) for server in servers]

    def look(self) -> Look:
        """Read all at once; takes some ms, and of a replica that hangs the TIMEOUT."""
        reading = [
            gevent.spawn(_read, connection, request)
            for connection, request in zip(self._connections, self._requests, strict=True)
        ]
        gevent.joinall(reading)
        return [each.value for each in reading]

    def close(self) -> None:
        for connection in self._connections:
            connection.close()


def _read(connection: HttpConnection, request: bytes) -> Reading | None:
    try:
        response = connection.exchange(request)
    except (OSError, ProtocolError):
        return None
    return parse(response.content.decode()) if response.status_code == 200 else None


def parse(text: str) -> Reading:
    """Those of an exposition's numbers that are looked at; answers and refusals by their label."""
    names = GAUGES | COUNTERS
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name in names:
                found[names[sample.name]] = sample.value
            elif sample.name in BY_LABEL:
                found[sample.labels[BY_LABEL[sample.name]]] = sample.value
    return found


def summary(looks: Sequence[Look], seconds: float) -> dict[str, Any]:
    """What all replicas did between the first look and the last, ``seconds`` apart.

    Gauges are sums over the replicas at the moments of the looks: what came and went between two
    looks is not in them. ``wait_ms`` is the mean time until a read had its connection, None where
    nobody read. ``unread`` is the number of readings that failed.
    """
    gained = _gained(looks)
    whole = [look for look in looks if None not in look]
    waits = gained.get("waits", 0.0)
    return {
        "answers": {tier: round(gained.get(tier, 0.0)) for tier in TIERS},
        "refused": {reason: round(gained.get(reason, 0.0)) for reason in REASONS},
        "flights_joined": round(gained.get("flights_joined", 0.0)),
        "redis_errors": round(gained.get("redis_errors", 0.0)),
        "connections_opened": round(gained.get("connections_opened", 0.0)),
        "opened_per_second": gained.get("connections_opened", 0.0) / seconds if seconds else 0.0,
        "waits": round(waits),
        "wait_ms": 1000 * gained["waited_seconds"] / waits if waits else None,
        "pool": {name: _spread([_total(look, name) for look in whole]) for name in GAUGES.values()},
        "looks": len(looks),
        "unread": sum(look.count(None) for look in looks),
    }


def tier_shares(point: Mapping[str, Any]) -> dict[str, float]:
    """Percent of all requests that each tier answered; with the refused ones they are 100.

    What the edge cache answered, and what failed, is the generator's count, as no replica knows of
    it. The others are shared out as the replicas' own counters are.
    """
    window, answers = point["window"], point["replicas"]["answers"]
    percent = 100 / (window["sent"] or 1)
    counted = sum(answers.values())
    origin = percent * window["tiers"]["origin"]
    shares = {tier: origin * count / counted for tier, count in answers.items() if counted}
    return {
        "edge": percent * window["tiers"]["edge"],
        **(shares or {"origin": origin}),
        "refused": percent * window["tiers"]["refused"],
    }


def _gained(looks: Sequence[Look]) -> dict[str, float]:
    """By how much the counters of all replicas grew; one that began anew grew from 0."""
    gained: dict[str, float] = {}
    for readings in zip(*looks, strict=True):
        known = [reading for reading in readings if reading is not None]
        for before, after in itertools.pairwise(known):
            for name in after.keys() - GAUGES.values():
                growth = after[name] - before.get(name, 0.0)
                gained[name] = gained.get(name, 0.0) + (growth if growth >= 0 else after[name])
    return gained


def _total(look: Look, name: str) -> float:
    return sum(reading.get(name, 0.0) for reading in look if reading is not None)


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    """None where no look reached all replicas."""
    if not values:
        return None
    return {"mean": sum(values) / len(values), "max": max(values)}
