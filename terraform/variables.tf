# --- Required --------------------------------------------------------------------------------------

variable "image_tag" {
  description = "Tag of the images that build_and_push_images.sh --ecr pushed; it prints it. Example: 8a348d9b7c21."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$", var.image_tag))
    error_message = "image_tag is '${var.image_tag}': expected up to 128 letters, digits, dots, dashes and underscores, e.g. 8a348d9b7c21."
  }
}

variable "ingress_cidrs" {
  description = "IPv4 networks that may reach the load balancer. Example: [\"203.0.113.7/32\"]; [\"0.0.0.0/0\"] is everyone."
  type        = list(string)

  validation {
    condition     = length(var.ingress_cidrs) > 0 && alltrue([for cidr in var.ingress_cidrs : can(cidrnetmask(cidr))])
    error_message = "ingress_cidrs is ${jsonencode(var.ingress_cidrs)}: expected one or more IPv4 networks, e.g. [\"203.0.113.7/32\"]."
  }
}

# --- Where and how it is named ---------------------------------------------------------------------

variable "region" {
  description = "AWS region."
  type        = string
  default     = "us-east-1"

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region is '${var.region}': expected a region's name, e.g. eu-central-1."
  }
}

variable "name" {
  description = "Name of the deployment; all resources carry it, so that several fit into one account."
  type        = string
  default     = "weather"

  validation { # a load balancer's name has at most 32 characters, "-locust" included
    condition     = can(regex("^[a-z]([a-z0-9]|-[a-z0-9]){1,23}$", var.name))
    error_message = "name is '${var.name}': expected 2 to 24 lower-case letters, digits and single dashes, starting with a letter, e.g. weather-test."
  }
}

variable "tags" {
  description = "Tags for every resource, besides Project and ManagedBy. Example: { Owner = \"me\" }."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for key in keys(var.tags) : !startswith(lower(key), "aws:")])
    error_message = "tags has the keys ${join(", ", keys(var.tags))}: expected none that starts with 'aws:', e.g. { Owner = \"me\" }."
  }
}

variable "vpc_cidr" {
  description = "Network of the VPC, /16 to /22; subnets are sixteenths of it."
  type        = string
  default     = "10.0.0.0/16"

  validation {
    condition     = can(cidrnetmask(var.vpc_cidr)) && try(tonumber(split("/", var.vpc_cidr)[1]) >= 16 && tonumber(split("/", var.vpc_cidr)[1]) <= 22, false)
    error_message = "vpc_cidr is '${var.vpc_cidr}': expected an IPv4 network of /16 to /22, e.g. 10.0.0.0/16."
  }
}

variable "certificate_arn" {
  description = "Certificate of AWS Certificate Manager for HTTPS; HTTP then redirects. null: HTTP alone."
  type        = string
  default     = null

  validation {
    condition     = var.certificate_arn == null || can(regex("^arn:[^:]+:acm:[^:]+:[0-9]{12}:certificate/.+$", var.certificate_arn))
    error_message = "certificate_arn is '${coalesce(var.certificate_arn, "null")}': expected null or a certificate's ARN, e.g. arn:aws:acm:us-east-1:123456789012:certificate/12345678-1234-1234-1234-123456789012."
  }
}

variable "hosted_zone_id" {
  description = "Id of the public Route 53 zone of domain_name: brings HTTPS with a certificate of its own, and the name's record. null: certificate_arn, or HTTP alone."
  type        = string
  default     = null

  validation {
    condition     = var.hosted_zone_id == null || (can(regex("^[A-Z0-9]{1,32}$", var.hosted_zone_id)) && var.certificate_arn == null)
    error_message = "hosted_zone_id is '${coalesce(var.hosted_zone_id, "null")}': expected null or the id of a zone, and no certificate_arn with it, e.g. Z0123456789ABCDEFGHIJ."
  }
}

variable "domain_name" {
  description = "Name that the certificate is for. With certificate_arn point it to the output alb_dns_name; hosted_zone_id does so itself."
  type        = string
  default     = null

  validation {
    condition     = (var.domain_name != null) == (var.certificate_arn != null || var.hosted_zone_id != null)
    error_message = "domain_name is '${coalesce(var.domain_name, "null")}': expected a name with certificate_arn or hosted_zone_id, and null without, e.g. weather.example.com."
  }
}

