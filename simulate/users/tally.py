"""Counts what became of requests; tallies of seconds and of processes add up."""

import itertools
import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

# Who a failure is due to. The app's own refusals name their reason (X-Refused-By: pool, database,
# time), nginx's do not; wrong: what no test of the stack should see; network: no complete answer;
# late: right, but after PATIENCE.
FAILURES = ("nginx", "pool", "database", "time", "wrong", "network", "late")
# Who gave the right answers: nginx's cache or a replica, which counts its own tiers (/metrics);
# refused is everything else, so that all requests are in one of them.
TIERS = ("edge", "origin", "refused")
PATIENCE = 2.0  # seconds; nobody waits longer for an answer, and the stack's own budget is as long
LONGEST = 60e6  # us; what takes longer counts as that
BUCKETS = 1 / math.log(1.01)  # for each factor of e
PERCENTILES = {"p50_ms": 50, "p95_ms": 95, "p99_ms": 99, "p999_ms": 99.9}


class Times:
    """Times from 1 us to 60 s, each with at most 0.5 % error.

    Technique: counts of buckets whose bounds grow by 1 %, as in DDSketch (Masson, Rim, Lee, PVLDB
    12, 2019); a bucket stands for its middle. Those of several Times add up without another error.
    """

    def __init__(self, encoded: Iterable[Sequence[Sequence[int]]] = ()) -> None:
        """``encoded``: what encode() made of Times to add up."""
        self._counts: Counter[int] = Counter()  # by the number of the bucket
        for pairs in encoded:
            self.add(pairs)

    def add(self, encoded: Sequence[Sequence[int]]) -> None:
        for bucket, count in encoded:
            self._counts[bucket] += count

    def record(self, seconds: float) -> None:
        microseconds = min(max(seconds * 1e6, 1.0), LONGEST)
        self._counts[int(math.log(microseconds) * BUCKETS)] += 1

    def encode(self) -> list[tuple[int, int]]:
        """Buckets and their counts, as JSON has them."""
        return sorted(self._counts.items())

    def percentiles(self, prefix: str = "") -> dict[str, float | None]:
        """Those of PERCENTILES and the largest in ms, to 3 digits; None where nothing was recorded.

        Each is the time that at least this percentage of the requests does not exceed.
        """
        names = [f"{prefix}{name}" for name in (*PERCENTILES, "max_ms")]
        if not self._counts:
            return dict.fromkeys(names)
        buckets = sorted(self._counts)
        ranks = list(itertools.accumulate(self._counts[bucket] for bucket in buckets))
        wanted = (math.ceil(percent / 100 * ranks[-1]) for percent in (*PERCENTILES.values(), 100))
        values = (_middle(buckets[bisect_left(ranks, rank)]) * 1000 for rank in wanted)
        return {name: float(f"{ms:.3g}") for name, ms in zip(names, values, strict=True)}

    def until(self, bounds: Sequence[float]) -> tuple[list[int], int, float]:
        """How many times are up to each of ``bounds`` (s, rising); number and sum of all."""
        counts = [0] * (len(bounds) + 1)  # of those between one bound and the next
        for bucket, count in self._counts.items():
            counts[bisect_left(bounds, _middle(bucket))] += count
        *until, total = itertools.accumulate(counts)
        return until, total, sum(_middle(bucket) * n for bucket, n in self._counts.items())


def _middle(bucket: int) -> float:
    """What a bucket of Times stands for, in seconds."""
    return math.exp((bucket + 0.5) / BUCKETS) / 1e6


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
