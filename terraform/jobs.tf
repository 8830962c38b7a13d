# data-populator and data-query: run once at apply, before flask is made or changed.

locals {
  jobs = ["data-populator", "data-query"]

  run_job = {
    for job in local.jobs : job => join(" ", [
      "./run_job.sh", var.region, aws_ecs_cluster.this.name, aws_ecs_task_definition.job[job].arn,
      join(",", aws_subnet.tasks[*].id), aws_security_group.this["jobs"].id
    ])
  }
  wait_for_deployment = "./wait_for_deployment.sh ${var.region} ${aws_ecs_cluster.this.name}"
  wait_environment    = { DEPLOYMENT_POLL = var.job_poll_seconds }
  run_job_environment = { JOB_POLL = var.job_poll_seconds, JOB_TIMEOUT = var.job_timeout_seconds }
}

resource "aws_ecs_task_definition" "job" {
  for_each                 = toset(local.jobs)
  family                   = "${var.name}-${each.key}"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = 2048 # two streams of COPY
  memory                   = 4096
  execution_role_arn       = aws_iam_role.execution[each.key].arn

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.cpu_architecture
  }

  container_definitions = jsonencode([merge(local.container[each.key], {
    name            = each.key
    image           = local.image[each.key]
    user            = "10001:10001"
    memory          = 4096
    linuxParameters = merge(local.linux[64], { initProcessEnabled = true }) # Python as PID 1 would ignore SIGTERM
  })])

  lifecycle {
    create_before_destroy = true
  }
}

# It runs again when a task definition or the database is replaced. A job that fails ends the apply
# here, with flask as it was.
resource "terraform_data" "jobs" {
  count = var.run_jobs ? 1 : 0

  triggers_replace = [
    aws_db_instance.this.resource_id,
    [for job in local.jobs : aws_ecs_task_definition.job[job].arn],
    aws_ecs_task_definition.flask.arn,
  ]

  provisioner "local-exec" {
    command     = local.run_job["data-populator"]
    working_dir = path.module
    environment = local.run_job_environment
  }

  provisioner "local-exec" {
    command     = local.run_job["data-query"]
    working_dir = path.module
    environment = local.run_job_environment
  }

  # What a task needs besides what its definition names: a network, and a role that may do something.
  depends_on = [
    aws_iam_role_policy.execution,
    aws_iam_role_policy.task,
    aws_route_table_association.tasks,
    aws_vpc_endpoint.s3,
    aws_vpc_security_group_egress_rule.flow,
    aws_vpc_security_group_egress_rule.https,
    aws_vpc_security_group_ingress_rule.flow,
    terraform_data.database_started,
  ]
}

check "jobs_run" {
  assert {
    condition     = var.run_jobs
    error_message = "run_jobs is false: flask is deployed without loading or checking the data first."
  }
}
