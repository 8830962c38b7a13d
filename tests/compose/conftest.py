"""Compose projects that go when their tests are done."""

from contextlib import contextmanager

import pytest
from compose_project import Project
from service import Service

RECORDS = 100_000


@contextmanager
def removed_projects():
    """Makes Compose projects that are removed with their volumes, whatever happens."""
    projects = []

    def make(name, **settings):
        projects.append(Project(name, **settings))
        return projects[-1]

    yield make
    for project in projects:
        project.down()


@pytest.fixture(scope="module")
def make_project(docker_engine):
    with removed_projects() as make:
        yield make


@pytest.fixture(scope="package")
def started(docker_engine):
    """A running stack for the drills."""
    with removed_projects() as make:
        project = make("test-compose-faults", TOTAL_RECORDS=str(RECORDS))
        project.compose("build")
        project.up()
        yield Service(project)
