"""Reads from PostgreSQL over a connection pool of the process, each within a time limit."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from time import monotonic
from typing import TypeVar

import psycopg2
from psycopg2 import extensions

from weather import metrics
from weather.connect import Connection, connect, first_line
from weather.settings import Settings
from weather.waiting import Breaker, UnavailableError, WaitingLine, deadline_from_now

CONNECT_PAUSE = 0.5  # seconds without a new attempt after PostgreSQL refused a connection
IDLE_LIMIT = 60.0  # seconds until an idle connection above POOL_MINCONN is closed

T = TypeVar("T")


class PerRequest:
    """USE_POOLING=false: a connection for each read, opened before it and closed after it."""

    def __init__(self, open_connection: Callable[[float], Connection]) -> None:
        self._open = open_connection

    def acquire(self, deadline: float) -> Connection:
        """Raises UnavailableError when PostgreSQL refuses or does not answer by the deadline."""
        try:
            return self._open(deadline)
        except (psycopg2.Error, TimeoutError) as error:
            raise UnavailableError(f"cannot connect to PostgreSQL: {first_line(error)}") from error

    def release(self, connection: Connection) -> None:
        connection.close()

    def fill(self) -> None:
        """Nothing is opened ahead of a read."""

    def close_idle(self) -> None:
        """Nothing is kept open between reads."""


class Pool:
    """At most ``maxconn`` connections shared by the requests of a process.

    Unlike psycopg2's pools it lets a request wait for its turn instead of failing, and keeps
    connections above ``minconn`` for a while instead of closing each when it comes back.
    """

    def __init__(
        self, open_connection: Callable[[float], Connection], minconn: int, maxconn: int
    ) -> None:
        self._open = open_connection
        self._minconn = minconn
        self._maxconn = maxconn
        self._lock = threading.Lock()
        self._line = WaitingLine(self._lock)
        self._idle: deque[Connection] = deque()  # the most recently used is at the right end
        self.size = 0  # idle, in use and being opened
        self.waiting = 0  # requests
        self._breaker = Breaker(CONNECT_PAUSE)
        metrics.POOL_MAX.set(maxconn)

    @property
    def in_use(self) -> int:
        return self.size - len(self._idle)

    def acquire(self, deadline: float) -> Connection:
        """Take a connection, opened if there is none; the caller must release it.

        Raises UnavailableError when none comes free in time or PostgreSQL can't be reached.
        """
        while True:
            connection = self._take(deadline) or self._grow(deadline)
            if connection:
                return connection

    def release(self, connection: Connection) -> None:
        """Give a connection back; a broken one is closed and its place becomes free."""
        with self._changing():
            surplus = connection
            if _is_clean(connection):
                connection.idle_since = monotonic()
                self._idle.append(connection)
                has_surplus = self.size > self._minconn and self._has_idled(self._idle[0])
                surplus = self._idle.popleft() if has_surplus else None
            if surplus:
                self.size -= 1
            self._line.call_next()
        if surplus:
            surplus.close()

    def close_idle(self) -> None:
        """Close the idle connections: at the end, or as they broke when one that was used did."""
        with self._changing():
            idle, self._idle = self._idle, deque()
            self.size -= len(idle)
            self._line.call_all()
        for connection in idle:
            connection.close()

    def fill(self) -> None:
        """Open ``minconn`` connections; raises UnavailableError."""
        with ExitStack() as taken:
            for _ in range(self._minconn):
                taken.callback(self.release, self.acquire(deadline_from_now()))

    @contextmanager
    def _changing(self) -> Iterator[None]:
        with self._lock:
            try:
                yield
            finally:
                self._report()

    def _report(self) -> None:
        metrics.POOL_CONNECTIONS.set(self.size)
        metrics.POOL_IN_USE.set(self.in_use)
        metrics.POOL_WAITING.set(self.waiting)

    def _has_idled(self, connection: Connection) -> bool:
        return monotonic() - connection.idle_since > IDLE_LIMIT

    def _take(self, deadline: float) -> Connection | None:
        """Wait for an idle connection, or for a place to open one in: then None."""
        with self._changing():
            # Nobody overtakes those who wait, or under load some would wait in vain.
            is_my_turn = not self.waiting
            while True:
                if is_my_turn and self._idle:
                    return self._idle.pop()
                if is_my_turn and self.size < self._maxconn and self._breaker.allows():
                    self.size += 1
                    return None
                if not self.size:
                    raise UnavailableError("PostgreSQL does not accept connections")
                if monotonic() >= deadline:
                    message = f"all {self.size} connections of the pool are in use"
                    raise UnavailableError(message, "pool")
                self.waiting += 1
                self._report()
                self._line.wait(deadline)
                self.waiting -= 1
                is_my_turn = True

    def _grow(self, deadline: float) -> Connection | None:
        """Open a connection in the place taken; None if that fails while there are others."""
        try:
            connection = self._open(deadline)
        except BaseException as error:
            with self._changing():
                self.size -= 1
                self._line.call_all()  # nobody needs to wait for this place any more
            if not isinstance(error, (psycopg2.Error, TimeoutError)):
                raise
            self._breaker.failed()
            if self.size:
                return None
            raise UnavailableError(f"cannot connect to PostgreSQL: {first_line(error)}") from error
        self._breaker.succeeded()
        return connection


class Database:
    """Runs reads on connections of this process."""

    def __init__(self, settings: Settings) -> None:
        open_connection = partial(connect, settings)
        self._source: Pool | PerRequest
        if settings.use_pooling:
            minconn = settings.pool_minconn // settings.web_concurrency
            maxconn = settings.pool_maxconn // settings.web_concurrency
            self._source = Pool(open_connection, minconn, maxconn)
        else:
            self._source = PerRequest(open_connection)

    def warm_up(self) -> None:
        """Open the pool's first connections; raises UnavailableError."""
        self._source.fill()

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._source.close_idle()

    def read(self, query: Callable[[Connection], T], deadline: float) -> T:
        """Run a query that only reads, again on another connection if the first one broke.

        Raises UnavailableError: no connection or answer by the deadline, in seconds of
        time.monotonic(), or an error of the server.
        """
        try:
            return self._read_once(query, deadline)
        except _BrokenConnectionError:
            self._source.close_idle()
        try:
            return self._read_once(query, deadline)
        except _BrokenConnectionError as error:
            raise UnavailableError(f"PostgreSQL failed: {error}") from error

    def _read_once(self, query: Callable[[Connection], T], deadline: float) -> T:
        with metrics.CONNECTION_WAIT.time():
            connection = self._source.acquire(deadline)
        connection.deadline = deadline
        with ExitStack() as leaving:
            leaving.callback(self._source.release, connection)
            try:
                return query(connection)
            except TimeoutError as error:
                leaving.pop_all()  # _finish() releases it
                threading.Thread(target=self._finish, args=(connection,), daemon=True).start()
                raise UnavailableError(str(error)) from error
            except psycopg2.Error as error:
                if _is_broken(connection, error):
                    connection.close()
                    raise _BrokenConnectionError(first_line(error)) from error
                raise UnavailableError(f"PostgreSQL failed: {first_line(error)}") from error

    def _finish(self, connection: Connection) -> None:
        """Wait for a query that nobody waits for any more; its session is busy until it ends."""
        connection.deadline = deadline_from_now()  # the server's own limit comes first
        try:
            connection.wait()
        except (psycopg2.Error, TimeoutError):
            connection.close()
        finally:
            self._source.release(connection)


class _BrokenConnectionError(Exception):
    """The connection failed, not the query."""


def _is_broken(connection: Connection, error: psycopg2.Error) -> bool:
    """Whether the session has ended; class 57P is the server's own word for it."""
    return bool(connection.closed) or (error.pgcode or "").startswith("57P")


def _is_clean(connection: Connection) -> bool:
    idle = extensions.TRANSACTION_STATUS_IDLE
    return not connection.closed and connection.get_transaction_status() == idle
