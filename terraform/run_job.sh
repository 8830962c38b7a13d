#!/usr/bin/env bash
# Runs a Fargate task to its end; succeeds if every container of it exited with 0.
#
#   run_job.sh REGION CLUSTER TASK_DEFINITION SUBNET[,SUBNET...] SECURITY_GROUP
#
#   JOB_POLL     seconds between two looks at the task, default 5
#   JOB_TIMEOUT  seconds until the task is stopped and counts as failed, default 1800
#
# Whatever ends this script stops the task: nobody looks at it any more. A look that AWS does not answer
# is repeated. Needs the AWS CLI, with the credentials that Terraform uses.
set -euo pipefail

fail() {
  printf 'run_job.sh: %s\n' "$1" >&2
  exit 1
}

[ $# -eq 5 ] || fail "usage: run_job.sh REGION CLUSTER TASK_DEFINITION SUBNET[,SUBNET...] SECURITY_GROUP"
command -v aws >/dev/null || fail "the AWS CLI (aws) is not installed"
region=$1 cluster=$2 definition=$3
network="awsvpcConfiguration={subnets=[$4],securityGroups=[$5],assignPublicIp=DISABLED}"
timeout=${JOB_TIMEOUT:-1800}

ecs() { # ecs COMMAND OPTION...
  aws --region "$region" --output text ecs "$1" --cluster "$cluster" "${@:2}"
}

describe() {
  ecs describe-tasks --tasks "$task" --query "$1"
}

running=''
stop() {
  [ -z "$running" ] || ecs stop-task --task "$task" --reason "run_job.sh ended" >/dev/null
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

IFS=$'\t' read -r task reason < <(ecs run-task --task-definition "$definition" --launch-type FARGATE \
  --started-by run_job.sh --network-configuration "$network" --propagate-tags TASK_DEFINITION \
  --query '[tasks[0].taskArn, failures[0].reason]') || true
case ${task:-} in
  arn:*) echo "$definition: started $task" ;;
  *) fail "$definition: ECS did not start it${reason:+ ($reason)}" ;;
esac

running=yes
SECONDS=0
until state=$(describe 'tasks[0].lastStatus') && [ "$state" = STOPPED ]; do
  [ "$SECONDS" -lt "$timeout" ] || fail "$definition: still ${state:-unknown} after $timeout s; stopped"
  sleep "${JOB_POLL:-5}"
done
running=''

# A container that never started has no exit code: the CLI prints None.
containers=$(describe 'tasks[0].containers[].[name, exitCode, reason]')
echo "$containers"
[ -n "$containers" ] || fail "$definition: the task has no containers"
while IFS=$'\t' read -r name code _; do
  [ "$code" = 0 ] || fail "$definition: $name ended with exit code $code ($(describe 'tasks[0].stoppedReason')); its log says why"
done <<<"$containers"
