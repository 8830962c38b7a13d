"""The Universal Scalability Law: what each further user or replica adds, and where it turns.

Source: Neil J. Gunther, "Guerrilla Capacity Planning", Springer 2007, chapters 4 to 6.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

Point = tuple[float, float]  # N, X(N)
MOST_REPLICAS = 1000  # more than this is no plan


@dataclass(frozen=True)
class Model:
    """X(N) = lambda N / (1 + sigma (N - 1) + kappa N (N - 1)); X has the unit of lambda."""

    lambda_: float  # X(1)
    sigma: float  # contention: the part that is done one after the other
    kappa: float  # coherency: what each has to do for each other one

    def predict(self, n: float) -> float:
        return self.lambda_ * n / (1 + self.sigma * (n - 1) + self.kappa * n * (n - 1))

    @property
    def peak(self) -> float:
        """The point of return: the N beyond which X falls; infinite where it never does."""
        return math.sqrt(max(0.0, 1 - self.sigma) / self.kappa) if self.kappa else math.inf

    @property
    def highest(self) -> float:
        """The X that no N gets beyond."""
        if self.peak < math.inf:
            return self.predict(max(1.0, self.peak))
        return self.lambda_ / self.sigma if self.sigma else math.inf

    def least(self, wanted: float) -> int | None:
        """The smallest whole N with X(N) >= ``wanted``, None if there is none."""
        for n in range(1, MOST_REPLICAS + 1):
            if self.predict(n) >= wanted:
                return n
            if n >= self.peak:
                break
        return None


@dataclass(frozen=True)
class Check:
    """A point that was left out of the fit, and what the others say about it."""

    n: float
    predicted: float
    measured: float

    @property
    def error_percent(self) -> float:
        return 100 * (self.predicted / self.measured - 1)


def fit(points: Iterable[Point], lambda_: float | None = None) -> Model:
    """Least squares of the relative error of N / X(N), which is linear in 1, N - 1 and N (N - 1).

    None of the three parameters may be negative: of the fits that obey, the best one. With points
    at two N only, either contention or coherency explains them: contention is taken. ``lambda_``
    may be known beforehand.
    Raises ValueError for points at fewer than two N, or an N or X that isn't positive.
    """
    points = list(points)
    distinct = len({n for n, _ in points})
    if distinct < 2 or min(map(min, points)) <= 0:
        raise ValueError(f"a fit needs positive points at two N or more: {points}")
    n, x = np.array(points, dtype=float).T
    terms = np.stack([np.ones_like(n), n - 1, n * (n - 1)]) * x / n
    known = {0: 1 / lambda_} if lambda_ else {}
    wanted = 1 - known.get(0, 0.0) * terms[0]
    best, least = known, float(np.sum(wanted**2)) if known else math.inf
    for free in ((1,), (2,), (1, 2)) if known else ((0,), (0, 1), (0, 2), (0, 1, 2)):
        if len(known) + len(free) > distinct:
            continue
        factors, *_ = np.linalg.lstsq(terms[list(free)].T, wanted, rcond=None)
        error = float(np.sum((factors @ terms[list(free)] - wanted) ** 2))
        found = known | dict(zip(free, factors, strict=True))
        if min(factors) >= 0 and found[0] > 0 and error < least - 1e-12:
            best, least = found, error
    one = best[0]
    return Model(float(1 / one), float(best.get(1, 0) / one), float(best.get(2, 0) / one))


def check(points: Sequence[Point], lambda_: float | None = None) -> list[Check]:
    """Each N left out in turn and predicted from the others; nothing with fewer than three N.

    ``lambda_`` may be known beforehand.
    """
    numbers = sorted({n for n, _ in points})
    if len(numbers) < 3:
        return []
    checks = []
    for left_out in numbers:
        model = fit([point for point in points if point[0] != left_out], lambda_)
        measured = [x for n, x in points if n == left_out]
        checks.append(Check(left_out, model.predict(left_out), sum(measured) / len(measured)))
    return checks
