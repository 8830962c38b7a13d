"""A drill: steady load through nginx, a fault, and what must hold whatever the fault was."""

import http.client
import itertools
import json
import math
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sized
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import NamedTuple

import faults
import psutil
import psycopg2
import scheduled_load
from databases import connect
from polling import poll
from processes import Child
from stack import Replica, Stack
from stacks import running_stack

from users.api import QUERY_HEADERS, QUERY_PATH, query_body

FULL = bool(os.environ.get("FULL_DRILLS"))  # `make faults`: faults last longer, times have limits
# Seconds. Shorter than a round of the load through all locations (148 s). And a hot answer is
# computed anew in the last fifth of it, so that it lives on for 24 s after PostgreSQL has gone:
# longer than any fault that cached answers must outlive (15 s).
CACHE_EXPIRY = 120
RATE = 200  # requests/s
CONNECTIONS = 256  # of the client; more than requests under way when each miss waits 1 s
LONGEST = 900  # seconds of load at most
HOT = 50  # locations that are asked so often that they are in the cache
RECOVERY_LIMIT = 2.0  # seconds after the fault until every answer is good again
SETTLE = 3.0  # seconds of load after the fault
LAST = 50  # requests of the load, all of which are good again
CLIENT_LIMIT = 5.0  # seconds a request may take, whatever happens
ALLOWED = {200, 429, 503}
CLEAN_LIMIT = 20  # seconds for the stack to look as before; nginx keeps idle connections for 15 s
POOL_MAXCONN = 15
# Files that a replica may have open beyond those at the start: it keeps its connections to Redis,
# of eight readers and of as many writers as the pool has connections.
FILES_TOLERANCE = 64
MEMORY_TOLERANCE = 40 << 20  # bytes beyond those at the start; a process that leaks passes it soon


def in_time(seconds: float, limit: float) -> bool:
    """Whether it took no longer than that; where others use the machine too, whether it ended."""
    return seconds <= limit if FULL else seconds < math.inf


def all_answered(failed: Sized, answers: Sized) -> bool:
    """Whether nobody failed; where others use the machine too, whether 19 of 20 did not."""
    return len(failed) <= (0 if FULL else len(answers) / 20)


@contextmanager
def breakable_stack(rows: int) -> Iterator[Stack]:
    """A stack whose parts may be broken; the death of PostgreSQL or nginx does not end it."""
    with running_stack(TOTAL_RECORDS=rows, CACHE_EXPIRY=CACHE_EXPIRY) as stack:
        stack.supervised.discard(stack.postgres.server)
        stack.supervised.discard(stack.nginx)
        yield stack


class Questions:
    """The requests of the load: of 20 one is for the page or liveness, 10 hit, 9 miss the cache.

    Misses go round all locations, which takes longer than the cache keeps an answer.
    """

    def __init__(self, averages: Mapping[str, tuple]) -> None:
        locations = sorted(averages)
        random.Random(1).shuffle(locations)
        self.hot, self._cold = locations[:HOT], locations[HOT:]
        self._numbers = itertools.count()
        self._expected = {
            query_body(location): {
                "location": location,
                "average_temperature": float(average),
                "records": records,
            }
            for location, (average, records) in averages.items()
        }

    def next_cold(self) -> str:
        return self._cold[next(self._numbers) % len(self._cold)]

    def request(self, number: int) -> scheduled_load.Request:
        """Request ``number`` of the load."""
        kind = number % 20
        if kind == 0:
            path = "/health-check" if number % 40 else "/"
            return scheduled_load.Request("GET", path, None, {})
        location = self.hot[number % HOT] if kind % 2 else self.next_cold()
        return scheduled_load.Request("POST", QUERY_PATH, query_body(location), QUERY_HEADERS)

    def is_hot(self, request: scheduled_load.Request) -> bool:
        return request.body is not None and self.location(request) in self.hot

    def location(self, request: scheduled_load.Request) -> str:
        """What a query asks for."""
        return self._expected[request.body]["location"]

    def is_right(self, sample: scheduled_load.Sample) -> bool:
        """Whether an answer with status 200 says what SQL says."""
        if sample.request.path == "/health-check":
            return sample.body == b"success"
        if sample.request.path == "/":
            return b'action="/query"' in sample.body
        with suppress(ValueError):
            return json.loads(sample.body) == self._expected[sample.request.body]
        return False


