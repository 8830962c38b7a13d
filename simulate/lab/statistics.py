"""Intervals of repeated measurements, and what may be said of two sides that were compared."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

SMALLEST = 0.01  # an effect below is called no difference, however narrow its interval


class Interval(NamedTuple):
    """A mean and where the true one lies; without bounds where there is one value only."""

    mean: float
    low: float | None
    high: float | None


def interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Student's interval of the mean; raises ValueError where there is no value."""
    if not values:
        raise ValueError("an interval needs at least one value")
    mean = statistics.fmean(values)
    if len(values) < 2:
        return Interval(mean, None, None)
    error = statistics.stdev(values) / math.sqrt(len(values))
    margin = student(len(values) - 1, level) * error
    return Interval(mean, mean - margin, mean + margin)


def ratio_interval(a: Sequence[float], b: Sequence[float], level: float = 0.95) -> Interval:
    """B relative to A, from pairs measured one right after the other.

    On logarithms, so that twice and half as much are equally far from no difference. Raises
    ValueError unless there are as many values of each side, all above 0.
    """
    if min(*a, *b) <= 0:
        raise ValueError("a ratio needs values above 0")
    logarithms = [math.log(y / x) for x, y in zip(a, b, strict=True)]
    mean, low, high = interval(logarithms, level)
    if low is None:
        return Interval(math.exp(mean), None, None)
    return Interval(math.exp(mean), math.exp(low), math.exp(high))


def differs(ratio: Interval) -> bool:
    """Whether the interval of a ratio is beside 1, and the effect not below SMALLEST."""
    mean, low, high = ratio
    return low is not None and not low <= 1 <= high and abs(mean - 1) >= SMALLEST


def verdict(ratio: Interval) -> str:
    """What the ratio B/A of a rate (more is better) says, in percent."""
    mean, low, high = ratio
    if low is None:
        return "one pair says nothing: measure more"
    if not differs(ratio):
        return f"no difference [{_percent(low):+.1f}, {_percent(high):+.1f}]"
    if mean > 1:
        return f"B is {_percent(mean):.1f} % faster [{_percent(low):.1f}, {_percent(high):.1f}]"
    return f"B is {-_percent(mean):.1f} % slower [{-_percent(high):.1f}, {-_percent(low):.1f}]"


def student(freedom: int, level: float) -> float:
    """How many standard errors Student's t with so many degrees of freedom is within, at a level.

    Technique: the finite series of Abramowitz and Stegun, 26.7.3 and 26.7.4, inverted by bisection.
    """
    low, high = 0.0, 1e6
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < level else (low, middle)
    return high


def _within(t: float, freedom: int) -> float:
    """The probability of a value from -t to t."""
    angle = math.atan(t / math.sqrt(freedom))
    cosine = math.cos(angle)
    term = cosine if freedom % 2 else 1.0
    total = 0.0
    for step in range(2 + freedom % 2, freedom + 1, 2):
        total += term
        term *= (step - 1) / step * cosine**2
    if not freedom % 2:
        return math.sin(angle) * total
    return 2 / math.pi * (angle + math.sin(angle) * total)


def _percent(ratio: float) -> float:
    return 100 * (ratio - 1)
