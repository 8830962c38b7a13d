"""The configuration applied to an emulated AWS: the gate, a second plan, secrets, the end."""

import json
import re
import subprocess

import pytest
from emulated_aws import CONFIGURATION
from emulated_aws import environment as variables
from inventory import ZONE, records

from lab.cluster import Experiment
from lab.plan import Setting

EXPERIMENT = ("experiment-master", "experiment-worker")  # families of task definitions


def unwrapped(text):
    """Terraform breaks its messages into lines of 78 characters, with a bar before each."""
    return " ".join(text.replace("│", "").split())


def test_populator_failure_ends_the_first_apply(life):
    assert life.populator_fails.returncode == 1
    assert "data-populator ended with exit code 1" in unwrapped(life.populator_fails.stderr)


def test_no_service_exists_after_the_populator_failed(life):
    assert life.after_populator_failed.services == {}


def test_a_failing_first_deployment_ends_the_apply_with_the_reason(life):
    assert life.first_flask_fails.returncode == 1
    message = unwrapped(life.first_flask_fails.stderr)
    assert "flask: No task of its first revision became healthy." in message
    assert "The last task: A container exited" in message
    assert "flask exit code 1" in message


def test_an_apply_that_outgrows_the_quota_says_so(life):
    message = unwrapped(life.applied.stdout + life.applied.stderr)
    assert "tasks need 19 vCPU, but this account may run 6 on Fargate in us-east-1" in message


def test_the_next_apply_goes_on(life):
    assert life.applied.returncode == 0, life.applied.stderr
    assert set(life.stack.services) == {"flask", "nginx"}


def test_second_plan_is_empty(life):
    assert life.second_plan.returncode == 0, life.second_plan.stdout


def test_no_call_is_repeated(life):
    """The provider repeats for minutes a call that the emulator answers wrongly."""
    assert 50 < life.requests_of_second_plan < 200  # today 131


def test_a_query_that_never_started_ends_the_apply(life):
    assert life.query_fails.returncode == 1
    assert "data-query ended with exit code None" in unwrapped(life.query_fails.stderr)


def test_flask_keeps_its_revision_after_the_query_failed(life):
    before, after = life.stack, life.after_query_failed
    assert before.services["flask"]["taskDefinition"] == after.services["flask"]["taskDefinition"]
    newest = after.definitions["flask"]
    assert newest["revision"] == before.definitions["flask"]["revision"] + 1
    assert environment(newest, "flask")["POOL_MAXCONN"] == "20"


def test_the_revision_in_use_stays_active_after_the_query_failed(life):
    assert life.after_query_failed.flask_in_use == "ACTIVE"


def test_a_revision_that_fails_is_rolled_back_and_ends_the_apply(life):
    assert life.flask_fails.returncode == 1
    message = "The new tasks did not become healthy: ECS went back to the last revision that did."
    assert message in unwrapped(life.flask_fails.stderr)
    in_use = life.stack.services["flask"]["taskDefinition"]
    assert life.after_flask_failed.services["flask"]["taskDefinition"] == in_use
    assert life.after_flask_failed.flask_in_use == "ACTIVE"
    assert life.after_flask_failed.definitions["flask"]["taskDefinitionArn"] != in_use


def test_a_failed_deployment_is_rolled_back(life):
    assert len(life.after_change.services) == 4
    for service in life.after_change.services.values():
        deployment = service["deploymentConfiguration"]
        assert deployment["deploymentCircuitBreaker"] == {"enable": True, "rollback": True}
        most = service["desiredCount"] * deployment["maximumPercent"] // 100
        if service["serviceName"] == "locust-master":  # never two: each would have some workers
            assert (deployment["minimumHealthyPercent"], most) == (0, 1)
            continue
        assert deployment["minimumHealthyPercent"] == 100
        assert most > service["desiredCount"], "no room for a new task beside the old ones"


def test_jobs_are_turned_off_with_a_warning(life):
    assert life.without_jobs.returncode == 0, life.without_jobs.stderr
    output = unwrapped(life.without_jobs.stdout + life.without_jobs.stderr)
    assert "Warning: Check block assertion failed" in output
    message = "run_jobs is false: flask is deployed without loading or checking the data first."
    assert message in output


def test_the_repaired_change_reaches_flask(life):
    assert life.changed.returncode == 0, life.changed.stderr
    service = life.after_change.services["flask"]
    assert service["taskDefinition"] == life.after_change.definitions["flask"]["taskDefinitionArn"]


