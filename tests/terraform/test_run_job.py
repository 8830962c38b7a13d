"""run_job.sh against an AWS CLI that answers what the test wants."""

import os
import signal
import subprocess

import pytest
from emulated_aws import CONFIGURATION
from polling import poll

SCRIPT = CONFIGURATION / "run_job.sh"
ARGUMENTS = ["us-east-1", "weather", "weather-data-query:1", "subnet-a,subnet-b", "sg-1"]


@pytest.fixture
def run(tmp_path):
    """Run the script; `containers` are lines of name, exit code, reason."""
    aws = tmp_path / "aws"
    aws.write_text(
        "#!/bin/sh\n"
        f'echo "$*" >>{tmp_path}/calls\n'
        'case "$*" in\n'
        '*run-task*) printf "$TASK\\n" ;;\n'
        # $FIRST_LOOK at the first look; what it ends as from the second on.
        f"*lastStatus*) n=$(grep -c lastStatus {tmp_path}/calls);"
        ' [ "$n" -gt 1 ] && echo "$STATE" || ${FIRST_LOOK:-echo RUNNING} ;;\n'
        '*containers*) [ -z "$CONTAINERS" ] || printf "$CONTAINERS\\n" ;;\n'
        '*stoppedReason*) echo "Essential container exited" ;;\n'
        "esac\n"
    )
    aws.chmod(0o755)

    def run_job(
        containers="",
        task="arn:aws:ecs:1\\tNone",
        state="STOPPED",
        timeout=60,
        arguments=ARGUMENTS,
        first_look="",
        end=None,
    ):
        environ = {
            "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
            "TASK": task,
            "STATE": state,
            "CONTAINERS": containers,
            "JOB_POLL": "0.1",
            "JOB_TIMEOUT": str(timeout),
            "FIRST_LOOK": first_look,
        }
        calls = tmp_path / "calls"
        pipe = subprocess.PIPE
        job = subprocess.Popen(
            [SCRIPT, *arguments], env=environ, stdout=pipe, stderr=pipe, text=True
        )
        if end:
            poll(lambda: calls.exists() and "lastStatus" in calls.read_text())
            job.send_signal(end)
        output = job.communicate(timeout=60)
        result = subprocess.CompletedProcess(job.args, job.returncode, *output)
        return result, calls.read_text().splitlines() if calls.exists() else []

    return run_job


def test_success_after_waiting_for_the_end(run):
    result, calls = run("data-query\\t0\\tNone")
    assert result.returncode == 0, result.stderr
    assert "weather-data-query:1: started arn:aws:ecs:1" in result.stdout
    assert len([call for call in calls if "lastStatus" in call]) == 2


def test_the_task_runs_once_in_the_private_network(run):
    _, calls = run("data-query\\t0\\tNone")
    [started] = [call for call in calls if "run-task" in call]
    assert "--region us-east-1" in started
    assert "subnets=[subnet-a,subnet-b],securityGroups=[sg-1],assignPublicIp=DISABLED" in started


@pytest.mark.parametrize("code", ["1", "137", "None"])
@pytest.mark.parametrize("other", ["helper\\t0\\tNone\\n", ""])
def test_every_container_must_end_with_0(run, code, other):
    result, _ = run(f"{other}data-query\\t{code}\\tNone")
    assert result.returncode == 1
    [line] = result.stderr.splitlines()
    assert f"data-query ended with exit code {code} (Essential container exited)" in line


@pytest.mark.parametrize(
    ("outcome", "message"),
    [
        ({"containers": ""}, "the task has no containers"),
        ({"task": "None\\tRESOURCE:FARGATE"}, "ECS did not start it (RESOURCE:FARGATE)"),
        ({"arguments": ARGUMENTS[:4]}, "usage: run_job.sh REGION CLUSTER"),
    ],
)
def test_anything_else_fails_with_one_line(run, outcome, message):
    result, _ = run(**outcome)
    assert result.returncode == 1
    [line] = result.stderr.splitlines()
    assert message in line


def test_a_task_that_does_not_end_is_stopped(run):
    result, calls = run(state="RUNNING", timeout=1)
    assert result.returncode == 1
    assert "still RUNNING after 1 s; stopped" in result.stderr
    assert "stop-task" in calls[-1]


def test_a_look_that_fails_is_repeated(run):
    result, calls = run("data-query\\t0\\tNone", first_look="false")
    assert result.returncode == 0, result.stderr
    assert not [call for call in calls if "stop-task" in call]


def test_looks_that_never_succeed_stop_the_task(run):
    result, calls = run(first_look="false", state="", timeout=1)
    assert result.returncode == 1
    assert "stop-task" in calls[-1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_whoever_interrupts_it_leaves_no_task(run, number):
    result, calls = run(state="RUNNING", end=number)
    assert result.returncode == 128 + number
    assert "stop-task --cluster weather --task arn:aws:ecs:1" in calls[-1]


def test_without_the_aws_cli(tmp_path):
    (tmp_path / "bash").symlink_to("/bin/bash")
    (tmp_path / "env").symlink_to("/usr/bin/env")
    result = subprocess.run(
        [SCRIPT, *ARGUMENTS], env={"PATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert result.returncode == 1
    assert "the AWS CLI (aws) is not installed" in result.stderr