@dataclass(frozen=True)
class Row:
    """One line of the table that a run ends with; times are seconds."""

    fault: str
    requests: int
    failed: int
    wrong: int
    p99: float
    recovery: float


class Drill:
    """Load from enter to exit; the exit checks what must hold after every fault.

    The body causes the fault, ends it and calls over(). Samples and figures are there afterwards.
    """

    def __init__(
        self,
        fault: str,
        stack: Stack,
        questions: Questions,
        witness: "Witness",
        rows: list[Row],
        cold: bool = False,
        recovery_limit: float = RECOVERY_LIMIT,
    ) -> None:
        """``cold``: the caches cannot be filled before the load."""
        self._fault = fault
        self._cold = cold
        self._recovery_limit = recovery_limit
        self._stack = stack
        self._questions = questions
        self._witness = witness
        self._rows = rows
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._load, name="load")
        self._over_at = math.inf
        self.samples: list[scheduled_load.Sample] = []

    def __enter__(self) -> "Drill":
        if not self._cold:
            for location in self._questions.hot:
                poll(lambda name=location: self._answers(name), CLIENT_LIMIT)
        self._thread.start()
        time.sleep(1)  # of load before the fault
        return self

    def _answers(self, location: str) -> bool:
        return ask(self._stack.address, query_body(location)) == 200

    def over(self) -> None:
        """The fault ends now: recovery is counted from here."""
        self._over_at = time.monotonic()

    def __exit__(self, kind: type | None, *_: object) -> None:
        if kind is None:
            if self._over_at == math.inf:
                self.over()
            time.sleep(SETTLE)
        self._stop.set()
        self._thread.join()
        if kind is None:
            self._rows.append(self._row())
            self._check_answers()
            self._witness.check()

    def _load(self) -> None:
        self.samples = scheduled_load.run(
            self._stack.url,
            self._questions.request,
            RATE,
            LONGEST,
            connections=CONNECTIONS,
            stop=self._stop,
        )

    @property
    def failed(self) -> list[scheduled_load.Sample]:
        return [sample for sample in self.samples if sample.status != 200]

    @property
    def wrong(self) -> list[scheduled_load.Sample]:
        is_right = self._questions.is_right
        return [one for one in self.samples if one.status == 200 and not is_right(one)]

    @property
    def p99(self) -> float:
        """Seconds."""
        return scheduled_load.percentile([sample.response_time for sample in self.samples], 99)

    @property
    def recovery(self) -> float:
        """Seconds from the end of the fault to the last request that failed."""
        return max((sample.ended - self._over_at for sample in self.failed), default=0.0)

    @property
    def afterwards(self) -> list[scheduled_load.Sample]:
        """Requests that were due after the fault."""
        return [sample for sample in self.samples if sample.due > self._over_at]

    def failed_hot(self) -> list[scheduled_load.Sample]:
        return [sample for sample in self.failed if self._questions.is_hot(sample.request)]

    def first(self, *sources: str) -> float:
        """Seconds from the end of the fault to the first answer with such an X-Cache."""
        for sample in self.afterwards:
            if sample.status == 200 and sample.headers["X-Cache"] in sources:
                return sample.ended - self._over_at
        return math.inf

    def times(self, *paths: str) -> list[float]:
        """Response times of the paths, in seconds."""
        return [one.response_time for one in self.samples if one.request.path in paths]

    def _row(self) -> Row:
        return Row(
            self._fault,
            len(self.samples),
            len(self.failed),
            len(self.wrong),
            self.p99,
            max(0.0, self.recovery),
        )

    def _check_answers(self) -> None:
        statuses = Counter(sample.status for sample in self.samples)
        errors = Counter(sample.error for sample in self.samples if sample.error)
        assert set(statuses) <= ALLOWED, (statuses, errors)
        endless = [sample for sample in self.failed if "Retry-After" not in sample.headers]
        assert not endless, endless[:3]
        assert not self.wrong, self.wrong[:3]
        assert {sample.status for sample in self.samples[-LAST:]} == {200}
        assert in_time(max(sample.response_time for sample in self.samples), CLIENT_LIMIT)
        assert in_time(self.recovery, self._recovery_limit)


