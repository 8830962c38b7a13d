# One execution role per service: ECS uses it to pull that image, write that log and read the
# passwords that it needs. No container calls AWS itself, but for metrics.tf's collectors, exec.tf's agent
# (for these two, and with what they need alone, flask, nginx and Locust have a task role) and
# experiment.tf's master.

locals {
  assume_role = {
    for service in ["ecs-tasks", "scheduler"] : service => jsonencode({
      Version = "2012-10-17"
      Statement = [{
        Effect    = "Allow"
        Action    = "sts:AssumeRole"
        Principal = { Service = "${service}.amazonaws.com" }
      }]
    })
  }

  task_roles = toset(concat(
    var.metrics || var.ecs_exec ? ["flask", "nginx"] : [],
    local.locust && var.ecs_exec ? ["locust"] : []
  ))
  task_role_arn = { for service, role in aws_iam_role.task : service => role.arn }
}

resource "aws_iam_role" "execution" {
  for_each           = local.services
  name               = "${var.name}-${var.region}-${each.key}-execution" # IAM is one for all regions; 64 characters at most
  assume_role_policy = local.assume_role["ecs-tasks"]
}

resource "aws_iam_role_policy" "execution" {
  for_each = local.services
  name     = "execution"
  role     = aws_iam_role.execution[each.key].id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [
        {
          Effect   = "Allow"
          Action   = "ecr:GetAuthorizationToken"
          Resource = "*"
        },
        {
          Effect   = "Allow"
          Action   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
          Resource = [for image in each.value.images : aws_ecr_repository.this[image].arn]
        },
        {
          Effect   = "Allow"
          Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
          Resource = "${aws_cloudwatch_log_group.this[each.key].arn}:*"
        },
      ],
      contains(keys(local.secrets), each.key) ? [{
        Effect   = "Allow"
        Action   = "secretsmanager:GetSecretValue"
        Resource = [for name in values(local.secrets[each.key]) : local.secret_arn[name]]
      }] : []
    )
  })
}

resource "aws_iam_role" "task" {
  for_each           = local.task_roles
  name               = "${var.name}-${var.region}-${each.key}-task"
  assume_role_policy = local.assume_role["ecs-tasks"]
}

resource "aws_iam_role_policy" "task" {
  for_each = local.task_roles
  name     = "task"
  role     = aws_iam_role.task[each.key].id
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = concat(each.key == "locust" ? [] : local.metrics_permissions, local.exec_permissions)
  })
}
