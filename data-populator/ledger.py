"""The load's state, kept in the database beside the rows: what is promised and which ids are in."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg2
from rows import draw_cities

# The ledger is what makes the load exactly-once: a batch claims its ids here and copies its rows in
# the same transaction, and no two batches may overlap. A second claimant waits for the first one's
# transaction: if that commits, the rows are there; if it dies, the claim is free again.
SCHEMA = """
CREATE TABLE IF NOT EXISTS weather_data (
    id integer NOT NULL,
    location text COLLATE "C" NOT NULL,      -- compares as bytes: sorts 3 times as fast
    temperature double precision NOT NULL,   -- degC
    humidity double precision NOT NULL,      -- percent
    wind_speed double precision NOT NULL,    -- metres per second
    timestamp timestamptz NOT NULL
);
CREATE TABLE IF NOT EXISTS weather_locations (
    location text COLLATE "C" PRIMARY KEY,
    records integer NOT NULL,
    temperature_sum numeric NOT NULL         -- degC, the generator's own, not added up by SQL
);
CREATE TABLE IF NOT EXISTS weather_load (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    seed bigint NOT NULL,
    cities text[] NOT NULL,                  -- as drawn, so that a newer Faker changes nothing
    period_end timestamptz NOT NULL,         -- the newest timestamp's bound
    served_records integer NOT NULL DEFAULT 0  -- rows when indexes and statistics were last made
);
CREATE TABLE IF NOT EXISTS weather_load_batches (
    ids int8range NOT NULL,
    EXCLUDE USING gist (ids WITH &&)
);
"""

TABLES = "weather_data, weather_locations, weather_load, weather_load_batches"
START_OVER = f"to start over, run: DROP TABLE IF EXISTS {TABLES}"


class LoadRefusedError(Exception):
    """The tables hold something that this configuration would contradict; the text is one line."""


@dataclass(frozen=True)
class Plan:
    """What a load promised at its start; every later run keeps to it."""

    seed: int
    cities: list[str]
    period_end: datetime
    served_records: int


def create_tables(connection: "psycopg2.extensions.connection") -> None:
    """Create what is missing; harmless where everything is there."""
    with connection, connection.cursor() as cursor:
        cursor.execute("SET LOCAL client_min_messages = warning")
        cursor.execute(SCHEMA)


def open_plan(connection: "psycopg2.extensions.connection", seed: int, total_records: int) -> Plan:
    """Read the plan, or make it at the first load.

    Raises LoadRefusedError where the tables hold another seed's rows, more rows than
    total_records, or rows that no ledger knows.
    """
    with connection, connection.cursor() as cursor:
        plan = _read_plan(cursor)
        if plan is None:
            if _has_rows(cursor):
                raise LoadRefusedError(
                    "weather_data holds rows that were not loaded by data-populator (its ledger is "
                    f"empty): move them away, or {START_OVER}"
                )
            # Midnight, so that all first loads of a day make the same rows.
            today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
            cursor.execute(
                "INSERT INTO weather_load (seed, cities, period_end) VALUES (%s, %s, %s)",
                (seed, draw_cities(seed), today),
            )
            plan = _read_plan(cursor)
        loaded = _loaded_records(cursor)
        if loaded and not _has_rows(cursor):
            raise LoadRefusedError(
                f"weather_data is empty, but its ledger says {loaded} rows are in: {START_OVER}"
            )
    if plan.seed != seed:
        raise LoadRefusedError(
            f"SEED is {seed}, but weather_data was loaded with SEED={plan.seed}: "
            f"keep that seed, or {START_OVER}"
        )
    if loaded > total_records:
        raise LoadRefusedError(
            f"TOTAL_RECORDS is {total_records}, but weather_data holds {loaded} rows and rows are "
            f"never deleted: set TOTAL_RECORDS to {loaded} or more, or {START_OVER}"
        )
    return plan


def missing_ranges(
    connection: "psycopg2.extensions.connection", total_records: int
) -> list[tuple[int, int]]:
    """The ids of 1..total_records that are not in yet, as (first, last) pairs in order."""
    with connection, connection.cursor() as cursor:
        cursor.execute(
            """SELECT lower(missing), upper(missing) - 1 FROM unnest(
                   int8multirange(int8range(1, %s))
                   - (SELECT coalesce(range_agg(ids), '{}') FROM weather_load_batches)
               ) AS missing ORDER BY 1""",
            (total_records + 1,),
        )
        return cursor.fetchall()


def batches(ranges: list[tuple[int, int]], batch_size: int) -> Iterator[tuple[int, int]]:
    """Cut ranges of ids into batches of at most batch_size rows."""
    for first, last in ranges:
        for start in range(first, last + 1, batch_size):
            yield start, min(start + batch_size - 1, last)


def claim(cursor: "psycopg2.extensions.cursor", first_id: int, last_id: int) -> bool:
    """Claim ids for the current transaction; False where another one has loaded some of them."""
    cursor.execute(
        "INSERT INTO weather_load_batches VALUES (int8range(%s, %s)) ON CONFLICT DO NOTHING",
        (first_id, last_id + 1),
    )
    return cursor.rowcount == 1


def _read_plan(cursor: "psycopg2.extensions.cursor") -> Plan | None:
    cursor.execute("SELECT seed, cities, period_end, served_records FROM weather_load")
    row = cursor.fetchone()
    return row and Plan(*row)


def _loaded_records(cursor: "psycopg2.extensions.cursor") -> int:
    cursor.execute("SELECT coalesce(sum(upper(ids) - lower(ids)), 0) FROM weather_load_batches")
    return int(cursor.fetchone()[0])


def _has_rows(cursor: "psycopg2.extensions.cursor") -> bool:
    cursor.execute("SELECT EXISTS (SELECT FROM weather_data)")
    return cursor.fetchone()[0]