# --- Data and application: the same settings as in .env.sample -------------------------------------

variable "total_records" {
  description = "TOTAL_RECORDS: rows in weather_data."
  type        = number
  default     = 10000000

  validation {
    condition     = var.total_records == floor(var.total_records) && var.total_records >= 1 && var.total_records <= 2147483647
    error_message = "total_records is ${var.total_records}: expected a whole number from 1 to 2147483647, e.g. 10000000."
  }
}

variable "batch_size" {
  description = "BATCH_SIZE: rows that one COPY commits."
  type        = number
  default     = 100000

  validation {
    condition     = var.batch_size == floor(var.batch_size) && var.batch_size >= 1000 && var.batch_size <= 1000000
    error_message = "batch_size is ${var.batch_size}: expected a whole number from 1000 to 1000000, e.g. 100000."
  }
}

variable "seed" {
  description = "SEED of the data: same seed, same rows."
  type        = number
  default     = 42

  validation {
    condition     = var.seed == floor(var.seed) && var.seed >= 0 && var.seed <= 9223372036854775807
    error_message = "seed is ${var.seed}: expected a whole number from 0 to 9223372036854775807, e.g. 42."
  }
}

variable "use_pooling" {
  description = "USE_POOLING: keep a pool of PostgreSQL connections in each task."
  type        = bool
  default     = true
}

variable "pool_minconn" {
  description = "POOL_MINCONN: connections that one flask task keeps open."
  type        = number
  default     = 5

  validation {
    condition     = var.pool_minconn == floor(var.pool_minconn) && var.pool_minconn >= 0 && var.pool_minconn <= var.pool_maxconn
    error_message = "pool_minconn is ${var.pool_minconn}: expected a whole number from 0 to pool_maxconn (${var.pool_maxconn}), e.g. 5."
  }
}

variable "pool_maxconn" {
  description = "POOL_MAXCONN: connections that one flask task opens at most, shared out over its workers."
  type        = number
  default     = 15

  validation {
    condition     = var.pool_maxconn == floor(var.pool_maxconn) && var.pool_maxconn >= var.web_concurrency && var.pool_maxconn <= 1000
    error_message = "pool_maxconn is ${var.pool_maxconn}: expected a whole number from web_concurrency (${var.web_concurrency}) to 1000, e.g. 15."
  }
}

variable "cache" {
  description = "CACHE: keep averages in Redis."
  type        = bool
  default     = true
}

variable "memory_cache" {
  description = "MEMORY_CACHE: let each flask task keep averages in its own memory, in front of Redis."
  type        = bool
  default     = true
}

variable "cache_expiry" {
  description = "CACHE_EXPIRY: seconds that a cached average lives at most."
  type        = number
  default     = 300

  validation {
    condition     = var.cache_expiry == floor(var.cache_expiry) && var.cache_expiry >= 1 && var.cache_expiry <= 86400
    error_message = "cache_expiry is ${var.cache_expiry}: expected a whole number of seconds from 1 to 86400, e.g. 300."
  }
}

variable "edge_cache" {
  description = "EDGE_CACHE: let nginx answer repeated questions from its own cache."
  type        = bool
  default     = false
}

variable "rate_limit" {
  description = "RATE_LIMIT: requests per second of one client address, counted in each nginx task; or off."
  type        = string
  default     = "off"

  validation {
    condition     = var.rate_limit == "off" || can(regex("^([1-9][0-9]{0,5}|1000000)$", var.rate_limit))
    error_message = "rate_limit is '${var.rate_limit}': expected off or a whole number from 1 to 1000000, e.g. 50."
  }
}

variable "web_concurrency" {
  description = "WEB_CONCURRENCY: gunicorn workers in each flask task; one for each vCPU."
  type        = number
  default     = 1

  validation {
    condition     = var.web_concurrency == floor(var.web_concurrency) && var.web_concurrency >= 1 && var.web_concurrency <= 8
    error_message = "web_concurrency is ${var.web_concurrency}: expected a whole number from 1 to 8, e.g. 1."
  }
}

variable "log_format" {
  description = "LOG_FORMAT: log lines of flask and nginx's access log: text or json."
  type        = string
  default     = "text"

  validation {
    condition     = contains(["text", "json"], var.log_format)
    error_message = "log_format is '${var.log_format}': expected text or json, e.g. text."
  }
}

