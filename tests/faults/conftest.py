"""The fault drills: a stack of their own, and load on it."""

from functools import partial

import pytest
from databases import sql_averages
from drill import Drill, Questions, Witness, breakable_stack
from floods import flood_maker

ROWS = 200_000


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
def drill(rows, stack, questions, witness):
    """Makes a drill from the name of its fault."""
    return partial(Drill, stack=stack, questions=questions, witness=witness, rows=rows)


@pytest.fixture
def flood(stack, tmp_path):
    return flood_maker(stack.url, sql_averages(stack.client_environ), tmp_path)
