# A shell in a running container (ECS Exec), off unless ecs_exec is set. AWS puts an agent of its own into
# each container; what people type and see goes to a log group.

locals {
  # The agent writes here, and the root file systems stay read-only: aws/containers-roadmap#1359.
  exec_volumes = var.ecs_exec ? { exec-state = "/var/lib/amazon", exec-log = "/var/log/amazon" } : {}

  # What the containers of exec_services have besides; init takes over what a shell leaves behind.
  exec_services = ["flask", "nginx", "locust"]
  exec_mounts = var.ecs_exec ? {
    mountPoints = [for name, path in local.exec_volumes : { sourceVolume = name, containerPath = path, readOnly = false }]
  } : {}
  exec_init = var.ecs_exec ? { initProcessEnabled = true } : {}

  exec_permissions = [for statement in [
    {
      Effect = "Allow"
      Action = [
        "ssmmessages:CreateControlChannel",
        "ssmmessages:CreateDataChannel",
        "ssmmessages:OpenControlChannel",
        "ssmmessages:OpenDataChannel",
      ]
      Resource = "*" # they know no resources
    },
    {
      Effect   = "Allow"
      Action   = ["logs:DescribeLogGroups"]
      Resource = "*"
    },
    {
      Effect   = "Allow"
      Action   = ["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"]
      Resource = join("", [for group in aws_cloudwatch_log_group.exec : "${group.arn}:*"])
    },
  ] : statement if var.ecs_exec]
}

resource "aws_cloudwatch_log_group" "exec" {
  # checkov:skip=CKV_AWS_158: encrypted with the key of AWS; whoever may open a shell may read it
  # checkov:skip=CKV_AWS_338: log_retention_days decides
  count             = var.ecs_exec ? 1 : 0
  name              = "/ecs/${var.name}/exec"
  retention_in_days = var.log_retention_days
}
