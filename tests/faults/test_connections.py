"""Thousands of connections: all that open at once are served, idle ones disturb nobody."""

import scheduled_load
from drill import HOT, Row, all_answered, in_time, memory, processes_of
from floods import burst, held

from users.api import QUERY_HEADERS, QUERY_PATH, query_body

HELD = 10_000
RATE = 100  # requests/s
P99_LIMIT = 0.05  # seconds


def test_a_thousand_at_once(flood, rows, witness):
    load = burst(flood, 1000, 0.1, hot=0)
    rows.append(load.row("1,000 connections ask within 100 ms"))
    assert all_answered(load.failed, load.answers)
    witness.check()


def clients_of(stack):
    """Connections of clients that nginx has."""
    found = (one for process in processes_of(stack.nginx) for one in process.net_connections())
    return sum(one.laddr.port == stack.address[1] and bool(one.raddr) for one in found)


def test_ten_thousand_held(stack, questions, rows, lasting):
    form = scheduled_load.Request("GET", "/", None, {})
    queries = [
        scheduled_load.Request("POST", QUERY_PATH, query_body(location), QUERY_HEADERS)
        for location in questions.hot
    ]
    with held(stack.address, HELD):
        samples = scheduled_load.run(
            stack.url,
            lambda number: queries[number // 2 % HOT] if number % 2 else form,
            RATE,
            lasting(3, 20),
        )
        assert clients_of(stack) >= HELD
        nginx = memory(stack.nginx) >> 20
        replicas = "/".join(str(memory(replica) >> 20) for replica in stack.replicas)
    p99 = {path: percentile_of(samples, path) for path in ("/", QUERY_PATH)}
    fault = f"{HELD:,} connections held: MB of nginx {nginx}, of the replicas {replicas}"
    failed = [sample for sample in samples if sample.status != 200]
    rows.append(Row(fault, len(samples), len(failed), 0, max(p99.values()), 0.0))
    assert not failed
    assert all(questions.is_right(sample) for sample in samples)
    assert in_time(max(p99.values()), P99_LIMIT), p99


def percentile_of(samples, path):
    times = [sample.response_time for sample in samples if sample.request.path == path]
    return scheduled_load.percentile(times, 99)
