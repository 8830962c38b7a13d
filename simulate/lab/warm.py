"""Fills the caches of a stack: the load by itself would take minutes to do so."""

from collections.abc import Sequence

import gevent

from lab.plan import Setting
from lab.stacks import MeasuredStack
from users.api import ApiError, query_request
from users.http_connection import HttpConnection, ProtocolError, Server

CONNECTIONS = 4  # to each replica, and to nginx
# Where a replica has several workers: which of them a connection gets is chance, so that each of
# two misses one location in 32.
PASSES = 5
TIMEOUT = 30.0  # seconds


def fill(stack: MeasuredStack, setting: Setting, locations: Sequence[str]) -> None:
    """Ask for every location: each replica by itself, then nginx if it has a cache.

    Raises ApiError.
    """
    if setting.cache:
        urls = stack.replica_urls
        if setting.workers > 1:
            urls = [url for url in urls for _ in range(PASSES)]
        # Each begins elsewhere: what one has computed the others find in Redis.
        turned = [_turned(locations, number / len(urls)) for number in range(len(urls))]
        _ask([(url, part) for url, all_ in zip(urls, turned, strict=True) for part in _parts(all_)])
    if setting.edge:
        _ask([(stack.url, part) for part in _parts(locations)])
        stack.read_log(len(locations))


def _turned(locations: Sequence[str], share: float) -> Sequence[str]:
    start = round(share * len(locations))
    return [*locations[start:], *locations[:start]]


def _parts(locations: Sequence[str]) -> list[Sequence[str]]:
    return [locations[number::CONNECTIONS] for number in range(CONNECTIONS)]


def _ask(work: Sequence[tuple[str, Sequence[str]]]) -> None:
    asking = [gevent.spawn(_ask_one_by_one, url, part) for url, part in work]
    try:
        gevent.joinall(asking, raise_error=True)
    finally:
        gevent.killall(asking)


def _ask_one_by_one(url: str, locations: Sequence[str]) -> None:
    try:
        server = Server(url)
        connection = HttpConnection(server, TIMEOUT)
        for location in locations:
            status = connection.exchange(query_request(server.name, location)).status_code
            if status != 200:
                raise ApiError(f"{url} answers {status}")
        connection.close()
    except (OSError, ProtocolError) as error:
        raise ApiError(f"{url} does not answer: {error!r}") from error
