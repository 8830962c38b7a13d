"""Ten minutes of random faults, one every 20 s: what holds after one fault holds after many."""

import random
import signal
import time

import faults
import pytest

SEED = 10
MINUTES = 10
INTERVAL = 20  # seconds from fault to fault
SHORTEST, LONGEST = 1, 10  # seconds that a fault lasts


def replica_frozen(stack):
    return faults.frozen(random.choice(stack.replicas))


def redis_frozen(stack):
    return faults.frozen(stack.valkey)


def postgres_stopped(stack):
    return faults.postgres_down(stack, signal.SIGINT)


def postgres_crashed(stack):
    return faults.postgres_down(stack, signal.SIGKILL)


FAULTS = [
    *(faults.replica_killed, faults.worker_killed, faults.replicas_down, replica_frozen),
    *(faults.redis_killed, faults.redis_emptied, faults.redis_full, faults.redis_poisoned),
    *(redis_frozen, postgres_stopped, postgres_crashed, faults.postgres_frozen),
    *(faults.session_terminated, faults.connections_taken, faults.table_locked),
]


@pytest.mark.soak
def test_random_faults(stack, drill):
    random.seed(SEED)
    for _ in range(MINUTES * 60 // INTERVAL):
        begin = time.monotonic()
        fault, seconds = random.choice(FAULTS), random.uniform(SHORTEST, LONGEST)
        with drill(f"soak: {fault.__name__}, {seconds:.1f} s") as run:
            with fault(stack):
                faults.wait(seconds)
            run.over()
        faults.wait(max(0.0, begin + INTERVAL - time.monotonic()))
