"""What a lookup costs inside the application: through its own pool, without HTTP and caches."""

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing

import psycopg2
from postgres import connect

from weather import queries
from weather.connect import Connection
from weather.pool import Database
from weather.settings import Settings
from weather.waiting import deadline_from_now

LOOKUPS = 2000  # of each kind and round
SMALL_ROWS = 100_000
SMALL_AVERAGE = f"average, {SMALL_ROWS:,} rows"
SCHEMA = "benchmark_small"


def measure(environ: Mapping[str, str], locations: Sequence[str]) -> dict[str, dict[str, float]]:
    """Median microseconds of SELECT 1, of an average, and of one in a table of SMALL_ROWS rows.

    Both tables have the same rows of the same locations; the small one has no others.
    """
    settings = Settings.from_env(os.environ | dict(environ))
    database = Database(settings)
    with closing(connect(environ)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute("SELECT count(*) FROM weather_data WHERE location = %s", (locations[0],))
        chosen = locations[: max(1, SMALL_ROWS // cursor.fetchone()[0])]
        _make_small_table(cursor, chosen)
        try:
            kinds = {
                "SELECT 1": lambda: database.read(queries.ping, deadline_from_now()),
                "average": _averages(database, chosen),
                SMALL_AVERAGE: _averages(Database(settings), chosen, SCHEMA),
            }
            times = {name: [] for name in kinds}
            for _ in range(LOOKUPS):  # one of each in turn: a slow moment hits all of them
                for name, read in kinds.items():
                    started = time.perf_counter()
                    read()
                    times[name].append((time.perf_counter() - started) * 1e6)
        finally:
            cursor.execute(f"DROP SCHEMA {SCHEMA} CASCADE")
    return {name: {"p50_us": statistics.median(values)} for name, values in times.items()}


def _make_small_table(cursor: psycopg2.extensions.cursor, locations: Sequence[str]) -> None:
    cursor.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
    cursor.execute(f"CREATE SCHEMA {SCHEMA}")
    cursor.execute(f"CREATE TABLE {SCHEMA}.weather_data (LIKE public.weather_data INCLUDING ALL)")
    cursor.execute(
        f"INSERT INTO {SCHEMA}.weather_data"  # noqa: S608 - a constant
        " SELECT * FROM public.weather_data WHERE location = ANY(%s)",
        (list(locations),),
    )
    cursor.execute(f"VACUUM ANALYZE {SCHEMA}.weather_data")


def _averages(
    database: Database, locations: Sequence[str], schema: str = "public"
) -> Callable[[], object]:
    """Looks up one location after the other; the connection stays in the schema."""
    database.read(
        lambda connection: connection.run(f"SET search_path = {schema}"), deadline_from_now()
    )
    count = 0

    def read() -> object:
        nonlocal count
        count += 1
        location = locations[count % len(locations)]

        def query(connection: Connection) -> queries.Average:
            return queries.average(connection, location, "benchmark")

        return database.read(query, deadline_from_now())

    return read
