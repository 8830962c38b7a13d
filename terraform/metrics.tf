# What flask and nginx count, in Amazon Managed Service for Prometheus: off unless metrics is set. Each
# of their tasks has a collector (AWS Distro for OpenTelemetry) that asks its neighbours and writes to
# the workspace: nobody has to reach into the tasks, whose addresses change.

locals {
  collector_memory = var.metrics ? 256 : 0 # MiB
  exporter_memory  = var.metrics ? 64 : 0  # MiB

  metrics_ports = { flask = 5000, nginx = 9113 } # nginx: its exporter's

  sidecar = {
    for service in keys(local.metrics_ports) : service => {
      cpu                    = 0
      essential              = false # the requests go on without it
      readonlyRootFilesystem = true
      linuxParameters        = { capabilities = { drop = ["ALL"] } }
      logConfiguration       = local.log[service]
      restartPolicy          = { enabled = true }
    }
  }

  collector = {
    for service, port in local.metrics_ports : service => merge(local.sidecar[service], {
      name   = "collector"
      image  = "public.ecr.aws/aws-observability/aws-otel-collector:v0.48.0"
      user   = "4317:4317"
      memory = local.collector_memory
      environment = [
        { name = "AOT_CONFIG_CONTENT", value = yamlencode(local.collector_configuration[service]) }
      ]
      healthCheck = {
        command     = ["CMD", "/healthcheck"]
        interval    = 30
        timeout     = 5
        retries     = 3
        startPeriod = 10
      }
    })
  }

  # Translates stub_status, as the profile observe of Compose does.
  nginx_exporter = merge(local.sidecar["nginx"], {
    name    = "exporter"
    image   = "nginx/nginx-prometheus-exporter:1.5.1"
    user    = "1001:1001"
    memory  = local.exporter_memory
    command = ["--nginx.scrape-uri=http://127.0.0.1:8081/stub_status"]
  })

  # What the two task definitions append to their containers.
  metrics_containers = {
    flask = [for container in [local.collector["flask"]] : container if var.metrics]
    nginx = [for container in [local.nginx_exporter, local.collector["nginx"]] : container if var.metrics]
  }

  collector_configuration = {
    for service, port in local.metrics_ports : service => {
      extensions = {
        health_check = {}
        sigv4auth    = { region = var.region, service = "aps" }
      }
      receivers = {
        prometheus = {
          config = {
            scrape_configs = [{
              job_name        = service
              scrape_interval = "15s"
              static_configs  = [{ targets = ["127.0.0.1:${port}"] }]
            }]
          }
        }
      }
      processors = {
        resourcedetection = { detectors = ["ecs"] }
        # Else every task would be the instance 127.0.0.1, and their series one.
        resource = {
          attributes = [{ key = "service.instance.id", from_attribute = "aws.ecs.task.id", action = "upsert" }]
        }
        batch = {}
      }
      exporters = {
        prometheusremotewrite = {
          endpoint            = join("", [for workspace in aws_prometheus_workspace.this : "${workspace.prometheus_endpoint}api/v1/remote_write"])
          auth                = { authenticator = "sigv4auth" }
          add_metric_suffixes = false # the names as flask and the exporter give them
        }
      }
      service = {
        extensions = ["health_check", "sigv4auth"]
        pipelines = {
          metrics = {
            receivers  = ["prometheus"]
            processors = ["resourcedetection", "resource", "batch"]
            exporters  = ["prometheusremotewrite"]
          }
        }
      }
    }
  }
}

resource "aws_prometheus_workspace" "this" {
  count = var.metrics ? 1 : 0
  alias = var.name
}

# It may write to this workspace, and not read.
resource "aws_iam_role" "metrics" {
  count = var.metrics ? 1 : 0
  name  = "${var.name}-${var.region}-metrics"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "ecs-tasks.amazonaws.com" }
    }]
  })
}

resource "aws_iam_role_policy" "metrics" {
  count = var.metrics ? 1 : 0
  name  = "metrics"
  role  = aws_iam_role.metrics[0].id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = "aps:RemoteWrite"
      Resource = aws_prometheus_workspace.this[0].arn
    }]
  })
}
