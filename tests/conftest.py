"""Rules and fixtures shared by all tests."""

import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from databases import Databases, postgres_server
from stack import Stack

STACK_ROWS = 200_000


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
