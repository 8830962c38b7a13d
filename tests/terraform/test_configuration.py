"""The configuration without any AWS: format, validity, terraform test, variables."""

import os
import re
import shutil
import subprocess

import pytest
from emulated_aws import CONFIGURATION, copy_for_mocks, environment
from provider import init

VARIABLES = dict(
    re.findall(
        r'^variable "(\w+)" \{\n(.*?)^\}', (CONFIGURATION / "variables.tf").read_text(), re.M | re.S
    )
)


def run(*command, folder=CONFIGURATION, **environ):
    return subprocess.run(
        command, cwd=folder, env=environment(**environ), capture_output=True, text=True
    )


@pytest.fixture
def jobs_played(tmp_path):
    """A PATH whose `aws` plays a task that ends with $JOB_EXIT_CODE."""
    aws = tmp_path / "aws"
    aws.write_text(
        "#!/bin/sh\n"
        'case "$*" in\n'
        "*run-task*) echo arn:aws:ecs:us-east-1:123456789012:task/weather/1 ;;\n"
        "*lastStatus*) echo STOPPED ;;\n"
        '*containers*) printf "job\\t%s\\tNone\\n" "$JOB_EXIT_CODE" ;;\n'
        "esac\n"
    )
    aws.chmod(0o755)
    return f"{tmp_path}{os.pathsep}{os.environ['PATH']}"


def test_format(terraform):
    result = run("terraform", "fmt", "-check", "-recursive", "-diff")
    assert result.returncode == 0, result.stdout


def test_terraform_test(configuration, jobs_played):
    command = ["terraform", "test", "-no-color"]
    result = run(*command, folder=configuration, PATH=jobs_played, JOB_EXIT_CODE="0")
    assert result.returncode == 0, result.stdout + result.stderr


def test_negative_control_of_the_gate(configuration, jobs_played):
    """The same test is red when a job fails, so it does run the jobs."""
    command = ["terraform", "test", "-no-color", "-filter=tests/stack.tftest.hcl"]
    result = run(*command, folder=configuration, PATH=jobs_played, JOB_EXIT_CODE="3")
    assert result.returncode == 1
    assert 'run "gate_before_flask"... fail' in result.stdout
    assert "job ended with exit code 3" in " ".join(result.stderr.split())


@pytest.mark.parametrize("name", VARIABLES)
def test_variable_is_described_and_checked(name):
    body = VARIABLES[name]
    assert re.search(r'^  description = ".+\."$', body, re.M)
    [kind] = re.findall(r"^  type += (.+)$", body, re.M)
    if kind != "bool":  # Terraform itself refuses anything but true and false
        assert re.search(rf'error_message = "{name} (is|has) .*\bexpected .+, e\.g\. .+\."', body)
        tests = (CONFIGURATION / "tests" / "variables.tftest.hcl").read_text()
        assert re.search(rf"\bvar\.{name}\b", tests), "no test with a bad value"


@pytest.mark.parametrize("name", ["image_tag", "ingress_cidrs"])
def test_example_settings_set_what_has_no_default(name):
    assert "default" not in VARIABLES[name]
    example = (CONFIGURATION / "terraform.tfvars.example").read_text()
    assert re.search(rf"^{name} +=", example, re.M)


def test_example_settings_are_valid(terraform, tmp_path):
    """Those for 10,000 users too, which the example has as comments."""
    folder = copy_for_mocks(tmp_path)
    init(folder, environment())
    example = (CONFIGURATION / "terraform.tfvars.example").read_text()
    settings = re.sub(r"^# (\w+ += )", r"\1", example, flags=re.M)
    (folder / "terraform.tfvars").write_text(settings)
    shutil.rmtree(folder / "tests")
    (folder / "example.tftest.hcl").write_text(
        'mock_provider "aws" {\n'
        '  mock_data "aws_availability_zones" {\n'
        '    defaults = { names = ["us-east-1a", "us-east-1b"] }\n'
        "  }\n"
        "}\n"
        'run "example" {\n'
        "  command = plan\n"
        "  assert {\n"
        "    condition     = length(aws_ecs_service.locust) == 2\n"
        '    error_message = "the example for 10,000 users has load generators"\n'
        "  }\n"
        "}\n"
    )
    result = run("terraform", "test", "-no-color", folder=folder)
    assert result.returncode == 0, result.stdout + result.stderr
