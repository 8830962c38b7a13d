"""Measures one cell from inside the cluster, and leaves the results in S3.

Locust's master loads it beside a Locust file: -f FILE,record_in_cluster.py. Variables that begin
with EXPERIMENT_ say what to measure (cluster.py). Locust's exit code is 0 where the service level
was kept, 2 for a bad variable, and 1 for anything else.
"""

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError
from locust import LoadTestShape
from locust.env import Environment

from lab import judge
from lab.cluster import Experiment, NobodyCameError, is_over, keep, progress
from page.environment import ConfigError
from users.seconds import each_second, ended

PROGRESS = 10  # seconds from one line of progress to the next

try:
    experiment = Experiment.from_env(os.environ)
except ConfigError as error:
    print(error, file=sys.stderr)
    sys.exit(2)
lines: list[dict[str, Any]] = []


class OneCell(LoadTestShape):
    """All users come, stay until they are measured, and go."""

    def tick(self) -> tuple[int, float] | None:
        if is_over(lines, experiment, self.get_run_time()):
            return None
        return experiment.users, experiment.spawn_rate


@each_second.add_listener
def record(line: dict[str, Any]) -> None:
    lines.append(line)
    if line["users"] and not len(lines) % PROGRESS:
        print(progress(lines[-PROGRESS:], experiment), flush=True)


@ended.add_listener
def finish(environment: Environment) -> None:
    environment.process_exit_code = 1
    try:
        cell = _keep()
    except (NobodyCameError, BotoCoreError, ClientError) as error:
        print(error, file=sys.stderr, flush=True)
        return
    for line in [*judge.complaints(cell), *cell["flags"]]:
        print(line, flush=True)
    if judge.verdict(cell) == "kept":
        environment.process_exit_code = 0


def _keep() -> dict[str, Any]:
    """Keep the cell in S3; raises NobodyCameError, BotoCoreError, ClientError."""
    bucket, _, name = experiment.results.removeprefix("s3://").partition("/")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, Path(name).name)  # the report is called after it
        folder.mkdir()
        cell = keep(lines, experiment, folder)
        client = boto3.client("s3")
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            key = f"{name}/{path.relative_to(folder).as_posix()}"
            client.put_object(Bucket=bucket, Key=key, Body=path.read_bytes())
        print(f"results: {experiment.results}", flush=True)
    return cell
