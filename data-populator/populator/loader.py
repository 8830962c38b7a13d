"""Loads the rows that are missing, then makes the table ready to serve."""

import contextlib
import functools
import io
import queue
import time
from collections.abc import Iterator

import psycopg2

from populator import account, ledger, schema
from populator.connect import APPLICATION_NAME, connect_when_ready
from populator.progress import Progress
from populator.rows import COPY_COLUMNS, Generator, Totals
from populator.settings import Settings
from populator.statements import execute, fetch_value, run_in_parallel

STREAMS = 2  # parallel COPYs, on 2 cores: 10M rows in 3.3 s, with one in about twice the time
LOADER_LOCK = 0x77656174686572  # "weather": the advisory lock of whoever loads
POLL_INTERVAL = 0.25  # seconds

# A batch's commit doesn't wait for the disk: 0.3 s less at 10M rows. A server that crashes loses
# the last batches whole, rows and claims; what follows the copying waits for the disk again.
COMMIT_WITHOUT_WAITING = "SET LOCAL synchronous_commit = off"

# PostgreSQL's own vacuum would take a core from a load and make ours wait, 1 to 2 s at 10M rows.
AUTOVACUUM_OFF = "ALTER TABLE weather_data SET (autovacuum_enabled = false)"
AUTOVACUUM_ON = "ALTER TABLE weather_data RESET (autovacuum_enabled)"
# FREEZE: no later vacuum has to write the pages again, and the freeze map tells whether anyone did.
# INDEX_CLEANUP: a few rows of a killed load are else left on their pages, off that map.
# Through more buffers than the 2 MB of the default the indexes then find the pages in memory.
VACUUM = """
VACUUM (FREEZE, ANALYZE, INDEX_CLEANUP on, BUFFER_USAGE_LIMIT '256MB')
weather_data, weather_locations
"""
# Others are connected, or were just now (USE_POOLING=false: connections last for a query each).
# Without the covering index each query reads all rows. Autovacuum's sessions have no user.
IS_SERVED = """
SELECT EXISTS (SELECT FROM pg_stat_activity
               WHERE datname = current_database() AND usesysid IS NOT NULL
                 AND application_name <> %s)
    OR EXISTS (SELECT FROM pg_stat_user_indexes
               WHERE relname = 'weather_data' AND last_idx_scan > now() - interval '1 minute')
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
    with (
        contextlib.closing(connect_when_ready(settings.postgres)) as connection,
        _loader_lock(connection, progress),
    ):
        schema.create_tables(connection)
        account.make_reader(connection, settings.app_user, settings.app_password)
        plan = ledger.open_plan(connection, settings.seed, settings.total_records)
        _fill(connection, settings, plan, progress)
    progress.say("Database connection closed")


def _fill(
    connection: psycopg2.extensions.connection,
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
    execute(connection, AUTOVACUUM_OFF)
    # Building anew takes 0.6 us a row of the table, keeping up 1.7 us a row that is added.
    if missing_rows > present_rows and not fetch_value(connection, IS_SERVED, APPLICATION_NAME):
        schema.drop_indexes(connection)
    generator = Generator(plan.seed, plan.cities, plan.period_end)
    totals = Totals(len(generator.locations))
    progress.start(present_rows)
    while missing:  # a batch that a dying populator still committed is seen in the second round
        totals.add(_copy(settings, generator, missing, progress))
        missing = ledger.missing_ranges(connection)
    progress.finish()
    copied_rows = totals.records.sum()
    if plan.served_records and plan.served_records + copied_rows == settings.total_records:
        totals.add(_listed_totals(connection, generator.locations))
    elif copied_rows != settings.total_records:  # an interrupted run copied the others
        totals = generator.totals(ledger.segments(connection))
    _make_ready(connection, settings, generator.locations, totals, progress)


@contextlib.contextmanager
def _loader_lock(connection: psycopg2.extensions.connection, progress: Progress) -> Iterator[None]:
    """Let one populator load at a time; the others wait here and find the work done.

    They ask again and again: a session that waits inside pg_advisory_lock() holds a snapshot, and
    the loader's VACUUM could then mark no page as visible to all.
    """
    told = False
    while not fetch_value(connection, "SELECT pg_try_advisory_lock(%s)", LOADER_LOCK):
        if not told:
            progress.say("Another data-populator is loading; waiting for it")
            told = True
        time.sleep(POLL_INTERVAL)
    yield
    execute(connection, "SELECT pg_advisory_unlock(%s)", LOADER_LOCK)


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

    def stream(own_totals: Totals, connection: psycopg2.extensions.connection) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                batch = work.get_nowait()
                _copy_batch(connection, generator, batch, own_totals)
                progress.add(batch.rows)

    run_in_parallel(
        settings.postgres, [functools.partial(stream, own_totals) for own_totals in totals]
    )
    for other in totals[1:]:
        totals[0].add(other)
    return totals[0]


class _Pieces:
    """A file for copy_expert(): each read hands over the next piece as it is, without a copy."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces

    def read(self, _size: int) -> bytes:
        return next(self._pieces, b"")


