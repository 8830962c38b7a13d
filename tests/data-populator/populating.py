"""Runs the populator for the tests, and looks at what it did."""

import os
import subprocess
import sys
from pathlib import Path

POPULATE = Path(__file__).parents[2] / "data-populator" / "populate_db.py"


def start(database, **variables):
    """Start a populator; every variable is set beside the database's own."""
    environ = {**os.environ, **database.environ, **{k: str(v) for k, v in variables.items()}}
    return subprocess.Popen(
        [sys.executable, POPULATE],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process, timeout=120):
    """Wait for a populator; its exit code and its output."""
    output, _ = process.communicate(timeout=timeout)
    return process.returncode, output


def populate(database, **variables):
    return finish(start(database, **variables))


def loaded_records(database):
    if database.value("SELECT to_regclass('weather_load_batches')") is None:
        return 0
    return database.value(
        "SELECT coalesce(sum(upper(ids) - lower(ids)), 0) FROM weather_load_batches"
    )


def assert_complete(database, records):
    """Exactly ids 1..records, and the list of locations agrees with the rows."""
    assert database.rows("SELECT count(*), min(id), max(id) FROM weather_data") == [
        (records, 1, records)
    ]
    assert (
        database.rows(
            """SELECT location, count(*), round(sum(temperature)::numeric, 2) FROM weather_data
           GROUP BY 1 EXCEPT SELECT location, records, temperature_sum FROM weather_locations"""
        )
        == []
    )
    assert database.value("SELECT sum(records) FROM weather_locations") == records
    # autovacuum is on again
    assert database.value("SELECT reloptions FROM pg_class WHERE relname = 'weather_data'") is None