def test_locust_comes_with_its_workers(life):
    counts = {name: s["desiredCount"] for name, s in life.after_change.services.items()}
    assert counts["locust-master"] == 1
    assert counts["locust-worker"] == 2


def test_the_passwords_are_only_in_secrets_manager(life):
    """But for Redis's: the provider keeps that in the state."""
    passwords = life.stack.passwords
    assert passwords.keys() == {"owner", "app", "redis"}
    assert min(map(len, passwords.values())) >= 8
    assert len(set(passwords.values())) == 3
    definitions = json.dumps(life.stack.definitions, default=str)
    user = life.stack.database["MasterUsername"]
    assert all(f'"{user}"' in text for text in (life.state, life.plan_file, definitions))
    shown = [life.applied.stdout, life.changed.stdout, definitions]
    kept = [life.state, life.plan_file]
    assert not any(password in text for text in shown for password in passwords.values())
    found = {name for text in kept for name in passwords if passwords[name] in text}
    assert found == {"redis"}


CONTAINERS = {  # a container's variables, and whose passwords they hold
    "data-populator": {"POSTGRES_PASSWORD": "owner", "POSTGRES_APP_PASSWORD": "app"},
    "data-query": {"POSTGRES_PASSWORD": "app"},
    "flask": {"POSTGRES_PASSWORD": "app", "REDIS_PASSWORD": "redis"},
}


@pytest.mark.parametrize("family", CONTAINERS)
def test_containers_get_their_passwords_from_secrets(life, aws, family):
    for container in life.stack.definitions[family]["containerDefinitions"]:
        secrets = {s["name"]: s["valueFrom"] for s in container["secrets"]}
        expected = CONTAINERS[container["name"]]
        assert secrets.keys() == expected.keys()
        for name, source in secrets.items():
            *arn, key, stage, version = source.split(":")
            which = {"SecretId": ":".join(arn)} | ({"VersionId": version} if version else {})
            value = aws.ask("secretsmanager", "get_secret_value", **which)["SecretString"]
            value = json.loads(value)[key] if key else value
            assert (value, stage) == (life.stack.passwords[expected[name]], "")


def test_the_master_of_locust_alone_gets_the_password_of_its_page(life):
    secrets = {
        role: [s["name"] for s in definition["containerDefinitions"][0].get("secrets", [])]
        for role, definition in life.after_change.definitions.items()
        if role.startswith("locust-")
    }
    assert secrets == {"locust-master": ["LOCUST_PASSWORD"], "locust-worker": []}


def test_a_role_reads_the_secrets_of_its_task_alone(life, aws):
    for service in ("data-populator", "data-query", "flask", "nginx"):
        role = {"RoleName": f"weather-us-east-1-{service}-execution", "PolicyName": "execution"}
        statements = aws.ask("iam", "get_role_policy", **role)["PolicyDocument"]["Statement"]
        allowed = {
            arn
            for statement in statements
            if statement["Action"] == "secretsmanager:GetSecretValue"
            for arn in statement["Resource"]
        }
        containers = life.stack.definitions[service]["containerDefinitions"]
        used = {s["valueFrom"].rsplit(":", 3)[0] for c in containers for s in c.get("secrets", [])}
        assert allowed == used


def test_flask_logs_in_as_the_role_that_only_reads(life):
    for family, user in (("data-populator", "weather"), ("data-query", "weather_app")):
        assert environment(life.stack.definitions[family], family)["POSTGRES_USER"] == user
    assert environment(life.stack.definitions["flask"], "flask")["POSTGRES_USER"] == "weather_app"


def environment(definition, container):
    [described] = [c for c in definition["containerDefinitions"] if c["name"] == container]
    return {pair["name"]: pair["value"] for pair in described["environment"]}


PEOPLE = ["203.0.113.7/32", "203.0.113.9/32"]  # of the stack, and of Locust's page


def test_only_named_flows_are_open(life):
    between = {
        ("alb", "nginx", 8080),
        ("nginx", "flask", 5000),
        ("flask", "database", 5432),
        ("flask", "cache", 6379),
        ("jobs", "database", 5432),
    }
    expected = {("in", *flow) for flow in between} | {("out", *flow) for flow in between}
    expected |= {("out", task, "0.0.0.0/0", 443) for task in ("nginx", "flask", "jobs")}
    expected.add(("in", PEOPLE[0], "alb", 80))
    assert life.stack.flows == expected


