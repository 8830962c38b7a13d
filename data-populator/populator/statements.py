"""Runs SQL: single statements, and tasks side by side on connections of their own."""

import contextlib
import queue
import threading
from collections.abc import Callable, Sequence

import psycopg2

from populator.connect import connect
from populator.environment import PostgresSettings

Task = Callable[[psycopg2.extensions.connection], None]


def execute(connection: psycopg2.extensions.connection, statement: str, *arguments: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, arguments or None)


def fetch_value(
    connection: psycopg2.extensions.connection, query: str, *arguments: object
) -> object:
    with connection.cursor() as cursor:
        cursor.execute(query, arguments or None)
        return cursor.fetchone()[0]


def run_in_parallel(postgres: PostgresSettings, tasks: Sequence[Task]) -> None:
    """Run each task in a thread with a connection of its own; raises the first one's error.

    The threads are daemons: an error, or a signal, ends the process without waiting for them, and
    PostgreSQL then rolls back what they had open.
    """
    results: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

    def run(task: Task) -> None:
        try:
            with contextlib.closing(connect(postgres)) as connection:
                task(connection)
        except Exception as error:
            results.put(error)
        else:
            results.put(None)

    for task in tasks:
        threading.Thread(target=run, args=(task,), daemon=True).start()
    for _ in tasks:
        if error := results.get():
            raise error
