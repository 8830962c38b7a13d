resource "aws_cloudwatch_log_group" "this" {
  # checkov:skip=CKV_AWS_158: encrypted with the key of AWS; the logs hold no secrets
  # checkov:skip=CKV_AWS_338: a load test's logs are of no use after a year; log_retention_days decides
  for_each          = toset(keys(local.services))
  name              = "/ecs/${var.name}/${each.key}"
  retention_in_days = var.log_retention_days
}

# Container Insights would make it itself, and it would outlive the cluster.
resource "aws_cloudwatch_log_group" "insights" {
  # checkov:skip=CKV_AWS_158: encrypted with the key of AWS; the logs hold no secrets
  # checkov:skip=CKV_AWS_338: the metrics made of it stay; a day, as AWS would keep it
  name              = "/aws/ecs/containerinsights/${var.name}/performance"
  retention_in_days = 1
}

# RDS would make it itself, and keep it for ever.
resource "aws_cloudwatch_log_group" "database" {
  # checkov:skip=CKV_AWS_158: encrypted with the key of AWS; the logs hold no secrets
  # checkov:skip=CKV_AWS_338: a load test's logs are of no use after a year; log_retention_days decides
  name              = "/aws/rds/instance/${var.name}/postgresql"
  retention_in_days = var.log_retention_days
}
