"""operator-policy.json allows all that Terraform and the scripts ask for, and AWS takes it."""

import json
import re
from fnmatch import fnmatchcase

from emulated_aws import CONFIGURATION

TEXT = (CONFIGURATION / "operator-policy.json").read_text()
STATEMENTS = json.loads(TEXT)["Statement"]
MOST = 6144  # characters of a managed policy; AWS does not count white space
NEEDS_NONE = {"sts:GetCallerIdentity"}

# What makes a resource, and what ends it.
ACTIONS = {
    "aws_acm_certificate": "acm:RequestCertificate acm:DeleteCertificate",
    "aws_acm_certificate_validation": "acm:DescribeCertificate",
    "aws_appautoscaling_policy": (
        "application-autoscaling:PutScalingPolicy application-autoscaling:DeleteScalingPolicy"
    ),
    "aws_appautoscaling_scheduled_action": (
        "application-autoscaling:PutScheduledAction application-autoscaling:DeleteScheduledAction"
    ),
    "aws_appautoscaling_target": (
        "application-autoscaling:RegisterScalableTarget"
        " application-autoscaling:DeregisterScalableTarget"
    ),
    "aws_budgets_budget": "budgets:ModifyBudget budgets:ViewBudget",
    "aws_cloudwatch_dashboard": "cloudwatch:PutDashboard cloudwatch:DeleteDashboards",
    "aws_cloudwatch_log_group": (
        "logs:CreateLogGroup logs:DeleteLogGroup logs:PutRetentionPolicy logs:TagResource"
    ),
    "aws_cloudwatch_metric_alarm": "cloudwatch:PutMetricAlarm cloudwatch:DeleteAlarms",
    "aws_db_instance": "rds:CreateDBInstance rds:ModifyDBInstance rds:DeleteDBInstance",
    "aws_db_parameter_group": (
        "rds:CreateDBParameterGroup rds:ModifyDBParameterGroup rds:DeleteDBParameterGroup"
    ),
    "aws_db_subnet_group": "rds:CreateDBSubnetGroup rds:DeleteDBSubnetGroup",
    "aws_default_security_group": "ec2:RevokeSecurityGroupIngress ec2:RevokeSecurityGroupEgress",
    "aws_ecr_lifecycle_policy": "ecr:PutLifecyclePolicy ecr:DeleteLifecyclePolicy",
    "aws_ecr_repository": "ecr:CreateRepository ecr:DeleteRepository ecr:PutImage",
    "aws_ecs_cluster": "ecs:CreateCluster ecs:UpdateCluster ecs:DeleteCluster",
    "aws_ecs_service": "ecs:CreateService ecs:UpdateService ecs:DeleteService",
    "aws_ecs_task_definition": (
        "ecs:RegisterTaskDefinition ecs:DeregisterTaskDefinition ecs:RunTask ecs:TagResource"
    ),
    "aws_eip": "ec2:AllocateAddress ec2:DisassociateAddress ec2:ReleaseAddress",
    "aws_elasticache_replication_group": (
        "elasticache:CreateReplicationGroup elasticache:ModifyReplicationGroup"
        " elasticache:DeleteReplicationGroup"
    ),
    "aws_elasticache_subnet_group": (
        "elasticache:CreateCacheSubnetGroup elasticache:DeleteCacheSubnetGroup"
    ),
    "aws_iam_role": "iam:CreateRole iam:PassRole iam:DeleteRole",
    "aws_iam_role_policy": "iam:PutRolePolicy iam:DeleteRolePolicy",
    "aws_internet_gateway": (
        "ec2:CreateInternetGateway ec2:AttachInternetGateway ec2:DetachInternetGateway"
        " ec2:DeleteInternetGateway"
    ),
    "aws_lb": (
        "elasticloadbalancing:CreateLoadBalancer elasticloadbalancing:ModifyLoadBalancerAttributes"
        " elasticloadbalancing:DeleteLoadBalancer"
    ),
    "aws_lb_listener": (
        "elasticloadbalancing:CreateListener elasticloadbalancing:ModifyListener"
        " elasticloadbalancing:DeleteListener"
    ),
    "aws_lb_target_group": (
        "elasticloadbalancing:CreateTargetGroup elasticloadbalancing:ModifyTargetGroupAttributes"
        " elasticloadbalancing:DeleteTargetGroup"
    ),
    "aws_nat_gateway": "ec2:CreateNatGateway ec2:DeleteNatGateway",
    "aws_prometheus_workspace": "aps:CreateWorkspace aps:DeleteWorkspace",
    "aws_route53_record": "route53:ChangeResourceRecordSets",
    "aws_route_table": "ec2:CreateRouteTable ec2:CreateRoute ec2:DeleteRoute ec2:DeleteRouteTable",
    "aws_route_table_association": "ec2:AssociateRouteTable ec2:DisassociateRouteTable",
    "aws_s3_bucket": (
        "s3:CreateBucket s3:DeleteBucket s3:PutBucketTagging s3:ListBucket s3:ListBucketVersions"
        " s3:GetObject s3:DeleteObject"
    ),
    "aws_s3_bucket_policy": "s3:PutBucketPolicy s3:DeleteBucketPolicy",
    "aws_s3_bucket_public_access_block": "s3:PutBucketPublicAccessBlock",
    "aws_s3_bucket_server_side_encryption_configuration": "s3:PutEncryptionConfiguration",
    "aws_scheduler_schedule": (
        "scheduler:CreateSchedule scheduler:UpdateSchedule scheduler:DeleteSchedule"
    ),
    "aws_secretsmanager_secret": "secretsmanager:CreateSecret secretsmanager:DeleteSecret",
    "aws_secretsmanager_secret_rotation": (
        "secretsmanager:RotateSecret secretsmanager:CancelRotateSecret"
    ),
    "aws_secretsmanager_secret_version": (
        "secretsmanager:PutSecretValue secretsmanager:UpdateSecretVersionStage"
    ),
    "aws_security_group": "ec2:CreateSecurityGroup ec2:DeleteSecurityGroup",
    "aws_service_discovery_http_namespace": (
        "servicediscovery:CreateHttpNamespace servicediscovery:DeleteNamespace"
    ),
    "aws_service_discovery_private_dns_namespace": (
        "servicediscovery:CreatePrivateDnsNamespace servicediscovery:DeleteNamespace"
        " route53:CreateHostedZone route53:DeleteHostedZone"
    ),
    "aws_service_discovery_service": (
        "servicediscovery:CreateService servicediscovery:DeregisterInstance"
        " servicediscovery:DeleteService"
    ),
    "aws_sns_topic": "sns:CreateTopic sns:SetTopicAttributes sns:DeleteTopic",
    "aws_sns_topic_subscription": "sns:Subscribe sns:Unsubscribe",
    "aws_subnet": "ec2:CreateSubnet ec2:DeleteSubnet",
    "aws_vpc": "ec2:CreateVpc ec2:ModifyVpcAttribute ec2:DeleteVpc",
    "aws_vpc_endpoint": "ec2:CreateVpcEndpoint ec2:ModifyVpcEndpoint ec2:DeleteVpcEndpoints",
    "aws_vpc_security_group_egress_rule": (
        "ec2:AuthorizeSecurityGroupEgress ec2:RevokeSecurityGroupEgress"
    ),
    "aws_vpc_security_group_ingress_rule": (
        "ec2:AuthorizeSecurityGroupIngress ec2:RevokeSecurityGroupIngress"
    ),
}


