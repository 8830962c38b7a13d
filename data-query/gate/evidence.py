"""Whether the tables are still as they were when every row was checked, and the record of that."""

from datetime import datetime

import psycopg2


def read_state(cursor: psycopg2.extensions.cursor) -> str | None:
    """What differs after any change of rows; None where PostgreSQL can't tell (schema.sql)."""
    cursor.execute("SELECT weather_state()")
    return cursor.fetchone()[0]


def last_full_check(cursor: psycopg2.extensions.cursor) -> tuple[str, datetime] | None:
    """State and time of the last check of every row that was recorded."""
    cursor.execute("SELECT state, checked_at FROM weather_full_check")
    return cursor.fetchone()


def record_full_check(connection: psycopg2.extensions.connection, state: str | None) -> bool:
    """Record that every row is right in this state; False where the tables have left it since."""
    connection.set_session(readonly=False)
    with connection.cursor() as cursor:
        cursor.execute("SELECT weather_record_full_check(%s)", (state,))
        return cursor.fetchone()[0]
