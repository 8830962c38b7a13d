"""Replicas that die, stop or freeze cost no request."""

import time

import faults
import scheduled_load
from drill import ask, in_time
from polling import poll

from users.api import query_body

BACK_LIMIT = 12  # seconds until a killed replica gets requests again
GRACE = 25  # seconds that a replica may take to stop


def serves_again(drill, name, since):
    """Seconds from ``since`` to the first answer of the replica after it died."""
    gone = since + 0.2  # what was under way has ended
    return min(
        sample.ended - since
        for sample in drill.samples
        if sample.due > gone and sample.headers.get("X-Served-By") == name
    )


def test_a_killed_replica(stack, drill, lasting):
    replica = stack.replicas[1]
    times = lasting(2, 5)
    killed = []
    with drill(f"replica: SIGKILL, {times} times") as run:
        for _ in range(times):
            before = replica.pid
            killed.append(time.monotonic())
            replica.kill()
            poll(lambda old=before: replica.pid not in (None, old), BACK_LIMIT)
            faults.bring_back(replica)
            faults.wait(3)  # nginx asks it again after 1 to 2 s
        run.over()
    assert not run.failed
    assert in_time(run.p99, 0.25)
    for moment in killed:
        assert in_time(serves_again(run, replica.name, moment), BACK_LIMIT)


def test_killed_workers(stack, drill, lasting):
    seconds = lasting(6, 30)
    with drill(f"worker: SIGKILL every 2 s, {seconds} s") as run:
        for _ in range(seconds // 2):
            with faults.worker_killed(stack):
                faults.wait(2)
    assert not run.failed


def test_a_rolling_restart(stack, drill):
    with drill("replicas: rolling restart") as run:
        for replica in stack.replicas:
            start = time.monotonic()
            replica.stop()
            assert in_time(time.monotonic() - start, GRACE)
            assert replica.process.returncode == 0
            faults.bring_back(replica)
    assert not run.failed


def test_a_frozen_replica(stack, drill, lasting):
    seconds = lasting(5, 20)
    with drill(f"replica: SIGSTOP, {seconds} s") as run:
        with faults.frozen(stack.replicas[2]):
            faults.wait(seconds)
        run.over()
    assert not run.failed
    slow = [sample for sample in run.samples if sample.response_time > 1]
    assert len(slow) <= len(run.samples) / 100


def test_all_replicas_down(stack, drill, questions):
    with drill("replicas: all down, 3 s") as run:
        with faults.replicas_down(stack):
            down = time.monotonic()
            faults.wait(3)
            up = time.monotonic()
        run.over()
        poll(lambda: ask(stack.address, query_body(questions.hot[0])) == 200, 2)
    meanwhile = [one for one in run.samples if down + 0.5 < one.due and one.ended < up]
    assert {sample.status for sample in meanwhile} == {503}
    assert in_time(scheduled_load.percentile([one.response_time for one in meanwhile], 99), 0.1)
