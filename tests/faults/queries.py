"""Counts what PostgreSQL is asked."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from databases import connect
from polling import poll
from stack import Stack


@contextmanager
def queries_logged(stack: Stack) -> Iterator[Callable[..., int]]:
    """PostgreSQL logs each statement; gives how often a location, or any, was asked for since."""
    log = stack.postgres.server.log_path
    start = log.stat().st_size

    def count(location: str | None = None) -> int:
        argument = f"'{location}')" if location else ""
        return since().count(f"EXECUTE average ({argument}".encode())

    def since() -> bytes:
        with log.open("rb") as file:
            file.seek(start)
            return file.read()

    with closing(connect(stack.client_environ)) as connection:
        connection.autocommit = True
        cursor = connection.cursor()

        def log_statements(value: str) -> None:
            cursor.execute(f"ALTER SYSTEM SET log_statement = {value}")
            cursor.execute("SELECT pg_reload_conf()")

        def is_logged() -> bool:
            cursor.execute("SELECT 'from now on'")
            return b"from now on" in since()

        log_statements("'all'")
        try:
            poll(is_logged, 5)
            yield count
        finally:
            log_statements("DEFAULT")
