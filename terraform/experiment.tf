# Experiments: Locust as tasks that experiment.py starts and stops, headless, with the results in a bucket. Off
# unless experiments is set. The workers get the master's address when they are started, so they need no DNS;
# network and rules are locust.tf's.

locals {
  experiment_roles = {
    for role, environment in {
      master = { AWS_DEFAULT_REGION = var.region, EXPERIMENT_STACK = jsonencode(local.deployed) }
      worker = {}
    } : role => environment if var.experiments
  }

  # What the report says of the stack; simulate/lab/cluster.py reads it.
  deployed = {
    revision = var.image_tag
    rows     = var.total_records
    setting = {
      replicas = var.flask_count
      pooling  = var.use_pooling
      cache    = var.cache
      memory   = var.memory_cache
      edge     = var.edge_cache
      pool_max = var.pool_maxconn
      workers  = var.web_concurrency
    }
    machine = {
      region         = var.region
      processor      = var.cpu_architecture
      "flask tasks"  = "${var.flask_count} to ${var.flask_max_count} of ${var.flask_cpu / 1024} vCPU, ${var.flask_memory / 1024} GiB"
      "nginx tasks"  = "${var.nginx_count} to ${var.nginx_max_count} of ${var.nginx_cpu / 1024} vCPU, ${var.nginx_memory / 1024} GiB"
      "Locust tasks" = "1 vCPU, 2 GiB each"
      database       = "${var.db_instance_class}${var.db_multi_az ? ", with a standby" : ""}"
      cache          = var.cache_node_type
    }
  }

  experiment_results = "results" # folder in the bucket
}

resource "aws_ecs_task_definition" "experiment" {
  for_each                 = local.experiment_roles
  family                   = "${var.name}-experiment-${each.key}"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = 1024 # Locust uses one CPU per process
  memory                   = 2048
  execution_role_arn       = aws_iam_role.execution["experiment"].arn
  task_role_arn            = each.key == "master" ? aws_iam_role.experiment[0].arn : null

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.cpu_architecture
  }

  container_definitions = jsonencode([merge(local.container["experiment"], {
    name   = "locust"
    image  = local.image["simulate"]
    user   = "10001:10001"
    memory = 2048
    environment = [
      for key, value in merge({ LOCUST_HOST = local.url }, each.value) : { name = key, value = value }
    ]
    portMappings    = each.key == "master" ? [{ name = "workers", containerPort = 5557, hostPort = 5557, protocol = "tcp" }] : []
    linuxParameters = merge(local.linux[64], { initProcessEnabled = true })
  })])

  lifecycle {
    create_before_destroy = true
  }
}

# What the master may do: leave results, and not read, list or delete any.
resource "aws_iam_role" "experiment" {
  count              = var.experiments ? 1 : 0
  name               = "${var.name}-${var.region}-experiment"
  assume_role_policy = local.assume_role["ecs-tasks"]
}

resource "aws_iam_role_policy" "experiment" {
  count = var.experiments ? 1 : 0
  name  = "results"
  role  = aws_iam_role.experiment[0].id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = "s3:PutObject"
      Resource = "${aws_s3_bucket.experiments[0].arn}/${local.experiment_results}/*"
    }]
  })
}

resource "aws_s3_bucket" "experiments" {
  # checkov:skip=CKV_AWS_18: who fetched a report is of no interest; CloudTrail knows who changed the bucket
  # checkov:skip=CKV_AWS_21: each run writes names of its own, and nothing is ever overwritten
  # checkov:skip=CKV_AWS_144: experiment.py copies the results to the user's machine
  # checkov:skip=CKV_AWS_145: encrypted with the key of S3; the results hold no secrets
  # checkov:skip=CKV2_AWS_61: the results are small, and go with the stack; S3 takes a minute to confirm a rule
  # checkov:skip=CKV2_AWS_62: experiment.py waits for the results itself
  count         = var.experiments ? 1 : 0
  bucket_prefix = "${var.name}-experiments-" # bucket names are one for all accounts
  force_destroy = true                       # the results are on the user's machine, too
}

resource "aws_s3_bucket_public_access_block" "experiments" {
  count                   = var.experiments ? 1 : 0
  bucket                  = aws_s3_bucket.experiments[0].id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_server_side_encryption_configuration" "experiments" {
  count  = var.experiments ? 1 : 0
  bucket = aws_s3_bucket.experiments[0].id

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_policy" "experiments" {
  count  = var.experiments ? 1 : 0
  bucket = aws_s3_bucket.experiments[0].id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "TlsOnly"
      Effect    = "Deny"
      Action    = "s3:*"
      Principal = "*"
      Resource  = [aws_s3_bucket.experiments[0].arn, "${aws_s3_bucket.experiments[0].arn}/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
  })

  depends_on = [aws_s3_bucket_public_access_block.experiments] # S3 takes one change of both at a time
}
