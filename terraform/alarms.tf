# What somebody should hear of, and one page to look at: off unless alarm_email is set.

locals {
  load_balancer = { LoadBalancer = aws_lb.this.arn_suffix }
  database      = { DBInstanceIdentifier = aws_db_instance.this.identifier }

  alarms = {
    errors = {
      description = "more than 1 % of a minute's answers were errors of the stack (5xx)"
      expression  = "100 * (errors + refused) / requests"
      threshold   = 1 # percent
      metrics = {
        errors   = { namespace = "AWS/ApplicationELB", name = "HTTPCode_Target_5XX_Count", stat = "Sum", dimensions = local.load_balancer }
        refused  = { namespace = "AWS/ApplicationELB", name = "HTTPCode_ELB_5XX_Count", stat = "Sum", dimensions = local.load_balancer }
        requests = { namespace = "AWS/ApplicationELB", name = "RequestCount", stat = "Sum", dimensions = local.load_balancer }
      }
    }
    slow = {
      description = "5 % of a minute's answers took longer than the 2 s that a request is worth its work"
      expression  = "p95"
      threshold   = 2 # seconds
      metrics     = { p95 = { namespace = "AWS/ApplicationELB", name = "TargetResponseTime", stat = "p95", dimensions = local.load_balancer } }
    }
    no-nginx = {
      description = "no nginx task is healthy"
      expression  = "1 - healthy"
      threshold   = 0
      metrics = {
        healthy = { namespace = "AWS/ApplicationELB", name = "HealthyHostCount", stat = "Minimum", dimensions = merge(local.load_balancer, { TargetGroup = aws_lb_target_group.nginx.arn_suffix }) }
      }
    }
    database-cpu = {
      description = "the database uses more than 80 % of its CPU"
      expression  = "cpu"
      threshold   = 80 # percent
      metrics     = { cpu = { namespace = "AWS/RDS", name = "CPUUtilization", stat = "Average", dimensions = local.database } }
    }
    database-connections = {
      description = "more than 90 % of the database's connections are open"
      expression  = "connections"
      threshold   = floor(0.9 * local.max_connections)
      metrics     = { connections = { namespace = "AWS/RDS", name = "DatabaseConnections", stat = "Maximum", dimensions = local.database } }
    }
  }
}

resource "aws_sns_topic" "alarms" {
  # checkov:skip=CKV_AWS_26: CloudWatch can't write to a topic with the key of AWS; the messages hold no secrets
  count = var.alarm_email != null ? 1 : 0
  name  = "${var.name}-alarms"
}

# AWS sends a mail that asks to confirm it.
resource "aws_sns_topic_subscription" "alarms" {
  count     = length(aws_sns_topic.alarms)
  topic_arn = aws_sns_topic.alarms[0].arn
  protocol  = "email"
  endpoint  = var.alarm_email
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each            = var.alarm_email != null ? local.alarms : {}
  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.description
  comparison_operator = "GreaterThanThreshold"
  threshold           = each.value.threshold
  evaluation_periods  = 3 # minutes
  treat_missing_data  = "notBreaching"
  alarm_actions       = aws_sns_topic.alarms[*].arn
  ok_actions          = aws_sns_topic.alarms[*].arn

  metric_query {
    id          = "result"
    expression  = each.value.expression
    label       = each.key
    return_data = true
  }

  dynamic "metric_query" {
    for_each = each.value.metrics

    content {
      id = metric_query.key

      metric {
        namespace   = metric_query.value.namespace
        metric_name = metric_query.value.name
        stat        = metric_query.value.stat
        period      = 60
        dimensions  = metric_query.value.dimensions
      }
    }
  }
}

resource "aws_cloudwatch_dashboard" "this" {
  count          = var.alarm_email != null ? 1 : 0
  dashboard_name = var.name
  dashboard_body = jsonencode({
    widgets = [
      for index, name in sort(keys(local.alarms)) : {
        type   = "metric"
        x      = 12 * (index % 2)
        y      = 6 * floor(index / 2)
        width  = 12
        height = 6
        properties = {
          title  = local.alarms[name].description
          region = var.region
          period = 60
          metrics = [
            for metric in values(local.alarms[name].metrics) : concat(
              [metric.namespace, metric.name],
              flatten([for key, value in metric.dimensions : [key, value]]),
              [{ stat = metric.stat }]
            )
          ]
        }
      }
    ]
  })
}

# Only what carries the tag Project counts, and that needs the tag activated for cost allocation.
resource "aws_budgets_budget" "this" {
  count        = var.monthly_budget != null ? 1 : 0
  name         = var.name
  budget_type  = "COST"
  time_unit    = "MONTHLY"
  limit_amount = var.monthly_budget
  limit_unit   = "USD"

  cost_filter {
    name   = "TagKeyValue"
    values = [join("$", ["user:Project", var.name])]
  }

  dynamic "notification" {
    for_each = { ACTUAL = 80, FORECASTED = 100 } # percent

    content {
      notification_type          = notification.key
      comparison_operator        = "GREATER_THAN"
      threshold                  = notification.value
      threshold_type             = "PERCENTAGE"
      subscriber_email_addresses = [var.alarm_email]
    }
  }
}
