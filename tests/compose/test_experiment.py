"""An experiment on AWS, with its image and its commands, in containers: moto's server is its S3."""

import contextlib
import json
import subprocess
from argparse import Namespace
from dataclasses import asdict

import experiment
import pytest
from emulated_aws import REGION, EmulatedAws

from lab.plan import Setting

USERS, WORKERS = 20, 2
OPTIONS = Namespace(users=USERS, pattern="random", spawn_rate=20, warm_up=1, seconds=3)
STACK = {"revision": "v1", "rows": 100_000, "setting": asdict(Setting())}
STACK |= {"machine": {"region": REGION, "database": "db.t4g.medium"}}


@pytest.fixture(scope="module")
def aws(started, tmp_path_factory):
    """At the address that this machine has in the containers' network."""
    network = started.project.network("frontnet")
    gateway = ["docker", "network", "inspect", "--format", "{{(index .IPAM.Config 0).Gateway}}"]
    host = subprocess.check_output([*gateway, network], text=True).strip()
    server = EmulatedAws(tmp_path_factory.mktemp("aws"), host)
    yield server
    server.close()


@pytest.fixture(scope="module")
def measured(started, aws):
    """The master's exit code and output, and what it left in S3: name -> text."""
    project = started.project
    project.compose("--profile", "simulate", "build", "locust")
    with aws.client("s3") as s3:
        s3.create_bucket(Bucket="bucket")
    master = f"{project.env['COMPOSE_PROJECT_NAME']}-master"

    def run(command, name, **variables):
        environ = {"LOCUST_HOST": "http://nginx:8080", **variables}
        options = [part for pair in environ.items() for part in ("-e", "=".join(pair))]
        return project.start(
            *("--profile", "simulate", "run", "--rm", "--no-deps", "-T", "--name", name),
            *(*options, "locust-worker", *command.split()),
        )

    variables = experiment.master_variables(OPTIONS, WORKERS, "s3://bucket/results/aws-1")
    variables |= {"EXPERIMENT_STACK": json.dumps(STACK), "AWS_ENDPOINT_URL": aws.url}
    variables |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    variables |= {"AWS_DEFAULT_REGION": REGION}
    names = [master, *(f"{master}-worker-{number}" for number in range(WORKERS))]
    with contextlib.ExitStack() as running:
        command = experiment.master_command("random", WORKERS)
        processes = [running.enter_context(run(command, master, **variables))]
        command = experiment.worker_command("random")
        for name in names[1:]:
            worker = run(command, name, LOCUST_MASTER_NODE_HOST=master)
            processes.append(running.enter_context(worker))
        running.callback(subprocess.run, ["docker", "rm", "-f", *names], capture_output=True)
        outputs = ["".join(process.communicate(timeout=120)) for process in processes]
    found = aws.ask("s3", "list_objects_v2", Bucket="bucket").get("Contents", [])
    with aws.client("s3") as s3:
        bodies = {
            each["Key"]: s3.get_object(Bucket="bucket", Key=each["Key"])["Body"].read()
            for each in found
        }
    return processes[0].returncode, "\n".join(outputs), bodies


def test_the_image_measures_and_leaves_its_results(measured):
    code, output, bodies = measured
    assert code == 0, output
    names = {key.removeprefix("results/aws-1/") for key in bodies}
    assert {"plan.json", "recording.jsonl", "cells/random_20-users.json"} <= names
    assert {"report.md", "report.html", "over-time.svg"} <= names


def test_the_report_is_of_these_users_and_that_stack(measured):
    _, output, bodies = measured
    plan, cell = (
        json.loads(bodies[f"results/aws-1/{name}.json"])
        for name in ("plan", "cells/random_20-users")
    )
    assert (plan["target"], plan["machine"]) == ("aws", STACK["machine"])
    assert (cell["users"], cell["invalid"]) == (USERS, [])
    assert cell["window"]["sent"] > USERS
    assert cell["window"]["fewest_workers"] == WORKERS
    assert cell["cpu"].keys() == {"generator", "generator 1", "generator 2"}
    report = bodies["results/aws-1/report.md"].decode()
    assert "\n- kept: default settings: 20 random users" in report
    assert "results: s3://bucket/results/aws-1" in output
