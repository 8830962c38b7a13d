"""What a replica counts about itself, for Prometheus; `GET /metrics` shows it.

Each name has the prefix weather_ and its unit as suffix (prometheus.io, "Metric and label naming").
"""

import functools
import os
import platform
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, fields
from importlib.metadata import version
from pathlib import Path

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector

from weather.settings import Settings

CONTENT_TYPE = CONTENT_TYPE_LATEST
UNKNOWN_ROUTE = "unknown"  # paths that clients made up must not each become a series
NO_TIER = "none"  # of an answer that shows no average
TIERS = ("memory", "redis", "stale", "computed", "uncached")
REASONS = ("pool", "database", "time")
PACKAGES = ("flask", "gunicorn", "gevent", "psycopg2-binary", "redis")
# Seconds: a hit in memory takes 0.1 ms, a computed answer 1 to 5, and 2 s are the whole budget.
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2)

disable_created_metrics()  # they would double the number of series

_requests = Counter("weather_http_requests_total", "Answered requests", ["route", "status"])
_request_duration = Histogram(
    "weather_http_request_duration_seconds",
    "Time from when a worker began with a request until its answer was ready",
    ["route", "tier"],
    buckets=BUCKETS,
)
_answers = Counter("weather_answers_total", "Averages by where they came from", ["tier"])
_refused = Counter("weather_refused_total", "Requests answered with 503, by reason", ["reason"])
FLIGHTS_JOINED = Counter(
    "weather_flights_joined_total", "Requests that waited for another one's answer to the same"
)
POOL_CONNECTIONS = Gauge(
    "weather_pool_connections",
    "Connections of the pool to PostgreSQL: idle, in use and being opened",
    multiprocess_mode="livesum",
)
POOL_IN_USE = Gauge(
    "weather_pool_in_use_connections",
    "Connections of the pool that are at work or being opened",
    multiprocess_mode="livesum",
)
POOL_MAX = Gauge(
    "weather_pool_max_connections",
    "Connections that the pool may have at most",
    multiprocess_mode="livesum",
)
POOL_WAITING = Gauge(
    "weather_pool_waiting_requests",
    "Requests that wait for a connection",
    multiprocess_mode="livesum",
)
CONNECTION_WAIT = Histogram(
    "weather_connection_wait_seconds",
    "Time until a read had its connection to PostgreSQL, or none",
    buckets=BUCKETS,
)
CONNECTIONS_OPENED = Counter(
    "weather_connections_opened_total", "Connections to PostgreSQL that were opened"
)
REDIS_ERRORS = Counter("weather_redis_errors_total", "Commands that Redis did not answer")
REDIS_BREAKER_OPEN = Gauge(
    "weather_redis_breaker_open",
    "1 while Redis is left alone because it failed",
    multiprocess_mode="livemax",
)
_build = Gauge(
    "weather_build_info",
    "Always 1; the versions are labels",
    ["python", *(name.partition("-")[0] for name in PACKAGES)],
    multiprocess_mode="livemax",
)
_settings = Gauge(
    "weather_settings_info",
    "Always 1; the settings are labels",
    sorted(
        field.name
        for field in fields(Settings)
        if field.repr and field.name not in ("postgres", "redis_host", "redis_port")
    ),
    multiprocess_mode="livemax",
)

# labels() takes a microsecond; its children are kept.
_requests_of = functools.cache(_requests.labels)
_duration_of = functools.cache(_request_duration.labels)
_answers_of = {tier: _answers.labels(tier) for tier in TIERS}
REFUSED = {reason: _refused.labels(reason) for reason in REASONS}


def describe(settings: Settings) -> None:
    """Show the versions and the settings as labels, without hosts and passwords (repr=False)."""
    versions = {name.partition("-")[0]: version(name) for name in PACKAGES}
    _build.labels(python=platform.python_version(), **versions).set(1)
    values = asdict(settings)
    _settings.labels(**{name: _label(values[name]) for name in _settings._labelnames}).set(1)


def count_request(route: str, status: int, tier: str, seconds: float) -> None:
    """Count an answered request; ``tier`` is one of TIERS where it shows an average."""
    _requests_of(route, status).inc()
    _duration_of(route, tier).observe(seconds)
    if tier != NO_TIER:
        _answers_of[tier].inc()


def exposition() -> bytes:
    """Everything in Prometheus' text format, of all workers of this replica together."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    registry.register(_CpuOfWorkers())
    return generate_latest(registry)


class _CpuOfWorkers:
    """prometheus-client leaves out process_... in its mode for several processes."""

    def collect(self) -> Iterator[CounterMetricFamily]:
        """For prometheus_client; nothing where there is no /proc."""
        with suppress(FileNotFoundError):
            seconds = _cpu_seconds(os.getppid())
            help_text = "CPU time of gunicorn and its workers, those that ended included"
            yield CounterMetricFamily("process_cpu_seconds", help_text, seconds)


def _cpu_seconds(master: int) -> float:
    """User and system time of a process and its children (man 5 proc_pid_stat), in seconds."""
    ticks = sum(_ticks(master))  # its own, and of children that ended
    for child in Path(f"/proc/{master}/task/{master}/children").read_text().split():
        with suppress(FileNotFoundError):  # it has ended meanwhile
            ticks += sum(_ticks(child)[:2])
    return ticks / os.sysconf("SC_CLK_TCK")


def _ticks(process: int | str) -> list[int]:
    """utime, stime, cutime, cstime."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return [int(field) for field in fields[11:15]]


def _label(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