def test_locust_is_open_to_locust_cidrs_and_may_load_the_stack(life):
    """Over HTTPS, which comes with the same apply."""
    added = life.after_change.flows - life.stack.flows
    [load] = [flow for flow in added if flow[1].endswith("/32") and flow[1] not in PEOPLE]
    assert load[:1] + load[2:] == ("in", "alb", 443)  # from the NAT gateway's address
    assert added - {load} == {
        ("in", PEOPLE[0], "alb", 443),
        ("in", PEOPLE[1], "alb", 8089),
        ("in", "alb", "locust", 8089),
        ("out", "alb", "locust", 8089),
        ("in", "locust", "locust", 5557),
        ("out", "locust", "locust", 5557),
        ("out", "locust", "0.0.0.0/0", 443),
    }


def test_database_is_private_and_encrypted_and_insists_on_tls(life):
    database = life.stack.database
    assert not database["PubliclyAccessible"]
    assert database["StorageEncrypted"]
    assert life.stack.database_parameters["rds.force_ssl"] == "1"
    assert life.stack.database_parameters["max_connections"] == "450"


def test_cache_is_encrypted_and_has_a_password(life):
    assert life.stack.cache["TransitEncryptionEnabled"]
    assert life.stack.cache["AuthTokenEnabled"]
    assert life.stack.cache["AtRestEncryptionEnabled"]


def limits(stack):
    """What the autoscaling keeps the number of tasks within."""
    return {t["ResourceId"]: (t["MinCapacity"], t["MaxCapacity"]) for t in stack.scaling}


def test_both_services_scale(life):
    expected = {"service/weather/flask": (3, 10), "service/weather/nginx": (2, 4)}
    assert limits(life.stack) == expected


def test_an_apply_brings_back_what_was_stopped(life):
    assert life.changed.returncode == 0, life.changed.stderr
    assert life.after_change.database["DBInstanceStatus"] == "available"
    assert limits(life.after_change) == limits(life.stack)


def test_everything_stops_every_day(life, aws):
    actions = aws.ask(
        "application-autoscaling", "describe_scheduled_actions", ServiceNamespace="ecs"
    )["ScheduledActions"]
    assert {(action["ResourceId"], action["Schedule"]) for action in actions} == {
        ("service/weather/flask", "cron(0 20 * * ? *)"),
        ("service/weather/nginx", "cron(0 20 * * ? *)"),
    }
    nothing = {"MinCapacity": 0, "MaxCapacity": 0}
    assert [action["ScalableTargetAction"] for action in actions] == [nothing, nothing]
    names = {one["Name"] for one in aws.ask("scheduler", "list_schedules")["Schedules"]}
    assert names == {f"weather-stop-{n}" for n in ("database", "locust-master", "locust-worker")}
    services = life.after_change.services
    assert allowed(aws, "stop") == {
        ("rds:StopDBInstance", life.after_change.database["DBInstanceArn"]),
        ("ecs:UpdateService", services["locust-master"]["serviceArn"]),
        ("ecs:UpdateService", services["locust-worker"]["serviceArn"]),
    }


def test_a_hosted_zone_brings_https(life, aws):
    name = f"weather.{ZONE}."
    made = records(aws) - {(f"{ZONE}.", kind) for kind in ("NS", "SOA")}
    assert (name, "A") in made
    [(proof, kind)] = made - {(name, "A")}
    assert proof.endswith(f".{name}")
    assert kind == "CNAME"
    [certificate] = aws.ask("acm", "list_certificates")["CertificateSummaryList"]
    balancers = aws.ask("elbv2", "describe_load_balancers")["LoadBalancers"]
    listeners = {
        listener["Port"]: listener
        for balancer in balancers
        for listener in aws.ask(
            "elbv2", "describe_listeners", LoadBalancerArn=balancer["LoadBalancerArn"]
        )["Listeners"]
    }
    assert listeners[80]["DefaultActions"][0]["Type"] == "redirect"
    for port in (443, 8089):
        [used] = listeners[port]["Certificates"]
        assert used["CertificateArn"] == certificate["CertificateArn"]


