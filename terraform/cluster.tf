resource "aws_ecs_cluster" "this" {
  # checkov:skip=CKV_AWS_224: encrypted with the key of AWS, as all logs here
  name = var.name

  setting {
    name  = "containerInsights" # the autoscaling counts running tasks with it
    value = "enabled"
  }

  dynamic "configuration" {
    for_each = aws_cloudwatch_log_group.exec

    content {
      execute_command_configuration {
        logging = "OVERRIDE"

        log_configuration {
          cloud_watch_log_group_name = configuration.value.name
        }
      }
    }
  }

  depends_on = [aws_cloudwatch_log_group.insights]
}

resource "aws_service_discovery_http_namespace" "this" {
  name        = var.name
  description = "Service Connect names of ${var.name}"
}
