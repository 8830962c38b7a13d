#!/usr/bin/env python3
"""Measures the stack on AWS: starts Locust as tasks, waits, fetches the report, says what it cost.

`make aws-experiment`. Needs Python alone, Terraform with the state in this folder, and the AWS CLI
with the credentials that Terraform uses. Whatever ends it stops its tasks; without it they end by
themselves when the load is over. A look that AWS does not answer is repeated.

Exit code: 0 the service level was kept; 1 it was missed, or the run failed; 2 a bad option.

  EXPERIMENT_POLL   seconds between two looks at the tasks, default 5
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from plan import load_dollars, locust_workers, whole

sys.path.append(str(Path(__file__).resolve().parents[1] / "simulate"))

from users.patterns import PATTERNS

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "simulate" / "results"
POLL = float(os.environ.get("EXPERIMENT_POLL") or 5)  # seconds
PROGRESS = 30  # seconds from one line of progress to the next
MOST_AT_ONCE = 10  # tasks that one call of RunTask starts
START_LIMIT = 300  # seconds for the tasks to run, and again for the results after the load
QUOTA = "L-3032A538"  # Fargate On-Demand vCPU resource count
LAST_LINES = 5  # of the master's log, when it failed
ENDS = (signal.SIGINT, signal.SIGTERM)

Task = dict[str, Any]  # as DescribeTasks has it


class ExperimentError(Exception):
    """The experiment can't go on; the text is for the user."""


@dataclass(frozen=True)
class Stack:
    """Terraform's output `experiment`."""

    region: str
    cluster: str
    subnets: list[str]
    security_group: str
    master: str  # task definitions
    worker: str
    log_group: str
    results: str  # s3://BUCKET/FOLDER
    vcpu: float  # that its services take at least

    @classmethod
    def from_terraform(cls) -> "Stack":
        """Raises ExperimentError."""
        command = ["terraform", f"-chdir={HERE}", "output", "-no-color", "-json", "experiment"]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode or not json.loads(result.stdout):
            said = [line.strip("│ ") for line in result.stderr.splitlines() if "Error" in line]
            raise ExperimentError(
                "Terraform has no output `experiment`: set experiments = true, and apply"
                + (f" ({said[0]})" if said else "")
            )
        return cls(**json.loads(result.stdout))

    def aws(self, *command: str) -> Any:
        """What the AWS CLI answers; raises ExperimentError with its complaint."""
        program = ["aws", "--region", self.region, "--output", "json"]
        result = subprocess.run([*program, *command], capture_output=True, text=True)
        if result.returncode:
            complaint = result.stderr.strip() or f"exit code {result.returncode}"
            raise ExperimentError(f"aws {' '.join(command[:2])}: {complaint.splitlines()[-1]}")
        return json.loads(result.stdout or "null")

    def ecs(self, operation: str, *options: str) -> Any:
        return self.aws("ecs", operation, "--cluster", self.cluster, *options)


