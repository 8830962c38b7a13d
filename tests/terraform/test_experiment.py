"""experiment.py against an AWS CLI that answers what the test wants; on moto in test_apply.py."""

import json
import os
import signal
import subprocess
import sys

import pytest
from emulated_aws import CONFIGURATION
from polling import poll

SCRIPT = CONFIGURATION / "experiment.py"
STACK = {
    "region": "us-east-1",
    "cluster": "weather",
    "subnets": ["subnet-a", "subnet-b"],
    "security_group": "sg-1",
    "master": "weather-experiment-master:1",
    "worker": "weather-experiment-worker:1",
    "log_group": "/ecs/weather/experiment",
    "results": "s3://bucket/results",
    "vcpu": 4,
}
OUTPUT = json.dumps(STACK)
MASTER = "arn:1-1"
TERRAFORM = """#!/bin/sh
printf '%s\\n' "$OUTPUT"
[ -n "$OUTPUT" ] || { echo 'Error: Output "experiment" not found' >&2; exit 1; }
"""
# Each look at the master sees the next line of `looks`, the last one for ever.
AWS = """#!/bin/sh
echo "$*" >>calls
for last; do :; done
case "$*" in
*get-service-quota*) echo '{"Quota": {"Value": 20}}' ;;
*run-task*)
  call=$(grep -c run-task calls)
  [ "$call" = "$REFUSED" ] && echo '{"tasks": [], "failures": [{"reason": "RESOURCE:CPU"}]}' && exit
  count=$(echo "$*" | sed 's/.*--count \\([0-9]*\\).*/\\1/') i=1
  printf '{"failures": [], "tasks": [{"taskArn": "arn:%s-1"}' "$call"
  while [ $i -lt "$count" ]; do i=$((i + 1)); printf ', {"taskArn": "arn:%s-%s"}' "$call" $i; done
  echo ']}' ;;
*describe-tasks*)
  line=$(sed -n "$(grep -c describe-tasks calls) p" looks)
  [ -n "$line" ] || line=$(tail -n 1 looks)
  [ "$line" != fails ] && printf '%s\\n' "$line" ;;
*get-log-events*) echo '{"events": [{"message": "the last words"}]}' ;;
*list-tasks*) echo '{"taskArns": ["arn:of an interrupted call"]}' ;;
*stop-task*) [ -z "$STOP_FAILS" ] || { echo AccessDenied >&2; exit 254; }; echo '{}' ;;
*"s3 cp"*) [ -z "$REPORT" ] || cp -r "$REPORT" "$last" ;;
esac
"""


def look(status, code=None, addressed=True):
    details = [{"name": "privateIPv4Address", "value": "10.0.0.9"}] if addressed else []
    task = {
        "taskArn": MASTER,
        "lastStatus": status,
        "attachments": [{"details": details}],
        "containers": [{} if code is None else {"exitCode": code}],
    }
    task |= {"stoppedReason": "Essential container in task exited"} if status == "STOPPED" else {}
    return json.dumps({"tasks": [task]})


COMING = [json.dumps({"tasks": []}), look("PROVISIONING", addressed=False)]


@pytest.fixture
def report(tmp_path):
    """What the master left in S3."""
    folder = tmp_path / "report"
    (folder / "cells").mkdir(parents=True)
    (folder / "report.html").write_text("<!doctype html>")
    (folder / "report.md").write_text("# x\n\n**MISSED**: y\n\n- missed: z\n\n## Over time\n- no\n")
    cell = {"invalid": ["1 of 2 workers were left"], "phases": {"window": {"sent": 1_000_000}}}
    (folder / "cells" / "a.json").write_text(json.dumps(cell))
    return folder


@pytest.fixture
def start(tmp_path):
    """Start the script; its result has what it asked AWS, too."""
    for name, program in (("aws", AWS), ("terraform", TERRAFORM)):
        (tmp_path / name).write_text(program)
        (tmp_path / name).chmod(0o755)
    calls = tmp_path / "calls"

    def run(*options, looks=(), end=None, output=OUTPUT, **variables):
        (tmp_path / "looks").write_text("".join(f"{line}\n" for line in looks))
        environ = {
            "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
            "EXPERIMENT_POLL": "0.02",
            "OUTPUT": output,
        }
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            [sys.executable, SCRIPT, "--out", tmp_path / "out", *options],
            cwd=tmp_path,
            env=environ | {name: str(value) for name, value in variables.items()},
            stdout=pipe,
            stderr=pipe,
            text=True,
        )
        if end:
            poll(lambda: calls.exists() and "experiment-worker" in calls.read_text())
            process.send_signal(end)
        printed = process.communicate(timeout=60)
        result = subprocess.CompletedProcess(process.args, process.returncode, *printed)
        result.calls = calls.read_text().splitlines() if calls.exists() else []
        return result

    return run


def started(result):
    return [call for call in result.calls if "run-task" in call]


def stopped(result):
    """The tasks that were stopped; their names have a blank."""
    stops = [call.partition("--task ")[2] for call in result.calls if "stop-task" in call]
    return [stop.partition(" --reason")[0] for stop in stops]


