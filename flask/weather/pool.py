"""PostgreSQL connections: a pool for each worker process, and time limits on everything."""

import dataclasses
import select
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Protocol, TypeVar

import psycopg2
from psycopg2 import extensions

from weather.settings import Settings
from weather.waiting import WAIT_LIMIT, Breaker, UnavailableError

READ_LIMIT = 2.0  # seconds for a read, with the wait for a connection, connecting and one retry
# Below READ_LIMIT, so that a query that is merely slow ends on a connection that stays usable.
STATEMENT_TIMEOUT_MS = 1800
CONNECT_PAUSE = 0.5  # seconds without a new attempt after PostgreSQL refused a connection
IDLE_LIMIT = 60.0  # seconds until an idle connection above POOL_MINCONN is closed
RESERVED_CONNECTIONS = 5  # for the populator, the gate and people with psql

T = TypeVar("T")


class Connection(extensions.connection):
    """A connection whose waits end at ``deadline``, in seconds of time.monotonic().

    It is an asynchronous one, as libpq's own wait has no limit when a server freezes, and so
    always in autocommit mode: every read is one statement without BEGIN and COMMIT.
    """

    def __init__(self, dsn: str, async_: int) -> None:
        self.deadline = 0.0
        self.prepared: set[str] = set()
        self.idle_since = 0.0
        super().__init__(dsn, async_)

    def run(self, statement: str, arguments: tuple = ()) -> extensions.cursor:
        """Execute a statement; returns the cursor with its rows.

        Raises psycopg2.Error, or TimeoutError at the deadline; the connection then is closed.
        """
        cursor = self.cursor()
        cursor.execute(statement, arguments)
        self.wait()
        return cursor

    def wait(self) -> None:
        """Wait until the server has answered; raises as run()."""
        while (state := self.poll()) != extensions.POLL_OK:
            event = select.POLLIN if state == extensions.POLL_READ else select.POLLOUT
            poller = select.poll()
            poller.register(self.fileno(), event)
            remaining = self.deadline - monotonic()
            if remaining <= 0 or not poller.poll(remaining * 1000):
                self.close()
                raise TimeoutError("PostgreSQL did not answer in time")


def connect(settings: Settings, deadline: float) -> Connection:
    """Open a connection; raises psycopg2.OperationalError, or TimeoutError at the deadline."""
    connection = psycopg2.connect(
        **settings.postgres.connect_arguments,
        application_name=f"flask {settings.hostname}",
        client_encoding="UTF8",  # asked for at log-in; psycopg2 would spend a round trip on it
        options=f"-c statement_timeout={STATEMENT_TIMEOUT_MS}",
        connection_factory=Connection,
        async_=True,
    )
    connection.deadline = deadline
    try:
        connection.wait()
    except psycopg2.OperationalError as error:
        raise psycopg2.OperationalError(
            f"{settings.postgres.address}: {_first_line(error)}"
        ) from error
    return connection


class Source(Protocol):
    """Where Database gets its connections from."""

    def acquire(self, deadline: float, fresh: bool) -> Connection: ...

    def release(self, connection: Connection) -> None: ...


class PerRequest:
    """USE_POOLING=false: a connection for each read, opened before it and closed after it."""

    def __init__(self, open_connection: Callable[[float], Connection]) -> None:
        self._open = open_connection

    def acquire(self, deadline: float, fresh: bool) -> Connection:
        """Raises UnavailableError when PostgreSQL refuses or does not answer by the deadline."""
        try:
            return self._open(deadline)
        except (psycopg2.Error, TimeoutError) as error:
            raise UnavailableError(f"cannot connect to PostgreSQL: {_first_line(error)}") from error

    def release(self, connection: Connection) -> None:
        connection.close()


