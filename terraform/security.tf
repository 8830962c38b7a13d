# Who may talk to whom. Compose says it with two networks (backnet, frontnet), AWS with one security
# group per member. Both sides of each flow come from this map. The only other rules are the
# listener's way in and the tasks' way out over HTTPS.

locals {
  flows = merge(
    {
      alb-nginx      = { from = "alb", to = "nginx", port = 8080 }
      nginx-flask    = { from = "nginx", to = "flask", port = 5000 }
      flask-database = { from = "flask", to = "database", port = 5432 }
      flask-cache    = { from = "flask", to = "cache", port = 6379 }
      jobs-database  = { from = "jobs", to = "database", port = 5432 }
    },
    local.locust ? { alb-locust = { from = "alb", to = "locust", port = 8089 } } : {},
    local.load ? { locust-locust = { from = "locust", to = "locust", port = 5557 } } : {}
  )
  members = toset(flatten([for flow in local.flows : [flow.from, flow.to]]))

  # ECR, CloudWatch Logs and Secrets Manager are asked over HTTPS.
  https_clients = setintersection(local.members, ["nginx", "flask", "jobs", "locust"])

  # Who may reach the load balancer, by port. Locust's page starts load: it has networks of its own.
  listeners = merge(
    { 80 = var.ingress_cidrs },
    local.https ? { 443 = var.ingress_cidrs } : {},
    local.locust ? { 8089 = var.locust_cidrs } : {}
  )
  listener_rules = merge([
    for port, cidrs in local.listeners : { for cidr in cidrs : "${port} from ${cidr}" => { port = port, cidr = cidr } }
  ]...)
}

resource "aws_security_group" "this" {
  # checkov:skip=CKV2_AWS_5: all are used; checkov does not follow for_each
  for_each    = local.members
  name        = "${var.name}-${each.key}"
  description = "${each.key} of ${var.name}"
  vpc_id      = aws_vpc.this.id

  tags = { Name = "${var.name}-${each.key}" }
}

resource "aws_vpc_security_group_egress_rule" "flow" {
  for_each                     = local.flows
  description                  = each.key
  security_group_id            = aws_security_group.this[each.value.from].id
  referenced_security_group_id = aws_security_group.this[each.value.to].id
  ip_protocol                  = "tcp"
  from_port                    = each.value.port
  to_port                      = each.value.port
}

resource "aws_vpc_security_group_ingress_rule" "flow" {
  for_each                     = local.flows
  description                  = each.key
  security_group_id            = aws_security_group.this[each.value.to].id
  referenced_security_group_id = aws_security_group.this[each.value.from].id
  ip_protocol                  = "tcp"
  from_port                    = each.value.port
  to_port                      = each.value.port
}

resource "aws_vpc_security_group_egress_rule" "https" {
  for_each          = local.https_clients
  description       = "AWS APIs"
  security_group_id = aws_security_group.this[each.key].id
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

resource "aws_vpc_security_group_ingress_rule" "listener" {
  for_each          = local.listener_rules
  description       = "listener"
  security_group_id = aws_security_group.this["alb"].id
  cidr_ipv4         = each.value.cidr
  ip_protocol       = "tcp"
  from_port         = each.value.port
  to_port           = each.value.port
}
