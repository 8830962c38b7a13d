"""Time is the budget: until when a request is worth its work, and who may try what has failed."""

import heapq
import itertools
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

ANSWER_LIMIT = 2.0  # seconds from when nginx took a request; then nobody waits for it any more
OLDEST_REQUEST = 60.0  # seconds; what seems older comes from another clock


class UnavailableError(Exception):
    """There was no answer within the time limits; the client may try again in a second.

    ``refused_by`` is for X-Refused-By: what a person who tunes the stack has to look at.
    """

    def __init__(self, message: str, refused_by: str = "database") -> None:
        super().__init__(message)
        self.refused_by = refused_by


def read_deadline(environ: Mapping[str, Any]) -> float:
    """The time.monotonic() at which a request's budget ends; all who work for it keep to it.

    X-Request-Start tells when nginx took the request, in seconds since 1970; without it the budget
    begins now. Raises UnavailableError where it is over: a refusal comes before any work.
    """
    try:
        waited = time.time() - float(environ.get("HTTP_X_REQUEST_START", ""))
    except ValueError:
        waited = 0.0
    if not 0 < waited < OLDEST_REQUEST:
        waited = 0.0
    if waited >= ANSWER_LIMIT:
        raise UnavailableError("the request has waited too long", "time")
    return deadline_from_now() - waited


def deadline_from_now() -> float:
    """The time.monotonic() at which the budget ends of what begins now."""
    return monotonic() + ANSWER_LIMIT


class WaitingLine:
    """Requests that wait for a turn under one lock; the one whose budget ends first is next.

    A request waits for several things in turn. First come, first served at each of them had the
    oldest of a burst end as late as the newest: with replicas that stood still for 1.5 s, 1,000
    users waited 1.86 to 1.93 s at most, now 1.66 to 1.79 s.
    Technique: earliest deadline first (C. L. Liu and J. W. Layland, "Scheduling Algorithms for
    Multiprogramming in a Hard-Real-Time Environment", Journal of the ACM 20, 1973).
    """

    def __init__(self, lock: threading.Lock) -> None:
        """``lock`` is held by whoever calls a method."""
        self._lock = lock
        self._turns: list[_Turn] = []  # a heap
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return len(self._turns)

    def wait(self, deadline: float) -> bool:
        """Give the lock away until it is this one's turn, or its deadline; whether it is."""
        turn = _Turn((deadline, next(self._numbers)), threading.Condition(self._lock))
        heapq.heappush(self._turns, turn)
        turn.condition.wait(max(0.0, deadline - monotonic()))
        if not turn.called:
            self._turns.remove(turn)
            heapq.heapify(self._turns)
        return turn.called

    def call_next(self) -> bool:
        """Whether there is one whose turn it is now."""
        if not self._turns:
            return False
        turn = heapq.heappop(self._turns)
        turn.called = True
        turn.condition.notify()
        return True

    def call_all(self) -> None:
        while self.call_next():
            pass


@dataclass(order=True)
class _Turn:
    rank: tuple[float, int]  # deadline, and who came first
    condition: threading.Condition = field(compare=False)
    called: bool = field(default=False, compare=False)


class Breaker:
    """Circuit breaker: after a failure nobody tries for ``pause`` seconds, then one caller does.

    Technique: Michael Nygard, "Release It!", chapter "Stability Patterns".
    """

    def __init__(self, pause: float) -> None:
        self._pause = pause
        self._lock = threading.Lock()
        self._failing = False
        self._retry_at = 0.0

    def allows(self) -> bool:
        """Whether the caller may try now; while failing, True makes it the one that probes."""
        if not self._failing:
            return True
        with self._lock:
            now = monotonic()
            if self._failing and now < self._retry_at:
                return False
            self._retry_at = now + self._pause
            return True

    def failed(self) -> None:
        with self._lock:
            self._failing = True
            self._retry_at = monotonic() + self._pause

    def succeeded(self) -> None:
        self._failing = False
