"""Spreads of repeated measurements, and their table."""

import statistics
from collections.abc import Mapping, Sequence


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, smallest and largest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def print_table(summary: Mapping[str, Mapping[str, float]]) -> None:
    """Print a line for each measurement with its median, min and max."""
    print(f"\n{'':48}{'median':>14}{'min':>14}{'max':>14}")
    for name, values in summary.items():
        print(f"{name:48}" + "".join(f"{value:14,.2f}" for value in values.values()))
