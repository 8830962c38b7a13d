"""The names of all locations, kept in memory: neither the page nor the filter asks PostgreSQL."""

import heapq
import itertools
import logging
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from time import monotonic

from weather.waiting import WAIT_LIMIT, UnavailableError

DROPDOWN_SIZE = 100  # what a person can scroll through; the filter reaches the others
RETRY_INTERVAL = 5.0  # seconds to the next try after the list could not be read, or was empty

log = logging.getLogger("gunicorn.error")


class Index:
    """An immutable list of locations that can be searched."""

    def __init__(self, rows: list[tuple[str, int]]) -> None:
        by_name = sorted((name.casefold(), name) for name, _ in rows)
        self._folded = [folded for folded, _ in by_name]
        self._names = [name for _, name in by_name]
        largest = heapq.nlargest(DROPDOWN_SIZE, rows, key=lambda row: row[1])
        self.most_records = sorted(name for name, _ in largest)

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
    """Reads the list at first use and again, beside the requests, when it is ``max_age`` old."""

    def __init__(self, read: Callable[[], list[tuple[str, int]]], max_age: float) -> None:
        self._read = read
        self._max_age = max_age  # seconds
        self._index: Index | None = None
        self._refresh_at = 0.0
        self._reading = threading.Lock()

    def index(self) -> Index:
        """The list, an old one while a new one is being read or can't be.

        Raises UnavailableError while there has never been one.
        """
        if self._index is None:
            self._read_first()
        elif monotonic() >= self._refresh_at and self._reading.acquire(blocking=False):
            threading.Thread(target=self._read_again, name="locations", daemon=True).start()
        return self._index

    def _read_first(self) -> None:
        if not self._reading.acquire(timeout=WAIT_LIMIT):
            raise UnavailableError("the list of locations is being read and takes long")
        try:
            if self._index is None:
                self._load()
        finally:
            self._reading.release()

    def _read_again(self) -> None:
        try:
            self._load()
        except UnavailableError as error:
            self._refresh_at = monotonic() + RETRY_INTERVAL
            log.warning("the list of locations stays as it is: %s", error)
        finally:
            self._reading.release()

    def _load(self) -> None:
        index = Index(self._read())
        self._refresh_at = monotonic() + (self._max_age if len(index) else RETRY_INTERVAL)
        self._index = index