class Usage(NamedTuple):
    """Open files, and bytes of memory."""

    files: int
    memory: int


class Witness:
    """Looks at the processes and sessions of a stack, and whether they are as at the start."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._names = itertools.count()
        poll(self._every_connection_can_be_used, CLEAN_LIMIT)
        self._start = {replica: usage(replica) for replica in stack.replicas}

    def check(self) -> None:
        """Raises AssertionError unless nothing is held any more."""
        poll(lambda: busy_sessions(self._stack) == 0, CLEAN_LIMIT)
        poll(self._every_connection_can_be_used, CLEAN_LIMIT)
        with suppress(AssertionError):
            poll(lambda: not self._above(), CLEAN_LIMIT)
        above = self._above()
        assert not above, above

    def _above(self) -> dict[str, tuple[Usage, Usage]]:
        """Replicas that use more than they may, with their usage at the start and now."""
        return {
            replica.name: (start, now)
            for replica, start in self._start.items()
            if (now := usage(replica)).files > start.files + FILES_TOLERANCE
            or now.memory > start.memory + MEMORY_TOLERANCE
        }

    def _every_connection_can_be_used(self) -> bool:
        """Make every pool hold all its connections at once: not one may be lost.

        All queries wait for a lock on the table until the last has its connection. Their locations
        do not exist, so that none is answered by a cache.
        """
        wanted = {f"flask {replica.name}": POOL_MAXCONN for replica in self._stack.replicas}
        clients = []
        with faults.table_locked(self._stack) as cursor:
            for address in [replica.address for replica in self._stack.replicas] * POOL_MAXCONN:
                client = http.client.HTTPConnection(*address, timeout=CLIENT_LIMIT)
                body = query_body(f"Nowhere {next(self._names)}")
                client.request("POST", QUERY_PATH, body, QUERY_HEADERS)
                clients.append(client)
            with suppress(AssertionError):
                poll(lambda: waiting_sessions(cursor) == wanted, 1.5)  # they give up after 1.8 s
        statuses = Counter(client.getresponse().status for client in clients)
        for client in clients:
            client.close()
        return statuses == {200: len(clients)}


def ask(address: tuple[str, int], body: bytes) -> int:
    """Status of one query."""
    client = http.client.HTTPConnection(*address, timeout=CLIENT_LIMIT)
    client.request("POST", QUERY_PATH, body, QUERY_HEADERS)
    with client.getresponse() as response:
        status = response.status
    client.close()
    return status


def waiting_sessions(cursor: psycopg2.extensions.cursor) -> dict[str, int]:
    """Sessions that wait for a lock on a table, by application."""
    cursor.execute(
        "SELECT application_name, count(*) FROM pg_stat_activity"
        " WHERE wait_event = 'relation' GROUP BY 1"
    )
    return dict(cursor)


def busy_sessions(stack: Stack) -> int:
    """Sessions of the replicas that run a query or are in a transaction."""
    with connect(stack.client_environ) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE application_name LIKE 'flask%' AND state <> 'idle'"
        )
        return cursor.fetchone()[0]


def processes_of(child: Child) -> list[psutil.Process]:
    """A child and its own children."""
    return [parent := psutil.Process(child.pid), *parent.children()]


def memory(child: Child) -> int:
    """Bytes of a child and its own children."""
    return sum(process.memory_info().rss for process in processes_of(child))


def usage(replica: Replica) -> Usage:
    """Open files of a replica without those that nginx's connections take, and bytes of memory."""
    port = replica.address[1]
    files = 0
    for process in processes_of(replica):
        connections = process.net_connections()
        files += process.num_fds() - sum(one.laddr.port == port for one in connections)
    return Usage(files, memory(replica))
