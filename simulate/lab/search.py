"""Finds the capacity of a stack: the highest number of users with which the service level holds.

Technique: an adaptive psychometric procedure (A. B. Watson and D. G. Pelli, "QUEST: A Bayesian
adaptive psychometric method", Perception & Psychophysics 33, 1983). Near the capacity chance
decides a single probe, so no probe decides alone: each is evidence for all capacities, and the next
one is made where the evidence is split in halves, until the capacity is known to the precision.
Every capacity is as likely before the first probe: an earlier search says where to look, not what
to find.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import numpy as np

FIRST_PROBE = 2000  # users
GROWTH = 2.0  # from probe to probe, until one holds and one does not
FEWEST = 10  # users; fewer are not tried
NOISE = 0.05  # by which the capacity moves from probe to probe, relative standard deviation
LAPSES = 0.005  # of the probes tell nothing, on either side: the machine was busy otherwise
MOST_PROBES = 20
STEP = 0.002  # of the capacities that are told apart, relative


class Outcome(Enum):
    """What a probe says of a number of users."""

    HOLDS = "the service level holds"
    MISSED = "the stack misses it"
    GENERATOR = "it is missed, and the generator was at its end"


@dataclass(frozen=True)
class Capacity:
    """Users that the stack carries; at least so many if the search was cut short (censored)."""

    users: int
    censored: bool


class Search:
    """One search; ``probe`` measures a number of users.

    It ends with a relative standard error of ``precision``. ``first`` and ``growth`` say where it
    begins, and how far apart the first probes are; the growth itself grows.
    """

    def __init__(
        self,
        probe: Callable[[int], Outcome],
        *,
        precision: float,
        most: int,
        first: int = FIRST_PROBE,
        growth: float = GROWTH,
    ) -> None:
        self._probe = probe
        self._precision = precision
        self._most = most
        self._first = min(first, most)
        self._growth = self._step = growth
        self._probes: list[tuple[int, Outcome]] = []
        self._grid = np.arange(math.log(FEWEST / 2), math.log(2 * most), STEP)
        self._log_likelihood = np.zeros_like(self._grid)

    def run(self) -> Capacity:
        """Probe until the capacity is known, 0 if not even FEWEST hold."""
        while (users := self._next()) is not None:
            outcome = self._probe(users)
            self._probes.append((users, outcome))
            self._learn(users, outcome is Outcome.HOLDS)
        held, missed = self._by_outcome()
        if not missed:
            return Capacity(self._most, censored=True)
        if not held:
            return Capacity(0, censored=False)
        median, _ = self._estimate()
        users = round(math.exp(median))
        return Capacity(min(users, self._most), users > self._most or self._is_censored(users))

    def _next(self) -> int | None:
        """The users to probe next; None when the search is over."""
        held, missed = self._by_outcome()
        if not held and not missed:
            return self._first
        if not missed:
            most = max(held)
            return self._step_from(most, self._next_step()) if most < self._most else None
        if not held:
            fewest = min(missed)
            return self._step_from(fewest, 1 / self._next_step()) if fewest > FEWEST else None
        median, error = self._estimate()
        if error <= self._precision or len(self._probes) >= MOST_PROBES:
            return None
        return min(max(FEWEST, round(math.exp(median))), self._most)

    def _by_outcome(self) -> tuple[list[int], list[int]]:
        """The users that held, and those that did not."""
        held = [users for users, outcome in self._probes if outcome is Outcome.HOLDS]
        return held, [users for users, outcome in self._probes if outcome is not Outcome.HOLDS]

    def _step_from(self, users: int, step: float) -> int:
        return min(max(FEWEST, round(users * step)), self._most)

    def _next_step(self) -> float:
        step, self._step = self._step, min(GROWTH, self._step * self._growth)
        return step

    def _learn(self, users: int, holds: bool) -> None:
        """Each capacity's likelihood: by a logistic curve as wide as NOISE, and LAPSES."""
        width = NOISE * math.sqrt(3) / math.pi
        distance = (self._grid - math.log(users)) / width * (1 if holds else -1)
        self._log_likelihood += np.log(LAPSES + (1 - 2 * LAPSES) / (1 + np.exp(-distance)))

    def _estimate(self) -> tuple[float, float]:
        """The capacity's logarithm: its median, and half of what the middle 68 % span."""
        weights = np.exp(self._log_likelihood - self._log_likelihood.max())
        share = np.cumsum(weights) / weights.sum()
        low, median, high = self._grid[np.searchsorted(share, (0.16, 0.5, 0.84))]
        return float(median), float(high - low) / 2

    def _is_censored(self, users: int) -> bool:
        """Whether most probes that missed near the capacity did so at the generator's end."""
        near = [outcome for probed, outcome in self._probes if probed <= users * (1 + 3 * NOISE)]
        return near.count(Outcome.GENERATOR) > near.count(Outcome.MISSED)
