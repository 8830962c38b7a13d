"""wait_for_deployment.sh against an AWS CLI that answers what the test wants."""

import os
import subprocess

import pytest
from emulated_aws import CONFIGURATION

SCRIPT = CONFIGURATION / "wait_for_deployment.sh"
ARGUMENTS = ["us-east-1", "weather", "flask", "weather-flask:2"]
WHY = "CannotPullContainerError; flask exit code null"


@pytest.fixture
def wait(tmp_path):
    """Run the script; each look at the service sees the next of `looks`, the last for ever."""
    aws = tmp_path / "aws"
    aws.write_text(
        "#!/bin/sh\n"
        f'echo "$*" >>{tmp_path}/calls\n'
        'case "$*" in\n'
        f"*describe-services*) n=$(grep -c describe-services {tmp_path}/calls);"
        f' line=$(sed -n "$n p" {tmp_path}/looks);'
        f' [ -n "$line" ] || line=$(tail -n 1 {tmp_path}/looks);'
        ' [ "$line" != fails ] && printf "%s\\n" "$line" ;;\n'
        '*list-tasks*) echo "${TASKS:-arn:1}" ;;\n'
        '*describe-tasks*) printf "CannotPullContainerError\\tflask exit code null \\n" ;;\n'
        "esac\n"
    )
    aws.chmod(0o755)

    def run(*looks, timeout=60, tasks="arn:1", arguments=ARGUMENTS):
        (tmp_path / "looks").write_text("".join(f"{look}\n" for look in looks))
        environ = {
            "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
            "TASKS": tasks,
            "DEPLOYMENT_POLL": "0.1",
            "DEPLOYMENT_TIMEOUT": str(timeout),
        }
        result = subprocess.run([SCRIPT, *arguments], env=environ, capture_output=True, text=True)
        calls = tmp_path / "calls"
        return result, calls.read_text().splitlines() if calls.exists() else []

    return run


def look(state, revision=2, deployment="ecs-svc/1"):
    return f"weather-flask:{revision}\t{state}\t{deployment}"


def test_it_waits_for_the_end_of_the_deployment(wait):
    result, calls = wait(look("IN_PROGRESS"), "fails", look("COMPLETED"))
    assert result.returncode == 0, result.stderr
    assert len(calls) == 3


def test_a_first_deployment_that_fails_ends_it_with_the_reason(wait):
    result, calls = wait(look("IN_PROGRESS"), look("FAILED"))
    assert result.returncode == 1
    assert f"No task of its first revision became healthy. The last task: {WHY}." in result.stderr
    assert not [call for call in calls if "update-service" in call]


def test_a_rollback_ends_it_with_the_reason(wait):
    result, _ = wait(look("IN_PROGRESS"), look("IN_PROGRESS", revision=1, deployment="ecs-svc/2"))
    assert result.returncode == 1
    assert "ECS went back to the last revision that did." in result.stderr
    assert WHY in result.stderr


def test_an_answer_older_than_the_update_is_no_rollback(wait):
    result, _ = wait(look("COMPLETED", revision=1), look("IN_PROGRESS"), look("COMPLETED"))
    assert result.returncode == 0, result.stderr


def test_a_deployment_that_had_failed_before_is_tried_once_more(wait):
    again = [look(state, deployment="ecs-svc/2") for state in ("IN_PROGRESS", "COMPLETED")]
    result, calls = wait(look("FAILED"), look("FAILED"), *again)
    assert result.returncode == 0, result.stderr
    assert len([call for call in calls if "--force-new-deployment" in call]) == 1


def test_a_deployment_that_fails_again_is_not_tried_for_ever(wait):
    result, calls = wait(look("FAILED"), look("FAILED", deployment="ecs-svc/2"))
    assert result.returncode == 1
    assert len([call for call in calls if "--force-new-deployment" in call]) == 1


def test_a_deployment_without_an_end_is_a_failure(wait):
    result, _ = wait(look("IN_PROGRESS"), timeout=1, tasks="None")
    assert result.returncode == 1
    [line] = result.stderr.splitlines()
    assert line.endswith("Its deployment has not ended after 1 s. Its log says more.")


def test_usage(wait):
    result, _ = wait(arguments=ARGUMENTS[:3])
    assert result.returncode == 1
    assert "usage: wait_for_deployment.sh REGION CLUSTER SERVICE" in result.stderr