class Pool:
    """At most ``maxconn`` connections shared by the requests of a process.

    Unlike psycopg2's pools it lets a request wait for its turn instead of failing, keeps
    connections above ``minconn`` for a while instead of closing each, and does not hand out
    broken ones again.
    """

    def __init__(
        self, open_connection: Callable[[float], Connection], minconn: int, maxconn: int
    ) -> None:
        self._open = open_connection
        self._minconn = minconn
        self._maxconn = maxconn
        self._changed = threading.Condition()
        self._idle: deque[Connection] = deque()  # the most recently used is at the right end
        self._size = 0  # idle, in use and being opened
        self._queue = 0  # requests that wait
        self._breaker = Breaker(CONNECT_PAUSE)

    @property
    def in_use(self) -> int:
        return self._size - len(self._idle)

    def acquire(self, deadline: float, fresh: bool = False) -> Connection:
        """Take a connection, newly opened if ``fresh``; the caller must release it.

        Raises UnavailableError when none comes free in time or PostgreSQL can't be reached.
        """
        with self._changed:
            # Nobody overtakes those who wait, or under load some would wait in vain.
            if self._idle and not self._queue and not fresh:
                return self._idle.pop()
        give_up = min(monotonic() + WAIT_LIMIT, deadline)
        while True:
            connection = self._take(give_up, fresh) or self._grow(deadline)
            if connection:
                return connection

    def release(self, connection: Connection) -> None:
        """Give a connection back; a broken one is closed and its place becomes free."""
        with self._changed:
            surplus = None
            if connection.closed or not _is_clean(connection):
                self._size -= 1
                surplus = connection
            else:
                connection.idle_since = monotonic()
                self._idle.append(connection)
                if self._size > self._minconn and self._is_surplus(self._idle[0]):
                    self._size -= 1
                    surplus = self._idle.popleft()
            self._changed.notify()
        if surplus:
            surplus.close()

    def fill(self) -> None:
        """Open ``minconn`` connections; raises UnavailableError."""
        connections = []
        try:
            while len(connections) < self._minconn:
                connections.append(self.acquire(monotonic() + READ_LIMIT, fresh=True))
        finally:
            for connection in connections:
                self.release(connection)

    def close(self) -> None:
        """Close the idle connections."""
        with self._changed:
            idle, self._idle = self._idle, deque()
            self._size -= len(idle)
        for connection in idle:
            connection.close()

    def _is_surplus(self, connection: Connection) -> bool:
        return monotonic() - connection.idle_since > IDLE_LIMIT

    def _take(self, give_up: float, fresh: bool) -> Connection | None:
        """Wait for an idle connection, or for a place to open one in: then None."""
        with self._changed:
            is_my_turn = not self._queue
            while True:
                if self._idle and is_my_turn and not fresh:
                    return self._idle.pop()
                has_place = self._size < self._maxconn or (fresh and self._idle)
                if has_place and self._breaker.allows():
                    self._make_place()
                    return None
                if not self.in_use and (fresh or not self._idle):
                    raise UnavailableError("PostgreSQL does not accept connections")
                if monotonic() >= give_up:
                    raise UnavailableError(f"all {self._size} connections of the pool are in use")
                self._queue += 1
                self._changed.wait(give_up - monotonic())
                self._queue -= 1
                is_my_turn = True

    def _make_place(self) -> None:
        """Count the connection that is about to be opened, in place of the oldest idle one."""
        if self._size < self._maxconn:
            self._size += 1
        else:
            self._idle.popleft().close()

    def _grow(self, deadline: float) -> Connection | None:
        """Open a connection in the place taken; None if that fails while others are in use."""
        try:
            connection = self._open(deadline)
        except (psycopg2.Error, TimeoutError) as error:
            self._breaker.failed()
            with self._changed:
                self._size -= 1
                self._changed.notify_all()  # nobody needs to wait for this place any more
                if self.in_use:
                    return None
            raise UnavailableError(f"cannot connect to PostgreSQL: {_first_line(error)}") from error
        except BaseException:
            with self._changed:
                self._size -= 1
                self._changed.notify()
            raise
        self._breaker.succeeded()
        return connection


