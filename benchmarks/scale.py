"""Measures how load, start, lookup, memory and disk grow with the table: 1 million rows to SCALE.

The tables follow each other on one server, the small ones first, so that ratios are of one run. The
last one is loaded and asked on a machine that has too little memory for it.
"""

import argparse
import json
import mmap
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
from load import Server, populate
from postgres import SERVER_SETTINGS, connect

from lab.machine import ROOT, describe
from populator.rows import draw_cities
from populator.schema import create_tables
from weather import queries
from weather.connect import Connection
from weather.pool import Database
from weather.settings import Settings
from weather.waiting import deadline_from_now

STEP = 1_000_000  # rows that a table grows by, and those of the smallest table
BASE = 10_000_000
UNIT = 100_000_000  # rows of SCALE=1
MORE_LOCATIONS = UNIT // BASE  # as many rows of each location as in the table of BASE rows
REPEATS = 3
STARTS = 5
LOOKUPS = 2_000
PLANS = 20
SCARCE = 4 * 2**30  # bytes of memory that the last table has; 100 million rows take 14 GB on disk
DISK_PER_ROW = 200  # bytes at most while the indexes are built, sorted files included
DISK_BESIDE = 10 * 2**30  # bytes of WAL at most (max_wal_size and what is being written)
BILLION = 10**9
BYTES_PER_ROW = (
    "table_bytes_per_row",
    "primary_key_bytes_per_row",
    "covering_index_bytes_per_row",
)
PREDICTED = ("disk_gb", "ready_s", "full_gate_s", "warm_p50_us")
GATE, POPULATOR = "data-query/query_db.py", "data-populator/populate_db.py"
DROP_CACHES = Path("/proc/sys/vm/drop_caches")

HOLD_MEMORY = """
import mmap, sys
memory = mmap.mmap(-1, int(sys.argv[1]))
memory[::mmap.PAGESIZE] = bytes([1]) * len(range(0, len(memory), mmap.PAGESIZE))
print(flush=True)
sys.stdin.read()
"""
SIZES = """
SELECT pg_relation_size('weather_data'), pg_relation_size('weather_data_pkey'),
       pg_relation_size('weather_data_location_temperature')
"""
WRITTEN = """
SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint, num_requested
FROM pg_stat_checkpointer
"""
LEFT_TO_VACUUM = """
SELECT relpages - relallfrozen, n_ins_since_vacuum
FROM pg_class JOIN pg_stat_user_tables ON relid = pg_class.oid
WHERE relid = 'weather_data'::regclass
"""
EXPLAIN = """
EXPLAIN (ANALYZE, BUFFERS, FORMAT json)
SELECT avg(temperature) FROM weather_data WHERE location = %s
"""


def measure_table(
    server: Server, rows: int, repeats: int = 1, lookups: int = LOOKUPS
) -> dict[str, object]:
    """Load an empty database, start again, and ask; the last one stays as it is then."""
    loads = []
    for _ in range(repeats):
        server.reset()
        before = _row(server, WRITTEN)
        with _memory(server) as server_mb:
            loads.append(populate(server, rows))
        after = _row(server, WRITTEN)
    return {
        "rows": rows,
        "copied_rows_per_second": statistics.median(load["rows_per_second"] for load in loads),
        "ready_s": statistics.median(load["seconds"] for load in loads),
        "populator_mb": max(load["peak_mb"] for load in loads),
        "server_mb": max(server_mb),
        "wal_bytes_per_row": (after[0] - before[0]) / rows,
        "checkpoints_by_wal": after[1] - before[1],
        **_left_behind(server, rows),
        **measure_checkpoint(server),
        "full_gate_s": _run(server, GATE, rows, "--full"),
        "gate_s": _median_start(server, GATE, rows),
        "populator_start_s": _median_start(server, POPULATOR, rows),
        **measure_lookups(server, lookups),
    }


def _left_behind(server: Server, rows: int) -> dict[str, float]:
    """Bytes on disk, and what is left for autovacuum to do."""
    sizes = _row(server, SIZES)
    unfrozen, inserted = _row(server, LEFT_TO_VACUUM)
    return {
        **{name: size / rows for name, size in zip(BYTES_PER_ROW, sizes, strict=True)},
        "pages_not_frozen": unfrozen,
        "rows_left_to_autovacuum": inserted,
    }


def measure_checkpoint(server: Server) -> dict[str, float]:
    """Microseconds of averages before and beside the checkpoint of what a load left in memory.

    It writes as fast as it can; those that time or the WAL start spread what they write.
    """
    chosen = _choose(server, LOOKUPS)
    _lookup_times(server, chosen)
    quiet, seconds = _lookup_times(server, chosen), []

    def checkpoint() -> None:
        started = time.monotonic()
        server.execute("CHECKPOINT")
        seconds.append(time.monotonic() - started)

    writer = threading.Thread(target=checkpoint)

    def while_it_writes() -> Iterator[str]:
        yield chosen[0]  # a session's first query fills its caches: it is not counted
        writer.start()
        yield chosen[1]
        while writer.is_alive():
            yield random.choice(chosen)

    beside = _lookup_times(server, while_it_writes())[1:]
    writer.join()
    return {
        "before_checkpoint_p99_us": _p99(quiet),
        "beside_checkpoint_p99_us": _p99(beside),
        "checkpoint_s": seconds[0],
    }


