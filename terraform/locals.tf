locals {
  https  = var.certificate_arn != null || var.hosted_zone_id != null
  locust = var.locust_workers > 0
  load   = local.locust || var.experiments # whether Locust runs here at all
  url    = local.https ? "https://${var.domain_name}" : "http://${aws_lb.this.dns_name}"

  image = { for name, repository in aws_ecr_repository.this : name => "${repository.repository_url}:${var.image_tag}" }

  # What has a task definition: the images its role may pull.
  services = merge(
    {
      data-populator = { images = ["data-populator"] }
      data-query     = { images = ["data-query"] }
      flask          = { images = ["flask", "data-query"] }
      nginx          = { images = ["nginx"] }
    },
    local.locust ? { locust = { images = ["simulate"] } } : {},
    var.experiments ? { experiment = { images = ["simulate"] } } : {}
  )

  # Memory of the database in GiB, from the name of its class: db.t4g.medium, db.r7g.2xlarge.
  db_class = split(".", var.db_instance_class)
  db_size = try(
    { micro = 1 / 8, small = 1 / 4, medium = 1 / 2, large = 1, xlarge = 2 }[local.db_class[2]],
    2 * tonumber(trimsuffix(local.db_class[2], "xlarge"))
  )
  db_memory       = local.db_size * (startswith(local.db_class[1], "r") ? 16 : 8)
  max_connections = min(floor(local.db_memory * pow(1024, 3) / 9531392), 5000)

  # A deployment starts new tasks before it stops old ones. ECS rounds down: 150 % of one task is one,
  # and nothing could be replaced.
  flask_maximum_percent = var.flask_count > 1 ? 150 : 200
  flask_peak_count      = ceil(var.flask_max_count * local.flask_maximum_percent / 100)
  # What counts against Fargate's quota, in vCPU: when all has been made and a job runs once more, and when
  # the services have grown to their limits and flask is being deployed.
  vcpu_others = 2 + (local.locust ? 1 + var.locust_workers : 0) # a job; Locust
  vcpu_start  = (var.flask_count * var.flask_cpu + var.nginx_count * var.nginx_cpu) / 1024 + local.vcpu_others
  vcpu_most   = (local.flask_peak_count * var.flask_cpu + var.nginx_max_count * var.nginx_cpu) / 1024 + local.vcpu_others

  # nginx can't tell flask's tasks apart: 100 requests for each of those that are there at least, shared among
  # the nginx tasks. With more tasks of both these are fewer for each, and still more than it works on.
  upstream_requests = min(ceil(100 * var.flask_count / var.nginx_count), 4000)

  # Kept back by PostgreSQL (3) and RDS (2) for superusers, and by the app for jobs and people (5).
  reserved_connections = 10
  budget               = local.flask_peak_count * var.pool_maxconn + local.reserved_connections

  postgres_client = merge({
    POSTGRES_HOST    = aws_db_instance.this.address
    POSTGRES_PORT    = aws_db_instance.this.port
    POSTGRES_DB      = aws_db_instance.this.db_name
    POSTGRES_SSLMODE = var.verify_database ? "verify-full" : "require"
  }, var.verify_database ? { POSTGRES_SSLROOTCERT = "/app/ca.pem" } : {})
  app_user        = "weather_app" # made by data-populator, may only read
  postgres_reader = merge(local.postgres_client, { POSTGRES_USER = local.app_user })

  environment = {
    data-populator = merge(local.postgres_client, {
      POSTGRES_USER     = aws_db_instance.this.username
      POSTGRES_APP_USER = local.app_user
      TOTAL_RECORDS     = var.total_records
      BATCH_SIZE        = var.batch_size
      SEED              = var.seed
    })
    data-query = merge(local.postgres_reader, { TOTAL_RECORDS = var.total_records })
    flask = merge(local.postgres_reader, {
      REDIS_HOST      = aws_elasticache_replication_group.this.primary_endpoint_address
      REDIS_PORT      = aws_elasticache_replication_group.this.port
      REDIS_SSL       = true
      FLASK_REPLICAS  = local.flask_peak_count
      USE_POOLING     = var.use_pooling
      POOL_MINCONN    = var.pool_minconn
      POOL_MAXCONN    = var.pool_maxconn
      CACHE           = var.cache
      MEMORY_CACHE    = var.memory_cache
      CACHE_EXPIRY    = var.cache_expiry
      WEB_CONCURRENCY = var.web_concurrency
      X_SERVED_BY     = var.x_served_by ? "on" : "off"
      LOG_FORMAT      = var.log_format
    })
    nginx = {
      FLASK_UPSTREAMS   = "flask:5000"
      UPSTREAM_REQUESTS = local.upstream_requests
      EDGE_CACHE        = var.edge_cache ? "on" : "off"
      RATE_LIMIT        = var.rate_limit
      TRUSTED_PROXIES   = join(" ", aws_subnet.public[*].cidr_block) # the load balancer's
      LOG_FORMAT        = var.log_format
    }
  }

  proxy_memory = 128 # MiB for Service Connect's proxy, which ECS adds to the task; AWS advises 64 at least

  # What every container is started with, as x-hardening in the Compose file. ECS shares the task's
  # CPU among its containers (cpu = 0).
  container = {
    for name in keys(local.services) : name => merge({
      cpu                    = 0
      essential              = true
      readonlyRootFilesystem = true
      environment            = [for key, value in lookup(local.environment, name, {}) : { name = key, value = tostring(value) }]
      secrets                = [for key, secret in lookup(local.secrets, name, {}) : { name = key, valueFrom = local.secret_value[secret] }]
      logConfiguration       = local.log[name]
    }, contains(local.exec_services, name) ? local.exec_mounts : {})
  }

  log = {
    for name in keys(local.services) : name => {
      logDriver = "awslogs"
      options = {
        awslogs-group         = aws_cloudwatch_log_group.this[name].name
        awslogs-region        = var.region
        awslogs-stream-prefix = name
        mode                  = "non-blocking" # a slow CloudWatch must not stop the requests
        max-buffer-size       = "25m"
      }
    }
  }

  # Fargate mounts tmpfs since January 2026. The size counts as the container's memory (MiB).
  linux = {
    for size in [64, 256] : size => merge({
      capabilities = { drop = ["ALL"] }
      tmpfs        = [{ containerPath = "/tmp", size = size, mountOptions = ["nosuid", "nodev"] }]
    }, local.exec_init)
  }
  somaxconn = [{ namespace = "net.core.somaxconn", value = "4096" }] # the backlog nginx and gunicorn ask for
}
