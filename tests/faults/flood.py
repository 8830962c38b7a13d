"""A generator that can send more than the stack can serve; writes what became of each request.

Its own process. It prints a line when it begins, and at the end writes a JSON object to a file: the
CPU it took, and the requests as `Answer` in floods.py names their parts.
"""

import gevent.monkey

gevent.monkey.patch_all()

import argparse  # noqa: E402
import json  # noqa: E402
import math  # noqa: E402
import random  # noqa: E402
import time  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from pathlib import Path  # noqa: E402

import gevent  # noqa: E402

from users.api import query_request  # noqa: E402
from users.checker import Checker  # noqa: E402
from users.http_connection import HttpConnection, ProtocolError, Server  # noqa: E402

HOT = 50  # locations
THINK = (1, 2)  # seconds, as the users in Locust
TIMEOUT = 10.0  # seconds


class Asker:
    """Asks for locations and judges the answers."""

    def __init__(self, url: str, averages: dict, hot: float) -> None:
        """``hot``: this share of the requests is for the same few locations."""
        self.server = Server(url)
        self._checker = Checker(averages)
        self._requests = [
            (
                name,
                query_request(self.server.name, name),
            )
            for name in averages
        ]
        self._hot = hot

    def ask(self, connection: HttpConnection) -> tuple[int, str]:
        """Status of a request, 0 without an answer; and what is wrong, empty if nothing is."""
        end = HOT if random.random() < self._hot else len(self._requests)
        name, request = self._requests[int(random.random() * end)]
        try:
            response = connection.exchange(request)
        except (OSError, ProtocolError) as error:
            return 0, repr(error)
        if response.status_code == 200:
            return 200, self._checker.problem(name, response.content)
        refused = response.status_code in (429, 503) and response.headers.get("Retry-After")
        return response.status_code, "" if refused else "neither an answer nor a refusal"


def user(begin: float, end: float, think: bool) -> Iterator[float]:
    """When a user asks who waits for each answer and then thinks, or not."""
    due = begin
    while due < end:
        yield due
        due = time.monotonic() + (random.uniform(*THINK) if think else 0)


def flood(asker: Asker, options: argparse.Namespace) -> list[tuple]:
    """What became of each request: when it was due, sent and ended, its status, what is wrong."""
    begin = time.monotonic()
    end = begin + options.seconds
    answers = []

    def work(schedule: Iterator[float]) -> None:
        connection = HttpConnection(asker.server, TIMEOUT)
        for due in schedule:
            if (pause := due - time.monotonic()) > 0:
                gevent.sleep(pause)
            sent = time.monotonic()
            if sent - due > options.patience:
                continue
            status, problem = asker.ask(connection)
            answers.append((due, sent, time.monotonic(), status, problem))
        connection.close()

    if options.rate:
        total = round(options.rate * options.seconds)
        schedules = [(begin + n / options.rate for n in range(total))] * options.connections
    else:
        step = options.arrival / options.connections
        schedules = [user(begin + n * step, end, options.think) for n in range(options.connections)]
    print("begins", flush=True)
    gevent.joinall([gevent.spawn(work, schedule) for schedule in schedules])
    return answers


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("averages", type=Path)
    parser.add_argument("result", type=Path)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--connections", type=int)
    parser.add_argument("--hot", type=float)
    parser.add_argument(
        "--rate", type=float, help="open loop; without it each connection is a user"
    )
    parser.add_argument(
        "--arrival", type=float, default=0, help="seconds until all users are there"
    )
    parser.add_argument("--think", action="store_true")
    parser.add_argument(
        "--patience", type=float, default=math.inf, help="drop what is due for so many seconds"
    )
    options = parser.parse_args()
    asker = Asker(options.url, json.loads(options.averages.read_text()), options.hot)
    started = time.process_time()
    answers = flood(asker, options)
    cpu = time.process_time() - started
    options.result.write_text(json.dumps({"cpu": cpu, "answers": answers}))
