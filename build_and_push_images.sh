#!/usr/bin/env bash
# Builds every image of the stack, then pushes them to a registry.
set -euo pipefail

IMAGES=(data-populator data-query flask nginx simulate)

usage() {
  cat <<'USAGE'
Usage: build_and_push_images.sh [options]

Builds data-populator, data-query, flask, nginx and simulate, then pushes them as REGISTRY/IMAGE:TAG.
Stops at the first failure; nothing is pushed before every image is built.

  --registry REGISTRY   where to push, with its namespace, e.g. ghcr.io/me/weather   [$REGISTRY]
  --tag TAG             default: the git revision, with -dirty after uncommitted edits   [$TAG]
  --platforms LIST      e.g. linux/amd64,linux/arm64; needs docker buildx   [$PLATFORMS]
  --build-only          build, do not push; needs no registry
  --help                this text

An option wins over the variable of the same name. Log in first (docker login).
USAGE
}

fail() {
  printf 'build_and_push_images.sh: %s\n' "$1" >&2
  exit "${2:-1}"
}

revision() {
  git describe --always --dirty --exclude '*' --abbrev=12 2>/dev/null ||
    fail "no git revision to name the images after; set TAG or --tag" 2
}

registry=${REGISTRY:-} tag=${TAG:-} platforms=${PLATFORMS:-} push=true
while [ $# -gt 0 ]; do
  case $1 in
    --registry | --tag | --platforms)
      [ -n "${2:-}" ] || fail "$1 needs a value" 2
      declare "${1#--}=$2"
      shift
      ;;
    --build-only) push=false ;;
    --help | -h) usage && exit ;;
    *) fail "unknown option '$1' (see --help)" 2 ;;
  esac
  shift
done

cd "$(dirname "${BASH_SOURCE[0]}")"
if [ -z "$registry" ] && $push; then fail "no registry: set REGISTRY or --registry, or use --build-only" 2; fi
[ -n "$tag" ] || tag=$(revision)

reference() { echo "${registry:+${registry%/}/}$1:$tag"; }

build() {
  if [ -n "$platforms" ]; then
    docker buildx build --platform "$platforms" --tag "$(reference "$1")" "$1"
  else
    docker build --tag "$(reference "$1")" "$1"
  fi
}

push() {
  # An image for several platforms exists in the build cache only; this build finds all of it there.
  if [ -n "$platforms" ]; then
    docker buildx build --platform "$platforms" --tag "$(reference "$1")" --push "$1"
  else
    docker push "$(reference "$1")"
  fi
}

for image in "${IMAGES[@]}"; do
  echo "Building $(reference "$image")"
  build "$image" || fail "building $image failed"
done
if $push; then
  for image in "${IMAGES[@]}"; do
    echo "Pushing $(reference "$image")"
    push "$image" || fail "pushing $image failed"
  done
fi
