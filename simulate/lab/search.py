"""Finds the capacity of a stack: the highest number of users with which the service level holds.

Technique: bisection of a noisy threshold. The bracket grows or shrinks by a factor until its lower
end holds and its upper end does not; then its middle is tried until it is narrow enough. Chance
decides a single probe near the boundary, so at last each end has to be what it is in 2 of 3 probes;
if it isn't, the bracket moves and the search goes on.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

FIRST_PROBE = 2000  # users
GROWTH = 2.0  # of the bracket at most, and where nothing is known
MAJORITY = 2  # of 3 probes
FEWEST = 10  # users; a bracket as narrow is not halved, and fewer are not tried


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

    ``first`` and ``growth`` say where the bracket begins (its growth itself grows), ``repeated``
    whether its ends are probed until the majority is known.
    """

    def __init__(
        self,
        probe: Callable[[int], Outcome],
        *,
        precision: float,
        most: int,
        first: int = FIRST_PROBE,
        growth: float = GROWTH,
        repeated: bool = True,
    ) -> None:
        self._probe = probe
        self._precision = precision
        self._most = most
        self._first = min(first, most)
        self._growth = self._step = growth
        self._repeated = repeated
        self._outcomes: defaultdict[int, list[Outcome]] = defaultdict(list)

    def run(self) -> Capacity:
        """Probe until the capacity is known to the precision, 0 if not even FEWEST hold."""
        while (users := self._next()) is not None:
            self._outcomes[users].append(self._probe(users))
        good, bad = self._bracket()
        return Capacity(good, bad is None or self._is_censored(bad))

    def _next(self) -> int | None:
        """The users to probe next; None when the search is over."""
        tied = [users for users in self._outcomes if self._majority(users) == 0]
        if tied:
            return tied[0]
        good, bad = self._bracket()
        if bad is None:
            return None if good == self._most else self._higher(good)
        if not good and bad > FEWEST:
            return max(FEWEST, round(bad / self._next_step()))
        if good and bad - good > max(self._precision * good, FEWEST):
            return (good + bad) // 2
        return next((users for users in (good, bad) if users and self._is_unsure(users)), None)

    def _higher(self, good: int) -> int:
        return min(round(good * self._next_step()), self._most) if good else self._first

    def _next_step(self) -> float:
        step, self._step = self._step, min(GROWTH, self._step * self._growth)
        return step

    def _bracket(self) -> tuple[int, int | None]:
        """The highest number that holds, and the lowest that does not; 0 and None for none."""
        bad = min((users for users in self._outcomes if self._majority(users) < 0), default=None)
        held = [users for users in self._outcomes if self._majority(users) > 0]
        return max((users for users in held if bad is None or users < bad), default=0), bad

    def _majority(self, users: int) -> int:
        """How many more probes held than did not."""
        outcomes = self._outcomes[users]
        return 2 * outcomes.count(Outcome.HOLDS) - len(outcomes)

    def _is_unsure(self, users: int) -> bool:
        outcomes = self._outcomes[users]
        held = outcomes.count(Outcome.HOLDS)
        return self._repeated and max(held, len(outcomes) - held) < MAJORITY

    def _is_censored(self, users: int) -> bool:
        """Whether most probes that missed did so at the generator's end."""
        outcomes = self._outcomes[users]
        return outcomes.count(Outcome.GENERATOR) > outcomes.count(Outcome.MISSED)
