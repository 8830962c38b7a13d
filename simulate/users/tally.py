"""Counts what became of requests; tallies of seconds and of processes add up."""

import itertools
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from hdrh.histogram import HdrHistogram

# Who a failure is due to. The app's own refusals name their reason (X-Refused-By: pool, database,
# time), nginx's do not; wrong: what no test of the stack should see; network: no complete answer;
# late: right, but after PATIENCE.
FAILURES = ("nginx", "pool", "database", "time", "wrong", "network", "late")
# Who gave the right answers: nginx's cache or a replica, which counts its own tiers (/metrics);
# refused is everything else, so that all requests are in one of them.
TIERS = ("edge", "origin", "refused")
PATIENCE = 2.0  # seconds; nobody waits longer for an answer, and the stack's own budget is as long
LONGEST = 60_000_000  # us; what takes longer counts as that
PERCENTILES = {"p50_ms": 50, "p95_ms": 95, "p99_ms": 99, "p999_ms": 99.9}


class Times:
    """Times from 50 us to 60 s, each with at most 1 % error.

    Technique: Gil Tene's HdrHistogram; in units of 1 us with 2 significant figures a bucket is at
    most 1/128 of its value wide.
    """

    def __init__(self, encoded: Iterable[str] = ()) -> None:
        """``encoded``: what encode() made of histograms to add up."""
        self._histogram = HdrHistogram(1, LONGEST, 2)
        for text in encoded:
            self.add(text)

    def add(self, encoded: str) -> None:
        self._histogram.decode_and_add(encoded)

    def record(self, seconds: float) -> None:
        self._histogram.record_value(min(round(seconds * 1e6), LONGEST))

    def encode(self) -> str:
        return self._histogram.encode().decode()

    def percentiles(self, prefix: str = "") -> dict[str, float | None]:
        """Those of PERCENTILES and the largest in ms, to 3 digits; None where nothing was recorded.

        Each is the time that at least this percentage of the requests does not exceed.
        """
        names = [f"{prefix}{name}" for name in (*PERCENTILES, "max_ms")]
        if not self._histogram.total_count:
            return dict.fromkeys(names)
        found = self._histogram.get_percentile_to_value_dict(list(PERCENTILES.values()))
        values = [found[percent] for percent in PERCENTILES.values()]
        values.append(self._histogram.get_max_value())
        return {name: float(f"{us / 1000:.3g}") for name, us in zip(names, values, strict=True)}

    def until(self, bounds: Sequence[float]) -> tuple[list[int], int, float]:
        """How many times are up to each of ``bounds`` (s, rising); number and sum of all."""
        counts = [0] * (len(bounds) + 1)  # of those between one bound and the next
        microseconds = 0
        for recorded in self._histogram.get_recorded_iterator():
            value, count = recorded.value_iterated_to, recorded.count_at_value_iterated_to
            counts[bisect_left(bounds, value / 1e6)] += count
            microseconds += value * count
        *until, total = itertools.accumulate(counts)
        return until, total, microseconds / 1e6


class Response(Protocol):
    """What http_connection.py and Locust's clients have in common."""

    status_code: int
    headers: Mapping[str, str]


class Tally:
    """What became of some requests."""

    def __init__(self) -> None:
        self.good = 0  # right and in time
        self.failures: Counter[str] = Counter()  # by FAILURES
        self.tiers: Counter[str] = Counter()  # by TIERS
        self.replicas: Counter[str] = Counter()  # by X-Served-By
        self.errors: Counter[str] = Counter()  # by text
        self.cut_off = 0  # under way when their user was stopped
        self.times = Times()  # of right answers

    def count(self, response: Response | None, error: object, seconds: float) -> None:
        """Count a request that took ``seconds`` and is right unless there is an ``error``."""
        headers = getattr(response, "headers", None)
        replica = headers.get("X-Served-By") if headers else None
        if replica:
            self.replicas[replica] += 1
        if error:
            self.failures[_culprit(response, replica)] += 1
            self.tiers["refused"] += 1
            self.errors[str(error)] += 1
            return
        self.times.record(seconds)
        self.tiers["edge" if headers.get("X-Edge-Cache") == "hit" else "origin"] += 1
        if seconds <= PATIENCE:
            self.good += 1
        else:
            self.failures["late"] += 1
            self.errors[f"later than {PATIENCE:.0f} s"] += 1

    def as_line(self) -> dict[str, Any]:
        """For a recording or a message to Locust's master."""
        return {
            "sent": self.good + self.failures.total(),
            "good": self.good,
            "failures": dict(self.failures),
            "tiers": dict(self.tiers),
            "replicas": dict(self.replicas),
            "times": self.times.encode(),
            "cut_off": self.cut_off,
            "errors": [{"error": text, "count": count} for text, count in self.errors.items()],
        }


def _culprit(response: Response | None, replica: str | None) -> str:
    """Who a failure is due to; every answer of the app names its replica."""
    if response is None or not response.status_code:
        return "network"
    if response.status_code == 200:
        return "wrong"
    return response.headers.get("X-Refused-By") or ("wrong" if replica else "nginx")


def add_up(lines: Iterable[Mapping[str, Any]]) -> Tally:
    """One tally from what as_line() made of several."""
    lines = list(lines)
    total = Tally()
    total.times = Times(line["times"] for line in lines)
    for line in lines:
        total.good += line["good"]
        total.failures.update(line["failures"])
        total.tiers.update(line["tiers"])
        total.replicas.update(line["replicas"])
        total.errors.update({error["error"]: error["count"] for error in line["errors"]})
        total.cut_off += line["cut_off"]
    return total
