"""Without PostgreSQL cached answers go on, the others are a quick 503, and it heals by itself."""

import signal

import faults
import pytest
import scheduled_load
from drill import in_time

REFUSAL_LIMIT = 2.2  # seconds; a request waits 2 s for whatever it needs


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("fast restart", signal.SIGINT),
        ("immediate restart", signal.SIGQUIT),
        ("SIGKILL", signal.SIGKILL),
    ],
)
def test_a_restart(stack, drill, lasting, name, number):
    processes = [replica.pid for replica in stack.replicas]
    seconds = lasting(2, 10)
    with drill(f"PostgreSQL: {name}, {seconds} s") as run:
        with faults.postgres_down(stack, number):
            faults.wait(seconds)
        run.over()
    assert not run.failed_hot()
    assert in_time(max(sample.response_time for sample in run.failed), 1)
    assert in_time(run.first("miss"), 2)
    assert [replica.pid for replica in stack.replicas] == processes


def test_a_frozen_server(stack, drill, lasting):
    seconds = lasting(5, 15)
    with drill(f"PostgreSQL: SIGSTOP, {seconds} s") as run:
        with faults.postgres_frozen(stack):
            faults.wait(seconds)
        run.over()
    assert run.failed
    assert {sample.request.path for sample in run.failed} == {"/query"}
    assert in_time(max(sample.response_time for sample in run.failed), 3)


def test_terminated_sessions(stack, drill, lasting):
    seconds = lasting(5, 30)
    with drill(f"PostgreSQL: a session terminated each second, {seconds} s") as run:
        for _ in range(seconds):
            with faults.session_terminated(stack):
                faults.wait(1)
    assert not run.failed


def test_no_connection_is_free(stack, drill, lasting):
    seconds = lasting(3, 15)
    with drill(f"PostgreSQL: foreign sessions hold all connections, {seconds} s") as run:
        with faults.connections_taken(stack):
            faults.wait(seconds)
        run.over()
    assert run.failed
    assert not run.failed_hot()


def test_slow_queries_fill_the_pool(stack, drill, lasting):
    """Whoever needs PostgreSQL waits as long as its time allows; the others wait for nobody."""
    seconds = lasting(5, 15)
    with drill(f"PostgreSQL: slow queries fill the pools, {seconds} s") as run:
        with faults.table_locked(stack):
            faults.wait(seconds)
        run.over()
    assert not run.failed_hot()
    assert in_time(max(sample.response_time for sample in run.failed), REFUSAL_LIMIT)
    assert in_time(scheduled_load.percentile(run.times("/", "/health-check"), 95), 0.1)
