"""The gate: proves that weather_data is complete and right, or exits 1 with the reason."""

import contextlib
import sys
import time

import psycopg2

from gate import checks
from gate.connect import connect
from gate.environment import ConfigError
from gate.settings import Settings


def main() -> int:
    """Run every check; the exit code: 0 all right, 1 something wrong, 2 bad setting."""
    try:
        settings = Settings.from_env()
        with (
            contextlib.closing(connect(settings.postgres)) as connection,
            connection.cursor() as cursor,
        ):
            _check(cursor, settings.total_records)
    except ConfigError as error:
        return _fail(str(error), 2)
    except checks.CheckFailedError as error:
        return _fail(str(error), 1)
    except psycopg2.Error as error:
        return _fail(f"PostgreSQL: {' '.join(str(error).split())}", 1)
    return 0


def _check(cursor: psycopg2.extensions.cursor, total_records: int) -> None:
    started = time.monotonic()
    checks.check_tables(cursor)
    checks.check_rows(cursor, total_records)
    checks.check_indexes(cursor)
    checks.check_locations(cursor)
    averages = checks.sample_averages(cursor)
    checks.check_plan(cursor, averages[0].location)
    print(f"{total_records} rows checked in {time.monotonic() - started:.1f} s, all right")
    print("Distinct locations:", ", ".join(average.location for average in averages))
    for average in averages:
        print(f"Average temperature in {average.location}: {average.average_temperature:.2f}°C")


def _fail(reason: str, exit_code: int) -> int:
    print(f"data-query: {reason}", file=sys.stderr)
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
