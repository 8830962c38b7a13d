#!/usr/bin/env bash
# Starts an RDS instance that is stopped, and waits until it is available.
#
#   start_database.sh REGION IDENTIFIER
#
#   DATABASE_POLL     seconds between two looks at it, default 5
#   DATABASE_TIMEOUT  seconds until this counts as failed, default 1800
#
# A look that AWS does not answer is repeated. Needs the AWS CLI, with the credentials that Terraform uses.
set -euo pipefail

fail() {
  printf 'start_database.sh: %s\n' "$1" >&2
  exit 1
}

[ $# -eq 2 ] || fail "usage: start_database.sh REGION IDENTIFIER"
command -v aws >/dev/null || fail "the AWS CLI (aws) is not installed"
region=$1 database=$2
timeout=${DATABASE_TIMEOUT:-1800}

rds() { # rds COMMAND OPTION...
  aws --region "$region" --output text rds "$1" --db-instance-identifier "$database" "${@:2}"
}

started=false SECONDS=0
until state=$(rds describe-db-instances --query 'DBInstances[0].DBInstanceStatus') && [ "$state" = available ]; do
  if [ "$state" = stopped ] && ! $started; then # one that is stopping can't be started yet
    rds start-db-instance >/dev/null
    started=true
  fi
  [ "$SECONDS" -lt "$timeout" ] || fail "$database: still ${state:-unknown} after $timeout s"
  sleep "${DATABASE_POLL:-5}"
done
