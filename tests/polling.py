"""Waiting for something to become true."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def poll(condition: Callable[[], T], seconds: float = 10) -> T:
    """Return the first true result of condition(); fails after this many seconds."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, f"{condition} was not true within {seconds} s"
        time.sleep(0.02)
    return result
