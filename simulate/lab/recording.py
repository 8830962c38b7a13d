"""Reads a recording, a line of JSON for each second of a run, and sums up any stretch of it.

A line counts its own second alone; users/tally.py says what. `record_locust.py` and
`record_open_loop.py` write them.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from users.tally import TIERS, Times, add_up

Line = Mapping[str, Any]
POINT = ("goodput", "failed", "failures", "tiers", "p50_ms", "p95_ms", "p99_ms")  # of a series


class Recording:
    """A file that is still written to; what was read of it once is not parsed again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0  # bytes
        self._lines: list[Line] = []

    def lines(self) -> list[Line]:
        """All complete lines so far; none where nothing was recorded yet."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._read)
                new = file.read()
            complete = new[: new.rfind(b"\n") + 1]
            self._read += len(complete)
            self._lines += map(json.loads, complete.splitlines())
        return self._lines


def between(lines: Sequence[Line], start: float, end: float) -> list[Line]:
    """The lines of the seconds from ``start`` to ``end``, in Unix time; by their middles."""
    return [line for line in lines if start <= line["time"] - line["seconds"] / 2 < end]


def summary(lines: Sequence[Line]) -> dict[str, Any]:
    """Counts, rates per second and times in ms of a stretch; times are of right answers only.

    A percentile of nothing is None. An open loop has more: service times (from when a request was
    sent), how late requests were sent, and those that could not be sent at all.
    """
    total = add_up(lines)
    failed = total.failures.total()
    sent = total.good + failed
    seconds = sum(line["seconds"] for line in lines)
    result = {
        "seconds": seconds,
        "sent": sent,
        "good": total.good,
        "goodput": total.good / seconds if seconds else 0.0,
        "good_share": total.good / sent if sent else None,
        "failures": dict(total.failures.most_common()),
        "failed": failed,
        "tiers": {tier: total.tiers[tier] for tier in TIERS},
        "replicas": dict(sorted(total.replicas.items())),
        "cut_off": total.cut_off,
        "errors": [{"error": text, "count": n} for text, n in total.errors.most_common()],
        "fewest_users": min((line["users"] for line in lines), default=0),
        "fewest_workers": min((line["workers"] for line in lines), default=0),
    }
    result |= total.times.percentiles()
    if lines and "answered" in lines[0]:
        result |= _of_open_loop(lines, seconds)
    return result


def in_words(summary: Mapping[str, Any]) -> str:
    """A summary for the terminal."""
    times = "no right answer"
    if summary["p95_ms"] is not None:
        times = f"p50 {summary['p50_ms']:.3g} ms, p95 {summary['p95_ms']:.3g} ms"
    return f"{summary['goodput']:,.0f} good answers/s, {times}, {summary['failed']:,} failed"


def series(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Second by second; ``t`` is the second's end, in seconds since the recording began."""
    if not lines:
        return []
    began = lines[0]["time"] - lines[0]["seconds"]
    points = []
    for line in lines:
        whole = summary([line])
        point = {"t": line["time"] - began, "users": line["users"]}
        point |= {name: whole[name] for name in POINT}
        if "service_p99_ms" in whole:
            point |= {name: whole[name] for name in ("service_p99_ms", "send_lag_p99_ms")}
        points.append(point)
    return points


def _of_open_loop(lines: Sequence[Line], seconds: float) -> dict[str, Any]:
    lag = Times(line["send_lag"] for line in lines).percentiles("send_lag_")
    return {
        **Times(line["service_times"] for line in lines).percentiles("service_"),
        "send_lag_p99_ms": lag["send_lag_p99_ms"],
        "answered_per_second": sum(line["answered"] for line in lines) / seconds,
        "unsent": sum(line["unsent"] for line in lines),
    }
