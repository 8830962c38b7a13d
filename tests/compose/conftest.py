"""Compose projects that go when their tests are done."""

from contextlib import contextmanager

import pytest
from compose_project import Project


@contextmanager
def projects():
    """Makes Compose projects that are removed with their volumes, whatever happens."""
    made = []

    def make(name, **settings):
        made.append(Project(name, **settings))
        return made[-1]

    yield make
    for project in made:
        project.down()


@pytest.fixture(scope="module")
def make_project(docker_engine):
    """Compose projects for the tests of one file."""
    with projects() as make:
        yield make


@pytest.fixture(scope="session")
def full_project(docker_engine):
    """The whole stack with 100,000 rows, for test_faults.py and then test_observe.py."""
    with projects() as make:
        project = make("test-compose-full", TOTAL_RECORDS="100000")
        project.compose("build")
        project.up()
        yield project
