# A guard against a forgotten stack, off unless stop_at is set: every day at this time all tasks end and the
# database stops. The next apply brings them back. RDS starts a database by itself after 7 days; as this is
# every day, it stops again.

locals {
  stop_schedule = var.stop_at == null ? null : format("cron(%d %d * * ? *)", reverse(split(":", var.stop_at))...) # UTC

  # Services that the autoscaling knows: with desired_count alone it would start them again.
  autoscaled = { flask = aws_appautoscaling_target.flask, nginx = aws_appautoscaling_target.nginx }

  # All others, by calls of EventBridge Scheduler.
  stop_services = concat(aws_ecs_service.locust_master, aws_ecs_service.locust_worker)
  stop_calls = { for name, call in merge(
    {
      database = { action = "rds:stopDBInstance", input = { DbInstanceIdentifier = aws_db_instance.this.identifier } }
    },
    {
      for service in local.stop_services : service.name => {
        action = "ecs:updateService"
        input  = { Cluster = aws_ecs_cluster.this.name, Service = service.name, DesiredCount = 0 }
      }
    }
  ) : name => call if var.stop_at != null }
}

resource "aws_appautoscaling_scheduled_action" "stop" {
  for_each           = { for name, target in local.autoscaled : name => target if var.stop_at != null }
  name               = "stop"
  service_namespace  = each.value.service_namespace
  resource_id        = each.value.resource_id
  scalable_dimension = each.value.scalable_dimension
  schedule           = local.stop_schedule

  scalable_target_action {
    min_capacity = 0
    max_capacity = 0
  }
}

resource "aws_scheduler_schedule" "stop" {
  # checkov:skip=CKV_AWS_297: encrypted with the key of AWS; it holds names, no secrets
  for_each            = local.stop_calls
  name                = "${var.name}-stop-${each.key}"
  schedule_expression = local.stop_schedule

  flexible_time_window {
    mode = "OFF"
  }

  target {
    arn      = "arn:aws:scheduler:::aws-sdk:${each.value.action}"
    role_arn = aws_iam_role.stop[0].arn
    input    = jsonencode(each.value.input)

    retry_policy { # a call that is refused must not come true after the next apply
      maximum_event_age_in_seconds = 900
      maximum_retry_attempts       = 5
    }
  }
}

resource "aws_iam_role" "stop" {
  count              = var.stop_at != null ? 1 : 0
  name               = "${var.name}-${var.region}-stop"
  assume_role_policy = local.assume_role["scheduler"]
}

resource "aws_iam_role_policy" "stop" {
  count = var.stop_at != null ? 1 : 0
  name  = "stop"
  role  = aws_iam_role.stop[0].id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [{ Effect = "Allow", Action = ["rds:StopDBInstance"], Resource = aws_db_instance.this.arn }],
      [for service in local.stop_services : { Effect = "Allow", Action = ["ecs:UpdateService"], Resource = service.id }]
    )
  })
}
