"""Bounds on waiting, shared by PostgreSQL and Redis: fail fast, and recover by themselves."""

import threading
from time import monotonic

# Seconds for a read, with the wait for a connection, connecting and one retry; as long waits who
# wants the answer that another request is computing.
READ_LIMIT = 2.0
# Seconds that a request waits for a connection. A working pool serves a burst in 10 to 30 ms;
# whoever has waited this long would only lengthen an overload.
WAIT_LIMIT = 0.25


class UnavailableError(Exception):
    """PostgreSQL gave no answer within the time limits; the client may try again in a second."""


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
