"""Everything is started at once, PostgreSQL last: nothing has to be started in an order."""

import time

import faults
from drill import ask
from polling import poll
from stack import START_LIMIT, is_healthy

from users.api import query_body

SERVING_LIMIT = 15  # seconds from PostgreSQL's start until queries are answered


def test_postgres_comes_late(stack, drill, questions, lasting):
    late = lasting(5, 30)
    others = (stack.valkey, *stack.replicas, stack.nginx)
    for child in (stack.nginx, *stack.replicas, stack.valkey, stack.postgres.server):
        child.stop()
    for child in others:
        child.start()
    stack.nginx.wait_until(lambda: is_healthy(*stack.address), START_LIMIT)
    with drill(f"start: PostgreSQL {late} s late", cold=True, recovery_limit=SERVING_LIMIT) as run:
        faults.wait(late)
        start = time.monotonic()
        stack.postgres.start()
        run.over()
        for location in questions.hot:
            poll(lambda name=location: ask(stack.address, query_body(name)) == 200, SERVING_LIMIT)
    early = [one for one in run.samples if one.ended < start and one.request.path == "/query"]
    assert {sample.status for sample in early} == {503}
