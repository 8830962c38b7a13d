"""An answer that ends: hardly anybody computes it anew, and nobody gets it when it is too old."""

import json
import threading
import time
from contextlib import closing

import faults
import pytest
import scheduled_load
from databases import connect, sql_averages
from drill import in_time
from queries import queries_logged
from stacks import running_stack

from users.api import QUERY_HEADERS, QUERY_PATH, query_body

EXPIRY = 4  # seconds
RATE = 50  # requests/s
QUIET = 0.05  # seconds; a 99th percentile below that counts as this much: 2 cores have hiccups
CLOCKS = 0.1  # seconds between the commit of a change and the moment the test calls it made


@pytest.fixture(scope="module")
def stack():
    """One with both caches, whose answers soon end."""
    with running_stack(TOTAL_RECORDS=20_000, EDGE_CACHE="on", CACHE_EXPIRY=EXPIRY) as stack:
        yield stack


@pytest.fixture(scope="module")
def locations(stack):
    """Gives a location that was not asked for yet, with next()."""
    return iter(sorted(sql_averages(stack.client_environ)))


def by_form(location):
    return scheduled_load.Request("POST", QUERY_PATH, query_body(location), QUERY_HEADERS)


def by_json(location):
    """The same question, which the edge cache keeps by itself."""
    body = json.dumps({"location": location}).encode()
    return scheduled_load.Request("POST", QUERY_PATH, body, {"Content-Type": "application/json"})


def load(url, request, seconds):
    """Ask at a steady rate, in the background; gives the thread and its samples."""
    samples = []
    thread = threading.Thread(
        target=lambda: samples.extend(scheduled_load.run(url, lambda _: request, RATE, seconds))
    )
    thread.start()
    return thread, samples


def test_a_hot_answer_is_computed_anew_once_a_replica_at_most_each_time_it_ends(stack, locations):
    location = next(locations)
    with queries_logged(stack) as queries:
        loads = [load(replica.url, by_form(location), 3 * EXPIRY) for replica in stack.replicas]
        for thread, _ in loads:
            thread.join()
        # It is computed anew when 0.7 to 0.8 of EXPIRY are over: four times after the first.
        assert 3 <= queries(location) <= len(stack.replicas) * (1 + 4)
    samples = [sample for _, part in loads for sample in part]
    assert {sample.status for sample in samples} == {200}
    hits = [one.response_time for one in samples if one.headers["X-Cache"] == "hit"]
    everything = [one.response_time for one in samples]
    quiet = max(QUIET, scheduled_load.percentile(hits, 99))
    assert in_time(scheduled_load.percentile(everything, 99), 2 * quiet)


def test_both_caches_together_keep_an_answer_no_longer_than_its_expiry(stack, locations):
    """The second load begins late: the edge then keeps an answer that already is old."""
    location = next(locations)
    first, answers = load(stack.url, by_form(location), 2 * EXPIRY)
    time.sleep(0.5)
    with closing(connect(stack.client_environ)) as connection, connection, connection.cursor() as c:
        c.execute("UPDATE weather_data SET temperature = 1 WHERE location = %s", (location,))
    changed = time.monotonic()
    time.sleep(EXPIRY / 2)
    second, later_answers = load(stack.url, by_json(location), 2 * EXPIRY)
    first.join()
    second.join()
    for samples in (answers, later_answers):
        assert {sample.status for sample in samples} == {200}
        assert b'"average_temperature": 1.0' in samples[-1].body
        old = [one for one in samples if b'"average_temperature": 1.0' not in one.body]
        assert old[-1].sent <= changed + EXPIRY + CLOCKS
        assert "hit" in {sample.headers["X-Edge-Cache"] for sample in samples}
    assert later_answers[0].headers["X-Cache"] == "hit"


def test_nobody_gets_an_answer_that_is_too_old_while_postgresql_is_frozen(stack, locations):
    location = next(locations)
    thread, samples = load(stack.url, by_form(location), 2.5 * EXPIRY)
    time.sleep(1)
    frozen = time.monotonic()
    with faults.postgres_frozen(stack):
        thread.join()
    assert {sample.status for sample in samples} == {200, 503}
    good = [sample for sample in samples if sample.status == 200]
    assert good[-1].sent <= frozen + EXPIRY + CLOCKS
