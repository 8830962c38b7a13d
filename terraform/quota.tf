# Fargate's vCPUs in this account and region: a new account has 6. ECS starts no task beyond them, and says
# so only in the service's events.

# Not inside the check: there it is read at every apply, and no plan would be empty.
data "aws_servicequotas_service_quota" "fargate" {
  service_code = "fargate"
  quota_code   = "L-3032A538" # Fargate On-Demand vCPU resource count
}

check "fargate_quota" {
  assert {
    condition     = local.vcpu_start <= data.aws_servicequotas_service_quota.fargate.value
    error_message = "These settings start tasks of ${local.vcpu_start} vCPU, but this account may run ${data.aws_servicequotas_service_quota.fargate.value} on Fargate in ${var.region}: the apply will fail. Ask for more: aws service-quotas request-service-quota-increase --region ${var.region} --service-code fargate --quota-code L-3032A538 --desired-value ${ceil(local.vcpu_most)}"
  }

  assert {
    condition     = local.vcpu_most <= data.aws_servicequotas_service_quota.fargate.value
    error_message = "At flask_max_count and nginx_max_count, while flask is deployed, tasks need ${local.vcpu_most} vCPU, but this account may run ${data.aws_servicequotas_service_quota.fargate.value} on Fargate in ${var.region}: the autoscaling will stop below its limits. Ask for more, as README.md says, or lower the limits."
  }
}
