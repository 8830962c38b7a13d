"""The fault drills: a stack of their own, load on it, and the table that `make faults` ends with.

In CI faults last seconds and times have no limit: what counts is who was answered, and how.
"""

import json
import os
import tempfile
from functools import partial
from pathlib import Path

import pytest
from databases import sql_averages
from drill import FULL, Drill, Questions, Row, Witness
from floods import Flood
from stack import Stack

ROWS = 200_000
# Seconds. Shorter than a round of the load through all locations (148 s). And a hot answer is
# computed anew in the last fifth of it, so that it lives on for 24 s after PostgreSQL has gone:
# longer than any fault that cached answers must outlive (15 s).
CACHE_EXPIRY = 120
TABLE = pytest.StashKey[list[Row]]()


@pytest.fixture(scope="session")
def lasting():
    """Chooses between what a number is in CI and in a full run."""
    return lambda short, long: long if FULL else short


@pytest.fixture(scope="session")
def stack():
    """A stack whose parts may be broken; the death of PostgreSQL or nginx does not end it."""
    with tempfile.TemporaryDirectory(prefix="weather-tests-") as folder:
        Path(folder).chmod(0o755)
        environ = os.environ | {"NGINX_PORT": "0", "TOTAL_RECORDS": str(ROWS)}
        with Stack(folder, environ | {"CACHE_EXPIRY": str(CACHE_EXPIRY)}) as stack:
            stack.supervised.discard(stack.postgres.server)
            stack.supervised.discard(stack.nginx)
            yield stack


@pytest.fixture(scope="session")
def questions(stack):
    return Questions(sql_averages(stack.client_environ))


@pytest.fixture(scope="session")
def witness(stack):
    return Witness(stack)


@pytest.fixture
def rows(request):
    """The lines of the table."""
    return request.config.stash.setdefault(TABLE, [])


@pytest.fixture
def drill(rows, stack, questions, witness):
    """Makes a drill from the name of its fault."""
    return partial(Drill, stack=stack, questions=questions, witness=witness, rows=rows)


@pytest.fixture
def flood(stack, tmp_path):
    """Makes a generator of heavy load; takes its seconds and the options of flood.py."""
    averages = tmp_path / "averages.json"
    truth = sql_averages(stack.client_environ)
    averages.write_text(json.dumps({name: (float(a), n) for name, (a, n) in truth.items()}))
    return partial(Flood, stack.url, averages)


def pytest_terminal_summary(terminalreporter, config):
    rows = config.stash.get(TABLE, [])
    if not rows:
        return
    terminalreporter.section("fault drills")
    width = max(len(row.fault) for row in rows)
    write = terminalreporter.write_line
    write(f"{'fault':{width}}  requests  failed  wrong  p99 [ms]  recovery [s]")
    for row in rows:
        write(
            f"{row.fault:{width}}  {row.requests:8}  {row.failed:6}  {row.wrong:5}"
            f"  {row.p99 * 1000:8.0f}  {row.recovery:12.1f}"
        )
