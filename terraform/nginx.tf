resource "aws_ecs_task_definition" "nginx" {
  family                   = "${var.name}-nginx"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = var.nginx_cpu
  memory                   = var.nginx_memory
  execution_role_arn       = aws_iam_role.execution["nginx"].arn
  task_role_arn            = lookup(local.task_role_arn, "nginx", null)

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

  container_definitions = jsonencode(concat([merge(local.container["nginx"], {
    name            = "nginx"
    image           = local.image["nginx"]
    user            = "101:101"
    memory          = var.nginx_memory - local.proxy_memory - local.collector_memory - local.exporter_memory
    portMappings    = [{ containerPort = 8080, hostPort = 8080, protocol = "tcp" }]
    linuxParameters = local.linux[256] # rendered configuration, request bodies, edge cache
    systemControls  = local.somaxconn
    stopTimeout     = 30
    healthCheck = {
      command     = ["CMD", "curl", "-fsS", "-o", "/dev/null", "http://127.0.0.1:8080/nginx-health"]
      interval    = 5 # the shortest ECS allows
      timeout     = 5
      retries     = 3
      startPeriod = 30
    }
  })], local.metrics_containers["nginx"]))

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_ecs_service" "nginx" {
  name            = "nginx"
  cluster         = aws_ecs_cluster.this.id
  task_definition = aws_ecs_task_definition.nginx.arn
  launch_type     = "FARGATE"
  desired_count   = var.nginx_count

  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200
  health_check_grace_period_seconds  = 30
  propagate_tags                     = "SERVICE"
  enable_execute_command             = var.ecs_exec

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  network_configuration {
    subnets         = aws_subnet.tasks[*].id
    security_groups = [aws_security_group.this["nginx"].id]
  }

  # A client only: Service Connect puts flask into /etc/hosts, where configure.sh finds it.
  service_connect_configuration {
    enabled   = true
    namespace = aws_service_discovery_http_namespace.this.arn
  }

  load_balancer {
    target_group_arn = aws_lb_target_group.nginx.arn
    container_name   = "nginx"
    container_port   = 8080
  }

  # A target group takes tasks once a listener has it. Service Connect's names are those that exist when a
  # task starts.
  depends_on = [aws_lb_listener.http, aws_lb_listener.https, terraform_data.flask_deployed]

  lifecycle {
    ignore_changes = [desired_count] # the autoscaling's
  }
}

resource "terraform_data" "nginx_deployed" {
  triggers_replace = [aws_ecs_service.nginx.id, aws_ecs_task_definition.nginx.arn]

  provisioner "local-exec" {
    command     = join(" ", [local.wait_for_deployment, aws_ecs_service.nginx.name, aws_ecs_task_definition.nginx.arn])
    working_dir = path.module
    environment = local.wait_environment
  }
}
