"""Terraform, and one deployment to an emulated AWS from its first apply to its end."""

import json
import shutil
import signal
from types import SimpleNamespace

import pytest
from emulated_aws import Deployment, EmulatedAws, copy_for_mocks, environment
from inventory import ZONE, everything, snapshot, tasks_of_experiments
from provider import init

RESULTS = {  # of an experiment
    "plan.json": "{}",
    "report.html": "<!doctype html>",
    "report.md": "# Experiments: aws\n\n**kept**: Promised is much.\n\n- kept: 1,000 zipf users\n",
    "cells/zipf_1000-users.json": json.dumps(
        {"invalid": [], "phases": {"arrival": {"sent": 100_000}, "window": {"sent": 900_000}}}
    ),
}


@pytest.fixture(scope="session")
def terraform():
    if not shutil.which("terraform"):
        pytest.skip("terraform is not installed")


@pytest.fixture(scope="session")
def configuration(terraform, tmp_path_factory):
    """An initialised copy of the configuration; no provider is configured in it."""
    folder = copy_for_mocks(tmp_path_factory.mktemp("configuration"))
    init(folder, environment())
    return folder


@pytest.fixture(scope="session")
def aws(terraform, tmp_path_factory):
    server = EmulatedAws(tmp_path_factory.mktemp("aws"))
    yield server
    server.close()


@pytest.fixture(scope="session")
def life(aws, tmp_path_factory):
    """What happened in the life of one deployment, step by step, but for its end.

    The creation of database, load balancer and cache takes the provider 90 s whatever the emulator
    answers, so all tests share one.
    """
    deployment = Deployment(tmp_path_factory.mktemp("deployment"), aws)
    with aws.client("route53") as route53:
        zone = route53.create_hosted_zone(Name=ZONE, CallerReference="tests")["HostedZone"]["Id"]
    life = SimpleNamespace(nothing=everything(aws))

    aws.set_exit_codes(**{"data-populator": 1})
    life.populator_fails = deployment.apply()
    life.after_populator_failed = snapshot(aws)

    aws.set_exit_codes(flask=1)
    life.first_flask_fails = deployment.apply()

    aws.set_exit_codes()
    life.applied = deployment.apply()
    life.stack = snapshot(aws)
    life.state = (deployment.folder / "terraform.tfstate").read_text()
    before = aws.count_requests()
    life.second_plan = deployment.run(
        "plan", "-input=false", "-detailed-exitcode", "-out=second.tfplan"
    )
    life.requests_of_second_plan = aws.count_requests() - before
    life.plan_file = deployment.run("show", "-json", "second.tfplan").stdout
    life.without_jobs = deployment.run(
        "plan", "-input=false", "-refresh=false", "-var=run_jobs=false"
    )

    aws.set_exit_codes(**{"data-query": None})
    life.query_fails = deployment.apply("-var=pool_maxconn=20")
    life.after_query_failed = snapshot(aws)

    aws.set_exit_codes(flask=1)
    life.flask_fails = deployment.apply("-var=pool_maxconn=20")
    life.after_flask_failed = snapshot(aws)

    aws.set_exit_codes()
    aws.stop_stack()
    life.changed = deployment.apply(
        "-var=pool_maxconn=20",
        "-var=locust_workers=2",
        '-var=locust_cidrs=["203.0.113.9/32"]',
        "-var=metrics=true",
        "-var=alarm_email=me@example.com",
        "-var=ecs_exec=true",
        "-var=stop_at=20:00",
        f"-var=hosted_zone_id={zone.rpartition('/')[2]}",
        f"-var=domain_name=weather.{ZONE}",
        "-var=experiments=true",
    )
    life.after_change = snapshot(aws)
    life.final_state = (deployment.folder / "terraform.tfstate").read_text()

    life.experiment_refused = deployment.experiment("--users", 10_000)
    aws.set_experiments(vcpu=100, results=RESULTS)
    life.experiment_folder = tmp_path_factory.mktemp("experiment") / "results"
    options = ("--pattern", "zipf", "--out", life.experiment_folder)
    life.experiment = deployment.experiment(*options)
    life.after_experiment = tasks_of_experiments(aws)
    life.experiment_ended = deployment.experiment(poll_seconds=60, end=signal.SIGTERM)
    life.after_end = tasks_of_experiments(aws)[len(life.after_experiment) :]

    life.deployment = deployment
    return life


@pytest.fixture(scope="session")
def end(life, aws):
    """The end of the same deployment."""
    destroyed = life.deployment.run("destroy", "-auto-approve", "-input=false")
    return SimpleNamespace(destroyed=destroyed, left=everything(aws))
