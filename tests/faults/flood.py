"""A generator that can send more than the stack can serve; prints what became of each second.

Its own process, as `python flood.py URL AVERAGES.json SECONDS [RATE]`: an open loop of RATE
requests/s, or a closed loop of a few connections that finds the capacity.
"""

import gevent.monkey

gevent.monkey.patch_all()

import itertools  # noqa: E402
import json  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from collections import Counter, defaultdict  # noqa: E402
from pathlib import Path  # noqa: E402

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "simulate"))

import gevent  # noqa: E402

from lab.open_loop import percentile  # noqa: E402
from users.api import QUERY_HEADERS, QUERY_PATH, query_body  # noqa: E402
from users.checker import Checker  # noqa: E402
from users.http_connection import HttpConnection, ProtocolError, Server, post  # noqa: E402

CLOSED, OPEN = 32, 4000  # connections
TIMEOUT = 10.0  # seconds


def flood(url: str, averages: dict, seconds: float, rate: float | None) -> list[dict]:
    """For each second in which requests were due: statuses, wrong answers, p99 and retry hints."""
    server = Server(url)
    checker = Checker(averages)
    requests = [
        (name, post(server.name, QUERY_PATH, query_body(name), QUERY_HEADERS)) for name in averages
    ]
    statuses, times, wrong = defaultdict(Counter), defaultdict(list), Counter()
    numbers = itertools.count()
    begin = time.monotonic()

    def work() -> None:
        connection = HttpConnection(server, TIMEOUT)
        while True:
            number = next(numbers)
            now = time.monotonic()
            due = begin + number / rate if rate else now
            if due >= begin + seconds:
                break
            if due > now:
                gevent.sleep(due - now)
            # Every other request is for one of 50 locations, which are in the cache.
            name, request = requests[number % 50 if number % 2 else number % len(requests)]
            second = int(due - begin)
            try:
                response = connection.exchange(request)
            except (OSError, ProtocolError) as error:
                statuses[second][type(error).__name__] += 1
                continue
            statuses[second][response.status_code] += 1
            times[second].append(time.monotonic() - due)
            if response.status_code == 200:
                wrong[second] += bool(checker.problem(name, response.content))
            elif not response.headers.get("Retry-After"):
                wrong[second] += 1
        connection.close()

    gevent.joinall([gevent.spawn(work) for _ in range(OPEN if rate else CLOSED)])
    return [
        {
            "statuses": statuses[second],
            "wrong": wrong[second],
            "p99": percentile(times[second], 99),
            "longest": max(times[second]),
        }
        for second in sorted(statuses)
    ]


if __name__ == "__main__":
    url, path, seconds, *rate = sys.argv[1:]
    averages = json.loads(Path(path).read_text())
    print(json.dumps(flood(url, averages, float(seconds), float(rate[0]) if rate else None)))