INTERRUPTED = "arn:of an interrupted call"


def test_workers_come_ten_at_a_time_and_know_their_master(start, report):
    looks = [*COMING, look("PENDING"), look("RUNNING"), look("STOPPED", 0)]
    result = start("--users", "15000", looks=looks, REPORT=report)
    assert result.returncode == 0, result.stderr
    master, *workers = started(result)
    assert "--task-definition weather-experiment-master:1 --count 1 " in master
    assert "simulate/post/random-locations.py,simulate/lab/record_in_cluster.py" in master
    assert '"--expect-workers", "11"' in master
    assert [call.partition("--count ")[2].split()[0] for call in workers] == ["10", "1"]
    for call in workers:
        assert "--task-definition weather-experiment-worker:1" in call
        assert '{"name": "LOCUST_MASTER_NODE_HOST", "value": "10.0.0.9"}' in call
    runs = {call.partition("--started-by ")[2].split()[0] for call in started(result)}
    assert len(runs) == 1
    assert all("--propagate-tags TASK_DEFINITION" in call for call in started(result))
    of_workers = [*(f"arn:2-{n}" for n in range(1, 11)), "arn:3-1"]
    assert set(stopped(result)) == {INTERRUPTED, *of_workers}, "the master ended by itself"


def test_a_missed_service_level_is_exit_code_1(start, report, tmp_path):
    result = start(looks=[look("RUNNING"), look("STOPPED", 1)], REPORT=report)
    assert result.returncode == 1
    assert result.stderr == ""
    html = tmp_path / "out" / "report.html"
    said = f"\nmissed: z\nINVALID: 1 of 2 workers were left\nreport: {html}\ncost: about 0.20 doll"
    assert said in result.stdout
    assert "ars for 3 tasks during 0.0 minutes and 1,000,000 requests;" in result.stdout


def test_a_master_that_fails_is_quoted(start):
    result = start(looks=[look("RUNNING"), look("STOPPED", 1)])
    assert result.returncode == 1
    assert "ended with exit code 1 (Essential container in task exited)" in result.stderr
    assert result.stderr.endswith("/ecs/weather/experiment, ends with:\n  the last words\n")
    assert set(stopped(result)) == {"arn:2-1", "arn:2-2", INTERRUPTED}
    assert "cost: about 0.00 dollars for 3 tasks" in result.stdout


def test_a_master_that_never_runs_gets_no_workers(start):
    result = start(looks=[look("STOPPED", addressed=False)])
    assert result.returncode == 1
    assert "ended with exit code None" in result.stderr
    assert len(started(result)) == 1


def test_looks_that_fail_are_repeated(start, report):
    looks = ["fails", look("RUNNING"), "fails", "fails", look("STOPPED", 0)]
    result = start(looks=looks, REPORT=report)
    assert result.returncode == 0, result.stderr


def test_a_task_that_ecs_does_not_start_ends_it(start):
    result = start("--users", "15000", looks=[look("RUNNING")], REFUSED=3)
    assert result.returncode == 1
    [line] = result.stderr.splitlines()
    assert line.endswith("did not start a task of weather-experiment-worker:1: RESOURCE:CPU")
    assert set(stopped(result)) == {MASTER, *(f"arn:2-{n}" for n in range(1, 11)), INTERRUPTED}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_whoever_interrupts_it_leaves_no_task(start, number):
    result = start(looks=[look("RUNNING")], end=number)
    assert result.returncode == 128 + number
    assert {MASTER, INTERRUPTED} <= set(stopped(result))
    assert "cost: about 0.00 dollars" in result.stdout


def test_a_task_that_cannot_be_stopped_is_named(start, report):
    looks = [look("RUNNING"), look("STOPPED", 0)]
    result = start(looks=looks, REPORT=report, STOP_FAILS="yes")
    assert f"{INTERRUPTED} may still run: aws ecs stop-task: AccessDenied" in result.stderr
    assert stopped(result).count("arn:2-1") == 3


def test_more_than_the_quota_is_not_even_tried(start):
    result = start("--users", "30000")
    assert result.returncode == 1
    assert "22 tasks of Locust beside a stack of 4 vCPU need 26, but" in result.stderr
    assert "may run 20 vCPU on Fargate in us-east-1. Ask for more: aws service-q" in result.stderr
    assert started(result) == []


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"output": "null"}, "set experiments = true, and apply"),
        ({"output": ""}, '(Error: Output "experiment" not found)'),
        ({"PATH": "/nowhere"}, "terraform is not installed"),
    ],
)
def test_what_is_missing_is_one_line(start, how, message):
    result = start(**how)
    assert result.returncode == 1
    [line] = result.stderr.splitlines()
    assert message in line


def test_results_are_not_mixed(start, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "plan.json").touch()
    result = start()
    assert result.returncode == 1
    assert "is not empty: choose another --out" in result.stderr
    assert result.calls == []


@pytest.mark.parametrize("options", [["--users", "0"], ["--pattern", "none"]])
def test_a_bad_option_is_exit_code_2(start, options):
    assert start(*options).returncode == 2
