"""Loads the rows that are missing, then makes the table ready to serve."""

import contextlib
import io
import queue
import threading
import time
from collections.abc import Iterator

import ledger
import psycopg2
from config import Settings
from database import connect, connect_when_ready
from progress import Progress
from psycopg2.extras import execute_values
from rows import COPY_COLUMNS, Generator, Totals

STREAMS = 2  # parallel COPYs: 10M rows in 3.4 s, against 6.0 s with one, on 2 cores
COPY_CHUNK = 256 * 1024  # bytes handed to libpq at a time
LOADER_LOCK = 0x77656174686572  # "weather": the advisory lock of whoever loads
POLL_INTERVAL = 0.25  # seconds

SESSION = """
-- Ends a statement (CREATE INDEX, say) within a second of this process dying, so that no killed
-- populator keeps the table's locks.
SET client_connection_check_interval = '500ms';
-- The covering index's sort: 4.1 s with 256 MB, 3.8-3.9 s with 1 or 2 GB (10M rows, 2 workers),
-- 10.9 s without parallel workers.
SET maintenance_work_mem = '256MB';
SET max_parallel_maintenance_workers = 2;
"""

INDEXES = {
    "weather_data_pkey": "ALTER TABLE weather_data ADD PRIMARY KEY (id)",
    "weather_data_location_temperature": (
        "CREATE INDEX weather_data_location_temperature"
        " ON weather_data (location) INCLUDE (temperature)"
    ),
}
DROP_INDEXES = """
ALTER TABLE weather_data DROP CONSTRAINT IF EXISTS weather_data_pkey;
DROP INDEX IF EXISTS weather_data_location_temperature;
"""
SNAPSHOT_TIMEOUT = 10.0  # seconds
OLDER_SNAPSHOTS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
  AND age(backend_xmin) > age(%s::xid)