def test_a_shell_is_logged_and_the_root_file_system_stays_read_only(life, aws):
    assert all(service["enableExecuteCommand"] for service in life.after_change.services.values())
    described = aws.ask(
        "ecs", "describe_clusters", clusters=["weather"], include=["CONFIGURATIONS"]
    )
    [cluster] = described["clusters"]
    sessions = cluster["configuration"]["executeCommandConfiguration"]
    assert sessions["logging"] == "OVERRIDE"
    assert sessions["logConfiguration"]["cloudWatchLogGroupName"] == "/ecs/weather/exec"
    for family in ("flask", "nginx", "locust-master", "locust-worker"):
        definition = life.after_change.definitions[family]
        name = family.partition("-")[0]
        [container] = [c for c in definition["containerDefinitions"] if c["name"] == name]
        assert container["readonlyRootFilesystem"]
        assert container["linuxParameters"]["initProcessEnabled"]
        mounts = {m["containerPath"]: m["sourceVolume"] for m in container["mountPoints"]}
        assert mounts.keys() == {"/var/lib/amazon", "/var/log/amazon"}
        assert {volume["name"] for volume in definition["volumes"]} == set(mounts.values())


def allowed(aws, role):
    """What a role's own policy allows: actions and on what."""
    document = aws.ask(
        "iam",
        "get_role_policy",
        RoleName=f"weather-us-east-1-{role}",
        PolicyName=role.rpartition("-")[2],
    )["PolicyDocument"]
    return {
        (action, statement["Resource"])
        for statement in document["Statement"]
        for action in statement["Action"]
    }


def test_containers_may_do_what_collectors_and_shells_need_and_nothing_else(life, aws):
    [workspace] = life.after_change.workspaces
    assert workspace["status"]["statusCode"] == "ACTIVE"
    roles = {
        family: definition.get("taskRoleArn", "").rpartition("/")[2]
        for family, definition in life.after_change.definitions.items()
    }
    task_roles = {
        "flask": "weather-us-east-1-flask-task",
        "nginx": "weather-us-east-1-nginx-task",
        "locust-master": "weather-us-east-1-locust-task",
        "locust-worker": "weather-us-east-1-locust-task",
        "experiment-master": "weather-us-east-1-experiment",
    }
    assert {family: role for family, role in roles.items() if role} == task_roles
    shell = {
        (f"ssmmessages:{does}{what}Channel", "*")
        for does in ("Create", "Open")
        for what in ("Control", "Data")
    }
    log = "arn:aws:logs:us-east-1:123456789012:log-group:/ecs/weather/exec:*"
    shell |= {("logs:DescribeLogGroups", "*")}
    shell |= {(f"logs:{a}", log) for a in ("CreateLogStream", "DescribeLogStreams", "PutLogEvents")}
    assert allowed(aws, "locust-task") == shell
    for service in ("flask", "nginx"):
        assert allowed(aws, f"{service}-task") == shell | {("aps:RemoteWrite", workspace["arn"])}


def test_without_metrics_no_container_may_call_aws(life):
    assert life.stack.workspaces == []
    assert not any(d.get("taskRoleArn") for d in life.stack.definitions.values())


def test_an_experiment_beyond_the_quota_is_refused(life):
    assert life.experiment_refused.returncode == 1
    message = "9 tasks of Locust beside a stack of 7 vCPU need 16, but this account may run 6 vCPU"
    assert message in life.experiment_refused.stderr


def test_an_experiment_fetches_its_results_and_says_what_it_cost(life):
    result = life.experiment
    assert result.returncode == 0, result.stderr
    report = life.experiment_folder / "report.html"
    assert f"kept: 1,000 zipf users\nreport: {report}\ncost: about 0.20 dollars" in result.stdout
    assert (life.experiment_folder / "cells" / "zipf_1000-users.json").exists()


def test_an_experiment_runs_a_master_and_its_workers_and_leaves_none(life):
    master, *workers = life.after_experiment
    assert [task["lastStatus"] for task in (master, *workers)] == ["STOPPED"] * 3
    [override] = master["overrides"]["containerOverrides"]
    files = "simulate/post/zipf-locations.py,simulate/lab/record_in_cluster.py"
    assert override["command"][:3] == ["locust", "-f", files]
    [address] = [
        detail["value"]
        for detail in master["attachments"][0]["details"]
        if detail["name"] == "privateIPv4Address"
    ]
    for task in workers:
        [override] = task["overrides"]["containerOverrides"]
        assert override["command"] == ["locust", "-f", files.split(",")[0], "--worker"]
        assert override["environment"] == [{"name": "LOCUST_MASTER_NODE_HOST", "value": address}]
        assert task["stoppedReason"] == "experiment.py ended"


