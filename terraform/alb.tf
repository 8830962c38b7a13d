resource "aws_lb" "this" {
  # checkov:skip=CKV_AWS_91: nginx keeps the access log
  # checkov:skip=CKV_AWS_150: deletion_protection decides
  # checkov:skip=CKV2_AWS_28: a firewall for the web would be what the load test measures; ingress_cidrs limits who comes in
  name                       = var.name
  load_balancer_type         = "application"
  subnets                    = aws_subnet.public[*].id
  security_groups            = [aws_security_group.this["alb"].id]
  drop_invalid_header_fields = true
  enable_deletion_protection = var.deletion_protection
  idle_timeout               = 60 # seconds; below nginx's keepalive_timeout of 65
}

resource "aws_lb_target_group" "nginx" {
  # checkov:skip=CKV_AWS_378: TLS ends at the load balancer; behind it are security groups
  name                 = "${var.name}-nginx"
  vpc_id               = aws_vpc.this.id
  target_type          = "ip"
  protocol             = "HTTP"
  port                 = 8080
  deregistration_delay = 30 # seconds, as nginx's stopTimeout

  health_check {
    path                = "/nginx-health" # nginx itself: a saturated flask is no reason to replace it
    matcher             = "200"
    interval            = 10
    timeout             = 5
    healthy_threshold   = 2
    unhealthy_threshold = 3
  }
}

resource "aws_lb_listener" "http" {
  load_balancer_arn = aws_lb.this.arn
  port              = 80
  protocol          = "HTTP"

  default_action {
    type             = local.https ? "redirect" : "forward"
    target_group_arn = local.https ? null : aws_lb_target_group.nginx.arn

    dynamic "redirect" {
      for_each = local.https ? ["HTTP_301"] : []

      content {
        status_code = redirect.value
        protocol    = "HTTPS"
        port        = 443
      }
    }
  }
}

resource "aws_lb_listener" "https" {
  count             = local.https ? 1 : 0
  load_balancer_arn = aws_lb.this.arn
  port              = 443
  protocol          = "HTTPS"
  ssl_policy        = "ELBSecurityPolicy-TLS13-1-2-2021-06"
  certificate_arn   = local.certificate_arn

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.nginx.arn
  }
}
