"""What an emulated AWS has, asked of its API."""

import json
from types import SimpleNamespace

ZONE = "example.com"  # of Route 53, there before anything else

# service, operation, key of the answer, name of one thing in it
LISTS = [
    ("acm", "list_certificates", "CertificateSummaryList", "CertificateArn"),
    ("amp", "list_workspaces", "workspaces", "workspaceId"),
    ("application-autoscaling", "describe_scalable_targets", "ScalableTargets", "ResourceId"),
    ("application-autoscaling", "describe_scaling_policies", "ScalingPolicies", "PolicyName"),
    ("application-autoscaling", "describe_scheduled_actions", "ScheduledActions", "ResourceId"),
    ("cloudwatch", "describe_alarms", "MetricAlarms", "AlarmName"),
    ("cloudwatch", "list_dashboards", "DashboardEntries", "DashboardName"),
    ("ec2", "describe_addresses", "Addresses", "AllocationId"),
    ("ec2", "describe_internet_gateways", "InternetGateways", "InternetGatewayId"),
    ("ec2", "describe_nat_gateways", "NatGateways", "NatGatewayId"),
    ("ec2", "describe_route_tables", "RouteTables", "RouteTableId"),
    ("ec2", "describe_security_groups", "SecurityGroups", "GroupId"),
    ("ec2", "describe_subnets", "Subnets", "SubnetId"),
    ("ec2", "describe_vpc_endpoints", "VpcEndpoints", "VpcEndpointId"),
    ("ec2", "describe_vpcs", "Vpcs", "VpcId"),
    ("ecr", "describe_repositories", "repositories", "repositoryName"),
    ("ecs", "list_task_definitions", "taskDefinitionArns", None),
    ("elasticache", "describe_cache_clusters", "CacheClusters", "CacheClusterId"),
    ("elasticache", "describe_cache_subnet_groups", "CacheSubnetGroups", "CacheSubnetGroupName"),
    ("elasticache", "describe_replication_groups", "ReplicationGroups", "ReplicationGroupId"),
    ("elbv2", "describe_load_balancers", "LoadBalancers", "LoadBalancerArn"),
    ("elbv2", "describe_target_groups", "TargetGroups", "TargetGroupArn"),
    ("iam", "list_roles", "Roles", "RoleName"),
    ("logs", "describe_log_groups", "logGroups", "logGroupName"),
    ("rds", "describe_db_instances", "DBInstances", "DBInstanceIdentifier"),
    ("rds", "describe_db_parameter_groups", "DBParameterGroups", "DBParameterGroupName"),
    ("rds", "describe_db_subnet_groups", "DBSubnetGroups", "DBSubnetGroupName"),
    ("s3", "list_buckets", "Buckets", "Name"),
    ("scheduler", "list_schedules", "Schedules", "Name"),
    ("secretsmanager", "list_secrets", "SecretList", "Name"),
    ("servicediscovery", "list_namespaces", "Namespaces", "Id"),
    ("servicediscovery", "list_services", "Services", "Id"),
    ("sns", "list_topics", "Topics", "TopicArn"),
]


def everything(aws):
    """Names of all that the configuration can make."""
    names = set()
    for service, operation, key, name in LISTS:
        autoscaling = service == "application-autoscaling"
        answer = aws.ask(service, operation, **({"ServiceNamespace": "ecs"} if autoscaling else {}))
        things = [thing for thing in answer[key] if not name or thing.get("State") != "deleted"]
        names |= {(operation, thing[name] if name else thing) for thing in things}
    names |= {("records", *record) for record in records(aws)}
    clusters = aws.ask("ecs", "describe_clusters", clusters=["weather"])["clusters"]
    return names | {("clusters", c["clusterName"]) for c in clusters if c["status"] == "ACTIVE"}


def records(aws):
    """Names and types of what is in ZONE."""
    zones = aws.ask("route53", "list_hosted_zones")["HostedZones"]
    return {
        (record["Name"], record["Type"])
        for zone in zones
        if zone["Name"] == f"{ZONE}."
        for record in aws.ask("route53", "list_resource_record_sets", HostedZoneId=zone["Id"])[
            "ResourceRecordSets"
        ]
    }