def test_an_experiment_gets_all_variables_that_it_reads(life):
    [override] = life.after_experiment[0]["overrides"]["containerOverrides"]
    given = {each["name"]: each["value"] for each in override["environment"]}
    definition = life.after_change.definitions["experiment-master"]
    experiment = Experiment.from_env(environment(definition, "locust") | given)
    assert (experiment.users, experiment.pattern, experiment.workers) == (1000, "zipf", 2)
    assert experiment.stack.setting == Setting(pool_max=20)
    machine = experiment.stack.machine
    assert (machine["region"], machine["database"]) == ("us-east-1", "db.t4g.medium")
    assert machine["nginx tasks"] == "2 to 4 of 0.5 vCPU, 1 GiB"


def test_whoever_ends_an_experiment_leaves_no_task(life):
    assert life.experiment_ended.returncode == 143
    stopped = [(task["lastStatus"], task["stoppedReason"]) for task in life.after_end]
    assert stopped == [("STOPPED", "experiment.py ended")] * 3


def test_an_experiments_master_may_leave_results_and_nothing_else(life, aws):
    roles = {name: life.after_change.definitions[name].get("taskRoleArn") for name in EXPERIMENT}
    role = "weather-us-east-1-experiment"
    assert roles["experiment-master"].endswith(f"/{role}")
    assert not roles["experiment-worker"]
    policy = aws.ask("iam", "get_role_policy", RoleName=role, PolicyName="results")
    [statement] = policy["PolicyDocument"]["Statement"]
    assert statement["Action"] == "s3:PutObject"
    [bucket] = aws.ask("s3", "list_buckets")["Buckets"]
    assert statement["Resource"] == f"arn:aws:s3:::{bucket['Name']}/results/*"


def test_results_are_private_and_encrypted(life, aws):
    [bucket] = aws.ask("s3", "list_buckets")["Buckets"]
    name = {"Bucket": bucket["Name"]}
    access = aws.ask("s3", "get_public_access_block", **name)["PublicAccessBlockConfiguration"]
    assert set(access.values()) == {True}
    policy = json.loads(aws.ask("s3", "get_bucket_policy", **name)["Policy"])
    [statement] = policy["Statement"]
    assert (statement["Effect"], statement["Principal"]) == ("Deny", "*")
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    rules = aws.ask("s3", "get_bucket_encryption", **name)["ServerSideEncryptionConfiguration"]
    [rule] = rules["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"


def test_alarms_and_a_dashboard_are_made_for_an_address(life, aws):
    alarms = aws.ask("cloudwatch", "describe_alarms", AlarmNamePrefix="weather-")["MetricAlarms"]
    assert len(alarms) == 5
    assert all(alarm["AlarmActions"] for alarm in alarms)
    dashboard = aws.ask("cloudwatch", "get_dashboard", DashboardName="weather")
    assert len(json.loads(dashboard["DashboardBody"])["widgets"]) == 5


def test_the_state_is_kept_in_a_bucket_as_readme_says(aws, terraform, tmp_path):
    readme = (CONFIGURATION / "README.md").read_text()
    [backend] = re.findall(r'^terraform \{\n  backend "s3" \{\n.*?^\}\n', readme, re.M | re.S)
    (tmp_path / "backend.tf").write_text(backend)
    (tmp_path / "main.tf").write_text('output "kept" {\n  value = "yes"\n}\n')
    [bucket] = re.findall(r'bucket += "(.+)"', backend)
    with aws.client("s3") as s3:
        s3.create_bucket(Bucket=bucket)
    for command in (["fmt", "-check"], ["init"], ["apply", "-auto-approve"]):
        subprocess.run(
            ["terraform", *command],
            cwd=tmp_path,
            env=variables(AWS_ENDPOINT_URL=aws.url),
            check=True,
        )
    [state] = aws.ask("s3", "list_objects_v2", Bucket=bucket)["Contents"]  # and no lock is left
    assert state["Key"] == "weather/terraform.tfstate"
    with aws.client("s3") as s3:
        kept = s3.head_object(Bucket=bucket, Key=state["Key"])
        s3.delete_object(Bucket=bucket, Key=state["Key"])
        s3.delete_bucket(Bucket=bucket)
    assert kept["ServerSideEncryption"] == "AES256"


def test_destroy_leaves_nothing(life, end):
    assert end.destroyed.returncode == 0, end.destroyed.stderr
    assert end.left == life.nothing
