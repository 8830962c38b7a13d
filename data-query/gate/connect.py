"""Connects to PostgreSQL, to read only."""

import time

import psycopg2

from gate.environment import PostgresSettings

CONNECT_TIMEOUT = 10.0  # seconds; the gate runs after the load, so the server is up
RETRY_INTERVAL = 0.5  # seconds


def connect(postgres: PostgresSettings) -> psycopg2.extensions.connection:
    """Open a read-only connection; raises psycopg2.OperationalError after CONNECT_TIMEOUT."""
    deadline = time.monotonic() + CONNECT_TIMEOUT
    while True:
        try:
            connection = psycopg2.connect(
                **postgres.connect_arguments, connect_timeout=5, application_name="data-query"
            )
            connection.set_session(readonly=True, autocommit=True)
            return connection
        except psycopg2.OperationalError:
            if time.monotonic() > deadline:
                raise
        time.sleep(RETRY_INTERVAL)
