"""However many ask for the same location at once, PostgreSQL is asked a few times."""

import http.client
from collections import Counter

import faults
import pytest
from drill import CLIENT_LIMIT
from queries import queries_logged

from users.api import QUERY_HEADERS, QUERY_PATH, query_body

BURST = 1000  # requests


def burst(stack, location):
    """Ask for a location 1,000 times at once, each replica a third; gives statuses and bodies."""
    clients = [
        http.client.HTTPConnection(*stack.replicas[number % 3].address, timeout=CLIENT_LIMIT)
        for number in range(BURST)
    ]
    for client in clients:
        client.connect()
    for client in clients:
        client.request("POST", QUERY_PATH, query_body(location), QUERY_HEADERS)
    answers = Counter()
    for client in clients:
        with client.getresponse() as response:
            answers[response.status, response.read()] += 1
        client.close()
    return answers


@pytest.mark.parametrize(
    ("fault", "most"), [(None, 3), (faults.redis_killed, 9)], ids=["with Redis", "without Redis"]
)
def test_a_thousand_misses_at_once(stack, questions, fault, most):
    location = questions.next_cold()
    with queries_logged(stack) as queries:
        if fault:
            with fault(stack):
                answers = burst(stack, location)
        else:
            answers = burst(stack, location)
        assert 1 <= queries(location) <= most
    # A slow machine takes longer for the whole burst than requests wait for another's answer.
    assert {status for status, _ in answers} <= {200, 503}
    right = [body for status, body in answers if status == 200]
    assert len(right) == 1
    assert answers[200, right[0]] >= BURST / 2