def _copy_batch(
    connection: psycopg2.extensions.connection,
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


def _make_ready(
    connection: psycopg2.extensions.connection,
    settings: Settings,
    locations: list[str],
    totals: Totals,
    progress: Progress,
) -> None:
    """List the locations, make visibility map and statistics, build what is missing of the indexes.

    VACUUM comes before the indexes: whoever first reads the rows writes every page once more, with
    the note that they are committed, and VACUUM writes every page anyway.
    """
    with _stage(progress, f"{(totals.records > 0).sum():,} locations listed"):
        _write_locations(connection, locations, totals)
    with _stage(progress, "Vacuumed and analyzed"):
        _wait_for_old_snapshots(connection, progress)
        execute(connection, VACUUM)
    with _stage(progress, "Primary key and covering index built"):
        schema.build_indexes(connection, settings.postgres)
    execute(connection, AUTOVACUUM_ON)
    execute(connection, "UPDATE weather_load SET served_records = %s", settings.total_records)


def _listed_totals(connection: psycopg2.extensions.connection, locations: list[str]) -> Totals:
    """What the list of locations says of the rows that earlier loads made ready to serve."""
    totals = Totals(len(locations))
    position = {name: index for index, name in enumerate(locations)}
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT location, records, (temperature_sum * 100)::bigint FROM weather_locations"
        )
        for location, records, hundredths in cursor:
            totals.records[position[location]] = records
            totals.temperature_sum[position[location]] = hundredths
    return totals


def _write_locations(
    connection: psycopg2.extensions.connection, locations: list[str], totals: Totals
) -> None:
    lines = (  # no name of Faker's has a tab or a backslash
        f"{location}\t{records}\t{hundredths}e-2\n"
        for location, records, hundredths in zip(
            locations, totals.records, totals.temperature_sum, strict=True
        )
        if records
    )
    with connection, connection.cursor() as cursor:
        cursor.execute("DELETE FROM weather_locations")  # TRUNCATE would wait for all readers
        cursor.copy_expert("COPY weather_locations FROM STDIN", io.StringIO("".join(lines)))


def _wait_for_old_snapshots(connection: psycopg2.extensions.connection, progress: Progress) -> None:
    """Wait until nobody's snapshot is older than the load (an ANALYZE by autovacuum, say).

    VACUUM marks only those pages as all-visible that are visible to every snapshot there is, and
    an index-only scan visits the table for the others.
    """
    # Not pg_current_xact_id(): its transaction would commit without a flush, and for that moment
    # VACUUM trusts none of the 32 transactions that share its entry in the commit log.
    newest = fetch_value(connection, "SELECT pg_snapshot_xmax(pg_current_snapshot())::xid::text")
    deadline = time.monotonic() + SNAPSHOT_TIMEOUT
    while fetch_value(connection, OLDER_SNAPSHOTS, newest):
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
