"""Rules and fixtures shared by all tests."""

import fcntl
import os
import subprocess
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from databases import Databases, postgres_server
from drill import FULL, Row
from stacks import running_stack
from xdist.scheduler import LoadScopeScheduling

TURNSTILE = Path(__file__)
TESTS = TURNSTILE.parent
TABLE = pytest.StashKey[list[Row]]()
STACK_ROWS = 200_000
GROUPS = {  # tests that run one after the other in one process; so does each other file
    "tests/terraform/test_apply.py": "deployment",  # 5 minutes, most of them pauses
    "tests/terraform/test_operator_policy.py": "deployment",
    "tests/terraform/test_parity.py": "deployment",
    # What a stack can do at most it does by itself.
    "tests/faults/test_overload.py": "alone",
    "tests/faults/test_busy_machine.py": "alone",
    "tests/faults/test_connections.py": "alone",
    "tests/faults/test_edge_cache.py": "alone",
    "tests/simulate/test_open_loop.py": "alone",  # beside others it was once 1.4 s late
    "tests/compose/": "images",  # a build in mid test would replace the containers
    "tests/simulate/test_compose_profile.py": "images",
    "tests/simulate/test_experiments.py::test_a_cell_is_measured_in_containers": "images",
}
ORDER = {"deployment": 0, "images": 1, "": 2, "alone": 3}  # others fill the pauses
LOCKS = {"deployment": fcntl.LOCK_UN, "alone": fcntl.LOCK_EX}
# In its group for the images, and alone for what it asks of the machine.
SQUEEZE = "tests/compose/test_floods.py::test_a_busy_machine"


def group_of(nodeid):
    return next((group for path, group in GROUPS.items() if nodeid.startswith(path)), "")


def lock_of(nodeid):
    return fcntl.LOCK_EX if nodeid == SQUEEZE else LOCKS.get(group_of(nodeid), fcntl.LOCK_SH)


@contextmanager
def locked(path, mode):
    """Hold a lock on the file or folder, which other processes respect."""
    file = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(file, mode)
        yield
    finally:
        os.close(file)


class Scheduler(LoadScopeScheduling):
    """Gives the processes of `make test` whole groups."""

    def _split_scope(self, nodeid):
        return group_of(nodeid) or nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config, log):
    return Scheduler(config, log)


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: ORDER[group_of(item.nodeid)])


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item):
    """Let the tests that run alone wait until no other process runs one of this checkout.

    The deployment goes on beside them.
    """
    with ExitStack() as stack:
        with locked(TURNSTILE, fcntl.LOCK_EX):  # nobody overtakes the one that waits to be alone
            stack.enter_context(locked(TESTS, lock_of(item.nodeid)))
        return (yield)


def _fail_if_skipped(report, what):
    """On CI a skip hides a missing program or engine, so it counts as a failure."""
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{what} must not be skipped where CI is set: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    _fail_if_skipped(report, item.nodeid)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    report = yield
    _fail_if_skipped(report, collector.nodeid)
    return report


@pytest.fixture(scope="session")
def docker_engine():
    """Skip where no Docker engine with Compose v2 answers."""
    for command in (["docker", "info"], ["docker", "compose", "version"]):
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=30)
        except (OSError, subprocess.SubprocessError) as error:
            pytest.skip(f"no Docker engine with Compose answers: {error}")


@pytest.fixture(scope="session")
def databases():
    """Databases on a PostgreSQL server of the tests' own."""
    with postgres_server() as server:
        yield Databases(server)


@pytest.fixture
def database(databases):
    """A fresh database."""
    database = databases.make()
    yield database
    databases.drop(database)


@pytest.fixture(scope="session")
def stack():
    """The whole local stack with 200,000 rows, started once."""
    with running_stack(TOTAL_RECORDS=STACK_ROWS) as stack:
        yield stack


@pytest.fixture(scope="session")
def lasting():
    """Chooses between what a number of a drill is in CI and in a full run.

    In CI faults last seconds and times have no limit: what counts is who was answered, and how.
    """
    return lambda short, long: long if FULL else short


@pytest.fixture
def rows(request):
    """The lines of the table that `make faults` ends with."""
    return request.config.stash.setdefault(TABLE, [])


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
