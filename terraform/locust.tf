# Load from AWS, off unless locust_workers is set: a Locust master with its web interface on the load
# balancer's port 8089, and workers. They ask the stack's public address, as users do.
#
# Workers find the master by DNS, not by Service Connect: that gives the name an IPv6 address too, which
# Locust takes and no task can reach (locustio/locust#2979), and its proxy would take the generator's CPU.
# A worker that has lost its master ends, and the one that follows it finds the new one.

locals {
  locust_master = "locust.${var.name}.internal"
  locust_roles = local.locust ? {
    master = { environment = { LOCUST_MODE_MASTER = true } }
    worker = { environment = { LOCUST_MODE_WORKER = true, LOCUST_MASTER_NODE_HOST = local.locust_master } }
  } : {}
}

resource "aws_service_discovery_private_dns_namespace" "locust" {
  count       = local.locust ? 1 : 0
  name        = "${var.name}.internal"
  description = "Locust of ${var.name}"
  vpc         = aws_vpc.this.id
}

resource "aws_service_discovery_service" "locust" {
  count         = local.locust ? 1 : 0
  name          = split(".", local.locust_master)[0]
  force_destroy = true # the task's address is in it until ECS has stopped it

  dns_config {
    namespace_id = aws_service_discovery_private_dns_namespace.locust[0].id

    dns_records {
      type = "A"
      ttl  = 10 # seconds
    }
  }
}

resource "aws_ecs_task_definition" "locust" {
  for_each                 = local.locust_roles
  family                   = "${var.name}-locust-${each.key}"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = 1024 # Locust uses one CPU per process
  memory                   = 2048
  execution_role_arn       = aws_iam_role.execution["locust"].arn
  task_role_arn            = lookup(local.task_role_arn, "locust", null)

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

  container_definitions = jsonencode([merge(local.container["locust"], {
    name   = "locust"
    image  = local.image["simulate"]
    user   = "10001:10001"
    memory = 2048
    environment = [
      for key, value in merge({ LOCUST_HOST = local.url }, each.value.environment) : { name = key, value = tostring(value) }
    ]
    secrets = [for secret in local.container["locust"].secrets : secret if each.key == "master"] # of the page
    portMappings = each.key == "master" ? [
      { name = "ui", containerPort = 8089, hostPort = 8089, protocol = "tcp" },
      { name = "workers", containerPort = 5557, hostPort = 5557, protocol = "tcp" },
    ] : []
    linuxParameters = merge(local.linux[64], { initProcessEnabled = true })
    healthCheck     = merge(local.locust_health[each.key], { interval = 5, timeout = 5, retries = 3, startPeriod = 30 })
  })])

  lifecycle {
    create_before_destroy = true
  }
}

locals {
  locust_health = {
    master = { command = ["CMD", "python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8089/', timeout=3)"] }
    # A worker is healthy while it has a connection to port 5557 (15B5) of a master: without one the apply
    # is not green.
    worker = { command = ["CMD", "python", "-c", "import glob; rows = [line.split() for file in glob.glob('/proc/net/tcp*') for line in open(file)]; exit(not any(row[2].endswith(':15B5') and row[3] == '01' for row in rows))"] }
  }
}

resource "aws_ecs_service" "locust_master" {
  count           = local.locust ? 1 : 0
  name            = "locust-master"
  cluster         = aws_ecs_cluster.this.id
  task_definition = aws_ecs_task_definition.locust["master"].arn
  launch_type     = "FARGATE"
  desired_count   = 1
  propagate_tags  = "SERVICE"

  enable_execute_command = var.ecs_exec

  # Never two: each would have some of the workers.
  deployment_minimum_healthy_percent = 0
  deployment_maximum_percent         = 100

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  network_configuration {
    subnets         = aws_subnet.tasks[*].id
    security_groups = [aws_security_group.this["locust"].id]
  }

  service_registries {
    registry_arn = aws_service_discovery_service.locust[0].arn
  }

  load_balancer {
    target_group_arn = aws_lb_target_group.locust[0].arn
    container_name   = "locust"
    container_port   = 8089
  }

  depends_on = [aws_lb_listener.locust, terraform_data.nginx_deployed]
}

resource "aws_ecs_service" "locust_worker" {
  count           = local.locust ? 1 : 0
  name            = "locust-worker"
  cluster         = aws_ecs_cluster.this.id
  task_definition = aws_ecs_task_definition.locust["worker"].arn
  launch_type     = "FARGATE"
  desired_count   = var.locust_workers
  propagate_tags  = "SERVICE"

  enable_execute_command = var.ecs_exec

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

  depends_on = [terraform_data.locust_master_deployed]
}

resource "terraform_data" "locust_master_deployed" {
  count            = local.locust ? 1 : 0
  triggers_replace = [aws_ecs_service.locust_master[0].id, aws_ecs_task_definition.locust["master"].arn]

  provisioner "local-exec" {
    command     = join(" ", [local.wait_for_deployment, aws_ecs_service.locust_master[0].name, aws_ecs_task_definition.locust["master"].arn])
    working_dir = path.module
    environment = local.wait_environment
  }
}

resource "terraform_data" "locust_workers_connected" {
  count            = local.locust ? 1 : 0
  triggers_replace = [aws_ecs_service.locust_worker[0].id, aws_ecs_task_definition.locust["worker"].arn]

  provisioner "local-exec" {
    command     = join(" ", [local.wait_for_deployment, aws_ecs_service.locust_worker[0].name, aws_ecs_task_definition.locust["worker"].arn])
    working_dir = path.module
    environment = local.wait_environment
  }
}

resource "aws_lb_target_group" "locust" {
  count       = local.locust ? 1 : 0
  name        = "${var.name}-locust"
  vpc_id      = aws_vpc.this.id
  target_type = "ip"
  protocol    = "HTTP"
  port        = 8089

  health_check {
    path    = "/metrics" # "/" leads to the login
    matcher = "200"
  }
}

resource "aws_lb_listener" "locust" {
  count             = local.locust ? 1 : 0
  load_balancer_arn = aws_lb.this.arn
  port              = 8089
  protocol          = local.https ? "HTTPS" : "HTTP"
  ssl_policy        = local.https ? "ELBSecurityPolicy-TLS13-1-2-2021-06" : null
  certificate_arn   = local.certificate_arn

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.locust[0].arn
  }
}

# From the tasks, those of experiments too, through the NAT gateway to the load balancer's public address.
# HTTPS is open anyway.
resource "aws_vpc_security_group_egress_rule" "locust" {
  count             = local.load && !local.https ? 1 : 0
  description       = "load"
  security_group_id = aws_security_group.this["locust"].id
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = 80
  to_port           = 80
}

resource "aws_vpc_security_group_ingress_rule" "locust" {
  count             = local.load ? 1 : 0
  description       = "load from Locust"
  security_group_id = aws_security_group.this["alb"].id
  cidr_ipv4         = "${aws_eip.nat.public_ip}/32"
  ip_protocol       = "tcp"
  from_port         = local.https ? 443 : 80
  to_port           = local.https ? 443 : 80
}
