"""Loads the rows that are missing, then makes the table ready to serve."""

import contextlib
import functools
import io
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import psycopg2

from populator import ledger
from populator.connect import connect, connect_when_ready
from populator.progress import Progress
from populator.rows import COPY_COLUMNS, Generator, Totals
from populator.settings import Settings

STREAMS = 2  # parallel COPYs: 10M rows in 3.4 s, against 6.0 s with one, on 2 cores
LOADER_LOCK = 0x77656174686572  # "weather": the advisory lock of whoever loads
POLL_INTERVAL = 0.25  # seconds

SESSION = """
-- Ends a statement (CREATE INDEX, say) within a second of this process dying, so that no killed
-- populator keeps the table's locks.
SET client_connection_check_interval = '500ms';
-- More gains nothing on rows that are nearly in order: 1 GB builds both indexes of 10M rows in
-- 6.6 s, this in 6.4 s (2 cores, medians of 5).
SET maintenance_work_mem = '64MB';
"""

# A batch's commit doesn't wait for the disk: 10M rows are copied in 3.3 s, against 3.6 s (2 cores,
# medians of 14 pairs). A server that crashes loses the last batches whole, their rows and their
# claims, and the next run copies them; what comes after the copying waits for the disk again.
COMMIT_WITHOUT_WAITING = "SET LOCAL synchronous_commit = off"

# Both are built at once. The larger one has two helpers, so that it gets more of the CPU and both
# end at about the same time: 10M rows in 4.8 s on 2 cores (median of 6), against 5.35 s with one
# helper; three take 5.05 s, and a helper for the primary key gains nothing.
# Their pages are full: 60 MB less to write and keep at 10M rows, built in 5.0 instead of 5.2 s
# (medians of 5). Adding 1M rows takes as long and ends smaller than with room in the pages.
PRIMARY_KEY = """
SET max_parallel_maintenance_workers = 0;
CREATE UNIQUE INDEX weather_data_pkey ON weather_data (id) WITH (fillfactor = 100)
"""
COVERING_INDEX = """
SET max_parallel_maintenance_workers = 2;
SET maintenance_work_mem = '96MB';  -- below 32 MB for each of the three there are fewer helpers
CREATE INDEX weather_data_location_temperature ON weather_data (location) INCLUDE (temperature)
WITH (fillfactor = 100)
"""
INDEXES = {
    "weather_data_pkey": PRIMARY_KEY,
    "weather_data_location_temperature": COVERING_INDEX,
}
# PostgreSQL's own vacuum would take a core from a load, and its lock makes ours wait: one that
# starts in the middle of 10M rows costs 1 to 2 s.
AUTOVACUUM_OFF = "ALTER TABLE weather_data SET (autovacuum_enabled = false)"
AUTOVACUUM_ON = "ALTER TABLE weather_data RESET (autovacuum_enabled)"
# Through more buffers than the 2 MB of the default the indexes then find the pages in memory.
VACUUM = "VACUUM (ANALYZE, BUFFER_USAGE_LIMIT '256MB') weather_data, weather_locations"
ADD_PRIMARY_KEY = "ALTER TABLE weather_data ADD PRIMARY KEY USING INDEX weather_data_pkey"
DROP_INDEXES = """
ALTER TABLE weather_data DROP CONSTRAINT IF EXISTS weather_data_pkey;
DROP INDEX IF EXISTS weather_data_pkey, weather_data_location_temperature;
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
    way; the whole batches that are in stay, and the next call goes on from there.
    """
    with contextlib.closing(connect_when_ready(settings.postgres)) as connection:
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
    missing = ledger.missing_ranges(connection)
    missing_rows = sum(batch.rows for batch in missing)
    present_rows = settings.total_records - missing_rows
    if not missing and plan.served_records == settings.total_records:
        progress.start(present_rows)
        progress.finish()
        return
    _execute(connection, AUTOVACUUM_OFF)
    if missing_rows > present_rows:  # rebuilding then costs less than 10 us of upkeep a row
        _execute(connection, DROP_INDEXES)
    generator = Generator(plan.seed, plan.cities, plan.period_end)
    totals = Totals(len(generator.locations))
    progress.start(present_rows)
    while missing:  # a batch that a dying populator still committed is seen in the second round
        totals.add(_copy(settings, generator, missing, progress))
        missing = ledger.missing_ranges(connection)
    progress.finish()
    if totals.records.sum() != settings.total_records:  # earlier runs copied the others
        totals = generator.totals(ledger.segments(connection))
    _make_ready(connection, settings, generator.locations, totals, progress)


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


