"""start_database.sh against an AWS CLI that answers what the test wants."""

import os
import subprocess

import pytest
from emulated_aws import CONFIGURATION

SCRIPT = CONFIGURATION / "start_database.sh"
ARGUMENTS = ["us-east-1", "weather"]


@pytest.fixture
def start(tmp_path):
    """Run the script; each look at the database sees the next of `looks`, the last for ever."""
    aws = tmp_path / "aws"
    aws.write_text(
        "#!/bin/sh\n"
        f'echo "$*" >>{tmp_path}/calls\n'
        'case "$*" in\n'
        f"*describe-db-instances*) n=$(grep -c describe-db {tmp_path}/calls);"
        f' line=$(sed -n "$n p" {tmp_path}/looks);'
        f' [ -n "$line" ] || line=$(tail -n 1 {tmp_path}/looks);'
        ' [ "$line" != fails ] && printf "%s\\n" "$line" ;;\n'
        "esac\n"
    )
    aws.chmod(0o755)

    def run(*looks, timeout=60, arguments=ARGUMENTS):
        (tmp_path / "looks").write_text("".join(f"{look}\n" for look in looks))
        environ = {
            "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
            "DATABASE_POLL": "0.1",
            "DATABASE_TIMEOUT": str(timeout),
        }
        result = subprocess.run([SCRIPT, *arguments], env=environ, capture_output=True, text=True)
        calls = tmp_path / "calls"
        return result, calls.read_text().splitlines() if calls.exists() else []

    return run


def starts(calls):
    return [call for call in calls if "start-db-instance" in call]


def test_a_stopped_database_is_started_once_and_waited_for(start):
    result, calls = start("stopping", "stopped", "fails", "stopped", "starting", "available")
    assert result.returncode == 0, result.stderr
    [call] = starts(calls)
    assert call.endswith("rds start-db-instance --db-instance-identifier weather")
    assert "--region us-east-1" in call
    assert len(calls) == 7


def test_one_that_is_available_is_left_alone(start):
    result, calls = start("available")
    assert result.returncode == 0, result.stderr
    assert not starts(calls)


def test_one_that_does_not_become_available_is_a_failure(start):
    result, _ = start("stopped", "starting", timeout=3)
    assert result.returncode == 1
    assert result.stderr == "start_database.sh: weather: still starting after 3 s\n"


def test_usage(start):
    result, _ = start(arguments=ARGUMENTS[:1])
    assert result.returncode == 1
    assert "usage: start_database.sh REGION IDENTIFIER" in result.stderr
