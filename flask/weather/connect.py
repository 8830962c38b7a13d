"""A connection to PostgreSQL, on which no wait is without a limit."""

import select
import socket
from time import monotonic
from typing import Any

import psycopg2
from psycopg2 import extensions

from weather import metrics
from weather.environment import PostgresSettings
from weather.resolve import resolve
from weather.settings import Settings

STATEMENT_TIMEOUT_MS = 1800  # below ANSWER_LIMIT, so that a slow query leaves its connection


class Connection(extensions.connection):
    """A connection whose waits end at ``deadline``, in seconds of time.monotonic().

    It is an asynchronous one, as libpq's own wait has no limit when a server freezes, and so
    always in autocommit mode: every read is one statement without BEGIN and COMMIT.
    """

    def __init__(self, dsn: str, async_: int) -> None:
        self.deadline = 0.0
        self.prepared: set[str] = set()
        self.running: extensions.cursor | None = None
        self.idle_since = 0.0
        super().__init__(dsn, async_)

    def run(self, statement: str, arguments: tuple = ()) -> extensions.cursor:
        """Execute a statement; returns the cursor with its rows.

        Raises psycopg2.Error, or TimeoutError at the deadline; the query then goes on.
        """
        # psycopg2 has a weak reference only, and needs it to end a query that nobody waits for.
        cursor = self.running = self.cursor()
        cursor.execute(statement, arguments)
        self.wait()
        self.running = None
        return cursor

    def wait(self) -> None:
        """Wait until the server has answered; raises as run()."""
        while (state := self.poll()) != extensions.POLL_OK:
            event = select.POLLIN if state == extensions.POLL_READ else select.POLLOUT
            poller = select.poll()
            poller.register(self.fileno(), event)
            remaining = self.deadline - monotonic()
            if remaining <= 0 or not poller.poll(remaining * 1000):
                raise TimeoutError("PostgreSQL did not answer in time")


def connect(settings: Settings, deadline: float) -> Connection:
    """Open a connection; raises psycopg2.OperationalError, or TimeoutError at the deadline."""
    connection = psycopg2.connect(
        **_arguments(settings.postgres, deadline),
        application_name=f"flask {settings.hostname}",
        client_encoding="UTF8",  # asked for at log-in; psycopg2 would spend a round trip on it
        options=f"-c statement_timeout={STATEMENT_TIMEOUT_MS}",
        connection_factory=Connection,
        async_=True,
    )
    connection.deadline = deadline
    try:
        connection.wait()
    except TimeoutError:
        connection.close()
        raise
    except psycopg2.OperationalError as error:
        raise psycopg2.OperationalError(
            f"{settings.postgres.address}: {first_line(error)}"
        ) from error
    metrics.CONNECTIONS_OPENED.inc()
    return connection


def _arguments(postgres: PostgresSettings, deadline: float) -> dict[str, Any]:
    """Arguments of psycopg2.connect() with addresses: libpq would look a name up without limit.

    The name stands beside each address, as the server's certificate is checked against it.
    """
    try:
        addresses = resolve(postgres.host, deadline)
    except socket.gaierror as error:
        raise psycopg2.OperationalError(
            f'could not translate host name "{postgres.host}" to address: {error.strerror}'
        ) from error
    names = [postgres.host] * len(addresses)
    return postgres.connect_arguments | {"host": ",".join(names), "hostaddr": ",".join(addresses)}


def first_line(error: Exception) -> str:
    """What an error says, without the details that libpq adds below."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
