"""What was recorded and sampled in a stretch of time, as a cell: its window, phases and series."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lab import recording, sampling
from lab.replica_metrics import tier_shares

RAMP_SLACK = 30  # seconds more than planned until all users are there, Locust's start included

Lines = Sequence[recording.Line]
Samples = Sequence[sampling.Sample]


@dataclass(frozen=True)
class Stretch:
    """When users began to come, when all were there, and what was measured: Unix times."""

    begins: float
    arrived: float
    starts: float
    ends: float


def window(lines: Lines, samples: Samples, start: float, end: float) -> dict[str, Any]:
    """Answers, processes, machine and replicas between two moments.

    Without samples nothing is known but the answers.
    """
    samples = sampling.between(samples, start, end)
    return {
        "window": recording.summary(recording.between(lines, start, end)),
        "cpu": sampling.cpu(samples),
        "machine_load": sampling.machine_load(samples),
        "replicas": sampling.replicas(samples),
    }


def halves_apart(first: Mapping[str, Any], second: Mapping[str, Any]) -> float:
    """The largest difference of a tier's share between two windows, in percentage points."""
    one, other = tier_shares(first), tier_shares(second)
    return max(abs(one.get(tier, 0.0) - other.get(tier, 0.0)) for tier in one.keys() | other.keys())


def cell(lines: Lines, samples: Samples, stretch: Stretch) -> dict[str, Any]:
    """All that a kept cell says of its load."""
    lines = recording.between(lines, stretch.begins, stretch.ends)
    began = lines[0]["time"] - lines[0]["seconds"] if lines else stretch.begins
    edges = {
        "arrival": (stretch.begins, stretch.arrived),
        "warm-up": (stretch.arrived, stretch.starts),
        "window": (stretch.starts, stretch.ends),
    }
    phases = {name: recording.between(lines, *times) for name, times in edges.items()}
    middle = (stretch.starts + stretch.ends) / 2
    return {
        **window(lines, samples, stretch.starts, stretch.ends),
        "phases": {name: recording.summary(part) for name, part in phases.items()},
        "series": recording.series(lines),
        "window_starts": stretch.starts - began,
        "window_ends": stretch.ends - began,
        "halves_apart": halves_apart(
            window(lines, samples, stretch.starts, middle),
            window(lines, samples, middle, stretch.ends),
        ),
    }
