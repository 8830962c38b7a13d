resource "aws_cloudwatch_log_group" "this" {
  # checkov:skip=CKV_AWS_158: encrypted with the key of AWS; the logs hold no secrets
  # checkov:skip=CKV_AWS_338: a load test's logs are of no use after a year; log_retention_days decides
  for_each          = toset(keys(local.services))
  name              = "/ecs/${var.name}/${each.key}"
  retention_in_days = var.log_retention_days
}

# RDS would make it itself, and keep it for ever.
resource "aws_cloudwatch_log_group" "database" {
  # checkov:skip=CKV_AWS_158: encrypted with the key of AWS; the logs hold no secrets
  # checkov:skip=CKV_AWS_338: a load test's logs are of no use after a year; log_retention_days decides
  name              = "/aws/rds/instance/${var.name}/postgresql"
  retention_in_days = var.log_retention_days
}
