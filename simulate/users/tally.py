"""Counts what became of requests; tallies of seconds and of processes add up."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from hdrh.histogram import HdrHistogram

# Who a failure is due to. The app's own refusals name their reason (X-Refused-By: pool, database,
# time), nginx's do not; wrong: what no test of the stack should see; network: no complete answer;
# late: right, but after PATIENCE.
FAILURES = ("nginx", "pool", "database", "time", "wrong", "network", "late")
# Who gave the right answers; refused is everything else, so that all requests are in one of them.
TIERS = ("edge", "cached", "computed", "uncached", "refused")
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
            self._histogram.decode_and_add(text)

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
