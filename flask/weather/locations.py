"""The names of all locations, kept in memory: neither the page nor the filter asks PostgreSQL."""

import heapq
import itertools
import logging
import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from time import monotonic

from weather.waiting import Breaker, UnavailableError, deadline_from_now

DROPDOWN_SIZE = 100  # what a person can scroll through; the filter reaches the others
REFRESH_SHARE = 0.2  # the last part of the list's life, in which it is read anew beside requests
RETRY_PAUSE = 5.0  # seconds to the next try after the list could not be read

log = logging.getLogger("gunicorn.error")


class Index:
    """An immutable list of locations that can be searched; ``expires`` in seconds since 1970."""

    def __init__(self, rows: list[tuple[str, int]], expires: float) -> None:
        by_name = sorted((name.casefold(), name) for name, _ in rows)
        self._folded = [folded for folded, _ in by_name]
        self._names = [name for _, name in by_name]
        largest = heapq.nlargest(DROPDOWN_SIZE, rows, key=lambda row: row[1])
        self.most_records = sorted(name for name, _ in largest)
        self.expires = expires

    def __len__(self) -> int:
        return len(self._names)

    def search(self, text: str, limit: int) -> tuple[list[str], int]:
        """The first ``limit`` names that contain ``text``, and how many there are in all.

        Upper and lower case are equal. Names that begin with the text come first; each of the two
        groups is in alphabetical order.
        """
        if not text:
            return self._names[:limit], len(self)
        text = text.casefold()
        # The names are sorted, so those that begin with the text stand side by side.
        start = bisect_left(self._folded, text)
        end = bisect_right(self._folded, text, lo=start, key=lambda name: name[: len(text)])
        matches = [i for i, folded in enumerate(self._folded) if text in folded]
        within = (i for i in matches if not start <= i < end)
        chosen = itertools.islice(itertools.chain(range(start, end), within), limit)
        return [self._names[i] for i in chosen], len(matches)


class Locations:
    """Reads the list at first use, and again before it is ``max_age`` seconds old."""

    def __init__(self, read: Callable[[float], list[tuple[str, int]]], max_age: float) -> None:
        """``read`` gets a deadline, in seconds of time.monotonic()."""
        self._read = read
        self._max_age = max_age
        self._index: Index | None = None
        self._reading = threading.Lock()
        self._breaker = Breaker(RETRY_PAUSE)

    def index(self, deadline: float) -> Index:
        """The list; an old one only while no new one can be read.

        Raises UnavailableError while there has never been one.
        """
        index = self._index
        remaining = index.expires - time.time() if index else 0.0
        if remaining <= 0:
            return self._read_first(index, deadline)
        nearly_over = remaining < self._max_age * REFRESH_SHARE
        if nearly_over and self._breaker.allows() and self._reading.acquire(blocking=False):
            threading.Thread(target=self._read_beside, name="locations", daemon=True).start()
        return index

    def _read_first(self, old: Index | None, deadline: float) -> Index:
        """Read the list before going on, unless another request has while this one waited."""
        if old and not self._breaker.allows():
            return old
        if not self._reading.acquire(timeout=max(0.0, deadline - monotonic())):
            if old:
                return old
            message = "the list of locations is being read and takes long"
            raise UnavailableError(message, "time")
        try:
            if self._index is old:
                self._load(deadline)
        except UnavailableError as error:
            self._failed(error)
            if not old:
                raise
        finally:
            self._reading.release()
        return self._index

    def _read_beside(self) -> None:
        try:
            self._load(deadline_from_now())
        except UnavailableError as error:
            self._failed(error)
        finally:
            self._reading.release()

    def _load(self, deadline: float) -> None:
        started = time.time()  # the list is as old as the read's start
        rows = self._read(deadline)
        # An empty list is read again by each request: the populator is still at work.
        self._index = Index(rows, started + (self._max_age if rows else 0))
        self._breaker.succeeded()

    def _failed(self, error: UnavailableError) -> None:
        self._breaker.failed()
        if self._index:
            log.warning("the list of locations stays as it is: %s", error)
