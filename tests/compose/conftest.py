"""Compose projects that go when their tests are done."""

import pytest
from compose_project import Project


@pytest.fixture(scope="module")
def make_project(docker_engine):
    """Compose projects that are removed with their volumes, whatever happens."""
    projects = []

    def make(name, **settings):
        projects.append(Project(name, **settings))
        return projects[-1]

    yield make
    for project in projects:
        project.compose("down", "--volumes", "--timeout", "5")
