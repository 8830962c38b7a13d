# db of the Compose file. RDS makes the owner's password, keeps it in Secrets Manager and never shows
# it to Terraform.

resource "aws_db_subnet_group" "this" {
  name       = var.name
  subnet_ids = aws_subnet.data[*].id
}

resource "aws_db_parameter_group" "this" {
  name_prefix = "${var.name}-"
  family      = "postgres18"

  parameter {
    name  = "rds.force_ssl"
    value = "1"
  }

  # RDS's own formula uses what is left of the memory after the operating system, so its result is
  # lower and not known beforehand. A fixed number makes the connection budget exact.
  parameter {
    name         = "max_connections"
    value        = local.max_connections
    apply_method = "pending-reboot"
  }

  # As in docker-compose.yaml, which gives the reasons; a test compares them.
  parameter {
    name  = "max_wal_size"
    value = "8192" # MB
  }

  parameter {
    name  = "checkpoint_timeout"
    value = "900" # seconds
  }

  parameter {
    name         = "shared_buffers"
    value        = "{DBInstanceClassMemory/32768}" # pages of 8 kB: a quarter of the class's memory
    apply_method = "pending-reboot"
  }

  parameter {
    name  = "log_min_duration_statement"
    value = "1000" # milliseconds; the app's queries take less than 1
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_db_instance" "this" {
  # checkov:skip=CKV_AWS_157: db_multi_az decides
  # checkov:skip=CKV_AWS_293: deletion_protection decides; the data can be made again
  # checkov:skip=CKV_AWS_161: the app logs in with a password from Secrets Manager
  # checkov:skip=CKV_AWS_353: Performance Insights has ended; CloudWatch has the metrics
  # checkov:skip=CKV_AWS_118: CloudWatch's metrics per minute are enough; enhanced ones are charged as logs
  identifier     = var.name
  engine         = "postgres"
  engine_version = "18"
  instance_class = var.db_instance_class

  allocated_storage = var.db_allocated_storage
  storage_type      = "gp3"
  storage_encrypted = true

  db_name                     = "weather"
  username                    = "weather"
  manage_master_user_password = true

  db_subnet_group_name   = aws_db_subnet_group.this.name
  vpc_security_group_ids = [aws_security_group.this["database"].id]
  publicly_accessible    = false
  multi_az               = var.db_multi_az
  parameter_group_name   = aws_db_parameter_group.this.name

  backup_retention_period   = var.backup_retention_days
  copy_tags_to_snapshot     = true
  deletion_protection       = var.deletion_protection
  skip_final_snapshot       = !var.final_snapshot
  final_snapshot_identifier = "${var.name}-final-${aws_vpc.this.id}" # one for each deployment: a name can't be taken twice

  auto_minor_version_upgrade      = true
  apply_immediately               = true
  enabled_cloudwatch_logs_exports = ["postgresql"]

  depends_on = [aws_cloudwatch_log_group.database]
}

# RDS would rotate the password every 7 days, and tasks read it once, when they start. README.md has
# the command that rotates it.
resource "aws_secretsmanager_secret_rotation" "database" {
  # checkov:skip=CKV_AWS_304: see above; 1000 days is the longest there is
  secret_id          = local.secret_arn.owner
  rotate_immediately = false

  rotation_rules {
    automatically_after_days = 1000
  }
}

# Terraform changes a database that is stopped, by stop_at or by hand, and does not start it.
locals {
  database_stopped = contains(["stopping", "stopped"], aws_db_instance.this.status)
}

resource "terraform_data" "database_started" {
  triggers_replace = local.database_stopped

  provisioner "local-exec" {
    command     = local.database_stopped ? "./start_database.sh ${var.region} ${aws_db_instance.this.identifier}" : "true"
    working_dir = path.module
    environment = { DATABASE_POLL = var.job_poll_seconds }
  }
}
