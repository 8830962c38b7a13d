"""What the users of this Locust got since its start, for its page and for Prometheus."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.utils import floatToGoString

from users.tally import FAILURES, Times

OUTCOMES = ("good", *FAILURES)
# Seconds: those of the replicas' weather_http_request_duration_seconds, and users wait longer.
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10)


class Load:
    """Sums of the lines of each second (users/seconds.py), which hold those of all workers."""

    def __init__(self) -> None:
        self.users = self.workers = 0
        self.cpu = 0.0  # cores that all processes of Locust used in the last second
        self.edge = 0.0  # answers/s of nginx's own cache, of which no replica knows
        self._outcomes = Counter(dict.fromkeys(OUTCOMES, 0))
        self._times = Times()
        self._cpu_seconds = 0.0

    def add(self, line: dict[str, Any]) -> None:
        """Listener for each_second."""
        self.users, self.workers = line["users"], line["workers"]
        self.cpu = (line["cpu_seconds"] - self._cpu_seconds) / line["seconds"]
        self.edge = line["tiers"].get("edge", 0) / line["seconds"]
        self._outcomes.update({"good": line["good"], **line["failures"]})
        self._times.add(line["times"])
        self._cpu_seconds = line["cpu_seconds"]

    def collect(self) -> Iterable[Any]:
        """For prometheus_client: it calls this of what is registered."""
        yield GaugeMetricFamily("locust_users", "Users that run", self.users)
        yield GaugeMetricFamily("locust_workers", "Processes that have users", self.workers)
        requests = CounterMetricFamily(
            "locust_requests",
            "Requests by what became of them: good, late, or who refused or what was wrong",
            labels=["outcome"],
        )
        for outcome, count in self._outcomes.items():
            requests.add_metric([outcome], count)
        yield requests
        counts, total, seconds = self._times.until(BUCKETS)
        buckets = [
            (floatToGoString(bound), count) for bound, count in zip(BUCKETS, counts, strict=True)
        ]
        yield HistogramMetricFamily(
            "locust_response_time_seconds",
            "Response times of right answers",
            buckets=[*buckets, ("+Inf", total)],
            sum_value=seconds,
        )

    def exposition(self) -> bytes:
        """Everything in Prometheus' text format."""
        registry = CollectorRegistry()
        registry.register(self)
        return generate_latest(registry)