def snapshot(aws):
    """The stack as it is now: ECS services and task definitions, network rules, database, ..."""
    names = aws.ask("ecs", "list_services", cluster="weather")["serviceArns"]
    services = {}
    if names:
        described = aws.ask("ecs", "describe_services", cluster="weather", services=names)
        services = {service["serviceName"]: service for service in described["services"]}
    return SimpleNamespace(
        services=services,
        flask_in_use=_status(aws, services["flask"]["taskDefinition"]) if services else None,
        definitions=_task_definitions(aws),
        flows=_flows(aws),
        database=aws.ask("rds", "describe_db_instances")["DBInstances"][0],
        database_parameters=_database_parameters(aws),
        cache=aws.ask("elasticache", "describe_replication_groups")["ReplicationGroups"][0],
        cache_version=aws.ask("elasticache", "describe_cache_clusters")["CacheClusters"][0][
            "EngineVersion"
        ],
        target_groups=aws.ask("elbv2", "describe_target_groups")["TargetGroups"],
        scaling=aws.ask(
            "application-autoscaling", "describe_scalable_targets", ServiceNamespace="ecs"
        )["ScalableTargets"],
        passwords=_passwords(aws),
        workspaces=aws.ask("amp", "list_workspaces")["workspaces"],
    )


def tasks_of_experiments(aws):
    """All tasks that experiment.py has started, the oldest first."""
    arns = aws.ask("ecs", "list_tasks", cluster="weather")["taskArns"]
    tasks = aws.ask("ecs", "describe_tasks", cluster="weather", tasks=arns)["tasks"]
    return [task for task in tasks if task.get("startedBy", "").startswith("aws-")]


def _status(aws, definition):
    described = aws.ask("ecs", "describe_task_definition", taskDefinition=definition)
    return described["taskDefinition"]["status"]


def _task_definitions(aws):
    """The newest active revision of each family, by the family's name without the prefix."""
    newest = {}
    for arn in aws.ask("ecs", "list_task_definitions", status="ACTIVE")["taskDefinitionArns"]:
        described = aws.ask("ecs", "describe_task_definition", taskDefinition=arn)
        definition = described["taskDefinition"]
        name = definition["family"].removeprefix("weather-")
        newest[name] = max(newest.get(name, definition), definition, key=lambda d: d["revision"])
    return newest


def _flows(aws):
    """Who may talk to whom: (from, to, port), from and to being group names or networks."""
    groups = aws.ask("ec2", "describe_security_groups")["SecurityGroups"]
    names = {group["GroupId"]: group["GroupName"].removeprefix("weather-") for group in groups}
    ours = [group for group in groups if group["GroupName"].startswith("weather-")]
    flows = set()
    for group in ours:
        me = names[group["GroupId"]]
        for rule in group["IpPermissions"]:
            flows |= {("in", peer, me, rule["ToPort"]) for peer in _peers(rule, names)}
        for rule in group["IpPermissionsEgress"]:
            flows |= {("out", me, peer, rule["ToPort"]) for peer in _peers(rule, names)}
    return flows


def _peers(rule, names):
    networks = [network["CidrIp"] for network in rule["IpRanges"]]
    return networks + [names[pair["GroupId"]] for pair in rule["UserIdGroupPairs"]]


def _database_parameters(aws):
    groups = aws.ask("rds", "describe_db_parameter_groups")["DBParameterGroups"]
    ours = next(g for g in groups if g["DBParameterGroupName"].startswith("weather"))
    parameters = aws.ask(
        "rds", "describe_db_parameters", DBParameterGroupName=ours["DBParameterGroupName"]
    )
    return {p["ParameterName"]: p["ParameterValue"] for p in parameters["Parameters"]}


def _passwords(aws):
    """Every secret's value: that of RDS by "owner", ours by "app" and "redis"."""
    passwords = {}
    for secret in aws.ask("secretsmanager", "list_secrets")["SecretList"]:
        ours = secret["Name"].startswith("weather-")
        name = secret["Name"].split("-")[1] if ours else "owner"
        answer = aws.ask("secretsmanager", "get_secret_value", SecretId=secret["ARN"])
        passwords[name] = answer["SecretString"]
    passwords["owner"] = json.loads(passwords["owner"])["password"]
    return passwords
