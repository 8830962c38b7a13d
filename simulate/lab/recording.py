"""Turns a recording, whose lines count from the start, into numbers of any stretch of the run."""

import itertools
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Line = Mapping[str, Any]
PERCENTILES = (50, 95, 99)


def read(path: Path) -> list[Line]:
    """All complete lines."""
    if not path.exists():
        return []
    text = path.read_text()
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def percentile(histogram: Mapping[float, int], percent: float) -> float:
    """The smallest time that at least this percentage of the requests does not exceed."""
    rank = max(1, math.ceil(sum(histogram.values()) * percent / 100))
    for value in sorted(histogram):
        rank -= histogram[value]
        if rank <= 0:
            return value
    return math.nan


def between(first: Line, last: Line) -> dict[str, Any]:
    """What happened between two lines: rate, failures and percentiles in ms."""
    seconds = last["time"] - first["time"]
    answered = _answered(last) - _answered(first)
    result = {
        "seconds": seconds,
        "requests": last["requests"] - first["requests"],
        "failures": last["failures"] - first["failures"],
        "requests_per_second": answered / seconds if seconds else 0.0,
    }
    result |= _percentiles("", first["response_times"], last["response_times"])
    if "service_times" in last:
        result |= _percentiles("service_", first["service_times"], last["service_times"])
    return result


def window(lines: Sequence[Line], start: float, end: float) -> dict[str, Any]:
    """The measured stretch from ``start`` to ``end``, in Unix time."""
    after = [line for line in lines if line["time"] >= start]
    inside = [line for line in after if line["time"] < end]
    inside += after[len(inside) : len(inside) + 1]  # the first one at the end or later
    if len(inside) < 2:
        inside = lines[-1:] * 2
    result = between(inside[0], inside[-1])
    result["fewest_users"] = min(line["users"] for line in inside)
    result["fewest_workers"] = min(line["workers"] for line in inside)
    result["answers"] = answers(inside[0], inside[-1])
    return result


def series(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Second by second; ``t`` is seconds since the first line."""
    return [
        {"t": last["time"] - lines[0]["time"], "users": last["users"]} | between(first, last)
        for first, last in itertools.pairwise(lines)
    ]


def answers(first: Line, last: Line) -> dict[str, dict[str, int]]:
    """How many answers had which X-Cache, X-Edge-Cache and X-Served-By."""
    counts: dict[str, dict[str, int]] = {}
    for key, count in (Counter(last["answers"]) - Counter(first["answers"])).items():
        header, _, value = key.partition(" ")
        counts.setdefault(header, {})[value] = count
    return counts


def _answered(line: Line) -> int:
    """Requests that have ended; Locust counts no others."""
    return line.get("answered", line["requests"])


def _percentiles(
    prefix: str, first: Mapping[str, int], last: Mapping[str, int]
) -> dict[str, float | None]:
    counts = {float(ms): count - first.get(ms, 0) for ms, count in last.items()}
    histogram = {ms: count for ms, count in counts.items() if count}
    return {
        f"{prefix}p{percent}_ms": percentile(histogram, percent) if histogram else None
        for percent in PERCENTILES
    }
