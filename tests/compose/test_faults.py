"""Replicas, Redis and PostgreSQL killed, replaced and restarted while requests come in."""

import subprocess
import time
from datetime import datetime

import pytest
from drill import in_time
from polling import poll
from service import failed, location

RECOVERY = 2.0  # seconds from when PostgreSQL accepts connections to the first answer from it
CACHE_RECOVERY = 5.0  # seconds from Redis' restart to the first answer kept in it
REPLICA = "flask_replica_1"


def wait_for_replica(project):
    poll(lambda: project.serving() == REPLICA, 30)


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
    frontnet = project.network("frontnet")
    before, image = project.address(REPLICA, "frontnet"), project.inspect(REPLICA)["Image"]
    with service.loaded(8) as samples:
        project.compose("rm", "--stop", "--force", REPLICA)
        # Something else takes the address that became free, or Docker would give it out again.
        sleep = ["docker", "run", "--detach", "--network", frontnet, image, "sleep", "60"]
        squatter = subprocess.check_output(sleep, text=True).strip()
        try:
            project.compose("up", "--detach", "--no-deps", REPLICA)
            wait_for_replica(project)
            after = project.address(REPLICA, "frontnet")
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
