# The passwords that RDS does not make: "app" of the role that only reads, "redis" of ElastiCache. They
# are made when their secrets are; README.md has the command that makes new ones.

locals {
  made_passwords = toset(["app", "redis"])

  secret_arn = merge(
    { owner = aws_db_instance.this.master_user_secret[0].secret_arn },
    { for name, secret in aws_secretsmanager_secret.password : name => secret.arn },
  )
  # As ECS names a value: ARN:JSON_KEY:VERSION_STAGE:VERSION_ID. A new version makes new tasks.
  secret_value = merge(
    { owner = "${local.secret_arn.owner}:password::" },
    { for name, version in aws_secretsmanager_secret_version.password : name => "${version.arn}:::${version.version_id}" },
  )

  # What a container gets from which secret; the populator alone has the owner's.
  secrets = {
    data-populator = { POSTGRES_PASSWORD = "owner", POSTGRES_APP_PASSWORD = "app" }
    data-query     = { POSTGRES_PASSWORD = "app" }
    flask          = { POSTGRES_PASSWORD = "app", REDIS_PASSWORD = "redis" }
  }
}

ephemeral "aws_secretsmanager_random_password" "made" {
  for_each            = local.made_passwords
  password_length     = 48
  exclude_punctuation = true # ElastiCache refuses some of it
}

resource "aws_secretsmanager_secret" "password" {
  # checkov:skip=CKV_AWS_149: encrypted with the key of AWS, as RDS's own secret
  # checkov:skip=CKV2_AWS_57: tasks read it once, when they start; see database.tf
  for_each                = local.made_passwords
  name_prefix             = "${var.name}-${each.key}-"
  description             = "password ${each.key} of ${var.name}"
  recovery_window_in_days = 0 # a new one can be made at any time
}

resource "aws_secretsmanager_secret_version" "password" {
  for_each                 = local.made_passwords
  secret_id                = aws_secretsmanager_secret.password[each.key].id
  secret_string_wo         = ephemeral.aws_secretsmanager_random_password.made[each.key].random_password
  secret_string_wo_version = 1
}

# The provider has no way to set ElastiCache's password that leaves it out of the state.
data "aws_secretsmanager_secret_version" "redis" {
  secret_id  = aws_secretsmanager_secret.password["redis"].id
  version_id = aws_secretsmanager_secret_version.password["redis"].version_id
}
