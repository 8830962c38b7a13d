resource "aws_appautoscaling_target" "flask" {
  service_namespace  = "ecs"
  resource_id        = "service/${aws_ecs_cluster.this.name}/${aws_ecs_service.flask.name}"
  scalable_dimension = "ecs:service:DesiredCount"
  min_capacity       = var.flask_count
  max_capacity       = var.flask_max_count
}

resource "aws_appautoscaling_policy" "cpu" {
  name               = "cpu"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.flask.service_namespace
  resource_id        = aws_appautoscaling_target.flask.resource_id
  scalable_dimension = aws_appautoscaling_target.flask.scalable_dimension

  target_tracking_scaling_policy_configuration {
    target_value       = var.target_cpu
    scale_out_cooldown = 30
    scale_in_cooldown  = 300

    predefined_metric_specification {
      predefined_metric_type = "ECSServiceAverageCPUUtilization"
    }
  }
}

resource "aws_appautoscaling_target" "nginx" {
  service_namespace  = "ecs"
  resource_id        = "service/${aws_ecs_cluster.this.name}/${aws_ecs_service.nginx.name}"
  scalable_dimension = "ecs:service:DesiredCount"
  min_capacity       = var.nginx_count
  max_capacity       = var.nginx_max_count
}

resource "aws_appautoscaling_policy" "nginx_cpu" {
  name               = "nginx-cpu"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.nginx.service_namespace
  resource_id        = aws_appautoscaling_target.nginx.resource_id
  scalable_dimension = aws_appautoscaling_target.nginx.scalable_dimension

  target_tracking_scaling_policy_configuration {
    target_value       = var.target_cpu
    scale_out_cooldown = 30
    scale_in_cooldown  = 300

    predefined_metric_specification {
      predefined_metric_type = "ECSServiceAverageCPUUtilization"
    }
  }
}

# The load balancer counts nginx's requests, of which the edge cache answers some. Service Connect
# counts flask's.
resource "aws_appautoscaling_policy" "requests" {
  name               = "requests"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.flask.service_namespace
  resource_id        = aws_appautoscaling_target.flask.resource_id
  scalable_dimension = aws_appautoscaling_target.flask.scalable_dimension

  target_tracking_scaling_policy_configuration {
    target_value       = var.flask_target_requests
    scale_out_cooldown = 30
    scale_in_cooldown  = 300

    customized_metric_specification {
      metrics {
        id          = "requests_per_task"
        label       = "requests per task and minute"
        expression  = "requests / tasks"
        return_data = true
      }

      metrics {
        id          = "requests"
        return_data = false

        metric_stat {
          stat = "Sum"

          metric {
            namespace   = "AWS/ECS"
            metric_name = "RequestCount"

            dimensions {
              name  = "ClusterName"
              value = aws_ecs_cluster.this.name
            }
            dimensions {
              name  = "ServiceName"
              value = aws_ecs_service.flask.name
            }
            dimensions {
              name  = "DiscoveryName"
              value = "flask"
            }
          }
        }
      }

      metrics {
        id          = "tasks"
        return_data = false

        metric_stat {
          stat = "Average"

          metric {
            namespace   = "ECS/ContainerInsights"
            metric_name = "RunningTaskCount"

            dimensions {
              name  = "ClusterName"
              value = aws_ecs_cluster.this.name
            }
            dimensions {
              name  = "ServiceName"
              value = aws_ecs_service.flask.name
            }
          }
        }
      }
    }
  }
}
