"""The load's state, kept in the database beside the rows: what is promised and which ids are in."""

from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg2

from populator.rows import Segment, draw_cities

START_OVER = (
    "start over with docker compose down -v (Compose), rm -r .local (local stack) or the SQL "
    "DROP TABLE IF EXISTS weather_data, weather_locations, weather_load, weather_load_segments, "
    "weather_load_batches, weather_full_check"
)


class LoadRefusedError(Exception):
    """The tables hold something that this configuration would contradict; the text is one line."""


@dataclass(frozen=True)
class Plan:
    """What a load promised at its start; every later run keeps to it."""

    seed: int
    cities: list[str]
    period_end: datetime
    served_records: int


@dataclass(frozen=True)
class Range:
    """The rows first_id..last_id of a segment."""

    segment: Segment
    first_id: int
    last_id: int

    @property
    def rows(self) -> int:
        return self.last_id - self.first_id + 1


def open_plan(connection: psycopg2.extensions.connection, seed: int, total_records: int) -> Plan:
    """Read the plan, or make it at the first load; rows beyond the last load's get a segment.

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
            # As one text (no name has a comma): psycopg2 takes 50 ms to quote 20,000 of them.
            cursor.execute(
                "INSERT INTO weather_load (seed, cities, period_end)"
                " VALUES (%s, string_to_array(%s, ','), %s)",
                (seed, ",".join(draw_cities(seed)), today),
            )
            plan = _read_plan(cursor)
        if plan.seed != seed:
            raise LoadRefusedError(
                f"SEED is {seed}, but weather_data was loaded with SEED={plan.seed}: "
                f"keep that seed, or {START_OVER}"
            )
        cursor.execute(
            "SELECT (SELECT coalesce(max(last_id), 0) FROM weather_load_segments),"
            " EXISTS (SELECT FROM weather_load_batches)"
        )
        promised, has_batches = cursor.fetchone()
        if promised > total_records:
            raise LoadRefusedError(
                f"TOTAL_RECORDS is {total_records}, but weather_data was loaded for {promised} rows"
                f" and rows are never deleted: set it to {promised} or more, or {START_OVER}"
            )
        if has_batches and not _has_rows(cursor):
            raise LoadRefusedError(
                f"weather_data is empty, but its ledger says that rows are in; {START_OVER}"
            )
        if promised < total_records:
            cursor.execute(
                "INSERT INTO weather_load_segments VALUES (%s, %s)", (promised + 1, total_records)
            )
    return plan


def missing_ranges(connection: psycopg2.extensions.connection) -> list[Range]:
    """The promised rows that are not in yet, in the order of their ids."""
    with connection, connection.cursor() as cursor:
        cursor.execute(
            """SELECT first_id, last_id, lower(missing), upper(missing) - 1
               FROM weather_load_segments, unnest(
                   int8multirange(int8range(first_id, last_id + 1::bigint))
                   - (SELECT coalesce(range_agg(ids), '{}') FROM weather_load_batches)
               ) AS missing
               ORDER BY 3"""
        )
        return [Range(Segment(*row[:2]), *row[2:]) for row in cursor]


def segments(connection: psycopg2.extensions.connection) -> list[Segment]:
    """All that was promised, in the order of the ids."""
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT first_id, last_id FROM weather_load_segments ORDER BY 1")
        return [Segment(*row) for row in cursor]


def batches(ranges: list[Range], batch_size: int) -> list[Range]:
    """Cut ranges into batches of at most batch_size rows."""
    return [
        Range(whole.segment, first, min(first + batch_size - 1, whole.last_id))
        for whole in ranges
        for first in range(whole.first_id, whole.last_id + 1, batch_size)
    ]


def claim(cursor: psycopg2.extensions.cursor, batch: Range) -> bool:
    """Claim a batch for the current transaction; False where another one has loaded rows of it."""
    cursor.execute(
        "INSERT INTO weather_load_batches VALUES (int8range(%s, %s)) ON CONFLICT DO NOTHING",
        (batch.first_id, batch.last_id + 1),
    )
    return cursor.rowcount == 1


def _read_plan(cursor: psycopg2.extensions.cursor) -> Plan | None:
    cursor.execute("SELECT seed, cities, period_end, served_records FROM weather_load")
    row = cursor.fetchone()
    return row and Plan(*row)


def _has_rows(cursor: psycopg2.extensions.cursor) -> bool:
    cursor.execute("SELECT EXISTS (SELECT FROM weather_data)")
    return cursor.fetchone()[0]
