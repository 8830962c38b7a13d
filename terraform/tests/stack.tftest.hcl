# terraform test: no account, no network. An apply runs run_job.sh, so an `aws` must be on the PATH:
# tests/terraform puts one there that plays the jobs, and makes data of ephemeral resources, which
# mock providers don't know.

mock_provider "aws" {
  mock_data "aws_availability_zones" {
    defaults = { names = ["us-east-1a", "us-east-1b", "us-east-1c"] }
  }
  mock_data "aws_servicequotas_service_quota" {
    defaults = { value = 1000 }
  }
  mock_data "aws_secretsmanager_secret_version" {
    defaults = { secret_string = "0123456789abcdef" }
  }
  mock_resource "aws_db_instance" {
    defaults = {
      address            = "weather.abc.us-east-1.rds.amazonaws.com"
      master_user_secret = [{ secret_arn = "arn:aws:secretsmanager:us-east-1:123456789012:secret:rds" }]
    }
  }
  mock_resource "aws_acm_certificate" {
    defaults = {
      arn = "arn:aws:acm:us-east-1:123456789012:certificate/12345678-1234-1234-1234-123456789012"
      domain_validation_options = [{
        domain_name           = "weather.example.com"
        resource_record_name  = "_1.weather.example.com."
        resource_record_type  = "CNAME"
        resource_record_value = "_2.acm-validations.aws."
      }]
    }
  }
  mock_resource "aws_eip" {
    defaults = { public_ip = "198.51.100.1" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/weather" }
  }
  mock_resource "aws_lb" {
    defaults = {
      arn      = "arn:aws:elasticloadbalancing:us-east-1:123456789012:loadbalancer/app/weather/0123456789abcdef"
      dns_name = "weather-1.us-east-1.elb.amazonaws.com"
    }
  }
  mock_resource "aws_lb_target_group" {
    defaults = { arn = "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/weather/0123456789abcdef" }
  }
  mock_resource "aws_ecs_cluster" {
    defaults = { id = "arn:aws:ecs:us-east-1:123456789012:cluster/weather" }
  }
  mock_resource "aws_ecs_task_definition" {
    defaults = { arn = "arn:aws:ecs:us-east-1:123456789012:task-definition/weather:1" }
  }
  mock_resource "aws_service_discovery_service" {
    defaults = { arn = "arn:aws:servicediscovery:us-east-1:123456789012:service/srv-1" }
  }
  mock_resource "aws_service_discovery_http_namespace" {
    defaults = { arn = "arn:aws:servicediscovery:us-east-1:123456789012:namespace/ns-1" }
  }
}

variables {
  image_tag        = "v1"
  ingress_cidrs    = ["203.0.113.7/32", "198.51.100.0/24"]
  job_poll_seconds = 1
}

run "gate_before_flask" {
  assert {
    condition     = length(terraform_data.jobs) == 1 && contains(terraform_data.jobs[0].triggers_replace, aws_ecs_task_definition.flask.arn)
    error_message = "The jobs run before every new revision of flask."
  }
  assert {
    condition = [for c in jsondecode(aws_ecs_task_definition.flask.container_definitions) : [c.name, c.essential]] == [
      ["data-query", false], ["flask", true]
    ]
    error_message = "Each flask task has the read-only gate and nothing that writes."
  }
  assert {
    condition     = jsondecode(aws_ecs_task_definition.flask.container_definitions)[1].dependsOn == [{ containerName = "data-query", condition = "SUCCESS" }]
    error_message = "flask starts after the gate has succeeded."
  }
  assert {
    condition     = length(aws_ecs_service.locust_master) == 0 && length(aws_ecs_service.locust_worker) == 0 && output.locust_url == null
    error_message = "Load generators are off unless asked for."
  }
  assert {
    condition     = length(aws_prometheus_workspace.this) == 0 && length(aws_iam_role.task) == 0 && output.metrics_endpoint == null
    error_message = "Nothing is collected unless asked for."
  }
  assert {
    condition     = length(aws_ecs_task_definition.experiment) == 0 && length(aws_s3_bucket.experiments) == 0 && output.experiment == null
    error_message = "Nothing is prepared for experiments unless asked for."
  }
}

run "load_generators_answer_on_the_load_balancer" {
  variables {
    locust_workers = 2
    locust_cidrs   = ["203.0.113.9/32"]
  }

  assert {
    condition     = aws_ecs_service.locust_master[0].desired_count == 1 && aws_ecs_service.locust_worker[0].desired_count == 2
    error_message = "locust_workers counts the workers; there is one master."
  }
  assert {
    condition     = output.locust_url == "http://weather-1.us-east-1.elb.amazonaws.com:8089"
    error_message = "locust_url is the master's web interface."
  }
  assert {
    condition = toset([for rule in aws_vpc_security_group_ingress_rule.listener : "${rule.from_port} from ${rule.cidr_ipv4}"]) == toset([
      "80 from 203.0.113.7/32", "80 from 198.51.100.0/24", "8089 from 203.0.113.9/32"
    ])
    error_message = "Locust's page is open to locust_cidrs alone."
  }
}

run "a_failing_revision_never_takes_down_the_running_one" {
  command = plan

  variables {
    locust_workers = 2
    locust_cidrs   = ["203.0.113.9/32"]
  }

  assert {
    condition = alltrue([
      for service in concat([aws_ecs_service.flask, aws_ecs_service.nginx], aws_ecs_service.locust_master, aws_ecs_service.locust_worker) :
      service.deployment_circuit_breaker[0].enable && service.deployment_circuit_breaker[0].rollback
    ])
    error_message = "ECS goes back to the last revision that worked."
  }
  assert {
    condition = alltrue([
      for service in concat([aws_ecs_service.flask, aws_ecs_service.nginx], aws_ecs_service.locust_worker) :
      service.deployment_minimum_healthy_percent == 100 &&
      floor(service.desired_count * service.deployment_maximum_percent / 100) > service.desired_count
    ])
    error_message = "Old tasks stay until new ones are healthy, and there is room for at least one new task."
  }
}

run "experiments_need_no_page_of_locust" {
  command = plan

  variables {
    experiments = true
  }

  assert {
    condition     = toset(keys(aws_ecs_task_definition.experiment)) == toset(["master", "worker"]) && length(aws_ecs_service.locust_master) == 0
    error_message = "Tasks are prepared, and none is started."
  }
  assert {
    condition     = contains(keys(local.flows), "locust-locust") && !contains(keys(local.flows), "alb-locust")
    error_message = "Workers reach their master, and nobody a page."
  }
  assert {
    condition     = length(aws_vpc_security_group_egress_rule.locust) == 1 && length(aws_vpc_security_group_ingress_rule.locust) == 1
    error_message = "They reach the load balancer."
  }
}

# Service Connect names the master by an IPv6 address too, which Locust takes and no task can reach.
run "workers_find_the_master_by_its_ipv4_address" {
  command = plan

  variables {
    locust_workers = 2
    locust_cidrs   = ["203.0.113.9/32"]
  }

  assert {
    condition = alltrue([
      for service in concat(aws_ecs_service.locust_master, aws_ecs_service.locust_worker) :
      length(service.service_connect_configuration) == 0
    ])
    error_message = "Locust does not use Service Connect."
  }
  assert {
    condition     = aws_service_discovery_service.locust[0].dns_config[0].dns_records == tolist([{ type = "A", ttl = 10 }])
    error_message = "The master's name has IPv4 addresses alone, for some seconds."
  }
  assert {
    condition     = "${aws_service_discovery_service.locust[0].name}.${aws_service_discovery_private_dns_namespace.locust[0].name}" == local.locust_master
    error_message = "Workers ask for the name that the master has."
  }
  assert {
    condition     = aws_ecs_service.locust_master[0].deployment_minimum_healthy_percent == 0 && aws_ecs_service.locust_master[0].deployment_maximum_percent == 100
    error_message = "There are never two masters."
  }
}

run "new_accounts_may_run_6_vcpu" {
  command = plan

  override_data {
    target = data.aws_servicequotas_service_quota.fargate
    values = { value = 6 }
  }

  assert {
    condition     = local.vcpu_start == 6 && local.vcpu_most == 19
    error_message = "3 x 1 (flask) + 2 x 0.5 (nginx) + 2 (a job); 15 x 1 + 4 x 0.5 + 2 when all is at its limit."
  }

  expect_failures = [check.fargate_quota]
}

run "clients_are_told_apart_behind_the_load_balancer" {
  command = plan

  variables {
    rate_limit = "50"
  }

  assert {
    condition     = local.environment.nginx.TRUSTED_PROXIES == "10.0.0.0/20 10.0.16.0/20" && local.environment.nginx.RATE_LIMIT == "50"
    error_message = "nginx believes the load balancer's subnets, and limits clients."
  }
}

run "the_last_snapshot_is_a_setting_of_its_own" {
  command = plan

  variables {
    deletion_protection = false
    final_snapshot      = true
  }

  assert {
    condition     = aws_db_instance.this.skip_final_snapshot == false
    error_message = "terraform destroy follows an apply with deletion_protection = false, and the snapshot must survive that."
  }
}

run "an_overloaded_flask_gets_nothing_replaced" {
  command = plan

  assert {
    condition     = aws_lb_target_group.nginx.health_check[0].path == "/nginx-health"
    error_message = "nginx's health is its own."
  }
}

run "one_task_can_be_replaced_too" { # 10 x 200 % x 15 + 10 = 310 of 450
  command = plan

  variables {
    flask_count = 1
    nginx_count = 1
  }

  assert {
    condition     = aws_ecs_service.flask.deployment_maximum_percent == 200 && aws_ecs_service.nginx.deployment_maximum_percent == 200
    error_message = "ECS rounds 150 % of one task down to one."
  }
  assert {
    condition     = local.budget == 310
    error_message = "The connection budget counts every task of a deployment."
  }
}

run "one_listener_rule_for_each_network" {
  command = plan

  assert {
    condition     = toset(keys(aws_vpc_security_group_ingress_rule.listener)) == toset(["80 from 203.0.113.7/32", "80 from 198.51.100.0/24"])
    error_message = "HTTP is open to ingress_cidrs alone."
  }
}

run "https_redirects_http" {
  command = plan

  variables {
    certificate_arn = "arn:aws:acm:us-east-1:123456789012:certificate/12345678-1234-1234-1234-123456789012"
    domain_name     = "weather.example.com"
    locust_workers  = 1
    locust_cidrs    = ["203.0.113.9/32"]
  }

  assert {
    condition     = aws_lb_listener.http.default_action[0].type == "redirect" && length(aws_lb_listener.https) == 1
    error_message = "With a certificate HTTP redirects to HTTPS."
  }
  assert {
    condition     = output.url == "https://weather.example.com"
    error_message = "The URL is the certificate's name."
  }
  assert {
    condition     = output.locust_url == "https://weather.example.com:8089"
    error_message = "Locust's web interface has the certificate's name too."
  }
}

run "jobs_off_warns" {
  command = plan

  variables {
    run_jobs = false
  }

  expect_failures = [check.jobs_run]
}

run "budget_fits_exactly" { # 29 x 15 + 10 = 445 of 450
  command = plan

  variables {
    flask_max_count = 19
  }
}

run "budget_exceeded" { # 30 x 15 + 10 = 460
  command = plan

  variables {
    flask_max_count = 20
  }

  expect_failures = [aws_ecs_task_definition.flask]
}

run "budget_of_a_larger_class" { # 8 GiB
  command = plan

  variables {
    flask_max_count   = 20
    db_instance_class = "db.m7g.large"
  }

  assert {
    condition     = local.max_connections == 901
    error_message = "8 GiB / 9531392 bytes are 901 connections."
  }
}

run "budget_of_the_smallest_class" { # 1 GiB
  command = plan

  variables {
    flask_max_count   = 3
    db_instance_class = "db.t4g.micro"
  }

  assert {
    condition     = local.max_connections == 112
    error_message = "1 GiB / 9531392 bytes are 112 connections."
  }
}

run "budget_has_a_ceiling" { # 64 GiB
  command = plan

  variables {
    db_instance_class = "db.r7g.2xlarge"
  }

  assert {
    condition     = local.max_connections == 5000
    error_message = "RDS allows 5000 connections at most."
  }
}

run "budget_without_pooling" {
  command = plan

  variables {
    flask_max_count = 20
    use_pooling     = false
  }

  expect_failures = [aws_ecs_task_definition.flask, check.connections_bounded]
}

run "alarms_are_off" {
  command = plan

  assert {
    condition     = length(aws_cloudwatch_metric_alarm.this) == 0 && length(aws_cloudwatch_dashboard.this) == 0 && length(aws_budgets_budget.this) == 0
    error_message = "Alarms, dashboard and budget are off unless asked for."
  }
}

run "alarms_tell_somebody" {
  command = plan

  variables {
    alarm_email    = "me@example.com"
    monthly_budget = 50
  }

  assert {
    condition     = toset(keys(aws_cloudwatch_metric_alarm.this)) == toset(["errors", "slow", "no-nginx", "database-cpu", "database-connections"])
    error_message = "What should be heard of has an alarm."
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.this["database-connections"].threshold == 405
    error_message = "90 % of 450 connections."
  }
  assert {
    condition     = aws_sns_topic_subscription.alarms[0].endpoint == "me@example.com" && one(aws_budgets_budget.this[0].cost_filter).values == tolist(["user:Project$weather"])
    error_message = "The address gets the mails, and the budget counts this deployment alone."
  }
}

run "guards_and_shells_are_off" {
  command = plan

  assert {
    condition     = length(aws_appautoscaling_scheduled_action.stop) == 0 && length(aws_scheduler_schedule.stop) == 0 && length(aws_iam_role.stop) == 0
    error_message = "Nothing stops unless asked for."
  }
  assert {
    condition     = !aws_ecs_service.flask.enable_execute_command && length(aws_iam_role.task) == 0 && output.exec_command == null
    error_message = "Nobody gets a shell unless asked for."
  }
}

run "everything_stops_every_day" {
  command = plan

  variables {
    stop_at        = "08:05"
    locust_workers = 2
    locust_cidrs   = ["203.0.113.9/32"]
  }

  assert {
    condition = toset([
      for action in aws_appautoscaling_scheduled_action.stop :
      join(" ", [action.resource_id, action.schedule, action.scalable_target_action[0].max_capacity])
      ]) == toset([
      "service/weather/flask cron(5 8 * * ? *) 0", "service/weather/nginx cron(5 8 * * ? *) 0"
    ])
    error_message = "The autoscaling itself goes to 0: it would start again what anything else had stopped."
  }
  assert {
    condition = { for name, schedule in aws_scheduler_schedule.stop : name => [schedule.target[0].arn, schedule.target[0].input] } == {
      database      = ["arn:aws:scheduler:::aws-sdk:rds:stopDBInstance", jsonencode({ DbInstanceIdentifier = "weather" })]
      locust-master = ["arn:aws:scheduler:::aws-sdk:ecs:updateService", jsonencode({ Cluster = "weather", DesiredCount = 0, Service = "locust-master" })]
      locust-worker = ["arn:aws:scheduler:::aws-sdk:ecs:updateService", jsonencode({ Cluster = "weather", DesiredCount = 0, Service = "locust-worker" })]
    }
    error_message = "Every service and the database have a call that stops them."
  }
  assert {
    condition     = toset([for schedule in aws_scheduler_schedule.stop : schedule.schedule_expression]) == toset(["cron(5 8 * * ? *)"])
    error_message = "All stop at the same time."
  }
}

# The root file system stays read-only; the agent has two folders to write to.
run "a_shell_in_every_service" {
  command = plan

  variables {
    ecs_exec       = true
    locust_workers = 2
    locust_cidrs   = ["203.0.113.9/32"]
  }

  assert {
    condition = alltrue([
      for service in concat([aws_ecs_service.flask, aws_ecs_service.nginx], aws_ecs_service.locust_master, aws_ecs_service.locust_worker) :
      service.enable_execute_command
    ])
    error_message = "ecs_exec is for every service."
  }
  assert {
    condition = alltrue([
      for definition in concat([aws_ecs_task_definition.flask, aws_ecs_task_definition.nginx], values(aws_ecs_task_definition.locust)) :
      toset(definition.volume[*].name) == toset(["exec-log", "exec-state"])
    ])
    error_message = "The agent has volumes of its own."
  }
  assert {
    condition     = aws_ecs_cluster.this.configuration[0].execute_command_configuration[0].log_configuration[0].cloud_watch_log_group_name == "/ecs/weather/exec"
    error_message = "Sessions are logged."
  }
  assert {
    condition     = toset(keys(aws_iam_role.task)) == toset(["flask", "nginx", "locust"])
    error_message = "The agent needs a role in each task."
  }
}

run "nginx_bounds_what_flask_gets" {
  command = plan

  assert {
    condition     = local.environment.nginx.UPSTREAM_REQUESTS == 150
    error_message = "100 requests for each of 3 flask tasks, shared by 2 nginx tasks."
  }
}

run "the_bound_is_one_that_nginx_takes" { # 600 x 100 / 2 = 30,000
  command = plan

  variables {
    flask_count       = 600
    flask_max_count   = 600
    pool_maxconn      = 5
    db_instance_class = "db.r7g.2xlarge"
  }

  assert {
    condition     = local.environment.nginx.UPSTREAM_REQUESTS == 4000
    error_message = "4000 is the most of UPSTREAM_REQUESTS."
  }
}

run "a_hosted_zone_brings_the_certificate_and_the_name" {
  variables {
    hosted_zone_id = "Z0123456789ABCDEFGHIJ"
    domain_name    = "weather.example.com"
    locust_workers = 1
    locust_cidrs   = ["203.0.113.9/32"]
  }

  assert {
    condition     = aws_acm_certificate.this[0].domain_name == "weather.example.com" && aws_acm_certificate.this[0].validation_method == "DNS"
    error_message = "The certificate is for domain_name."
  }
  assert {
    condition     = aws_route53_record.validation[0].name == "_1.weather.example.com." && aws_route53_record.validation[0].records == toset(["_2.acm-validations.aws."])
    error_message = "The record proves to ACM that the name is ours."
  }
  assert {
    condition     = aws_route53_record.name[0].name == "weather.example.com" && one(aws_route53_record.name[0].alias).name == aws_lb.this.dns_name
    error_message = "The name leads to the load balancer."
  }
  assert {
    condition = alltrue([
      for listener in concat(aws_lb_listener.https, aws_lb_listener.locust) : listener.certificate_arn == aws_acm_certificate_validation.this[0].certificate_arn
    ])
    error_message = "Both listeners wait for the certificate to be valid, and use it."
  }
  assert {
    condition     = aws_lb_listener.http.default_action[0].type == "redirect" && output.url == "https://weather.example.com"
    error_message = "HTTPS works as with certificate_arn."
  }
}