def measure_lookups(server: Server, lookups: int = LOOKUPS) -> dict[str, object]:
    """Microseconds of averages through the application's pool: cold (as root), then warm."""
    chosen = _choose(server, lookups)
    is_cold = os.access(DROP_CACHES, os.W_OK)
    if is_cold:
        server.restart()
        os.sync()
        DROP_CACHES.write_text("3")
    first = _lookup_times(server, chosen)
    _lookup_times(server, chosen)
    warm = _lookup_times(server, chosen)
    plans = [
        _row(server, EXPLAIN, location)[0][0]["Plan"]["Plans"][0] for location in chosen[:PLANS]
    ]
    return {
        "locations": _row(server, "SELECT count(*) FROM weather_locations")[0],
        "rows_per_location": _row(server, "SELECT avg(records)::float FROM weather_locations")[0],
        "ping_p50_us": statistics.median(_times(server, [queries.ping] * LOOKUPS)),
        "warm_p50_us": statistics.median(warm),
        "warm_p99_us": _p99(warm),
        "cold_p50_us": statistics.median(first) if is_cold else None,
        "cold_p99_us": _p99(first) if is_cold else None,
        "plans": sorted({plan["Node Type"] for plan in plans}),
        "heap_fetches": max(plan["Heap Fetches"] for plan in plans),
        "blocks": statistics.median(
            plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] for plan in plans
        ),
    }


def _choose(server: Server, number: int) -> list[str]:
    """Locations in a random order, the same in each run; all if there are no more."""
    locations = [row[0] for row in _rows(server, "SELECT location FROM weather_locations")]
    return random.Random(1).sample(locations, min(number, len(locations)))


def measure_growth(server: Server, rows: int) -> float:
    """Seconds until STEP more rows are ready, the median of several such loads."""
    totals = [rows + number * STEP for number in range(1, REPEATS + 1)]
    return statistics.median(populate(server, total)["seconds"] for total in totals)


@contextmanager
def memory_left(size: int) -> Iterator[None]:
    """Hold the machine's memory but for ``size`` bytes, in which files are cached, too.

    What is held would go to swap space where there is some.
    """
    held = max(mmap.PAGESIZE, psutil.virtual_memory().available - size)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_MEMORY, str(held)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        holder.stdout.readline()
        yield
        holder.stdin.close()


