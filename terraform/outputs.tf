output "url" {
  description = "Where the stack answers."
  value       = local.url
}

output "alb_dns_name" {
  description = "What domain_name must point to (CNAME or alias), unless hosted_zone_id makes its record."
  value       = aws_lb.this.dns_name
}

output "ecr_repository_urls" {
  description = "Repository of each image; build_and_push_images.sh --ecr reads it."
  value       = { for name, repository in aws_ecr_repository.this : name => repository.repository_url }
}

# Of the repositories, so that it is there after step 1 of README.md, which makes nothing else.
output "image_platform" {
  description = "What the images must be built for; build_and_push_images.sh --ecr reads it."
  value       = one(toset([for repository in aws_ecr_repository.this : var.cpu_architecture == "ARM64" ? "linux/arm64" : "linux/amd64"]))
}

output "cluster" {
  description = "Name of the ECS cluster."
  value       = aws_ecs_cluster.this.name
}

output "service_names" {
  description = "Names of the ECS services."
  value       = concat([aws_ecs_service.flask.name, aws_ecs_service.nginx.name], aws_ecs_service.locust_master[*].name, aws_ecs_service.locust_worker[*].name)
}

output "run_job_commands" {
  description = "Commands, in this folder, that run the jobs again by hand."
  value       = local.run_job
}

output "log_groups" {
  description = "CloudWatch log group of each service and of the database."
  value = merge(
    { for name, group in aws_cloudwatch_log_group.this : name => group.name },
    { database = aws_cloudwatch_log_group.database.name },
    { for group in aws_cloudwatch_log_group.exec : "exec" => group.name },
  )
}

output "exec_command" {
  description = "Command that opens a shell in a task of flask; other names lead to the other services. null without ecs_exec."
  value = var.ecs_exec ? join(" ", [
    "aws ecs execute-command --region ${var.region} --cluster ${aws_ecs_cluster.this.name} --container flask",
    "--interactive --command sh --task $(aws ecs list-tasks --region ${var.region}",
    "--cluster ${aws_ecs_cluster.this.name} --service-name flask --query 'taskArns[0]' --output text)"
  ]) : null
}

output "metrics_endpoint" {
  description = "Where the metrics can be queried (Prometheus' HTTP API, signed with SigV4); null without metrics."
  value       = one(aws_prometheus_workspace.this[*].prometheus_endpoint)
}

output "locust_url" {
  description = "Locust's web interface; null while locust_workers is 0."
  value       = local.locust ? "${local.https ? "https" : "http"}://${local.https ? var.domain_name : aws_lb.this.dns_name}:8089" : null
}

output "locust_login" {
  description = "Command that prints the password of Locust's web interface; the user is locust. null while locust_workers is 0."
  value       = local.locust ? "aws secretsmanager get-secret-value --region ${var.region} --secret-id ${local.secret_arn.locust} --query SecretString --output text" : null
}

output "locust_command" {
  description = "Command, at the top of the repository, that loads the stack from your own machine."
  value       = "locust -f simulate/post/random-locations.py --host ${local.url}"
}

output "experiment" {
  description = "What experiment.py needs to know; null without experiments."
  value = var.experiments ? {
    region         = var.region
    cluster        = aws_ecs_cluster.this.name
    subnets        = aws_subnet.tasks[*].id
    security_group = aws_security_group.this["locust"].id
    master         = aws_ecs_task_definition.experiment["master"].arn
    worker         = aws_ecs_task_definition.experiment["worker"].arn
    log_group      = aws_cloudwatch_log_group.this["experiment"].name
    results        = "s3://${aws_s3_bucket.experiments[0].id}/${local.experiment_results}"
    vcpu           = local.vcpu_start - 2 # of the services, without a job
  } : null
}