variable "x_served_by" {
  description = "X_SERVED_BY: answers name the task that made them, in X-Served-By and on the page; for whoever shall see how the load spreads."
  type        = bool
  default     = false
}

variable "verify_database" {
  description = "POSTGRES_SSLMODE verify-full instead of require: the tasks check RDS's certificate. Needs ca.pem in the images; see README.md."
  type        = bool
  default     = false
}

# --- Tasks -----------------------------------------------------------------------------------------

variable "cpu_architecture" {
  description = "Processor the images were built for: X86_64 or ARM64 (PLATFORMS=linux/arm64; 20 % cheaper)."
  type        = string
  default     = "X86_64"

  validation {
    condition     = contains(["X86_64", "ARM64"], var.cpu_architecture)
    error_message = "cpu_architecture is '${var.cpu_architecture}': expected X86_64 or ARM64, e.g. X86_64."
  }
}

variable "flask_count" {
  description = "Flask tasks at least, and at the start."
  type        = number
  default     = 3

  validation {
    condition     = var.flask_count == floor(var.flask_count) && var.flask_count >= 1
    error_message = "flask_count is ${var.flask_count}: expected a whole number of at least 1, e.g. 3."
  }
}

variable "flask_max_count" {
  description = "Flask tasks at most. The connection budget counts with it."
  type        = number
  default     = 10

  validation {
    condition     = var.flask_max_count == floor(var.flask_max_count) && var.flask_max_count >= var.flask_count && var.flask_max_count <= 600
    error_message = "flask_max_count is ${var.flask_max_count}: expected a whole number from flask_count (${var.flask_count}) to 600, e.g. 10."
  }
}

variable "flask_cpu" {
  description = "CPU of a flask task in units; 1024 is one vCPU."
  type        = number
  default     = 1024

  validation {
    condition     = contains([256, 512, 1024, 2048, 4096], var.flask_cpu)
    error_message = "flask_cpu is ${var.flask_cpu}: expected 256, 512, 1024, 2048 or 4096, e.g. 1024."
  }
}

variable "flask_memory" {
  description = "Memory of a flask task in MiB, 384 of them for the gate and Service Connect's proxy, 256 for metrics."
  type        = number
  default     = 2048

  validation {
    condition     = var.flask_memory % 1024 == 0 && var.flask_memory >= 2 * var.flask_cpu && var.flask_memory <= min(8 * var.flask_cpu, 30720)
    error_message = "flask_memory is ${var.flask_memory}: expected a multiple of 1024 from ${2 * var.flask_cpu} to ${min(8 * var.flask_cpu, 30720)} (2 to 8 MiB for each unit of flask_cpu, 30720 at most), e.g. ${4 * var.flask_cpu}."
  }
}

variable "target_cpu" {
  description = "CPU use in percent that the autoscaling of flask and of nginx aims at; Service Connect's proxy counts."
  type        = number
  default     = 75

  validation {
    condition     = var.target_cpu >= 10 && var.target_cpu <= 90
    error_message = "target_cpu is ${var.target_cpu}: expected 10 to 90 percent, e.g. 75."
  }
}

variable "flask_target_requests" {
  description = "Requests per flask task and minute that the autoscaling of flask aims at."
  type        = number
  default     = 22500

  validation {
    condition     = var.flask_target_requests >= 1
    error_message = "flask_target_requests is ${var.flask_target_requests}: expected at least 1, e.g. 22500."
  }
}

variable "nginx_count" {
  description = "nginx tasks at least, and at the start."
  type        = number
  default     = 2

  validation {
    condition     = var.nginx_count == floor(var.nginx_count) && var.nginx_count >= 1
    error_message = "nginx_count is ${var.nginx_count}: expected a whole number of at least 1, e.g. 2."
  }
}

variable "nginx_max_count" {
  description = "nginx tasks at most."
  type        = number
  default     = 4

  validation {
    condition     = var.nginx_max_count == floor(var.nginx_max_count) && var.nginx_max_count >= var.nginx_count
    error_message = "nginx_max_count is ${var.nginx_max_count}: expected a whole number of at least nginx_count (${var.nginx_count}), e.g. 8."
  }
}