class Tasks:
    """The tasks of one run, which are stopped at its end."""

    def __init__(self, stack: Stack, run: str) -> None:
        self._stack = stack
        self._run = run
        self.started: list[str] = []  # ARNs
        self._ended: set[str] = set()

    def __enter__(self) -> "Tasks":
        return self

    def __exit__(self, *_: object) -> None:
        """Stop all that run; another Ctrl-C does not keep it from doing so."""
        before = {number: signal.signal(number, signal.SIG_IGN) for number in ENDS}
        try:
            self._stop()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def start(self, definition: str, count: int, command: str, variables: dict[str, str]) -> None:
        """Raises ExperimentError unless ECS starts all of them."""
        network = {"subnets": self._stack.subnets, "securityGroups": [self._stack.security_group]}
        environment = [{"name": name, "value": value} for name, value in variables.items()]
        override = {"name": "locust", "command": command.split(), "environment": environment}
        for first in range(0, count, MOST_AT_ONCE):
            answer = self._stack.ecs(
                "run-task",
                *("--task-definition", definition),
                *("--count", str(min(MOST_AT_ONCE, count - first))),
                *("--launch-type", "FARGATE"),
                *("--started-by", self._run),
                *("--propagate-tags", "TASK_DEFINITION"),
                *("--network-configuration", json.dumps({"awsvpcConfiguration": network})),
                *("--overrides", json.dumps({"containerOverrides": [override]})),
            )
            self.started += [task["taskArn"] for task in answer["tasks"]]
            if answer["failures"]:
                reason = answer["failures"][0].get("reason", "no reason given")
                raise ExperimentError(f"ECS did not start a task of {definition}: {reason}")

    def look_until(
        self, task: str, ready: Callable[[Task], bool], seconds: float, say: Callable[[str], None]
    ) -> Task:
        """What ECS says of a task when it is ready or has stopped; ``say`` is told of each look.

        Raises ExperimentError after so many seconds.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with suppress(ExperimentError):
                for found in self._stack.ecs("describe-tasks", "--tasks", task)["tasks"]:
                    if found["lastStatus"] == "STOPPED":
                        self._ended.add(task)
                        return found
                    if ready(found):
                        return found
            say(task)
            time.sleep(POLL)
        raise ExperimentError(f"{task} was not as far as it should be after {seconds:.0f} s")

    def _stop(self) -> None:
        tasks = set(self.started)
        with suppress(ExperimentError):  # whose start was interrupted is known to ECS alone
            found = repeated(self._stack.ecs, "list-tasks", "--started-by", self._run)
            tasks |= set(found["taskArns"])
        for task in sorted(tasks - self._ended):
            try:
                stop = ("stop-task", "--task", task, "--reason", "experiment.py ended")
                repeated(self._stack.ecs, *stop)
            except ExperimentError as error:
                print(f"experiment.py: {task} may still run: {error}", file=sys.stderr)


def repeated(call: Callable[..., Any], *arguments: str) -> Any:
    """The answer of a call that may fail twice; raises its third ExperimentError."""
    for _ in range(2):
        with suppress(ExperimentError):
            return call(*arguments)
        time.sleep(POLL)
    return call(*arguments)


def check_quota(stack: Stack, tasks: int) -> None:
    """Raises ExperimentError where the account may not run so many more tasks of 1 vCPU."""
    query = ("service-quotas", "get-service-quota", "--service-code", "fargate")
    quota = repeated(stack.aws, *query, "--quota-code", QUOTA)["Quota"]["Value"]
    wanted = stack.vcpu + tasks
    if wanted > quota:
        raise ExperimentError(
            f"{tasks} tasks of Locust beside a stack of {stack.vcpu:g} vCPU need {wanted:g}, but"
            f" this account may run {quota:g} vCPU on Fargate in {stack.region}. Ask for more:"
            f" aws service-quotas request-service-quota-increase --region {stack.region}"
            f" --service-code fargate --quota-code {QUOTA} --desired-value {wanted:.0f}"
        )


def master_command(pattern: str, workers: int) -> str:
    """What the image runs as Locust's master."""
    files = f"simulate/{PATTERNS[pattern].locust_file},simulate/lab/record_in_cluster.py"
    return (
        f"locust -f {files} --headless --only-summary --stop-timeout 10 --master"
        f" --expect-workers {workers} --expect-workers-max-wait {START_LIMIT}"
    )


def master_variables(options: argparse.Namespace, workers: int, results: str) -> dict[str, str]:
    """What simulate/lab/cluster.py reads, beside what the task definition says of the stack."""
    return {
        "EXPERIMENT_USERS": str(options.users),
        "EXPERIMENT_PATTERN": options.pattern,
        "EXPERIMENT_WORKERS": str(workers),
        "EXPERIMENT_SPAWN_RATE": str(options.spawn_rate),
        "EXPERIMENT_WARM_UP": str(options.warm_up),
        "EXPERIMENT_SECONDS": str(options.seconds),
        "EXPERIMENT_RESULTS": results,
    }


def worker_command(pattern: str) -> str:
    """What the image runs as a worker; LOCUST_MASTER_NODE_HOST says whose."""
    return f"locust -f simulate/{PATTERNS[pattern].locust_file} --worker"


def address(task: Task) -> str:
    """The task's private IPv4 address; empty until it has one."""
    details = (each for part in task["attachments"] for each in part.get("details", ()))
    return next((each["value"] for each in details if each["name"] == "privateIPv4Address"), "")


def log_lines(stack: Stack, task: str, count: int) -> list[str]:
    """The last of the task's log; none where there is no log yet, or AWS does not answer."""
    stream = f"experiment/locust/{task.rpartition('/')[2]}"
    options = ("--log-group-name", stack.log_group, "--log-stream-name", stream)
    with suppress(ExperimentError):
        found = stack.aws("logs", "get-log-events", *options, "--limit", str(count))
        return [event["message"] for event in found["events"]]
    return []


