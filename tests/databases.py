"""Throw-away PostgreSQL servers and databases for the tests."""

import itertools
import os
import signal
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path

import psutil
import psycopg2
import pytest
from postgres import Postgres, connect
from processes import free_ports, unprivileged_user

PASSWORD = "only-for-tests"
APP_PASSWORD = "only-for-reading"
STOP_LIMIT = 20  # seconds for a server to end
# What the application's role must not do, each with the SQLSTATE of the refusal: 42501.
REFUSED = (
    "DELETE FROM weather_data",
    "INSERT INTO weather_data SELECT * FROM weather_data LIMIT 1",
    "UPDATE weather_locations SET records = 0",
    "TRUNCATE weather_load",
    "DROP TABLE weather_data",
    "SELECT * FROM weather_load_batches",
    "CREATE TABLE other (id int)",
    "CREATE TEMPORARY TABLE other (id int)",
    "COPY weather_data TO PROGRAM 'cat'",
    "COPY weather_data TO '/tmp/other'",
    "CREATE ROLE other SUPERUSER",
    "CREATE DATABASE other",
)
POWERS = """
SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls
FROM pg_roles WHERE rolname = current_user
"""
SCHEMA = Path(__file__).parents[1] / "data-populator" / "schema.sql"


def create_schema(connection) -> None:
    """Make the tables and indexes that data-populator makes, without rows."""
    with connection, connection.cursor() as cursor:
        cursor.execute(SCHEMA.read_text())


def sql_averages(environ: Mapping[str, str]) -> dict[str, tuple[Decimal, int]]:
    """Every location's average and number of records, by SQL over all rows."""
    with closing(connect(environ)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT location, round(avg(temperature::numeric), 2), count(*)"
            " FROM weather_data GROUP BY 1"
        )
        return {location: (average, records) for location, average, records in cursor}


def assert_only_reads(connection) -> None:
    """The connection's role may read the weather, and nothing that would change anything."""
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(POWERS)
        assert cursor.fetchone() == (False,) * 5
        cursor.execute("SELECT count(*) FROM weather_data, weather_load WHERE id <= 10")
        assert cursor.fetchone() == (10,)
        for statement in REFUSED:
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                cursor.execute(statement)


@contextmanager
def postgres_server(**settings: object) -> Iterator[Postgres]:
    """A running PostgreSQL server with a fresh cluster; stopped and removed afterwards.

    ``settings`` are those of postgresql.conf, such as max_connections=40.
    """
    # not pytest's tmp_path: as root, PostgreSQL runs as another user, who may not enter that
    with tempfile.TemporaryDirectory(prefix="weather-tests-") as folder:
        data_dir = Path(folder)
        data_dir.chmod(0o755)
        (data_dir / "log").mkdir()
        server = Postgres(
            data_dir,
            free_ports(1)[0],
            database="postgres",
            owner="tester",
            password=PASSWORD,
            environ=os.environ,
            run_as=unprivileged_user(),
        )
        for name, value in settings.items():
            server.server.command += ["-c", f"{name}={value}"]
        try:
            server.start()
            yield server
        finally:
            server.server.stop()


def shut_down(server: Postgres, number: signal.Signals) -> None:
    """SIGINT: fast shutdown, SIGQUIT: immediate shutdown, SIGKILL: a crash; server.start() ends it.

    Returns when the server has ended.
    """
    server.server.process.send_signal(number)
    server.server.process.wait(STOP_LIMIT)


@contextmanager
def frozen_server(server: Postgres) -> Iterator[None]:
    """SIGSTOP of the server and all its sessions, until the end of the context."""
    processes = [leader := psutil.Process(server.server.pid), *leader.children()]
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


class Database:
    """One database of a server, with an open connection for the test's own queries."""

    def __init__(self, server: Postgres, name: str) -> None:
        self.server = server
        self.name = name
        self.environ = {
            "POSTGRES_HOST": "127.0.0.1",
            "POSTGRES_PORT": str(server.port),
            "POSTGRES_DB": name,
            "POSTGRES_USER": server.owner,
            "POSTGRES_PASSWORD": PASSWORD,
            "POSTGRES_APP_PASSWORD": APP_PASSWORD,
        }
        self._connection = None

    def connect(self):
        """A new connection; the caller closes it."""
        return connect(self.environ)

    def execute(self, statement, *arguments):
        """Run a statement and return the cursor, committed."""
        if self._connection is None or self._connection.closed:
            self._connection = self.connect()
            self._connection.autocommit = True
        cursor = self._connection.cursor()
        cursor.execute(statement, arguments or None)
        return cursor

    def rows(self, query, *arguments):
        return self.execute(query, *arguments).fetchall()

    def value(self, query, *arguments):
        return self.rows(query, *arguments)[0][0]

    def disconnect(self):
        """Close the connection; the next query opens another."""
        if self._connection is not None:
            self._connection.close()


class Databases:
    """Makes fresh databases on one server, and drops them."""

    def __init__(self, server: Postgres) -> None:
        self.server = server
        self._numbers = itertools.count(1)

    def make(self, template: Database | None = None, tablespace: str = "pg_default") -> Database:
        """A new database, empty or a copy of the template (which must have no connections)."""
        database = Database(self.server, f"test_{next(self._numbers)}")
        source = template.name if template else "template1"
        self.administrate(
            f"CREATE DATABASE {database.name} TEMPLATE {source} TABLESPACE {tablespace}"
        )
        return database

    def drop(self, database: Database) -> None:
        database.disconnect()
        self.administrate(f"DROP DATABASE {database.name} WITH (FORCE)")

    def administrate(self, statement: str) -> None:
        """Run a statement that no transaction may hold."""
        with closing(Database(self.server, "postgres").connect()) as connection:
            connection.autocommit = True
            connection.cursor().execute(statement)