def promise_more_locations(server: Server) -> None:
    """Make an empty database's ledger one of MORE_LOCATIONS times the generator's locations."""
    names = draw_cities(42)
    cities = [f"{name} {number}" for number in range(MORE_LOCATIONS) for name in names]
    with closing(connect(server.environ)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        create_tables(connection)
        cursor.execute(
            "INSERT INTO weather_load (seed, cities, period_end)"
            " VALUES (42, string_to_array(%s, ','), current_date)",
            (",".join(cities),),
        )


def measure(server: Server, largest: int) -> dict[str, dict[str, object]]:
    """What was measured of each table, by its name; told as it comes."""
    tables = {}
    server.reset()
    populate(server, BASE)  # not counted: a new cluster's first load makes the files of the WAL
    for rows in (STEP, BASE, largest):
        table = measure_table(server, rows, repeats=REPEATS if rows < UNIT else 1)
        if rows > STEP:
            table["growth_s"] = measure_growth(server, rows)
        tables[f"{rows // 10**6} million"] = table
        _tell(tables)
    server.reset()  # its files leave the memory that is taken now
    with memory_left(SCARCE):
        name = f"{largest // 10**6} million, {SCARCE >> 30} GB of memory"
        # All locations, as what 2,000 of them read would fit.
        tables[name] = measure_table(server, largest, lookups=largest)
    _tell(tables)
    if largest == UNIT:
        server.reset()
        promise_more_locations(server)
        populate(server, largest)
        name = f"{largest // 10**6} million, {MORE_LOCATIONS} times the locations"
        tables[name] = {"rows": largest} | measure_lookups(server)
        _tell(tables)
    return tables


def project(table: dict[str, object], rows: int) -> dict[str, float]:
    """What a table of so many rows takes by the constants that one of another size has.

    The number of locations stays, so each has as many times the rows.
    """
    factor = rows / table["rows"]
    reading_us = table["warm_p50_us"] - table["ping_p50_us"]
    return {
        "disk_gb": sum(table[name] for name in BYTES_PER_ROW) * rows / 1e9,
        "ready_s": table["ready_s"] * factor,
        "full_gate_s": table["full_gate_s"] * factor,
        "warm_p50_us": table["ping_p50_us"] + reading_us * factor,
    }


def markdown(tables: dict[str, dict[str, object]]) -> str:
    """One table of all that was measured, and one of what follows for a larger table."""
    names = list(dict.fromkeys(key for table in tables.values() for key in table))
    lines = [
        f"| | {' | '.join(tables)} |",
        f"| --- |{' ---: |' * len(tables)}",
        *(
            f"| {name} | {' | '.join(_shown(table.get(name)) for table in tables.values())} |"
            for name in names
        ),
    ]
    base, largest = list(tables.values())[1:3]
    predictions = {
        "measured": {name: project(largest, largest["rows"])[name] for name in PREDICTED},
        f"predicted from {base['rows'] // 10**6} million": project(base, largest["rows"]),
        "predicted for 1 billion": project(largest, BILLION),
    }
    lines += [
        "",
        f"| {largest['rows'] // 10**6} million rows | {' | '.join(predictions)} |",
        f"| --- |{' ---: |' * len(predictions)}",
        *(
            f"| {name} | {' | '.join(_shown(values[name]) for values in predictions.values())} |"
            for name in PREDICTED
        ),
    ]
    return "\n".join(lines) + "\n"


def _tell(tables: dict[str, dict[str, object]]) -> None:
    name, table = list(tables.items())[-1]
    print(f"\n{name}", *(f"{key:32} {_shown(value)}" for key, value in table.items()), sep="\n  ")
    sys.stdout.flush()


def _shown(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else ", ".join(value)


def _run(server: Server, program: str, rows: int, *options: str) -> float:
    """Seconds of one of the stack's two jobs."""
    started = time.monotonic()
    subprocess.run(
        [sys.executable, ROOT / program, *options],
        env=server.environ | {"TOTAL_RECORDS": str(rows)},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.monotonic() - started


def _median_start(server: Server, program: str, rows: int) -> float:
    return statistics.median(_run(server, program, rows) for _ in range(STARTS))


def _lookup_times(server: Server, locations: Iterable[str]) -> list[float]:
    """Microseconds of each location's average, one after the other."""

    def average(location: str) -> Callable[[Connection], object]:
        return lambda connection: queries.average(connection, location, "scale")

    return _times(server, (average(location) for location in locations))


def _times(server: Server, asked: Iterable[Callable[[Connection], object]]) -> list[float]:
    """Microseconds of each query, on one connection of the application's pool."""
    database = Database(Settings.from_env(server.environ))
    database.read(queries.ping, deadline_from_now())  # connects
    times = []
    for query in asked:
        started = time.perf_counter()
        database.read(query, deadline_from_now())
        times.append((time.perf_counter() - started) * 1e6)
    return times


def _p99(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=100)[98]


def _rows(server: Server, query: str, *arguments: object) -> list[tuple]:
    with closing(connect(server.environ)) as connection, connection.cursor() as cursor:
        cursor.execute(query, arguments or None)
        return cursor.fetchall()


def _row(server: Server, query: str, *arguments: object) -> tuple:
    return _rows(server, query, *arguments)[0]


@contextmanager
def _memory(server: Server) -> Iterator[list[float]]:
    """MB that the server's processes held, shared memory counted once; a value each 0.5 s."""
    values, ended = [], threading.Event()

    def watch() -> None:
        while not ended.wait(0.5):
            postgres = psutil.Process(server.pid)
            values.append(sum(_proportional_mb(p) for p in [postgres, *postgres.children()]))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield values
    finally:
        ended.set()
        watcher.join()


def _proportional_mb(process: psutil.Process) -> float:
    try:
        return process.memory_full_info().pss / 2**20
    except psutil.NoSuchProcess:
        return 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scale", type=int, help="the largest table, in 100 million rows")
    arguments = parser.parse_args()
    if arguments.scale < 1:
        parser.error(f"SCALE is {arguments.scale}: expected a whole number from 1")
    largest = arguments.scale * UNIT
    with tempfile.TemporaryDirectory(prefix="benchmark-scale-") as folder:
        Path(folder).chmod(0o755)  # as root, PostgreSQL runs as another user
        free, needed = shutil.disk_usage(folder).free, largest * DISK_PER_ROW + DISK_BESIDE
        if free < needed:
            parser.error(f"{folder} has {free >> 30} GB free: {needed >> 30} GB are needed")
        with Server(Path(folder)) as server:
            tables = measure(server, largest)
    result = {"machine": describe(), "server_settings": SERVER_SETTINGS, "tables": tables}
    out = ROOT / "benchmarks" / "results" / f"scale-{arguments.scale}.json"
    out.write_text(json.dumps(result, indent=2) + "\n")
    out.with_suffix(".md").write_text(markdown(tables))
    print(f"\n{markdown(tables)}\nwritten to {out} and beside it as Markdown")


if __name__ == "__main__":
    main()
