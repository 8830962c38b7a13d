resource "aws_ecs_cluster" "this" {
  name = var.name

  setting {
    name  = "containerInsights" # the autoscaling counts running tasks with it
    value = "enabled"
  }

  depends_on = [aws_cloudwatch_log_group.insights]
}

resource "aws_service_discovery_http_namespace" "this" {
  name        = var.name
  description = "Service Connect names of ${var.name}"
}
