resource "aws_ecs_task_definition" "flask" {
  family                   = "${var.name}-flask"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = var.flask_cpu
  memory                   = var.flask_memory
  execution_role_arn       = aws_iam_role.execution["flask"].arn
  task_role_arn            = lookup(local.task_role_arn, "flask", null)

  dynamic "volume" {
    for_each = local.exec_volumes

    content {
      name = volume.key
    }
  }

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.cpu_architecture
  }

  container_definitions = jsonencode(concat([
    # The gate at every start of a task, by autoscaling too: flask waits for it, and the task ends if
    # it fails. It changes no row.
    merge(local.container["data-query"], {
      name             = "data-query"
      image            = local.image["data-query"]
      user             = "10001:10001"
      essential        = false
      memory           = 256
      startTimeout     = var.gate_timeout_seconds
      logConfiguration = local.log["flask"]
      linuxParameters  = merge(local.linux[64], { initProcessEnabled = true })
    }),
    merge(local.container["flask"], {
      name            = "flask"
      image           = local.image["flask"]
      user            = "10001:10001"
      memory          = var.flask_memory - 256 - local.proxy_memory - local.collector_memory # what the others leave
      dependsOn       = [{ containerName = "data-query", condition = "SUCCESS" }]
      portMappings    = [{ name = "http", containerPort = 5000, hostPort = 5000, protocol = "tcp", appProtocol = "http" }]
      linuxParameters = local.linux[64]
      systemControls  = local.somaxconn
      stopTimeout     = 30 # gunicorn lets requests finish for 20 s
      healthCheck = {
        command     = ["CMD", "python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:5000/health-check', timeout=3)"]
        interval    = 5 # the shortest ECS allows
        timeout     = 5
        retries     = 10 # the most ECS allows: a task that is saturated for 15 s must not be replaced
        startPeriod = 30
      }
    }),
  ], local.metrics_containers["flask"]))

  lifecycle {
    create_before_destroy = true # the service keeps its revision until it has the new one

    precondition {
      condition     = local.budget <= local.max_connections # without pooling too, see the check below
      error_message = "${local.flask_peak_count} flask tasks (flask_max_count ${var.flask_max_count}, ${local.flask_maximum_percent} % of it while deploying) x pool_maxconn ${var.pool_maxconn} + ${local.reserved_connections} reserved = ${local.budget} connections, but ${var.db_instance_class} allows ${local.max_connections}. Use a larger db_instance_class, e.g. db.m7g.large, or a lower flask_max_count or pool_maxconn."
    }
  }
}

resource "aws_ecs_service" "flask" {
  name            = "flask"
  cluster         = aws_ecs_cluster.this.id
  task_definition = aws_ecs_task_definition.flask.arn
  launch_type     = "FARGATE"
  desired_count   = var.flask_count

  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = local.flask_maximum_percent
  propagate_tags                     = "SERVICE"
  enable_execute_command             = var.ecs_exec

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  network_configuration {
    subnets         = aws_subnet.tasks[*].id
    security_groups = [aws_security_group.this["flask"].id]
  }

  service_connect_configuration {
    enabled   = true
    namespace = aws_service_discovery_http_namespace.this.arn

    service {
      port_name      = "http"
      discovery_name = "flask"

      client_alias {
        dns_name = "flask"
        port     = 5000
      }
    }
  }

  depends_on = [terraform_data.jobs]

  lifecycle {
    ignore_changes = [desired_count] # the autoscaling's
  }
}

resource "terraform_data" "flask_deployed" {
  triggers_replace = [aws_ecs_service.flask.id, aws_ecs_task_definition.flask.arn]

  provisioner "local-exec" {
    command     = join(" ", [local.wait_for_deployment, aws_ecs_service.flask.name, aws_ecs_task_definition.flask.arn])
    working_dir = path.module
    environment = local.wait_environment
  }
}

check "connections_bounded" {
  assert {
    condition     = var.use_pooling
    error_message = "use_pooling is false: each query opens a connection of its own, and nothing holds a task to pool_maxconn (${var.pool_maxconn}). Beyond ${local.max_connections} connections (${var.db_instance_class}) PostgreSQL refuses them, and flask answers 503."
  }
}
