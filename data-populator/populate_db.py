"""Fills weather_data up to TOTAL_RECORDS rows, exactly once, then exits."""

import signal
import sys
import threading
from types import TracebackType

import psycopg2

from populator.connect import ServerNotReadyError
from populator.environment import ConfigError
from populator.ledger import LoadRefusedError
from populator.loader import load
from populator.progress import Progress
from populator.settings import Settings

REFRESH_INTERVAL = 0.2  # seconds

reasons: list[psycopg2.Error] = []  # why connections were cut, the first one first


def main() -> int:
    """Load, and return the exit code: 0 loaded, 1 failed, 2 bad setting, 128+N on signal N."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    try:
        settings = Settings.from_env()
    except ConfigError as error:
        print(f"data-populator: {error}", file=sys.stderr)
        return 2
    sys.excepthook = _keep_reason
    return _load_while_showing(settings, Progress(settings.total_records))


def _load_while_showing(settings: Settings, progress: Progress) -> int:
    """Load in a daemon thread, so that this one is free to refresh the progress and take signals.

    A signal then ends the process at once, and PostgreSQL rolls the open batches back.
    """
    exit_code = 1

    def work() -> None:
        nonlocal exit_code
        try:
            load(settings, progress)
            exit_code = 0
        except (ServerNotReadyError, LoadRefusedError) as error:
            _fail(progress, str(error))
        except psycopg2.Error as error:
            _fail(progress, f"PostgreSQL: {origin(error)}; run again to go on from the last batch")

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(REFRESH_INTERVAL)
        progress.refresh()
    return exit_code


def _keep_reason(kind: type, error: BaseException, traceback: TracebackType | None) -> None:
    """Keep why PostgreSQL cut a connection in a COPY; print any other error as Python does.

    libpq then has two errors, the reason and the loss of the connection. psycopg2 raises the
    second; the first one it prints through sys.excepthook (pq_raise() in its psycopg/pqpath.c).
    """
    if isinstance(error.__cause__, psycopg2.Error):
        reasons.append(error.__cause__)
    else:
        sys.__excepthook__(kind, error, traceback)


def origin(error: BaseException) -> str:
    """What began it, in one line: a failed rollback, say, hides why there was one."""
    first = reasons[0] if reasons else error
    while first.__context__:
        first = first.__context__
    return " ".join(str(first).split()) or type(first).__name__


def _fail(progress: Progress, reason: str) -> None:
    progress.clear()
    print(f"data-populator: {reason}", file=sys.stderr, flush=True)


def _stop(number: int, _frame: object) -> None:
    name = signal.Signals(number).name
    print(
        f"\ndata-populator: stopped by {name}; run again to go on from the last batch", flush=True
    )
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
