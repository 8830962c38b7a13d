"""1,000 users while the machine is busy, or a part of the stack stops for a moment: all wait."""

import time
from itertools import pairwise

import faults
import pytest
from drill import all_answered, in_time
from floods import ARRIVAL, thinking_users
from queries import queries_logged

USERS = 1000
STOPPED = 1.5  # seconds
STALL = 0.6  # seconds; Redis has 0.25 for an answer, and busy processes alone stall nobody so long
P99_LIMIT = 2.0  # seconds
HOT = 0.8  # of the requests; without Redis PostgreSQL is asked five times as often


def test_a_busy_machine(stack, flood, rows, witness, lasting):
    faults.empty_caches(stack)
    with thinking_users(flood, USERS, lasting(6, 20), hot=0) as load:
        faults.wait(ARRIVAL)
        faults.squeeze(lasting(2, 5), lasting(1, 3))
    rows.append(load.row(f"{USERS} users, then 2 and then 6 busy processes"))
    assert all_answered(load.failed, load.answers)
    assert in_time(load.p99, P99_LIMIT)
    witness.check()


@pytest.mark.parametrize(
    ("name", "fault"),
    [("all replicas", faults.replicas_frozen), ("PostgreSQL", faults.postgres_frozen)],
    ids=["replicas", "PostgreSQL"],
)
def test_a_pause(stack, flood, rows, witness, lasting, name, fault):
    faults.empty_caches(stack)
    with thinking_users(flood, USERS, lasting(3, 10), hot=0) as load:
        faults.wait(ARRIVAL)
        with fault(stack):
            faults.wait(STOPPED)
        over = time.monotonic()
    rows.append(load.row(f"{USERS} users, {name}: SIGSTOP, {STOPPED} s", over))
    assert all_answered(load.failed, load.answers)
    assert in_time(load.p99, P99_LIMIT)
    witness.check()


def test_a_busy_machine_asks_postgresql_no_more_than_before(stack, flood, rows, lasting):
    """Redis seems slow where the worker itself gets no CPU; that must not be taken for its end."""
    stalls = lasting(2, 3)
    seconds = 2 * stalls
    counts = []
    with (
        faults.replicas_with(stack, MEMORY_CACHE="false"),
        queries_logged(stack) as queries,
        thinking_users(flood, USERS, 1 + 2 * seconds, HOT) as load,
    ):
        faults.wait(ARRIVAL + 1)  # the hot locations get into the cache
        counts.append(queries())
        faults.wait(seconds)
        counts.append(queries())
        with faults.machine_busy(6):
            for _ in range(stalls):
                with faults.frozen(stack.valkey):
                    faults.wait(0.1)  # each replica waits for an answer when it is stopped, too
                    with faults.replicas_frozen(stack):
                        faults.wait(STALL)
                faults.wait(2 - STALL)
            counts.append(queries())
    quiet, busy = ((end - start) / seconds for start, end in pairwise(counts))
    rows.append(load.row(f"6 busy processes, queries/s {quiet:.0f} before, {busy:.0f} in stalls"))
    assert len(load.failed) < len(load.answers) / 10  # who is refused asks PostgreSQL nothing
    assert busy < 2 * quiet
