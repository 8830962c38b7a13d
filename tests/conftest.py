"""Rules and fixtures shared by all tests."""

import fcntl
import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from databases import Databases, postgres_server
from stack import Stack

TESTS = Path(__file__).parent
STACK_ROWS = 200_000
COSTLY_FIXTURES = ("life", "stack")  # 5 minutes of Terraform's waits; a local stack
LOCKS = {"alone": fcntl.LOCK_EX, "life": fcntl.LOCK_UN}


def group_of(item):
    """Name of the tests that run one after the other in one process; `make test` has several."""
    if item.get_closest_marker("alone"):
        return "alone"
    costly = (name for name in COSTLY_FIXTURES if name in item.fixturenames)
    return next(costly, str(item.path.relative_to(TESTS)))


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items):
    """Put the longest wait first, so that others fill it, and what runs alone last."""
    groups = {item: group_of(item) for item in items}
    items.sort(key=lambda item: {"life": 0, "stack": 1, "alone": 3}.get(groups[item], 2))
    for item, group in groups.items():
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item):
    """Let tests that are marked `alone` wait until no other process runs one of this checkout.

    Terraform's life goes on beside them: it waits most of the time.
    """
    lock = os.open(TESTS, os.O_RDONLY)
    fcntl.flock(lock, LOCKS.get(group_of(item), fcntl.LOCK_SH))
    try:
        return (yield)
    finally:
        os.close(lock)


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
    with tempfile.TemporaryDirectory(prefix="weather-tests-") as folder:
        Path(folder).chmod(0o755)
        environ = os.environ | {"NGINX_PORT": "0", "TOTAL_RECORDS": str(STACK_ROWS)}
        with Stack(folder, environ) as stack:
            yield stack