class Progress:
    """Prints the last line of the master's log from time to time."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._began = self._said = time.monotonic()

    def say(self, task: str) -> None:
        if time.monotonic() < self._said + PROGRESS:
            return
        self._said = time.monotonic()
        lines = log_lines(self._stack, task, 1) or ["the tasks start"]
        print(f"[{(self._said - self._began) / 60:.1f} min] {lines[-1]}", flush=True)


def run_load(
    stack: Stack, tasks: Tasks, options: argparse.Namespace, workers: int, results: str
) -> Task:
    """Start all tasks and wait for the master's end; returns what ECS says of it then."""
    load = options.users / options.spawn_rate + options.warm_up + options.seconds
    progress = Progress(stack)
    variables = master_variables(options, workers, results)
    tasks.start(stack.master, 1, master_command(options.pattern, workers), variables)
    [master] = tasks.started
    found = tasks.look_until(master, lambda task: bool(address(task)), START_LIMIT, progress.say)
    if found["lastStatus"] == "STOPPED":
        return found
    variables = {"LOCUST_MASTER_NODE_HOST": address(found)}
    tasks.start(stack.worker, workers, worker_command(options.pattern), variables)
    print(f"{workers} workers and a master start, for {load / 60:.1f} minutes of load", flush=True)
    limit = START_LIMIT + load + START_LIMIT
    return tasks.look_until(master, lambda _: False, limit, progress.say)


def measure(options: argparse.Namespace) -> int:
    """Run the experiment; returns the exit code, raises ExperimentError."""
    run = datetime.now(UTC).strftime("aws-%Y%m%dT%H%M%S")
    out = options.out or RESULTS / run
    if out.exists() and any(out.iterdir()):
        raise ExperimentError(f"{out} is not empty: choose another --out")
    stack = Stack.from_terraform()
    workers, results = locust_workers(options.users), f"{stack.results}/{run}"
    check_quota(stack, workers + 1)
    began, tasks = time.monotonic(), Tasks(stack, run)
    try:
        with tasks:
            master = run_load(stack, tasks, options, workers, results)
        copy = ("s3", "cp", "--recursive", "--only-show-errors", results, str(out))
        repeated(stack.aws, *copy)
        return report(stack, master, out)
    finally:
        if tasks.started:
            print(cost(len(tasks.started), time.monotonic() - began, requests(out)), flush=True)


def report(stack: Stack, master: Task, out: Path) -> int:
    """Say what came of it; the exit code. Raises ExperimentError where there is no report."""
    container = master["containers"][0]
    code = container.get("exitCode")
    if not (out / "report.html").exists():
        reasons = (container.get("reason"), master.get("stoppedReason"))
        why = "; ".join(reason for reason in reasons if reason) or "no reason given"
        lines = log_lines(stack, master["taskArn"], LAST_LINES) or ["nothing"]
        raise ExperimentError(
            f"the master left no report, and ended with exit code {code} ({why}). Its log,"
            f" {stack.log_group}, ends with:\n  " + "\n  ".join(lines)
        )
    print("\n".join([*verdict(out), f"report: {out / 'report.html'}"]), flush=True)
    return 0 if code == 0 else 1


def verdict(out: Path) -> list[str]:
    """What the report says first, and why a cell does not count."""
    head = (out / "report.md").read_text().partition("\n## ")[0]
    lines = [line.removeprefix("- ") for line in head.splitlines() if line.startswith("- ")]
    return lines + [f"INVALID: {reason}" for cell in cells(out) for reason in cell["invalid"]]


def requests(out: Path) -> int:
    """How many requests were sent until the window ended; 0 where nothing is known."""
    return sum(phase["sent"] for cell in cells(out) for phase in cell["phases"].values())


def cells(out: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(out.glob("cells/*.json"))]


def cost(tasks: int, seconds: float, sent: int) -> str:
    dollars = load_dollars(tasks, seconds / 3600, sent)
    return (
        f"cost: about {dollars:.2f} dollars for {tasks} tasks during {seconds / 60:.1f} minutes and"
        f" {sent:,} requests; the stack itself goes on costing"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=whole, default=1000, help="at the peak (1000)")
    parser.add_argument("--pattern", choices=PATTERNS, default="random")
    parser.add_argument("--spawn-rate", type=whole, default=100, help="users/s that come (100)")
    parser.add_argument("--warm-up", type=whole, default=60, help="seconds before the window (60)")
    parser.add_argument("--seconds", type=whole, default=60, help="that are measured (60)")
    parser.add_argument("--out", type=Path, help="folder (simulate/results/aws-TIME)")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        for program in ("terraform", "aws"):
            if not shutil.which(program):
                raise ExperimentError(f"{program} is not installed")
        return measure(options)
    except ExperimentError as error:
        print(f"experiment.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
