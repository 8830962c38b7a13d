#!/usr/bin/env bash
# Waits until an ECS service runs nothing but a task definition; fails with the reason of the last task
# that stopped. Terraform's own wait tells no reason, and ends a first deployment that fails, which has
# nothing to roll back to, after 20 minutes with a tainted service.
#
#   wait_for_deployment.sh REGION CLUSTER SERVICE TASK_DEFINITION
#
#   DEPLOYMENT_POLL     seconds between two looks at the service, default 5
#   DEPLOYMENT_TIMEOUT  seconds until this counts as failed, default 1200
#
# A deployment that had failed before is tried once more. Needs the AWS CLI, with the credentials that
# Terraform uses.
set -euo pipefail

fail() {
  printf 'wait_for_deployment.sh: %s\n' "$1" >&2
  exit 1
}

[ $# -eq 4 ] || fail "usage: wait_for_deployment.sh REGION CLUSTER SERVICE TASK_DEFINITION"
command -v aws >/dev/null || fail "the AWS CLI (aws) is not installed"
region=$1 cluster=$2 service=$3 wanted=$4
timeout=${DEPLOYMENT_TIMEOUT:-1200}

ecs() { # ecs COMMAND OPTION...
  aws --region "$region" --output text ecs "$1" --cluster "$cluster" "${@:2}"
}

# Task definition, state (IN_PROGRESS, COMPLETED or FAILED) and id of the deployment that ECS works on.
deployment() {
  ecs describe-services --services "$service" \
    --query "services[0].deployments[?status=='PRIMARY'] | [0].[taskDefinition, rolloutState, id]"
}

# Why the last task of this definition stopped, and how its containers ended.
last_stop() {
  local tasks
  tasks=$(ecs list-tasks --service-name "$service" --desired-status STOPPED --query 'taskArns') || return 0
  [ -n "$tasks" ] && [ "$tasks" != None ] || return 0
  # shellcheck disable=SC2086 # one word for each task
  ecs describe-tasks --tasks $tasks --query "sort_by(tasks[?taskDefinitionArn=='$wanted'], &to_string(stoppedAt))[-1].[stoppedReason, join(', ', containers[].join(' ', [name, 'exit code', to_string(exitCode), reason || '']))]" |
    sed -e 's/\t/; /g' -e 's/^None$//' -e 's/ *$//'
}

failed() {
  local why
  why=$(last_stop)
  fail "$service: $1 ${why:+The last task: $why. }Its log says more."
}

elsewhere=0 failed_before='' first_look=true SECONDS=0
while :; do
  if found=$(deployment); then
    IFS=$'\t' read -r definition state id <<<"$found"
    if [ "$definition" != "$wanted" ]; then
      elsewhere=$((elsewhere + 1)) # twice: an answer may be older than the update
      [ "$elsewhere" -lt 2 ] ||
        failed "The new tasks did not become healthy: ECS went back to the last revision that did."
    elif [ "$state" = COMPLETED ]; then
      exit 0
    elif [ "$state" = FAILED ] && $first_look; then
      failed_before=$id
      ecs update-service --service "$service" --force-new-deployment >/dev/null
    elif [ "$state" = FAILED ] && [ "$id" != "$failed_before" ]; then
      failed "No task of its first revision became healthy."
    fi
    first_look=false
  fi
  [ "$SECONDS" -lt "$timeout" ] || failed "Its deployment has not ended after $timeout s."
  sleep "${DEPLOYMENT_POLL:-5}"
done
