"""Thousands of connections that open at once in front of the edge cache: all are served."""

import pytest
from drill import all_answered
from floods import burst
from stacks import running_stack


@pytest.fixture(scope="module")
def stack():
    """One with the edge cache."""
    with running_stack(TOTAL_RECORDS=20_000, EDGE_CACHE="on") as stack:
        yield stack


def test_a_thousand_at_once(flood, rows):
    load = burst(flood, 1000, 0.1, hot=0)
    rows.append(load.row("1,000 connections ask within 100 ms, edge cache"))
    assert all_answered(load.failed, load.answers)


def test_ten_thousand_at_once(flood, rows):
    flood(1, connections=32, hot=1).run()  # the edge cache fills
    load = burst(flood, 10_000, 1, hot=1)
    rows.append(load.row("10,000 connections ask within 1 s, edge cache"))
    assert all_answered(load.failed, load.answers)