variable "nginx_cpu" {
  description = "CPU of an nginx task in units; 1024 is one vCPU."
  type        = number
  default     = 512

  validation {
    condition     = contains([256, 512, 1024, 2048, 4096], var.nginx_cpu)
    error_message = "nginx_cpu is ${var.nginx_cpu}: expected 256, 512, 1024, 2048 or 4096, e.g. 512."
  }
}

variable "nginx_memory" {
  description = "Memory of an nginx task in MiB, 128 of them for Service Connect's proxy, 320 for metrics."
  type        = number
  default     = 1024

  validation {
    condition     = var.nginx_memory % 1024 == 0 && var.nginx_memory >= 2 * var.nginx_cpu && var.nginx_memory <= min(8 * var.nginx_cpu, 30720)
    error_message = "nginx_memory is ${var.nginx_memory}: expected a multiple of 1024 from ${2 * var.nginx_cpu} to ${min(8 * var.nginx_cpu, 30720)} (2 to 8 MiB for each unit of nginx_cpu, 30720 at most), e.g. ${4 * var.nginx_cpu}."
  }
}

# --- The gate --------------------------------------------------------------------------------------

variable "run_jobs" {
  description = "Run data-populator and data-query before flask is made or changed. false deploys without, and warns."
  type        = bool
  default     = true
}

variable "job_poll_seconds" {
  description = "Seconds between two looks at a running job."
  type        = number
  default     = 5

  validation {
    condition     = var.job_poll_seconds == floor(var.job_poll_seconds) && var.job_poll_seconds >= 1 && var.job_poll_seconds <= 60
    error_message = "job_poll_seconds is ${var.job_poll_seconds}: expected a whole number from 1 to 60, e.g. 5."
  }
}

variable "job_timeout_seconds" {
  description = "Seconds until a job is stopped and counts as failed."
  type        = number
  default     = 1800

  validation {
    condition     = var.job_timeout_seconds == floor(var.job_timeout_seconds) && var.job_timeout_seconds >= 60
    error_message = "job_timeout_seconds is ${var.job_timeout_seconds}: expected a whole number of at least 60, e.g. 1800."
  }
}

variable "gate_timeout_seconds" {
  description = "Seconds that data-query may take when a flask task starts. ECS allows 120 at most."
  type        = number
  default     = 120

  validation {
    condition     = var.gate_timeout_seconds == floor(var.gate_timeout_seconds) && var.gate_timeout_seconds >= 2 && var.gate_timeout_seconds <= 120
    error_message = "gate_timeout_seconds is ${var.gate_timeout_seconds}: expected a whole number from 2 to 120, e.g. 120."
  }
}

# --- Database, cache, logs -------------------------------------------------------------------------

variable "db_instance_class" {
  description = "Class of the database. Its memory decides how many connections there are."
  type        = string
  default     = "db.t4g.medium"

  validation {
    condition     = can(regex("^db\\.(t[34]g?\\.(micro|small|medium|large|xlarge|2xlarge)|[mr][5-8][a-z]*\\.(large|[0-9]*xlarge))$", var.db_instance_class))
    error_message = "db_instance_class is '${var.db_instance_class}': expected a class of the families t, m or r, e.g. db.t4g.medium or db.r7g.xlarge."
  }
}

variable "db_allocated_storage" {
  description = "Storage of the database in GiB. Ten million rows take 2.6."
  type        = number
  default     = 20

  validation {
    condition     = var.db_allocated_storage == floor(var.db_allocated_storage) && var.db_allocated_storage >= 20 && var.db_allocated_storage <= 65536
    error_message = "db_allocated_storage is ${var.db_allocated_storage}: expected a whole number of GiB from 20 to 65536, e.g. 20."
  }
}

variable "db_multi_az" {
  description = "Keep a standby of the database in another availability zone."
  type        = bool
  default     = false
}

variable "backup_retention_days" {
  description = "Days that automatic backups of the database are kept; 0 makes none."
  type        = number
  default     = 1

  validation {
    condition     = var.backup_retention_days == floor(var.backup_retention_days) && var.backup_retention_days >= 0 && var.backup_retention_days <= 35
    error_message = "backup_retention_days is ${var.backup_retention_days}: expected a whole number from 0 to 35, e.g. 1."
  }
}

variable "deletion_protection" {
  description = "Refuse to delete database and load balancer."
  type        = bool
  default     = false
}

