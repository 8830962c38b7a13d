"""The Terraform configuration, applied to an emulated AWS."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import boto3
from polling import poll
from processes import free_ports
from provider import init

ROOT = Path(__file__).parents[2]
CONFIGURATION = ROOT / "terraform"
REGION = "us-east-1"

# Without max_retries one call that the emulator does not know takes minutes to fail.
PROVIDER = f"""
provider "aws" {{
  region                      = "{REGION}"
  access_key                  = "test"
  secret_key                  = "test"
  max_retries                 = 1
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  s3_use_path_style           = true
}}
"""


def environment(**more):
    """What Terraform and the AWS CLI see: nothing of the user's accounts and settings."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "TF_"))}
    return kept | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # has the AWS CLI
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "CHECKPOINT_DISABLE": "1",
        "TF_CLI_CONFIG_FILE": os.devnull,
        "TF_IN_AUTOMATION": "1",
        **more,
    }


def copy_configuration(folder):
    """A copy of terraform/ without anyone's state and settings."""
    ignore = shutil.ignore_patterns(".terraform*", "*.tfstate*", "*.tfvars", "*override.tf")
    return shutil.copytree(CONFIGURATION, folder / "terraform", ignore=ignore)


def copy_for_mocks(folder):
    """A copy in which random passwords are data: mock providers know no ephemeral resources."""
    copy = copy_configuration(folder)
    secrets = copy / "secrets.tf"
    text = secrets.read_text()
    secrets.write_text(text.replace('ephemeral "', 'data "').replace("ephemeral.", "data."))
    return copy


def _listens(host, port):
    with socket.socket() as s:
        return s.connect_ex((host, port)) == 0


class EmulatedAws:
    """moto's server on a free port."""

    def __init__(self, folder, host="127.0.0.1"):
        [port] = free_ports(1)
        self.url = f"http://{host}:{port}"
        self._exit_codes = folder / "exit_codes.json"
        self._actions = folder / "actions"
        self._experiments = folder / "experiments.json"
        self._log_path = folder / "moto.log"
        self._log = self._log_path.open("w")
        server = [sys.executable, Path(__file__).with_name("moto_plus.py")]
        self._server = subprocess.Popen(
            [*server, "-H", host, "-p", str(port)],
            env=environment(
                MOTO_EXIT_CODES=str(self._exit_codes),
                MOTO_EXPERIMENTS=str(self._experiments),
                MOTO_ACTIONS=str(self._actions),
                MOTO_ACM_VALIDATION_WAIT="0",  # seconds until a certificate is issued
            ),
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        poll(lambda: self._server.poll() is not None or _listens(host, port), 60)
        assert self._server.poll() is None, f"moto ended: see {self._log.name}"

    def close(self):
        self._server.kill()
        self._server.wait()
        self._log.close()

    def count_requests(self):
        """How many requests it has got so far."""
        return self._log_path.read_text().count(" HTTP/1.1")

    def actions(self):
        """What Terraform and the AWS CLI have asked for so far, as IAM names it."""
        lines = [line.split(" ", 1) for line in self._actions.read_text().splitlines()]
        return {action for action, client in lines if not client.startswith("Boto3/")}

    def set_exit_codes(self, **codes):
        """Exit codes of the containers that are run from now on; all others exit with 0."""
        self._exit_codes.write_text(json.dumps(codes))

    def set_experiments(self, vcpu, results):
        """Fargate's quota, and what an experiment leaves in S3 from now on: name -> text."""
        self._experiments.write_text(json.dumps({"vcpu": vcpu, "results": results}))

    def stop_stack(self):
        """What the schedules of stop_at do at their time."""
        with self.client("rds") as rds:
            rds.stop_db_instance(DBInstanceIdentifier="weather")
        with self.client("application-autoscaling") as scaling:
            for service in ("flask", "nginx"):
                scaling.register_scalable_target(
                    ServiceNamespace="ecs",
                    ResourceId=f"service/weather/{service}",
                    ScalableDimension="ecs:service:DesiredCount",
                    MinCapacity=0,
                    MaxCapacity=0,
                )

    @contextlib.contextmanager
    def client(self, service):
        client = boto3.client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        try:
            yield client
        finally:
            client.close()

    def ask(self, service, operation, **arguments):
        """All pages of an operation's answer, merged."""
        with self.client(service) as client:
            if client.can_paginate(operation):
                return client.get_paginator(operation).paginate(**arguments).build_full_result()
            return getattr(client, operation)(**arguments)


def _cli_of(aws, folder):
    """A folder with an AWS CLI for the emulator: RDS does not take AWS_ENDPOINT_URL."""
    cli = folder / "bin" / "aws"
    cli.parent.mkdir()
    real = shutil.which("aws", path=environment()["PATH"])
    cli.write_text(f'#!/bin/sh\nexec {real} --endpoint-url {aws.url} "$@"\n')
    cli.chmod(0o755)
    return cli.parent


class Deployment:
    """A copy of the configuration with its state, applied to an EmulatedAws."""

    def __init__(self, folder, aws):
        self.folder = copy_configuration(folder)
        (self.folder / "emulator_override.tf").write_text(PROVIDER)
        (folder / "simulate").symlink_to(ROOT / "simulate")  # experiment.py reads the patterns
        self._environ = environment(
            PATH=f"{_cli_of(aws, folder)}{os.pathsep}{environment()['PATH']}",
            AWS_ENDPOINT_URL=aws.url,
            TF_VAR_image_tag="v1",
            TF_VAR_ingress_cidrs='["203.0.113.7/32"]',
            TF_VAR_job_poll_seconds="1",
        )
        init(self.folder, self._environ)

    def run(self, command, *options):
        return subprocess.run(
            ["terraform", command, "-no-color", *options],
            cwd=self.folder,
            env=self._environ,
            capture_output=True,
            text=True,
        )

    def apply(self, *options):
        return self.run("apply", "-auto-approve", "-input=false", *options)

    def experiment(self, *options, poll_seconds=0.1, end=None):
        """The result of experiment.py; it gets the signal ``end`` when its tasks have started."""
        printed = self.folder / "experiment.out"
        with printed.open("w") as out:
            process = subprocess.Popen(
                [sys.executable, self.folder / "experiment.py", *map(str, options)],
                env=self._environ | {"EXPERIMENT_POLL": str(poll_seconds)},
                stdout=out,
                stderr=subprocess.PIPE,
                text=True,
            )
        if end:
            poll(lambda: " start, for " in printed.read_text(), 60)
            process.send_signal(end)
        _, errors = process.communicate(timeout=120)
        result = (process.args, process.returncode, printed.read_text(), errors)
        return subprocess.CompletedProcess(*result)
