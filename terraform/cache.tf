# redis of the Compose file. ElastiCache evicts keys with a time to live when memory is full, and all
# of the app's keys have one: the default parameters do.

resource "aws_elasticache_subnet_group" "this" {
  name       = var.name
  subnet_ids = aws_subnet.data[*].id
}

resource "aws_elasticache_replication_group" "this" {
  # checkov:skip=CKV_AWS_191: encrypted with the key of AWS; it holds averages for 5 minutes
  # checkov:skip=CKV2_AWS_50: a cache, never a dependency: flask serves without it
  replication_group_id = var.name
  description          = "answers of ${var.name}"
  engine               = "valkey"
  engine_version       = "8.0"
  node_type            = var.cache_node_type
  num_cache_clusters   = 1
  port                 = 6379

  automatic_failover_enabled = false
  at_rest_encryption_enabled = true
  transit_encryption_enabled = true
  auth_token                 = data.aws_secretsmanager_secret_version.redis.secret_string

  subnet_group_name  = aws_elasticache_subnet_group.this.name
  security_group_ids = [aws_security_group.this["cache"].id]
  apply_immediately  = true
}
