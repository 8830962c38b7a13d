"""Connects to PostgreSQL, waiting a bounded time for a server that is still starting."""

import time

import psycopg2

from populator.environment import PostgresSettings

APPLICATION_NAME = "data-populator"  # of every session, in pg_stat_activity
START_TIMEOUT = 60.0  # seconds; a first start of PostgreSQL takes 2-10, a crash recovery up to 30
RETRY_INTERVAL = 0.5  # seconds

SESSION = {
    # Ends a statement (CREATE INDEX, say) soon after this process died, so that no killed populator
    # keeps the table's locks.
    "client_connection_check_interval": "500ms",
    # More gains nothing: the rows are nearly in the covering index's order (docs/decisions.md).
    "maintenance_work_mem": "64MB",
}


class ServerNotReadyError(Exception):
    """PostgreSQL could not be reached in time, or refused the log-in; the text is one line."""


def connect(postgres: PostgresSettings) -> psycopg2.extensions.connection:
    """Open a connection with the settings of SESSION; raises psycopg2.OperationalError.

    Every statement is a transaction of its own, but for those in a block ``with connection:``.
    """
    connection = psycopg2.connect(
        **postgres.connect_arguments,
        connect_timeout=5,
        application_name=APPLICATION_NAME,
        options=" ".join(f"-c {name}={value}" for name, value in SESSION.items()),
    )
    connection.autocommit = True
    return connection


def connect_when_ready(postgres: PostgresSettings) -> psycopg2.extensions.connection:
    """Open a connection, trying again for START_TIMEOUT seconds while the server is not up yet.

    Raises ServerNotReadyError: at once where the server says no (password, unknown database).
    """
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        try:
            return connect(postgres)
        except psycopg2.OperationalError as error:
            message = str(error).strip().splitlines()[-1]
            if _is_refusal(message) or time.monotonic() > deadline:
                raise ServerNotReadyError(f"PostgreSQL at {postgres.address}: {message}") from error
        time.sleep(RETRY_INTERVAL)


def _is_refusal(message: str) -> bool:
    """Whether it is an error that waiting won't mend: the server's, or about its certificate."""
    starting = ("starting up", "shutting down", "recovery", "not yet accepting", "too many clients")
    if "certificate" in message:
        return True
    return "FATAL:" in message and not any(word in message for word in starting)
