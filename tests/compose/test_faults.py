"""Replicas, Redis and PostgreSQL killed, replaced and restarted while requests come in."""

import itertools
import json
import random
import subprocess
import time
from contextlib import contextmanager
from datetime import datetime
from threading import Thread

import pytest
from drill import in_time
from polling import poll
from scheduled_load import Request, run

from users.checker import Checker

RATE = 50  # requests/s
LONGEST = 5.0  # seconds that an answer may take
RECOVERY = 2.0  # seconds from when PostgreSQL accepts connections to the first answer from it
CACHE_RECOVERY = 5.0  # seconds from Redis' restart to the first answer kept in it
REPLICA = "flask_replica_1"
HOT = 3  # locations that are asked for again and again
TRUTH = """
SELECT json_object_agg(location, json_build_array(average, records)) FROM (
  SELECT location, avg(temperature) AS average, count(*) AS records FROM weather_data GROUP BY 1)
"""


class Service:
    """The running stack, what it must answer, and locations nobody has asked for yet."""

    def __init__(self, project):
        self.project = project
        psql = ["psql", "-At", "-U", "weather", "-d", "weather", "-c", TRUTH]
        truth = json.loads(project.exec("db", *psql).stdout)
        self._checker = Checker(truth)
        names = random.Random(0).sample(list(truth), len(truth))
        self.hot, self._fresh = names[:HOT], iter(names[HOT:])
        self._turns = itertools.count()

    def request(self, _number):
        """In turn one for a hot location and one for a fresh one."""
        turn = next(self._turns)
        name = next(self._fresh) if turn % 2 else self.hot[turn // 2 % HOT]
        body = json.dumps({"location": name}).encode()
        return Request("POST", "/query", body, {"Content-Type": "application/json"})

    @contextmanager
    def loaded(self, seconds):
        """Load from outside during these seconds; the list given has all samples at the end."""
        samples = []
        thread = Thread(
            target=lambda: samples.extend(
                run(self.project.url, self.request, RATE, seconds, timeout=2 * LONGEST)
            )
        )
        thread.start()
        try:
            yield samples
        finally:
            thread.join()
        for sample in samples:
            assert sample.status in (200, 503), sample
            assert in_time(sample.response_time, LONGEST), sample
            if sample.status == 200:
                assert not self._checker.problem(location(sample), sample.body), sample
            else:
                assert sample.headers["Retry-After"], sample

    def last_log_lines(self):
        return self.project.compose("logs", "--tail", "10").stdout


def location(sample):
    return json.loads(sample.request.body)["location"]


def failed(samples):
    return [sample for sample in samples if sample.status != 200]


def wait_for_replica(project):
    poll(lambda: project.serving() == REPLICA, 30)


@pytest.fixture(scope="module")
def started(full_project):
    return Service(full_project)


@pytest.fixture
def service(started):
    """All replicas run, for this test and for the next one."""
    yield started
    started.project.compose("up", "--detach", "--no-deps", REPLICA)
    wait_for_replica(started.project)


def test_a_crashed_replica_is_not_missed_and_comes_back_by_itself(service):
    before = service.project.inspect(REPLICA)
    # From a container that sees the host's processes: the test need not run as root.
    kill = f"import os; os.kill({before['State']['Pid']}, 9)"
    docker = ["docker", "run", "--rm", "--pid", "host", "--user", "root", "--network", "none"]
    with service.loaded(6) as samples:
        subprocess.run([*docker, before["Image"], "python", "-c", kill], check=True)
    assert not failed(samples), service.last_log_lines()
    wait_for_replica(service.project)
    after = service.project.inspect(REPLICA)
    assert after["Id"] == before["Id"]
    assert after["RestartCount"] == before["RestartCount"] + 1


def test_a_replaced_replica_is_found_at_its_new_address(service):
    project = service.project
    frontnet = f"{project.env['COMPOSE_PROJECT_NAME']}_frontnet"

    def address():
        return project.inspect(REPLICA)["NetworkSettings"]["Networks"][frontnet]["IPAddress"]

    before, image = address(), project.inspect(REPLICA)["Image"]
    with service.loaded(8) as samples:
        project.compose("rm", "--stop", "--force", REPLICA)
        # Something else takes the address that became free, or Docker would give it out again.
        sleep = ["docker", "run", "--detach", "--network", frontnet, image, "sleep", "60"]
        squatter = subprocess.check_output(sleep, text=True).strip()
        try:
            project.compose("up", "--detach", "--no-deps", REPLICA)
            wait_for_replica(project)
            after = address()
        finally:
            subprocess.run(["docker", "rm", "--force", squatter], check=True, capture_output=True)
    assert not failed(samples), service.last_log_lines()
    assert after != before


def test_a_restart_of_redis_costs_no_answer(service):
    with service.loaded(6) as samples:
        service.project.compose("restart", "redis")
        restarted = time.monotonic()
    assert not failed(samples), service.last_log_lines()
    # A fresh location is a "miss" while Redis is there to keep it, and a "bypass" while it is not.
    kept = [s.due for s in samples if s.headers["X-Cache"] == "miss" and s.due > restarted]
    assert in_time(min(kept) - restarted, CACHE_RECOVERY)


def test_a_restart_of_postgresql_fails_only_what_needs_it(service):
    with service.loaded(1):
        pass  # the hot locations are in Redis now
    with service.loaded(8) as samples:
        service.project.compose("restart", "db")
    assert failed(samples), "nobody noticed the restart"
    assert not {location(sample) for sample in failed(samples)} & set(service.hot)
    accepts = accepts_connections(service.project)
    answered = [s.ended for s in samples if s.headers["X-Cache"] == "miss" and s.ended > accepts]
    assert in_time(min(answered) - accepts, RECOVERY)
    assert in_time(max(sample.due for sample in failed(samples)) - accepts, RECOVERY)
    assert samples[-1].status == 200


def accepts_connections(project):
    """When PostgreSQL last came up, in seconds of time.monotonic()."""
    log = project.compose("logs", "--no-log-prefix", "--timestamps", "db").stdout.splitlines()
    line = [line for line in log if "database system is ready to accept connections" in line][-1]
    moment = datetime.fromisoformat(line.split()[0]).timestamp()
    return moment - time.time() + time.monotonic()
