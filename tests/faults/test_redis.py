"""Redis is a cache: whatever becomes of it, every answer comes, and is right."""

from contextlib import contextmanager

import faults
import pytest
from drill import in_time

P99_LIMIT = 0.5  # seconds
HITS_LIMIT = 5  # seconds until answers come from the cache again


@pytest.fixture(scope="module", autouse=True)
def redis_alone(stack):
    """The replicas' own memory is off: it would answer hot locations whatever became of Redis."""
    with faults.replicas_with(stack, MEMORY_CACHE="false"):
        yield


@contextmanager
def frozen(stack):
    with faults.frozen(stack.valkey):
        yield


@pytest.mark.parametrize(
    ("name", "fault", "short", "long"),
    [
        ("SIGKILL", faults.redis_killed, 4, 15),
        ("SIGSTOP", frozen, 4, 15),
        ("FLUSHALL", faults.redis_emptied, 1, 1),
        ("memory full", faults.redis_full, 4, 15),
        ("poisoned values", faults.redis_poisoned, 2, 2),
    ],
)
def test_a_fault_of_redis(stack, drill, lasting, name, fault, short, long):
    seconds = lasting(short, long)
    with drill(f"Redis: {name}, {seconds} s") as run:
        with fault(stack):
            faults.wait(seconds)
        run.over()
    assert not run.failed
    assert in_time(run.p99, P99_LIMIT)
    assert in_time(run.first("hit"), HITS_LIMIT)


def test_a_slow_redis(stack, drill, lasting):
    seconds = lasting(4, 15)
    run = drill(f"Redis: 2 s of latency, {seconds} s")
    with faults.redis_through_proxy(stack) as proxy, run:
        proxy.delay = 2.0
        faults.wait(seconds)
        proxy.delay = 0.0
        run.over()
    assert not run.failed
    assert in_time(run.p99, P99_LIMIT)
    assert in_time(run.first("hit"), HITS_LIMIT)
