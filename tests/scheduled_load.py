"""Requests on a schedule, sent by threads beside a test, and what became of each of them.

Request i is due at i / rate, whatever became of the others, and its response time counts from the
moment it was due. lab/open_loop.py does the same in a process of its own, for more requests than
one wants to look at.
"""

import http.client
import itertools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import numpy


@dataclass(frozen=True)
class Request:
    """One request to send; the path is relative to the server."""

    method: str
    path: str
    body: bytes | None
    headers: dict[str, str]


@dataclass(frozen=True)
class Sample:
    """What became of one request; times are seconds of time.monotonic()."""

    request: Request
    due: float
    sent: float
    ended: float
    status: int  # 0 where there was no answer
    headers: dict[str, str]
    body: bytes
    error: str  # empty where there was an answer

    @property
    def response_time(self) -> float:
        """Seconds from when the request was due."""
        return self.ended - self.due

    @property
    def service_time(self) -> float:
        """Seconds from when the request was sent."""
        return self.ended - self.sent


def run(
    base_url: str,
    make_request: Callable[[int], Request],
    rate: float,
    seconds: float,
    connections: int = 64,
    timeout: float = 10.0,
    stop: threading.Event | None = None,
) -> list[Sample]:
    """Send rate * seconds requests, rate of them each second, and return what became of each.

    Every connection is kept alive and has a thread that takes the next request that is due. While
    all of them wait for answers no request is sent, but each one's time still counts from when it
    was due. A connection that fails is opened anew for its next request. When ``stop`` is set no
    further request is sent.
    """
    address = urlsplit(base_url)
    numbers = itertools.count()
    total = round(rate * seconds)
    samples: list[Sample] = []
    stop = stop or threading.Event()
    begin = time.monotonic() + 0.1  # seconds for the threads to start

    def work() -> None:
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=timeout)
        # next() of a count is one step of the interpreter: no two threads get the same number
        while (number := next(numbers)) < total:
            due = begin + number / rate
            time.sleep(max(0.0, due - time.monotonic()))
            if stop.is_set():
                break
            samples.append(_send(connection, make_request(number), due))
        connection.close()

    threads = [threading.Thread(target=work, daemon=True) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(samples, key=lambda sample: sample.due)


def _send(connection: http.client.HTTPConnection, request: Request, due: float) -> Sample:
    sent = time.monotonic()
    status, headers, body, error = 0, {}, b"", ""
    try:
        connection.request(request.method, request.path, request.body, request.headers)
        response = connection.getresponse()
        status, headers, body = response.status, dict(response.headers), response.read()
    except (OSError, http.client.HTTPException) as failure:
        connection.close()
        error = f"{type(failure).__name__}: {failure}"
    return Sample(request, due, sent, time.monotonic(), status, headers, body, error)


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least this percentage of the values does not exceed."""
    return float(numpy.percentile(values, percent, method="inverted_cdf"))
