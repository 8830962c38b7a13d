#!/usr/bin/env bash
# Builds every image of the stack, lists what is in it, then pushes them to a registry.
set -euo pipefail

IMAGES=(data-populator data-query flask nginx simulate)

usage() {
  cat <<'USAGE'
Usage: build_and_push_images.sh [options]

Builds data-populator, data-query, flask, nginx and simulate, then pushes them as REGISTRY/IMAGE:TAG.
syft lists the packages in each image in IMAGE.cdx.json, a CycloneDX bill of materials. Stops at the
first failure; nothing is pushed before every image is built. What is pushed is built on the newest
base images: they are pulled first.

  --registry REGISTRY   where to push, with its namespace, e.g. ghcr.io/me/weather   [$REGISTRY]
  --ecr                 push to the repositories that Terraform made, and log in there; needs
                        terraform (with the state in terraform/) and the AWS CLI
  --tag TAG             default: the git revision, with -dirty after uncommitted edits   [$TAG]
  --platforms LIST      e.g. linux/amd64,linux/arm64; needs docker buildx. The pushed images then say
                        how they were made (provenance).   [$PLATFORMS]
  --sbom DIR            where the bills of materials go; default: sbom beside this script   [$SBOM]
  --sign                sign the pushed images and their bills of materials; needs cosign, which signs
                        with the key that $COSIGN_KEY names (a file, awskms:///...), else with an identity
  --build-only          build on the base images that are here, do not push; needs no registry
  --help                this text

An option wins over the variable of the same name. Without --ecr log in first (docker login).
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

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
registry=${REGISTRY:-} tag=${TAG:-} platforms=${PLATFORMS:-} sbom=${SBOM:-$here/sbom} push=true ecr=false sign=false
while [ $# -gt 0 ]; do
  case $1 in
    --registry | --tag | --platforms | --sbom)
      [ -n "${2:-}" ] || fail "$1 needs a value" 2
      declare "${1#--}=$2"
      shift
      ;;
    --build-only) push=false ;;
    --ecr) ecr=true ;;
    --sign) sign=true ;;
    --help | -h) usage && exit ;;
    *) fail "unknown option '$1' (see --help)" 2 ;;
  esac
  shift
done

# The part that all of Terraform's repositories have in common: ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME
ecr_registry() {
  terraform -chdir=terraform output -json ecr_repository_urls | tr -d ' \n' |
    sed -nE 's/.*"flask":"([^"]+)\/flask".*/\1/p'
}

ecr_region() { cut -d . -f 4 <<<"$registry"; }

log_in_to_ecr() {
  aws ecr get-login-password --region "$(ecr_region)" |
    docker login --username AWS --password-stdin "${registry%%/*}"
}

# Tags in ECR are immutable: after a failure half-way, the images that are there already stay.
is_in_ecr() {
  aws ecr describe-images --region "$(ecr_region)" --repository-name "${registry#*/}/$1" \
    --image-ids "imageTag=$tag" >/dev/null 2>&1
}

PATH=$PATH:$here/.venv/bin
command -v syft >/dev/null ||
  fail "syft is not installed: 'make .venv/.tests' does it, or see github.com/anchore/syft" 2
if $sign; then
  $push || fail "--sign and --build-only exclude each other: signed is what a registry has" 2
  command -v cosign >/dev/null || fail "cosign is not installed: see docs.sigstore.dev" 2
fi
[[ $sbom == /* ]] || sbom=$PWD/$sbom
cd "$here"
if $ecr; then
  $push || fail "--ecr and --build-only exclude each other" 2
  [ -z "$registry" ] || fail "--ecr and --registry (or REGISTRY) exclude each other" 2
  registry=$(ecr_registry) || fail "terraform output failed" 2
  [ -n "$registry" ] || fail "terraform has no repositories yet: see terraform/README.md" 2
  log_in_to_ecr || fail "logging in to $registry failed"
fi
if [ -z "$registry" ] && $push; then fail "no registry: set REGISTRY or --registry, or use --build-only" 2; fi
[ -n "$tag" ] || tag=$(revision)

reference() { echo "${registry:+${registry%/}/}$1:$tag"; }

build() {
  local options=(--tag "$(reference "$1")")
  if $push; then options+=(--pull); fi
  if [ -n "$platforms" ]; then
    docker buildx build --platform "$platforms" "${options[@]}" "$1"
  else
    docker build "${options[@]}" "$1"
  fi
}

bill() { # bill IMAGE [PLATFORM]: the file that lists its packages
  echo "$sbom/$1${2:+-${2//\//-}}.cdx.json"
}

list_packages() { # list_packages IMAGE [PLATFORM]
  local source archive=$sbom/image.tar
  source=docker:$(reference "$1")
  if [ -n "${2:-}" ]; then # such an image is in the build cache only
    source=docker-archive:$archive
    docker buildx build --platform "$2" --output "type=docker,dest=$archive" "$1" || return
  fi
  SYFT_CHECK_FOR_APP_UPDATE=false syft scan --quiet "$source" --source-name "$1" --source-version "$tag" \
    --output "cyclonedx-json@1.6=$(bill "$@")" || return
  rm -f "$archive"
}

push() {
  if $ecr && is_in_ecr "$1"; then
    echo "It is there already"
    return
  fi
  # An image for several platforms exists in the build cache only; this build finds all of it there.
  if [ -n "$platforms" ]; then
    docker buildx build --platform "$platforms" --tag "$(reference "$1")" --provenance mode=max --push "$1"
  else
    docker push "$(reference "$1")"
  fi
}

# A tag can be moved, a digest cannot.
digest() { # digest IMAGE: its name and digest in the registry
  local repository=${registry%/}/$1 found
  if [ -n "$platforms" ]; then
    found=$(docker buildx imagetools inspect --format '{{.Manifest.Digest}}' "$repository:$tag") || return
    echo "$repository@$found"
  else
    docker image inspect --format '{{join .RepoDigests "\n"}}' "$repository:$tag" | grep -m 1 -F "$repository@"
  fi
}

sign() {
  local signed options=(--yes)
  signed=$(digest "$1") || return
  if [ -n "${COSIGN_KEY:-}" ]; then options+=(--key "$COSIGN_KEY"); fi
  cosign sign "${options[@]}" "$signed" || return
  for platform in "${each_platform[@]:-}"; do
    cosign attest "${options[@]}" --type cyclonedx --predicate "$(bill "$1" "$platform")" "$signed" || return
  done
}

mkdir -p "$sbom" || fail "cannot write to $sbom"
IFS=, read -ra each_platform <<<"$platforms"
for image in "${IMAGES[@]}"; do
  echo "Building $(reference "$image")"
  build "$image" || fail "building $image failed"
  for platform in "${each_platform[@]:-}"; do
    list_packages "$image" "$platform" || fail "listing the packages in $image failed"
  done
done
if $push; then
  for image in "${IMAGES[@]}"; do
    echo "Pushing $(reference "$image")"
    push "$image" || fail "pushing $image failed"
    if $sign; then sign "$image" || fail "signing $image failed"; fi
  done
fi
if $ecr; then echo "Deploy them with image_tag = \"$tag\""; fi
