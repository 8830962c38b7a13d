"""The fault drills: a stack of their own, load on it, and the table that `make faults` ends with.

In CI faults last seconds and times have no limit: what counts is who was answered, and how.
"""

import json
from functools import partial

import pytest
from databases import sql_averages
from drill import FULL, Drill, Questions, Row, Witness, breakable_stack
from floods import Flood

ROWS = 200_000
TABLE = pytest.StashKey[list[Row]]()


@pytest.fixture(scope="session")
def lasting():
    """Chooses between what a number is in CI and in a full run."""
    return lambda short, long: long if FULL else short


@pytest.fixture(scope="session")
def stack():
    with breakable_stack(ROWS) as stack:
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
