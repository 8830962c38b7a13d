# Each variable refuses a bad value by itself: a run fails if one of the listed does not.

mock_provider "aws" {
  mock_data "aws_availability_zones" {
    defaults = { names = ["us-east-1a", "us-east-1b"] }
  }
  mock_data "aws_servicequotas_service_quota" {
    defaults = { value = 1000 }
  }
}

variables {
  image_tag     = "v1"
  ingress_cidrs = ["203.0.113.7/32"]
}

run "too_low_or_malformed" {
  command = plan

  variables {
    image_tag             = "not a tag"
    ingress_cidrs         = []
    region                = "Virginia"
    name                  = "Weather"
    tags                  = { "aws:Owner" = "me" }
    vpc_cidr              = "10.0.0.0/24"
    certificate_arn       = "certificate"
    stop_at               = "20:60"
    total_records         = 0
    batch_size            = 999
    seed                  = -1
    cache_expiry          = 0
    web_concurrency       = 0
    log_format            = "xml"
    rate_limit            = "0"
    alarm_email           = "me"
    cpu_architecture      = "x86"
    flask_count           = 0
    flask_cpu             = 100
    target_cpu            = 0
    flask_target_requests = 0
    nginx_count           = 0
    nginx_cpu             = 0
    job_poll_seconds      = 0
    job_timeout_seconds   = 59
    gate_timeout_seconds  = 1
    db_instance_class     = "t4g.medium"
    db_allocated_storage  = 19
    backup_retention_days = -1
    cache_node_type       = "t4g.micro"
    log_retention_days    = 2
    locust_workers        = -1
  }

  expect_failures = [
    var.image_tag, var.ingress_cidrs, var.region, var.name, var.tags, var.vpc_cidr,
    var.certificate_arn, var.stop_at, var.total_records, var.batch_size, var.seed,
    var.cache_expiry, var.web_concurrency, var.log_format, var.rate_limit, var.alarm_email,
    var.cpu_architecture, var.flask_count, var.flask_cpu,
    var.target_cpu, var.flask_target_requests, var.nginx_count, var.nginx_cpu,
    var.job_poll_seconds, var.job_timeout_seconds, var.gate_timeout_seconds,
    var.db_instance_class, var.db_allocated_storage, var.backup_retention_days,
    var.cache_node_type, var.log_retention_days, var.locust_workers,
  ]
}

run "too_high" {
  command = plan

  variables {
    image_tag             = ""
    ingress_cidrs         = ["203.0.113.7"]
    name                  = "a-name-longer-than-a-target-group-allows"
    vpc_cidr              = "10.0.0.0/8"
    total_records         = 2147483648
    batch_size            = 1000001
    cache_expiry          = 86401
    web_concurrency       = 9
    target_cpu            = 91
    job_poll_seconds      = 61
    gate_timeout_seconds  = 121
    db_instance_class     = "db.serverless"
    backup_retention_days = 36
    locust_workers        = 1.5
  }

  expect_failures = [
    var.image_tag, var.ingress_cidrs, var.name, var.vpc_cidr, var.total_records,
    var.batch_size, var.cache_expiry, var.web_concurrency,
    var.target_cpu,
    var.job_poll_seconds, var.gate_timeout_seconds, var.db_instance_class,
    var.backup_retention_days, var.locust_workers,
  ]
}

run "at_odds" {
  command = plan

  variables {
    domain_name     = "weather.example.com" # without certificate_arn
    pool_minconn    = 16                    # above pool_maxconn
    flask_max_count = 2                     # below flask_count
    nginx_max_count = 1                     # below nginx_count
    flask_memory    = 9216                  # above 8 MiB for each unit of flask_cpu
    nginx_memory    = 512                   # below 2
    monthly_budget  = 50                    # without alarm_email
    locust_cidrs    = ["203.0.113.7/32", "0.0.0.0/0"]
  }

  expect_failures = [
    var.domain_name, var.pool_minconn, var.flask_max_count, var.nginx_max_count, var.flask_memory, var.nginx_memory,
    var.locust_cidrs, var.monthly_budget,
  ]
}

run "everyone_in_two_halves" {
  command = plan

  variables {
    locust_cidrs = ["0.0.0.0/1", "128.0.0.0/1"]
  }

  expect_failures = [var.locust_cidrs]
}

run "a_page_that_nobody_may_reach" {
  command = plan

  variables {
    locust_workers = 1
  }

  expect_failures = [var.locust_cidrs]
}

run "fewer_connections_than_workers" {
  command = plan

  variables {
    web_concurrency = 4
    pool_maxconn    = 3
    locust_cidrs    = ["::/0"]
  }

  expect_failures = [var.pool_maxconn, var.locust_cidrs]
}

run "more_memory_than_fargate_has_for_4_vcpu" {
  command = plan

  variables {
    flask_cpu    = 4096
    flask_memory = 31744
    nginx_cpu    = 4096
    nginx_memory = 32768
  }

  expect_failures = [var.flask_memory, var.nginx_memory]
}

run "two_certificates" {
  command = plan

  variables {
    certificate_arn = "arn:aws:acm:us-east-1:123456789012:certificate/12345678-1234-1234-1234-123456789012"
    hosted_zone_id  = "Z0123456789ABCDEFGHIJ"
    domain_name     = "weather.example.com"
  }

  expect_failures = [var.hosted_zone_id]
}

run "a_zone_by_its_name" {
  command = plan

  variables {
    hosted_zone_id = "example.com"
    domain_name    = "weather.example.com"
  }

  expect_failures = [var.hosted_zone_id]
}

run "a_zone_without_a_name" {
  command = plan

  variables {
    hosted_zone_id = "Z0123456789ABCDEFGHIJ"
  }

  expect_failures = [var.domain_name]
}
