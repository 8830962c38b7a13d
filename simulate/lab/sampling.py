"""What the machine, the processes and the replicas did in a stretch of time."""

import itertools
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import psutil

from lab import replica_metrics
from lab.replica_metrics import Look

TICK = 1.0  # seconds between samples

Sample = Mapping[str, Any]


def sample(processes: Mapping[str, int], look: Callable[[], Look], generator: int | None) -> Sample:
    """Sample the stack, by its ``processes`` and replicas, and the machine.

    ``generator`` is the process id of the load generator.
    """
    roots = {**processes, "lab": os.getpid()}
    if generator:
        roots["generator"] = generator
        workers = psutil.Process(generator).children()
        roots |= {f"generator {n}": child.pid for n, child in enumerate(workers, 1)}
    return {
        "time": time.time(),
        "cpu_seconds": cpu_seconds(roots),
        "machine": _machine(),
        "replicas": look(),
    }


def between(samples: Sequence[Sample], start: float, end: float) -> list[Sample]:
    """Those of a stretch, and the ones at its edges."""
    return [each for each in samples if start - TICK / 2 <= each["time"] <= end + TICK / 2]


def cpu_seconds(roots: Mapping[str, int]) -> dict[str, float]:
    """CPU seconds of groups of processes so far, each a root and those that descend from it.

    Those of children that have ended are included.
    """
    names = {pid: name for name, pid in roots.items()}
    parents, seconds = {}, {}
    for process in psutil.process_iter(["ppid", "cpu_times"]):
        times = process.info["cpu_times"]
        if times:
            parents[process.pid] = process.info["ppid"]
            seconds[process.pid] = sum(times[:4])  # user, system, and the same of children
    totals = dict.fromkeys(names.values(), 0.0)
    for pid, spent in seconds.items():
        ancestor = pid
        while ancestor and ancestor not in names:
            ancestor = parents.get(ancestor, 0)
        if ancestor:
            totals[names[ancestor]] += spent
    return totals


def cpu(samples: Sequence[Sample]) -> dict[str, dict[str, float]]:
    """Percent of one core that each group of processes used: mean, and the busiest second."""
    usage = {}
    for name in samples[0]["cpu_seconds"] if samples else ():
        points = [
            (sample["time"], sample["cpu_seconds"][name])
            for sample in samples
            if name in sample["cpu_seconds"]
        ]
        rates = [100 * (b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.pairwise(points)]
        if rates:
            mean = 100 * (points[-1][1] - points[0][1]) / (points[-1][0] - points[0][0])
            usage[name] = {"mean": mean, "max": max(rates)}
    return usage


def machine_load(samples: Sequence[Sample]) -> dict[str, float | None]:
    """Percent of all cores that did nothing, mean and least, or that the hypervisor took."""
    shares = [_shares(a["machine"], b["machine"]) for a, b in itertools.pairwise(samples)]
    if not shares:
        return dict.fromkeys(("idle_mean", "idle_min", "steal_mean"))
    idle, steal = _shares(samples[0]["machine"], samples[-1]["machine"])
    return {"idle_mean": idle, "idle_min": min(share[0] for share in shares), "steal_mean": steal}


def replicas(samples: Sequence[Sample]) -> dict[str, Any]:
    """See replica_metrics.summary()."""
    seconds = samples[-1]["time"] - samples[0]["time"] if samples else 0.0
    return replica_metrics.summary([sample["replicas"] for sample in samples], seconds)


def _machine() -> dict[str, float]:
    """Seconds of all cores since the start; without guests', which count as their user's too."""
    times = psutil.cpu_times()._asdict()
    return {name: spent for name, spent in times.items() if not name.startswith("guest")}


def _shares(before: Mapping[str, float], after: Mapping[str, float]) -> tuple[float, float]:
    spent = {name: after[name] - before[name] for name in after}
    total = sum(spent.values()) or 1.0
    idle = spent["idle"] + spent.get("iowait", 0.0)
    return 100 * idle / total, 100 * spent.get("steal", 0.0) / total
