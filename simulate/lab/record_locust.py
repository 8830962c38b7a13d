"""Records a run of Locust: each second a line of JSON in which everything counts from the start.

Loaded beside a Locust file: -f FILE,record_locust.py. Locust's own history has percentiles of the
last 10 s only; from histograms they can be computed for any stretch of the run.
"""

import json
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import gevent
from locust import events, runners
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from users.api import TIERS
from users.weather_user import WeatherUser

INTERVAL = 1.0  # seconds

runners.WORKER_REPORT_INTERVAL = INTERVAL  # 3 s is too coarse for a chart of 30 s

_answers: Counter[str] = Counter()  # "X-Cache hit": how many
_cut_off: Counter[str] = Counter()  # by worker


@events.init.add_listener
def start(environment: Environment, **_: Any) -> None:
    environment.events.request.add_listener(count)
    if isinstance(environment.runner, WorkerRunner):
        environment.events.report_to_master.add_listener(report)
        return
    environment.events.worker_report.add_listener(merge)
    recording = gevent.spawn(record_each_second, environment)

    @environment.events.quitting.add_listener
    def stop_workers(**_: Any) -> None:
        """Locust itself waits 0.5 s for their last counts; this waits until no user is left."""
        if isinstance(environment.runner, MasterRunner):
            environment.runner.stop()

    @environment.events.quit.add_listener
    def finish(**_: Any) -> None:
        """All workers have reported."""
        recording.kill()
        errors = [
            {"error": str(error.error), "count": error.occurrences}
            for error in environment.runner.errors.values()
        ]
        write(state(environment) | {"errors": errors})


def count(response: Any, **_: Any) -> None:
    headers = getattr(response, "headers", None)
    if headers is not None:
        for name in TIERS:
            _answers[f"{name} {headers.get(name, '')}"] += 1


def report(data: dict[str, Any], **_: Any) -> None:
    data["answers"] = dict(_answers)
    _answers.clear()
    data["cut_off"] = WeatherUser.cut_off


def merge(client_id: str, data: dict[str, Any], **_: Any) -> None:
    _answers.update(data["answers"])
    _cut_off[client_id] = data["cut_off"]


def record_each_second(environment: Environment) -> None:
    while True:
        write(state(environment))
        gevent.sleep(INTERVAL)


def state(environment: Environment) -> dict[str, Any]:
    """Everything so far; times of answers as {milliseconds: how many}, rounded by Locust."""
    runner = environment.runner
    total = runner.stats.total
    return {
        "time": time.time(),
        "users": runner.user_count,
        "workers": runner.worker_count if isinstance(runner, MasterRunner) else 1,
        "requests": total.num_requests,
        "failures": total.num_failures,
        "response_times": dict(total.response_times),
        "cut_off": WeatherUser.cut_off + _cut_off.total(),
        "answers": dict(_answers),
    }


def write(line: dict[str, Any]) -> None:
    with Path(os.environ["RECORDING"]).open("a") as file:
        file.write(json.dumps(line) + "\n")
