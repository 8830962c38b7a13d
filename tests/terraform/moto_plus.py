"""moto's server with the answers that Terraform's AWS provider waits for: moto_plus.py -p PORT.

MOTO_EXIT_CODES names a JSON file, container name -> exit code (null: it never started); containers
it does not name exit with 0. A service whose new revision has a container that does not is rolled
back, if its circuit breaker says so; its first deployment just fails. MOTO_EXPERIMENTS names one
with Fargate's quota, "vcpu", and with what a task that has EXPERIMENT_RESULTS leaves there,
"results": name -> text. MOTO_ACTIONS names the file that gets a line for each request: what it
asked for, as IAM names it, and which client it was. Written for moto 5.2 and provider 5.100.
"""

import functools
import json
import os
import re
import sys
from pathlib import Path

from moto.applicationautoscaling.responses import ApplicationAutoScalingResponse
from moto.core.responses import BaseResponse, EmptyResult
from moto.ec2.models.security_groups import SecurityGroupRule
from moto.ecs.models import Container, Task
from moto.ecs.responses import EC2ContainerServiceResponse
from moto.elasticache.models import ElastiCacheBackend
from moto.elasticache.responses import ElastiCacheResponse
from moto.iam.access_control import PermissionResult
from moto.rds.models import DBInstance, DBParameterGroup
from moto.s3.models import FakeBucket, s3_backends
from moto.secretsmanager.models import SecretsManagerBackend
from moto.server import main
from moto.servicequotas.models import ServiceQuotasBackend
from moto.servicequotas.responses import ServiceQuotasResponse


def around(owner, name):
    """Replace a method by a function that gets the original first."""

    def replace(function):
        original = getattr(owner, name)

        @functools.wraps(original)
        def replacement(self, *args, **kwargs):
            return function(functools.partial(original, self), self, *args, **kwargs)

        setattr(owner, name, replacement)
        return function

    return replace


# Who asks for what; requests to CloudWatch are signed for "monitoring".
SIGNED_FOR = re.compile(r"Credential=[^/]+/[^/]+/[^/]+/([^/]+)/")


@around(BaseResponse, "call_action")
def note_action(original, self):
    signed = SIGNED_FOR.search(self.headers.get("Authorization", ""))
    if signed:
        service = signed[1].replace("monitoring", "cloudwatch")
        with Path(os.environ.get("MOTO_ACTIONS", os.devnull)).open("a") as file:
            file.write(f"{service}:{self._get_action()} {self.headers.get('User-Agent', '')}\n")
    return original()


# Application Auto Scaling: without ListTagsForResource the provider repeats it for minutes.
target_tags = {}


@around(ApplicationAutoScalingResponse, "register_scalable_target")
def register_scalable_target(original, self):
    answer = original()
    if tags := self._get_param("Tags"):  # a change of the limits has none
        target_tags[json.loads(answer)["ScalableTargetARN"]] = tags
    return answer


def list_tags_for_resource(self):
    return json.dumps({"Tags": target_tags.get(self._get_param("ResourceARN"), {})})


ApplicationAutoScalingResponse.list_tags_for_resource = list_tags_for_resource

# EC2: a rule between two groups loses its description.
SecurityGroupRule.description = property(
    lambda rule: (rule.ip_range or rule.source_group or {}).get("Description")
)

# ECS: a service forgets some of its settings and never reaches its number of tasks.
SERVICE_SETTINGS = {
    "healthCheckGracePeriodSeconds": "health_check_grace_period_seconds",
    "availabilityZoneRebalancing": "availability_zone_rebalancing",
    "deploymentConfiguration": "deployment_configuration",
    "enableExecuteCommand": "enable_execute_command",
}


@around(EC2ContainerServiceResponse, "create_service")
def create_service(original, self):
    answer = original()
    cluster, name = self._get_param("cluster"), self._get_param("serviceName")
    service = self.ecs_backend.describe_services(cluster, [name])[0][0]
    service.running_count, service.pending_count = service.desired_count, 0
    for wire, attribute in SERVICE_SETTINGS.items():
        setattr(service, attribute, self._get_param(wire))
    fails = is_failing(self, service)
    for deployment in service.deployments:
        deployment.update(runningCount=service.desired_count, pendingCount=0)
        deployment["rolloutState"] = "FAILED" if fails else "COMPLETED"
        if connect := self._get_param("serviceConnectConfiguration"):
            deployment["serviceConnectConfiguration"] = connect
    return answer


def experiments():
    """The quota that is as it is in a new account, and no results, unless the test says so."""
    file = Path(os.environ.get("MOTO_EXPERIMENTS", ""))
    return json.loads(file.read_text()) if file.is_file() else {"vcpu": 6.0, "results": {}}


# ECS: a task shows one container only, and every exit code is 0.
def exit_codes():
    file = Path(os.environ.get("MOTO_EXIT_CODES", ""))
    return json.loads(file.read_text()) if file.is_file() else {}


def containers(definition):
    codes = exit_codes()
    for described in definition.container_definitions:
        container = Container(definition)
        container.name, container.image = described["name"], described["image"]
        container.exitCode = codes.get(container.name, 0)
        yield container


