"""The gate: proves that weather_data is complete and right, or exits 1 with the reason."""

import contextlib
import sys
import time

import checks
import psycopg2
from config import ConfigError, Settings

CONNECT_TIMEOUT = 10.0  # seconds; the gate runs after the load, so the server is up
RETRY_INTERVAL = 0.5  # seconds


def main() -> int:
    """Run every check; the exit code: 0 all right, 1 something wrong, 2 bad setting."""
    try:
        settings = Settings.from_env()
        with contextlib.closing(_connect(settings)) as connection, connection.cursor() as cursor:
            _check(cursor, settings.total_records)
    except ConfigError as error:
        return _fail(str(error), 2)
    except checks.CheckFailedError as error:
        return _fail(str(error), 1)
    except psycopg2.Error as error:
        return _fail(f"PostgreSQL: {' '.join(str(error).split())}", 1)
    return 0


def _check(cursor: "psycopg2.extensions.cursor", total_records: int) -> None:
    started = time.monotonic()
    checks.check_tables(cursor)
    checks.check_rows(cursor, total_records)
    checks.check_locations(cursor)
    averages = checks.sample_averages(cursor)
    checks.check_plan(cursor, averages[0].location)
    print(f"{total_records} rows checked in {time.monotonic() - started:.1f} s, all right")
    print("Distinct locations:", ", ".join(average.location for average in averages))
    for average in averages:
        print(f"Average temperature in {average.location}: {average.average_temperature:.2f}°C")


def _connect(settings: Settings) -> "psycopg2.extensions.connection":
    """Open a read-only connection; raises psycopg2.OperationalError after CONNECT_TIMEOUT."""
    deadline = time.monotonic() + CONNECT_TIMEOUT
    while True:
        try:
            connection = psycopg2.connect(
                host=settings.postgres_host,
                port=settings.postgres_port,
                dbname=settings.postgres_db,
                user=settings.postgres_user,
                password=settings.postgres_password,
                sslmode=settings.postgres_sslmode,
                connect_timeout=5,
                application_name="data-query",
            )
            connection.set_session(readonly=True, autocommit=True)
            return connection
        except psycopg2.OperationalError:
            if time.monotonic() > deadline:
                raise
        time.sleep(RETRY_INTERVAL)


def _fail(reason: str, exit_code: int) -> int:
    print(f"data-query: {reason}", file=sys.stderr)
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