variable "final_snapshot" {
  description = "Take a snapshot before the database goes. It stays, and costs storage. Apply it before terraform destroy."
  type        = bool
  default     = false
}

variable "cache_node_type" {
  description = "Node type of the cache."
  type        = string
  default     = "cache.t4g.micro"

  validation {
    condition     = can(regex("^cache\\.[a-z][a-z0-9]+\\.[a-z0-9]+$", var.cache_node_type))
    error_message = "cache_node_type is '${var.cache_node_type}': expected a node type, e.g. cache.t4g.micro."
  }
}

variable "log_retention_days" {
  description = "Days that logs are kept."
  type        = number
  default     = 30

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365], var.log_retention_days)
    error_message = "log_retention_days is ${var.log_retention_days}: expected one of 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, e.g. 30."
  }
}

# --- Load from AWS ---------------------------------------------------------------------------------

variable "locust_workers" {
  description = "Locust workers in the cluster, with a master in front of them; 0 makes none of them."
  type        = number
  default     = 0

  validation {
    condition     = var.locust_workers == floor(var.locust_workers) && var.locust_workers >= 0 && var.locust_workers <= 100
    error_message = "locust_workers is ${var.locust_workers}: expected a whole number from 0 to 100, e.g. 8."
  }
}

variable "locust_cidrs" {
  description = "IPv4 networks that may reach Locust's page, and so start load; needed with locust_workers, and never everyone. Example: [\"203.0.113.7/32\"]."
  type        = list(string)
  default     = []

  validation { # two networks of /1 would be everyone, too
    condition     = alltrue([for cidr in var.locust_cidrs : can(cidrnetmask(cidr)) && try(tonumber(split("/", cidr)[1]) >= 8, false)])
    error_message = "locust_cidrs is ${jsonencode(var.locust_cidrs)}: expected IPv4 networks of /8 to /32, as whoever reaches Locust's page can start load, e.g. [\"203.0.113.7/32\"]."
  }

  validation {
    condition     = length(var.locust_cidrs) > 0 || var.locust_workers == 0
    error_message = "locust_cidrs is []: expected one or more IPv4 networks with locust_workers, e.g. [\"203.0.113.7/32\"]."
  }
}

variable "experiments" {
  description = "Prepare what `make aws-experiment` needs: task definitions for Locust and a bucket for results. No task runs until then."
  type        = bool
  default     = false
}

# --- Metrics ---------------------------------------------------------------------------------------

variable "metrics" {
  description = "Keep what flask and nginx count in a workspace of Amazon Managed Service for Prometheus."
  type        = bool
  default     = false
}

# --- Guards ----------------------------------------------------------------------------------------

variable "stop_at" {
  description = "Time of day in UTC at which all tasks end and the database stops, every day; the next apply brings them back. null: never."
  type        = string
  default     = null

  validation {
    condition     = var.stop_at == null || can(regex("^([01][0-9]|2[0-3]):[0-5][0-9]$", var.stop_at))
    error_message = "stop_at is '${coalesce(var.stop_at, "null")}': expected null or a time of day from 00:00 to 23:59, e.g. 20:00."
  }
}

variable "ecs_exec" {
  description = "Let people open a shell in the containers of flask, nginx and Locust (ECS Exec); sessions are logged."
  type        = bool
  default     = false
}

# --- Alarms ----------------------------------------------------------------------------------------

variable "alarm_email" {
  description = "Address that alarms go to (errors, slow answers, no nginx, the database's CPU and connections); null makes neither alarms nor a dashboard."
  type        = string
  default     = null

  validation {
    condition     = var.alarm_email == null || can(regex("^[^@ ]+@[^@ ]+[.][^@ ]+$", var.alarm_email))
    error_message = "alarm_email is '${coalesce(var.alarm_email, "null")}': expected null or an address, e.g. me@example.com."
  }
}

variable "monthly_budget" {
  description = "US dollars a month; at 80 % of it, and when the forecast passes it, alarm_email gets a mail. null makes no budget."
  type        = number
  default     = null

  validation {
    condition     = var.monthly_budget == null || (coalesce(var.monthly_budget, 0) > 0 && var.alarm_email != null)
    error_message = "monthly_budget is ${coalesce(var.monthly_budget, 0)}: expected null or more than 0, and alarm_email with it, e.g. 50."
  }
}