def where(action):
    """The patterns of what the policy allows an action on."""
    return [
        resource
        for statement in STATEMENTS
        if any(fnmatchcase(action, pattern) for pattern in statement["Action"])
        for resource in statement["Resource"]
    ]


def test_aws_takes_it():
    assert len(re.sub(r"\s", "", TEXT)) <= MOST
    assert {statement["Effect"] for statement in STATEMENTS} == {"Allow"}


def test_every_kind_of_resource_can_be_made_and_ended():
    files = [path.read_text() for path in CONFIGURATION.glob("*.tf")]
    kinds = {kind for text in files for kind in re.findall(r'^resource "(aws_\w+)"', text, re.M)}
    assert kinds == set(ACTIONS), "name what makes and ends it in ACTIONS, and allow that"
    assert [a for actions in ACTIONS.values() for a in actions.split() if not where(a)] == []


def test_what_was_made_has_the_names_that_are_allowed(life):
    refused = []
    for resource in json.loads(life.final_state)["resources"]:
        for instance in resource["instances"]:
            attributes = instance["attributes"]
            arn = attributes.get("arn") or attributes.get("id", "")
            if resource["type"] in ACTIONS and arn.startswith("arn:"):
                refused += [
                    (action, arn)
                    for action in ACTIONS[resource["type"]].split()
                    if not any(fnmatchcase(arn, pattern) for pattern in where(action))
                ]
    assert refused == []


def test_it_allows_all_that_was_asked_for(end, aws):
    """In the whole life of a deployment, reading included."""
    asked = aws.actions() - NEEDS_NONE
    assert {"ecs:CreateService", "ecs:RunTask", "ecs:DeleteService"} <= asked
    assert sorted(action for action in asked if not where(action)) == []
