"""Records a run of Locust, and moves its number of users as the lab says.

Loaded beside a Locust file: -f FILE,record_locust.py. The file RECORDING gets a line of JSON for
each second (recording.py); from the file LOAD, {"users": ..., "spawn_rate": users/s}, the number of
users is read once a second.
"""

import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import gevent
from locust import LoadTestShape, events
from locust.env import Environment
from locust.runners import Runner, WorkerRunner

from users.seconds import each_second

# A user is an open file, and Locust asks for 10,000 at most.
most_files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))

LOAD = Path(os.environ["LOAD"])
RECORDING = Path(os.environ["RECORDING"])


class FollowLoad(LoadTestShape):
    """As many users as the lab wants now."""

    def tick(self) -> tuple[int, float]:
        load = json.loads(LOAD.read_text())
        return load["users"], load["spawn_rate"]


@events.init.add_listener
def obey_sigterm(environment: Environment, **_: Any) -> None:
    """Locust itself does not before a headless run with a shape is over."""
    if not isinstance(environment.runner, WorkerRunner):
        gevent.signal_handler(signal.SIGTERM, end, environment.runner)


def end(runner: Runner) -> None:
    """Without its shape a run is over, and Locust stops the users, reports and exits."""
    if runner.shape_greenlet is None:
        sys.exit(128 + signal.SIGTERM)
    runner.shape_greenlet.kill()


@each_second.add_listener
def write(line: dict[str, Any]) -> None:
    with RECORDING.open("a") as file:
        file.write(json.dumps(line) + "\n")