"""


def load(settings: Settings, progress: Progress) -> None:
    """Fill weather_data up to settings.total_records, exactly once, and make it ready to serve.

    Raises ServerNotReadyError, LoadRefusedError, or psycopg2.Error where PostgreSQL fails on the
    way; what was committed until then stays, and the next call goes on from there.
    """
    with contextlib.closing(connect_when_ready(settings)) as connection:
        connection.autocommit = True
        _execute(connection, SESSION)
        with _loader_lock(connection, progress):
            ledger.create_tables(connection)
            plan = ledger.open_plan(connection, settings.seed, settings.total_records)
            _fill(connection, settings, plan, progress)
    progress.say("Database connection closed")


def _fill(
    connection: "psycopg2.extensions.connection",
    settings: Settings,
    plan: ledger.Plan,
    progress: Progress,
) -> None:
    missing = ledger.missing_ranges(connection, settings.total_records)
    missing_rows = sum(last - first + 1 for first, last in missing)
    present_rows = settings.total_records - missing_rows
    progress.start(present_rows)
    if missing or plan.served_records != settings.total_records:
        if missing_rows > present_rows:  # rebuilding then costs less than 10 us of upkeep a row
            _execute(connection, DROP_INDEXES)
        generator = Generator(plan.seed, plan.cities, plan.period_end)
        totals = _copy_missing(connection, settings, generator, missing, progress)
        progress.finish()
        _make_ready(connection, settings.total_records, generator.locations, totals, progress)
    else:
        progress.finish()


@contextlib.contextmanager
def _loader_lock(
    connection: "psycopg2.extensions.connection", progress: Progress
) -> Iterator[None]:
    """Let one populator load at a time; the others wait here and find the work done.

    They ask again and again: a session that waits inside pg_advisory_lock() holds a snapshot, and
    the loader's VACUUM could then mark no page as visible to all.
    """
    told = False
    while not _fetch_value(connection, "SELECT pg_try_advisory_lock(%s)", LOADER_LOCK):
        if not told:
            progress.say("Another data-populator is loading; waiting for it")
            told = True
        time.sleep(POLL_INTERVAL)
    yield
    _execute(connection, "SELECT pg_advisory_unlock(%s)", LOADER_LOCK)


def _copy_missing(
    connection: "psycopg2.extensions.connection",
    settings: Settings,
    generator: Generator,
    missing: list[tuple[int, int]],
    progress: Progress,
) -> Totals:
    """Copy the missing rows and return the totals of all rows, old and new."""
    totals = Totals(len(generator.locations))
    for first, last in _complement(missing, settings.total_records):
        totals.add(generator.totals(first, last))
    while missing:  # a batch that a dying populator still committed is seen in the second round
        _run_streams(settings, generator, missing, totals, progress)
        missing = ledger.missing_ranges(connection, settings.total_records)
    return totals


def _run_streams(
    settings: Settings,
    generator: Generator,
    missing: list[tuple[int, int]],
    totals: Totals,
    progress: Progress,
) -> None:
    """Copy the missing ranges over STREAMS connections; raises the first stream's error."""
    work: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()
    missing_rows = sum(last - first + 1 for first, last in missing)
    fair_share = -(-missing_rows // (2 * STREAMS))  # so that a small load keeps all streams busy
    for batch in ledger.batches(missing, min(settings.batch_size, fair_share)):
        work.put(batch)
    results: queue.SimpleQueue[Totals | Exception | None] = queue.SimpleQueue()
    failed = threading.Event()

    def stream() -> None:
        try:
            with contextlib.closing(connect(settings)) as connection:
                while not failed.is_set():
                    first_id, last_id = work.get_nowait()
                    results.put(_copy_batch(connection, generator, first_id, last_id))
                    progress.add(last_id - first_id + 1)
        except queue.Empty:
            results.put(None)
        except Exception as error:
            failed.set()
            results.put(error)

    for _ in range(STREAMS):
        threading.Thread(target=stream, daemon=True).start()
    running = STREAMS
    while running:
        result = results.get()
        if isinstance(result, Exception):
            raise result
        if result is None:
            running -= 1
        else:
            totals.add(result)


def _copy_batch(
    connection: "psycopg2.extensions.connection", generator: Generator, first_id: int, last_id: int
) -> Totals:
    """Claim and copy one batch in one transaction; its totals."""
    data, totals = generator.copy_binary(first_id, last_id)
    with connection, connection.cursor() as cursor:
        if ledger.claim(cursor, first_id, last_id):
            cursor.copy_expert(
                f"COPY weather_data ({COPY_COLUMNS}) FROM STDIN (FORMAT binary)",
                io.BytesIO(data),
                size=COPY_CHUNK,
            )
    return totals


def _complement(missing: list[tuple[int, int]], total_records: int) -> list[tuple[int, int]]:
    """The ranges of 1..total_records outside the missing ones."""
    present, next_id = [], 1
    for first, last in [*missing, (total_records + 1, total_records + 1)]:
        if next_id < first:
            present.append((next_id, first - 1))
        next_id = last + 1
    return present


def _make_ready(
    connection: "psycopg2.extensions.connection",
    total_records: int,
    locations: list[str],
    totals: Totals,
    progress: Progress,
) -> None:
    """Build what is missing of the indexes, the list of locations, visibility map, statistics."""
    for name, statement in INDEXES.items():
        if _fetch_value(connection, "SELECT to_regclass(%s) IS NULL", name):
            with _stage(progress, f"Index {name} built"):
                _execute(connection, statement)
    with _stage(progress, f"{(totals.records > 0).sum():,} locations listed"):
        _write_locations(connection, locations, totals)
    with _stage(progress, "Vacuumed and analyzed"):
        _wait_for_old_snapshots(connection, progress)
        _execute(connection, "VACUUM (ANALYZE) weather_data, weather_locations")
    _execute(connection, "UPDATE weather_load SET served_records = %s", total_records)


def _write_locations(
    connection: "psycopg2.extensions.connection", locations: list[str], totals: Totals
) -> None:
    rows = [
        (location, int(records), f"{int(hundredths)}e-2")
        for location, records, hundredths in zip(
            locations, totals.records, totals.temperature_sum, strict=True
        )
        if records
    ]
    with connection, connection.cursor() as cursor:
        cursor.execute("TRUNCATE weather_locations")
        execute_values(cursor, "INSERT INTO weather_locations VALUES %s", rows, page_size=5000)


def _wait_for_old_snapshots(
    connection: "psycopg2.extensions.connection", progress: Progress
) -> None:
    """Wait until nobody's snapshot is older than the load (an ANALYZE by autovacuum, say).

    VACUUM marks only those pages as all-visible that are visible to every snapshot there is, and
    an index-only scan visits the table for the others.
    """
    # Not pg_current_xact_id(): its transaction would commit without a flush, and for that moment
    # VACUUM trusts none of the 32 transactions that share its entry in the commit log.
    newest = _fetch_value(connection, "SELECT pg_snapshot_xmax(pg_current_snapshot())::xid::text")
    deadline = time.monotonic() + SNAPSHOT_TIMEOUT
    while _fetch_value(connection, OLDER_SNAPSHOTS, newest):
        if time.monotonic() > deadline:
            progress.say(
                "A transaction elsewhere is older than the load: VACUUM again when it ends"
            )
            return
        time.sleep(POLL_INTERVAL)


@contextlib.contextmanager
def _stage(progress: Progress, name: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    progress.say(f"{name} in {time.monotonic() - started:.1f} s")


def _execute(
    connection: "psycopg2.extensions.connection", statement: str, *arguments: object
) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, arguments or None)


def _fetch_value(
    connection: "psycopg2.extensions.connection", query: str, *arguments: object
) -> object:
    with connection.cursor() as cursor:
        cursor.execute(query, arguments or None)
        return cursor.fetchone()[0]