def _copy(
    settings: Settings, generator: Generator, missing: list[ledger.Range], progress: Progress
) -> Totals:
    """Copy the missing rows over STREAMS connections; the totals of what this process copied."""
    missing_rows = sum(batch.rows for batch in missing)
    fair_share = -(-missing_rows // (2 * STREAMS))  # so that a small load keeps all streams busy
    work: queue.SimpleQueue[ledger.Range] = queue.SimpleQueue()
    for batch in ledger.batches(missing, min(settings.batch_size, fair_share)):
        work.put(batch)
    totals = [Totals(len(generator.locations)) for _ in range(STREAMS)]

    def stream(own_totals: Totals, connection: "psycopg2.extensions.connection") -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                batch = work.get_nowait()
                _copy_batch(connection, generator, batch, own_totals)
                progress.add(batch.rows)

    _in_parallel(settings, [functools.partial(stream, own_totals) for own_totals in totals])
    for other in totals[1:]:
        totals[0].add(other)
    return totals[0]


class _Pieces:
    """A file for copy_expert(): each read hands over the next piece as it is, without a copy.

    10M rows are copied in 3.8 s, against 4.3 s by way of io.BytesIO (2 cores, medians of 5).
    """

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces

    def read(self, _size: int) -> bytes:
        return next(self._pieces, b"")


def _copy_batch(
    connection: "psycopg2.extensions.connection",
    generator: Generator,
    batch: ledger.Range,
    totals: Totals,
) -> None:
    """Claim and copy one batch in one transaction, and add it to totals, unless others had it."""
    with connection, connection.cursor() as cursor:
        cursor.execute(COMMIT_WITHOUT_WAITING)
        if ledger.claim(cursor, batch):
            rows = generator.copy_binary(batch.segment, batch.first_id, batch.last_id, totals)
            cursor.copy_expert(
                f"COPY weather_data ({COPY_COLUMNS}) FROM STDIN (FORMAT binary)", _Pieces(rows)
            )


def _in_parallel(
    settings: Settings, tasks: Sequence[Callable[["psycopg2.extensions.connection"], None]]
) -> None:
    """Run each task in a thread with a connection of its own; raises the first one's error.

    The threads are daemons: an error, or a signal, ends the process without waiting for them, and
    PostgreSQL then rolls back what they had open.
    """
    results: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

    def run(task: Callable[["psycopg2.extensions.connection"], None]) -> None:
        try:
            with contextlib.closing(connect(settings.postgres)) as connection:
                _execute(connection, SESSION)
                connection.commit()
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


def _make_ready(
    connection: "psycopg2.extensions.connection",
    settings: Settings,
    locations: list[str],
    totals: Totals,
    progress: Progress,
) -> None:
    """List the locations, make visibility map and statistics, build what is missing of the indexes.

    VACUUM comes before the indexes: whoever first reads the rows writes every page once more, with
    the note that they are committed, and VACUUM writes every page anyway. 10M rows are ready in
    12.1 s that way, against 13.4 s after them (2 cores, 3 runs each).
    """
    with _stage(progress, f"{(totals.records > 0).sum():,} locations listed"):
        _write_locations(connection, locations, totals)
    with _stage(progress, "Vacuumed and analyzed"):
        _wait_for_old_snapshots(connection, progress)
        _execute(connection, VACUUM)
    with _stage(progress, "Primary key and covering index built"):
        _build_indexes(connection, settings)
    _execute(connection, AUTOVACUUM_ON)
    _execute(connection, "UPDATE weather_load SET served_records = %s", settings.total_records)


def _build_indexes(connection: "psycopg2.extensions.connection", settings: Settings) -> None:
    def build(statement: str, own_connection: "psycopg2.extensions.connection") -> None:
        with own_connection:
            _execute(own_connection, statement)

    _in_parallel(
        settings,
        [
            functools.partial(build, statement)
            for name, statement in INDEXES.items()
            if _fetch_value(connection, "SELECT to_regclass(%s) IS NULL", name)
        ],
    )
    if not _fetch_value(
        connection,
        "SELECT EXISTS (SELECT FROM pg_constraint"
        " WHERE conrelid = 'weather_data'::regclass AND contype = 'p')",
    ):
        _execute(connection, ADD_PRIMARY_KEY)


def _write_locations(
    connection: "psycopg2.extensions.connection", locations: list[str], totals: Totals
) -> None:
    lines = (  # no name of Faker's has a tab or a backslash
        f"{location}\t{records}\t{hundredths}e-2\n"
        for location, records, hundredths in zip(
            locations, totals.records, totals.temperature_sum, strict=True
        )
        if records
    )
    with connection, connection.cursor() as cursor:
        cursor.execute("TRUNCATE weather_locations")
        cursor.copy_expert("COPY weather_locations FROM STDIN", io.StringIO("".join(lines)))


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