def is_failing(self, service):
    """Whether a container of the service's revision ends; the task that shows it has stopped."""
    revision = self.ecs_backend.describe_task_definition(service.task_definition)
    if all(container.exitCode == 0 for container in containers(revision)):
        return False
    network = {"launch_type": "FARGATE", "networking_configuration": service.network_configuration}
    tasks = self.ecs_backend.run_task(
        service.cluster_name, revision.arn, 1, None, "ecs-svc", None, **network
    )
    self.ecs_backend.stop_task(service.cluster_name, tasks[0].task_arn, "A container exited")
    return True


@around(Task, "__init__")
def make_task(original, self, cluster, task_definition, *args, **kwargs):
    original(cluster, task_definition, *args, **kwargs)
    self.containers = list(containers(task_definition))
    leave_results(self)


def leave_results(task):
    """As the master of an experiment does before it ends."""
    for override in task.overrides.get("containerOverrides", []):
        variables = {each["name"]: each["value"] for each in override.get("environment", [])}
        place = variables.get("EXPERIMENT_RESULTS", "").removeprefix("s3://")
        bucket, _, folder = place.partition("/")
        for name, text in experiments()["results"].items() if place else ():
            backend = s3_backends[task._account_id]["aws"]
            backend.put_object(bucket, f"{folder}/{name}", text.encode())


# S3: policies are kept, but their conditions not read; one that wants TLS would refuse everything.
@around(FakeBucket, "get_permission")
def get_permission(original, self, action, resource):
    return PermissionResult.NEUTRAL


# ECS: a deployment always works.
@around(EC2ContainerServiceResponse, "update_service")
def update_service(original, self):
    cluster, name = self._get_param("cluster"), self._get_param("service")
    service = self.ecs_backend.describe_services(cluster, [name])[0][0]
    worked = service.task_definition
    answer = original()
    breaker = service.deployment_configuration["deploymentCircuitBreaker"]
    fails = is_failing(self, service)
    first = service.task_definition == worked  # nothing else to go back to
    if fails and breaker["enable"] and breaker["rollback"]:
        service.task_definition = worked
    for deployment in service.deployments:
        state = "FAILED" if fails and first else "COMPLETED"
        deployment.update(taskDefinition=service.task_definition, rolloutState=state)
    return answer


# Service Quotas: it knows those of VPC alone, and no defaults.
def get_service_quota(self, service_code, quota_code):
    quota = {"ServiceCode": service_code, "QuotaCode": quota_code, "QuotaArn": "arn"}
    return quota | {"Value": experiments()["vcpu"]}


ServiceQuotasBackend.get_service_quota = get_service_quota
ServiceQuotasResponse.get_aws_default_service_quota = ServiceQuotasResponse.get_service_quota


# RDS: the provider reads both back.
@around(DBInstance, "__init__")
def make_database(original, self, *args, **kwargs):
    insights = kwargs.pop("enable_performance_insights", False)
    original(*args, **kwargs)
    self.performance_insights_enabled = bool(insights)


@around(DBParameterGroup, "update_parameters")
def update_parameters(original, self, parameters):
    original([parameter | {"Source": "user"} for parameter in parameters])


# Secrets Manager: rotation of a secret that another service owns has no function of one's own.
@around(SecretsManagerBackend, "cancel_rotate_secret")
def cancel_rotate_secret(original, self, secret_id):
    secret = self.secrets[secret_id]
    if not secret.owning_service:
        return original(secret_id)
    secret.rotation_enabled = False
    return secret.to_short_dict()


# ElastiCache: a replication group has no member clusters, and deleting one never ends.
CLUSTER_ARGUMENTS = ElastiCacheBackend.create_cache_cluster.__annotations__.keys() - {"return"}
SHARED_ARGUMENTS = (
    "engine",
    "engine_version",
    "cache_node_type",
    "cache_subnet_group_name",
    "port",
    "security_group_ids",
)


@around(ElastiCacheBackend, "create_replication_group")
def create_replication_group(original, self, **arguments):
    group = original(**arguments)
    at_rest = arguments["at_rest_encryption_enabled"]
    in_transit = arguments["transit_encryption_enabled"]
    group.at_rest_encryption_enabled = bool(at_rest)
    group.transit_encryption_enabled = bool(in_transit)
    for member in group.member_clusters:
        cluster = self.create_cache_cluster(
            **dict.fromkeys(CLUSTER_ARGUMENTS)
            | {name: arguments[name] for name in SHARED_ARGUMENTS}
            | {
                "cache_cluster_id": member,
                "replication_group_id": group.replication_group_id,
                "log_delivery_configurations": [],
            }
        )
        cluster.at_rest_encryption_enabled = group.at_rest_encryption_enabled
        cluster.transit_encryption_enabled = group.transit_encryption_enabled
        cluster.auth_token_enabled = group.auth_token_enabled
        cluster.security_groups = [
            {"SecurityGroupId": group_id, "Status": "active"}
            for group_id in arguments["security_group_ids"]
        ]
        cluster.cache_parameter_group = {"CacheParameterGroupName": "default.valkey8"}
    return group


@around(ElastiCacheBackend, "delete_replication_group")
def delete_replication_group(original, self, replication_group_id, retain_primary_cluster):
    group = original(replication_group_id, True)
    del self.replication_groups[replication_group_id]
    for member in group.member_clusters:
        del self.cache_clusters[member]
    return group


def delete_cache_subnet_group(self):
    del self.elasticache_backend.cache_subnet_groups[self._get_param("CacheSubnetGroupName")]
    return EmptyResult()


ElastiCacheResponse.delete_cache_subnet_group = delete_cache_subnet_group

if __name__ == "__main__":
    main(sys.argv[1:])
