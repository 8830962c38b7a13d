"""Bounds on waiting, shared by PostgreSQL and Redis: fail fast, and keep threads free."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

PATIENT_PLACES = 32  # threads of a worker that may wait LONG for a connection or an answer
LONG_WAIT = 0.25  # seconds
# All further threads wait this long. So however slow the database is, a thread for the pages that
# need no database comes free within 50 ms, while a burst that a working pool serves in 10-30 ms
# is not refused.
SHORT_WAIT = 0.05  # seconds


class UnavailableError(Exception):
    """PostgreSQL gave no answer within the time limits; the client may try again in a second."""


class WaitLimit:
    """Tells each waiting thread of this process how long it may wait."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting = 0

    @contextmanager
    def waiting(self) -> Iterator[float]:
        """Occupy a place; yields the seconds this thread may wait."""
        with self._lock:
            self._waiting += 1
            seconds = LONG_WAIT if self._waiting <= PATIENT_PLACES else SHORT_WAIT
        try:
            yield seconds
        finally:
            with self._lock:
                self._waiting -= 1


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
