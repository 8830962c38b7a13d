"""What the replicas do at this moment, from their GET /metrics: rates between two looks at them."""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from urllib.parse import urlsplit

import gevent
import requests
from gevent.lock import RLock
from gevent.pool import Pool
from prometheus_client.parser import text_string_to_metric_families

PATIENCE = 1.0  # seconds for a replica's answer
FRESH = 1.0  # seconds in which all who look see the same
STALE = 10.0  # seconds after which a look is too old for rates of this moment

Key = tuple[str, frozenset[tuple[str, str]]]  # a metric's name and labels


@dataclass(frozen=True)
class Sample:
    """A replica's metrics at a moment; without them it is down."""

    moment: float  # seconds of time.monotonic()
    values: Mapping[Key, float]
    problem: str = ""  # why it is down


@dataclass(frozen=True)
class Replica:
    """One replica between two looks; rates are per second, and None without an earlier look."""

    name: str
    now: Sample
    before: Sample | None

    @property
    def up(self) -> bool:
        return not self.now.problem

    def gauge(self, metric: str) -> float:
        return self.now.values.get((metric, frozenset()), 0.0)

    def by(self, metric: str, label: str, **where: str) -> dict[str, float] | None:
        """The growth per second of a counter by one of its labels, where other labels are so."""
        if not (self.up and self.before and not self.before.problem):
            return None
        seconds = self.now.moment - self.before.moment
        rates: dict[str, float] = {}
        for key, value in self.now.values.items():
            labels = dict(key[1])
            if key[0] != metric or where.items() - labels.items():
                continue
            earlier = self.before.values.get(key, 0.0)
            # A counter that fell began anew (a restart), as in Prometheus' rate().
            grown = value - earlier if value >= earlier else value
            group = labels.get(label, "")
            rates[group] = rates.get(group, 0.0) + grown / seconds
        return rates

    def rate(self, metric: str, **where: str) -> float | None:
        """The growth per second of a counter over all its labels, where some are so."""
        rates = self.by(metric, "", **where)
        return rates if rates is None else sum(rates.values())


class Replicas:
    """Looks at all replicas, when somebody wants to see them: nobody looks, nothing is asked."""

    def __init__(self, urls: Sequence[str]) -> None:
        self.urls = urls
        self._names = {url: urlsplit(url).netloc for url in urls}  # until a replica says its own
        self._latest: list[Replica] = []
        self._one_at_a_time = RLock()
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy stands between Locust and the replicas

    def look(self) -> list[Replica]:
        """All replicas now, compared with the look before; the same for FRESH seconds."""
        with self._one_at_a_time:
            age = time.monotonic() - self._latest[0].now.moment if self._latest else math.inf
            if age >= FRESH:
                before = [replica.now for replica in self._latest if age < STALE]
                samples = Pool(len(self.urls)).map(self._ask, self.urls)
                self._latest = [
                    Replica(self._names[url], now, earlier)
                    for url, now, earlier in zip_longest(self.urls, samples, before)
                ]
            return self._latest

    def _ask(self, url: str) -> Sample:
        try:
            with gevent.Timeout(PATIENCE):
                answer = self._session.get(f"{url}/metrics", timeout=PATIENCE)
            answer.raise_for_status()
            values = _parse(answer.text)
        except gevent.Timeout:
            return Sample(time.monotonic(), {}, problem=f"no answer within {PATIENCE:.0f} s")
        except requests.HTTPError:
            return Sample(time.monotonic(), {}, problem=f"status {answer.status_code}")
        except (requests.RequestException, ValueError):
            return Sample(time.monotonic(), {}, problem="no answer")
        self._names[url] = answer.headers.get("X-Served-By", self._names[url])
        return Sample(time.monotonic(), values)


def _parse(text: str) -> dict[Key, float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def add(groups: Iterable[Mapping[str, float] | None]) -> dict[str, float]:
    """Sums by name over those that are known."""
    total: dict[str, float] = {}
    for group in groups:
        for name, value in (group or {}).items():
            total[name] = total.get(name, 0.0) + value
    return total


def quantile(share: float, buckets: Mapping[str, float]) -> float | None:
    """The time in seconds that this share of the observations does not exceed.

    ``buckets``: their growth by upper bound ("le"), each with those below it. None without any; the
    last bound where it is above that. Linear within a bucket, as Prometheus' histogram_quantile()
    (prometheus.io, "Query functions").
    """
    ordered = sorted((float(bound), count) for bound, count in buckets.items())
    if not ordered or not ordered[-1][1]:
        return None
    wanted = share * ordered[-1][1]
    lower, below = 0.0, 0.0
    for bound, count in ordered:
        if count >= wanted:
            if bound == float("inf"):
                return lower
            return lower + (bound - lower) * (wanted - below) / (count - below)
        lower, below = bound, count
    return lower
