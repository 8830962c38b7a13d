# Load from AWS, off unless locust_workers is set: a Locust master with its web interface on the load
# balancer's port 8089, and workers. They ask the stack's public address, as users do.

locals {
  locust_roles = local.locust ? {
    master = { count = 1, environment = { LOCUST_MODE_MASTER = true } }
    worker = { count = var.locust_workers, environment = { LOCUST_MODE_WORKER = true, LOCUST_MASTER_NODE_HOST = "locust" } }
  } : {}
}

resource "aws_ecs_task_definition" "locust" {
  for_each                 = local.locust_roles
  family                   = "${var.name}-locust-${each.key}"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = 1024 # Locust uses one CPU per process
  memory                   = 2048
  execution_role_arn       = aws_iam_role.execution["locust"].arn

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.cpu_architecture
  }

  container_definitions = jsonencode([merge(local.container["locust"], {
    name   = "locust"
    image  = local.image["simulate"]
    user   = "10001:10001"
    memory = 2048 - local.proxy_memory
    environment = [
      for key, value in merge({ LOCUST_HOST = local.url }, each.value.environment) : { name = key, value = tostring(value) }
    ]
    portMappings = each.key == "master" ? [
      { name = "ui", containerPort = 8089, hostPort = 8089, protocol = "tcp" },
      { name = "workers", containerPort = 5557, hostPort = 5557, protocol = "tcp" },
    ] : []
    linuxParameters = merge(local.linux[64], { initProcessEnabled = true })
  })])
}

resource "aws_ecs_service" "locust" {
  for_each        = local.locust_roles
  name            = "locust-${each.key}"
  cluster         = aws_ecs_cluster.this.id
  task_definition = aws_ecs_task_definition.locust[each.key].arn
  launch_type     = "FARGATE"
  desired_count   = each.value.count

  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  network_configuration {
    subnets         = aws_subnet.tasks[*].id
    security_groups = [aws_security_group.this["locust"].id]
  }

  service_connect_configuration {
    enabled   = true
    namespace = aws_service_discovery_http_namespace.this.arn

    dynamic "service" {
      for_each = each.key == "master" ? ["workers"] : []

      content {
        port_name      = service.value
        discovery_name = "locust"

        client_alias {
          dns_name = "locust"
          port     = 5557
        }
      }
    }
  }

  dynamic "load_balancer" {
    for_each = each.key == "master" ? aws_lb_target_group.locust : []

    content {
      target_group_arn = load_balancer.value.arn
      container_name   = "locust"
      container_port   = 8089
    }
  }

  depends_on = [aws_lb_listener.locust, aws_ecs_service.nginx]
}

resource "aws_lb_target_group" "locust" {
  count       = local.locust ? 1 : 0
  name        = "${var.name}-locust"
  vpc_id      = aws_vpc.this.id
  target_type = "ip"
  protocol    = "HTTP"
  port        = 8089

  health_check {
    path    = "/"
    matcher = "200"
  }
}

resource "aws_lb_listener" "locust" {
  count             = local.locust ? 1 : 0
  load_balancer_arn = aws_lb.this.arn
  port              = 8089
  protocol          = local.https ? "HTTPS" : "HTTP"
  ssl_policy        = local.https ? "ELBSecurityPolicy-TLS13-1-2-2021-06" : null
  certificate_arn   = var.certificate_arn

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.locust[0].arn
  }
}

# From the tasks through the NAT gateway to the load balancer's public address. HTTPS is open anyway.
resource "aws_vpc_security_group_egress_rule" "locust" {
  count             = local.locust && !local.https ? 1 : 0
  description       = "load"
  security_group_id = aws_security_group.this["locust"].id
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = 80
  to_port           = 80
}

resource "aws_vpc_security_group_ingress_rule" "locust" {
  count             = local.locust ? 1 : 0
  description       = "load from Locust"
  security_group_id = aws_security_group.this["alb"].id
  cidr_ipv4         = "${aws_eip.nat.public_ip}/32"
  ip_protocol       = "tcp"
  from_port         = local.https ? 443 : 80
  to_port           = local.https ? 443 : 80
}