class Database:
    """Runs reads on a connection of this process."""

    def __init__(self, settings: Settings) -> None:
        open_connection = partial(connect, settings)
        self._source: Source
        if settings.use_pooling:
            minconn = settings.pool_minconn // settings.web_concurrency
            maxconn = settings.pool_maxconn // settings.web_concurrency
            self._source = Pool(open_connection, minconn, maxconn)
        else:
            self._source = PerRequest(open_connection)

    def warm_up(self) -> None:
        """Open the pool's first connections; raises UnavailableError."""
        if isinstance(self._source, Pool):
            self._source.fill()

    def read(self, query: Callable[[Connection], T]) -> T:
        """Run a query that only reads, again on a fresh connection if the first one broke.

        Raises UnavailableError: no connection or answer in time, or an error of the server.
        """
        deadline = monotonic() + READ_LIMIT
        with suppress(_BrokenConnectionError):
            return self._read_once(query, deadline, fresh=False)
        try:
            return self._read_once(query, deadline, fresh=True)
        except _BrokenConnectionError as error:
            raise UnavailableError(f"PostgreSQL failed: {error}") from error

    def _read_once(self, query: Callable[[Connection], T], deadline: float, fresh: bool) -> T:
        connection = self._source.acquire(deadline, fresh)
        connection.deadline = deadline
        try:
            return query(connection)
        except TimeoutError as error:
            raise UnavailableError(str(error)) from error
        except psycopg2.Error as error:
            if _is_broken(connection, error):
                raise _BrokenConnectionError(_first_line(error)) from error
            raise UnavailableError(f"PostgreSQL failed: {_first_line(error)}") from error
        finally:
            self._source.release(connection)


class _BrokenConnectionError(Exception):
    """The connection failed, not the query."""


def _is_broken(connection: Connection, error: psycopg2.Error) -> bool:
    """Whether the session has ended; class 57P is the server's own word for it."""
    return bool(connection.closed) or (error.pgcode or "").startswith("57P")


def _is_clean(connection: Connection) -> bool:
    return connection.get_transaction_status() == extensions.TRANSACTION_STATUS_IDLE


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def budget_problem(settings: Settings) -> str | None:
    """Compare all replicas' pools with what PostgreSQL allows; None if they fit, else one line.

    Raises UnavailableError when PostgreSQL can't be asked.
    """
    if not settings.use_pooling:
        return None
    limit, superuser, reserved = _read_limits(settings)
    available = limit - superuser - reserved - RESERVED_CONNECTIONS
    wanted = settings.flask_replicas * settings.pool_maxconn
    if wanted <= available:
        return None
    return (
        f"POOL_MAXCONN is '{settings.pool_maxconn}': FLASK_REPLICAS {settings.flask_replicas} x "
        f"POOL_MAXCONN {settings.pool_maxconn} = {wanted} connections, but PostgreSQL has "
        f"{available} for them (max_connections {limit} - superuser_reserved_connections "
        f"{superuser} - reserved_connections {reserved} - {RESERVED_CONNECTIONS} for other "
        f"clients): expected POOL_MAXCONN of at most {max(available, 0) // settings.flask_replicas}"
        f", fewer replicas, or max_connections of at least {limit + wanted - available}"
    )


def _read_limits(settings: Settings) -> tuple[int, int, int]:
    def query(connection: Connection) -> tuple[int, int, int]:
        return connection.run(
            "SELECT current_setting('max_connections')::int,"
            " current_setting('superuser_reserved_connections')::int,"
            # PostgreSQL 16 and newer
            " coalesce(current_setting('reserved_connections', true), '0')::int"
        ).fetchone()

    without_pool = dataclasses.replace(settings, use_pooling=False)
    return Database(without_pool).read(query)
