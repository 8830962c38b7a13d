"""Tells how far the load is: a bar on a terminal, plain lines in a log."""

import sys
import threading
import time
from typing import TextIO

BAR_WIDTH = 30  # characters
LOG_INTERVAL = 1.0  # seconds between two lines in a log


class Progress:
    """Counts rows (from any thread) and shows them; every method may be called by any thread."""

    def __init__(self, total_records: int, out: TextIO = sys.stdout) -> None:
        self._total = total_records
        self._out = out
        self._is_terminal = out.isatty()
        self._lock = threading.Lock()
        self._inserted = self._at_start = 0
        self._started = self._last_line = time.monotonic()
        self._loading = False

    def start(self, already_inserted: int) -> None:
        """Begin the load, with rows that earlier runs left there."""
        with self._lock:
            self._inserted = self._at_start = already_inserted
            self._started = time.monotonic()
            self._loading = True

    def add(self, rows: int) -> None:
        with self._lock:
            self._inserted += rows

    def finish(self) -> None:
        """End the load with the contract's line, and the rate of this run."""
        with self._lock:
            seconds = time.monotonic() - self._started
            self._clear_bar()
            self._loading = False
            self._line(f"{self._inserted}/{self._total} records inserted")
            if rows := self._inserted - self._at_start:
                rate = rows / max(seconds, 1e-3)
                self._line(f"{rows:,} rows copied in {seconds:.1f} s ({rate:,.0f} rows/s)")

    def say(self, text: str) -> None:
        """Print one line, above the bar where there is one."""
        with self._lock:
            self._clear_bar()
            self._line(text)

    def clear(self) -> None:
        """Take the bar away for good, before an error is told."""
        with self._lock:
            self._clear_bar()
            self._loading = False

    def refresh(self) -> None:
        """Show the current count: call it a few times a second."""
        with self._lock:
            if self._loading and self._is_terminal:
                self._out.write("\r" + self._bar())
                self._out.flush()
            elif self._loading and time.monotonic() - self._last_line >= LOG_INTERVAL:
                self._last_line = time.monotonic()
                self._line(f"{self._inserted}/{self._total} records inserted")

    def _bar(self) -> str:
        rate = (self._inserted - self._at_start) / max(time.monotonic() - self._started, 1e-3)
        filled = BAR_WIDTH * self._inserted // self._total
        eta = f"{(self._total - self._inserted) / rate:.0f} s" if rate else "-"
        return (
            f"[{'#' * filled:<{BAR_WIDTH}}] {self._inserted / self._total:4.0%} "
            f"{self._inserted:,}/{self._total:,} rows  {rate:,.0f} rows/s  ETA {eta}\033[K"
        )

    def _clear_bar(self) -> None:
        if self._loading and self._is_terminal:
            self._out.write("\r\033[K")

    def _line(self, text: str) -> None:
        self._out.write(text + "\n")
        self._out.flush()
