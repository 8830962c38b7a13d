"""Fills the caches of a stack: the load by itself would take minutes to do so."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from lab.plan import Setting
from lab.stacks import MeasuredStack
from users.api import Client

CONNECTIONS = 4  # to each replica, and to nginx
MOST_THREADS = 12


def fill(stack: MeasuredStack, setting: Setting, locations: Sequence[str]) -> None:
    """Ask for every location: each replica by itself, then nginx if it has a cache.

    Raises ApiError.
    """
    with ThreadPoolExecutor(MOST_THREADS) as executor:
        if setting.cache:
            parts = _parts(locations)
            if setting.workers > 1:  # who of them gets a connection is chance: ask all over each
                parts = [list(locations)] * CONNECTIONS
            _ask(executor, [(url, part) for url in stack.replica_urls for part in parts])
        if setting.edge:
            _ask(executor, [(stack.url, part) for part in _parts(locations)])
            stack.read_log(len(locations))


def _parts(locations: Sequence[str]) -> list[Sequence[str]]:
    return [locations[number::CONNECTIONS] for number in range(CONNECTIONS)]


def _ask(executor: ThreadPoolExecutor, work: Sequence[tuple[str, Sequence[str]]]) -> None:
    list(executor.map(lambda job: _ask_one_by_one(*job), work))


def _ask_one_by_one(url: str, locations: Sequence[str]) -> None:
    with Client(url) as client:
        for location in locations:
            client.query(location)
