"""Records a run of Locust, and moves its number of users as the lab says.

Loaded beside a Locust file: -f FILE,record_locust.py. The file RECORDING gets a line of JSON for
each second (recording.py); from the file LOAD, {"users": ..., "spawn_rate": users/s}, the number of
users is read once a second.
"""

import json
import os
from pathlib import Path
from typing import Any

from locust import LoadTestShape

from users.seconds import each_second

LOAD = Path(os.environ["LOAD"])
RECORDING = Path(os.environ["RECORDING"])


class FollowLoad(LoadTestShape):
    """As many users as the lab wants now."""

    def tick(self) -> tuple[int, float]:
        load = json.loads(LOAD.read_text())
        return load["users"], load["spawn_rate"]


@each_second.add_listener
def write(line: dict[str, Any]) -> None:
    with RECORDING.open("a") as file:
        file.write(json.dumps(line) + "\n")
