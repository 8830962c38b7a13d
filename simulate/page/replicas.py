"""What the replicas do at this moment, from their GET /metrics: rates between two looks at them."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
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
    name: str = ""
    problem: str = ""  # why it is down

    def gauge(self, metric: str) -> float:
        return self.values.get((metric, frozenset()), 0.0)


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
        return self.now.gauge(metric)

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


@dataclass
class Replicas:
    """Looks at all replicas, when somebody wants to see them: nobody looks, nothing is asked."""

    urls: Sequence[str]
    _samples: list[Sample] = field(default_factory=list)
    _latest: list[Replica] = field(default_factory=list)
    _names: dict[str, str] = field(default_factory=dict)
    _lock: RLock = field(default_factory=RLock)
    _session: requests.Session = field(default_factory=requests.Session)

    def __post_init__(self) -> None:
        self._session.trust_env = False  # no proxy stands between Locust and the replicas

    def look(self) -> list[Replica]:
        """All replicas now, compared with the look before."""
        with self._lock:
            now = time.monotonic()
            if self._samples and now - self._samples[0].moment < FRESH:
                return self._latest
            before = self._samples
            self._samples = Pool(len(self.urls) or 1).map(self._ask, self.urls)
            self._latest = [
                self._compare(url, sample, before[number] if before else None)
                for number, (url, sample) in enumerate(zip(self.urls, self._samples, strict=True))
            ]
            return self._latest

    def _compare(self, url: str, now: Sample, before: Sample | None) -> Replica:
        if now.name:
            self._names[url] = now.name
        recent = before if before and now.moment - before.moment < STALE else None
        return Replica(self._names.get(url) or urlsplit(url).netloc, now, recent)

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
        return Sample(time.monotonic(), values, answer.headers.get("X-Served-By", ""))


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
