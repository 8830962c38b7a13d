"""The gate: proves that weather_data is complete and right, or exits 1 with the reason."""

import argparse
import contextlib
import sys
import time

import psycopg2

from gate import checks, evidence
from gate.connect import connect
from gate.environment import ConfigError
from gate.settings import Settings


def main() -> int:
    """Run every check; the exit code: 0 all right, 1 something wrong, 2 bad setting."""
    parser = argparse.ArgumentParser(prog="data-query", description=__doc__)
    parser.add_argument("--full", action="store_true", help="read every row, whatever was checked")
    arguments = parser.parse_args()
    try:
        settings = Settings.from_env()
        with contextlib.closing(connect(settings.postgres)) as connection:
            _check(connection, settings.total_records, arguments.full)
    except ConfigError as error:
        return _fail(str(error), 2)
    except checks.CheckFailedError as error:
        return _fail(str(error), 1)
    except psycopg2.Error as error:
        return _fail(f"PostgreSQL: {' '.join(str(error).split())}", 1)
    return 0


def _check(connection: psycopg2.extensions.connection, total_records: int, full: bool) -> None:
    """Check every row, or that none changed since they were checked; tell which, and how sure."""
    started = time.monotonic()
    with connection.cursor() as cursor:
        checks.check_tables(cursor)
        checks.check_indexes(cursor)
        state = evidence.read_state(cursor)
        checked = evidence.last_full_check(cursor)
        full = full or checked is None or checked[0] != state
        if full:
            checks.check_rows(cursor, total_records)
            checks.check_locations(cursor)
        else:
            checks.check_number(cursor, total_records)
        sample = checks.check_sample(cursor)
        averages = checks.sample_averages(cursor)
        checks.check_plan(cursor, averages[0].location)
    what = "checked" if full else f"unchanged since all were checked on {checked[1]:%Y-%m-%d %H:%M}"
    print(f"{total_records} rows {what} in {time.monotonic() - started:.1f} s, all right")
    print(
        f"{sample.recomputed} of {sample.locations} locations recomputed: if {sample.least_found} "
        f"or more differed, one of them was found with {checks.CONFIDENCE:.0%} at least"
    )
    print("Distinct locations:", ", ".join(average.location for average in averages))
    for average in averages:
        print(f"Average temperature in {average.location}: {average.average_temperature:.2f}°C")
    if full and not evidence.record_full_check(connection, state):
        print(
            "The next start reads all rows again: rows change, pages are not frozen, or the "
            "extension pg_visibility is missing"
        )


def _fail(reason: str, exit_code: int) -> int:
    print(f"data-query: {reason}", file=sys.stderr)
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
