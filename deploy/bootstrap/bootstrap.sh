#!/usr/bin/env bash
# Makes this machine able to run `make demo` or `make test`. Changes nothing where everything is there.
#
#   bootstrap.sh demo    an engine that answers, Compose, Buildx, base images to build from
#   bootstrap.sh test    the same, a Python with venv, systemd-analyze, PostgreSQL's programs; and for the tests the newest
#                        engine, gVisor and a registry
#
# It says what is missing and what it will install before it does. BOOTSTRAP=0 forbids installing: it then lists what
# is missing, and fails. What it finds out about base images and the build's network goes to .env, which Compose
# reads; a value already there, or in the environment, is yours and is kept. Delete .env to have it found out again.
set -euo pipefail
cd "$(dirname "$0")/../.."
. deploy/bootstrap/install.sh
. deploy/bootstrap/base-images.sh
. deploy/bootstrap/engines.sh

readonly goal=${1:?usage: bootstrap.sh demo|test}

say() { printf 'bootstrap: %s\n' "$*"; }
die() { printf 'bootstrap: %s\n' "$@" >&2; exit 1; }

# The value of a setting: the environment's, else .env's. Nothing if neither has one.
setting() {
  if [ -n "${!1:-}" ]; then echo "${!1}"; elif [ -f .env ]; then sed -n "s/^$1=//p" .env | tail -n 1; fi
}

# Writes a setting to .env unless it has a value already.
remember() {
  if [ -n "$(setting "$1")" ]; then return; fi
  [ -f .env ] || echo '# Found out by deploy/bootstrap. Yours to edit; delete it to have it found out again.' >.env
  if [ -n "$(tail -c 1 .env)" ]; then echo >>.env; fi
  echo "$1=$2" >>.env
}

engine_answers() { docker version >/dev/null 2>&1; }
why_not() { docker version 2>&1 >/dev/null | tail -n 1; }

compose_is_recent() {
  local version
  version=$(docker compose version --short 2>/dev/null) || return 1
  [ "$(printf '%s\n' 2.24.4 "${version#v}" | sort -V | head -n 1)" = 2.24.4 ]
}

python_is_usable() {
  "${PYTHON:-python3}" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

# The tests start servers of their own; no server has to run. They look in the same places: tests/support/postgres.py.
postgresql_is_there() {
  local initdb version
  for initdb in $(command -v initdb) /usr/lib/postgresql/*/bin/initdb; do
    version=$("$initdb" --version 2>/dev/null | sed -n 's/.* \([0-9]*\)\..*/\1/p')
    if [ "${version:-0}" -ge 14 ]; then return; fi
  done
  return 1
}

missing_parts() {
  engine_answers || echo engine
  compose_is_recent || echo compose
  docker buildx version >/dev/null 2>&1 || echo buildx
  if [ "$goal" = test ]; then
    python_is_usable || echo python
    command -v systemd-analyze >/dev/null || echo systemd
    postgresql_is_there || echo postgresql
    newest_engine_is_there || echo newest-engine
    gvisor_is_there || echo gvisor
    registry_is_there || echo registry
  fi
}

describe() {
  case $1 in
    engine) echo "a Docker Engine that answers (20.10 or newer): runs the containers" ;;
    compose) echo "Docker Compose 2.24.4 or newer: brings up the stack" ;;
    buildx) echo "Docker Buildx: builds the images" ;;
    python) echo "Python 3.11 or newer with venv: runs the tests" ;;
    systemd) echo "systemd-analyze: checks the proxy's unit (nothing of systemd has to run)" ;;
    postgresql) echo "the programs of PostgreSQL 14 or newer: tests start servers of their own" ;;
    newest-engine) echo "the newest engine in $newest_engine: some tests start it beside this machine's" ;;
    registry) echo "an image registry in $registry: some tests pull from it" ;;
    gvisor) echo "gVisor in $gvisor: some tests run containers in it" ;;
  esac
}

# What installing cannot mend comes first.
if command -v docker >/dev/null && ! engine_answers; then
  if [ -n "${DOCKER_HOST:-}" ] || [ "$(docker context show 2>/dev/null || echo default)" != default ]; then
    die "the engine that DOCKER_HOST or the Docker context names does not answer: $(why_not)"
  fi
  case $(why_not) in
    *'permission denied'*) die "$(id -un) may not use the engine: join the group docker, or run make as root." ;;
  esac
fi

missing=$(missing_parts)
if [ -n "$missing" ]; then
  say "this machine lacks:"
  for part in $missing; do say "  - $(describe "$part")"; done
  if [ "${BOOTSTRAP:-1}" = 0 ]; then
    die "BOOTSTRAP=0 forbids installing them; install them yourself (docs.docker.com/engine/install) or allow it."
  fi
  install_parts "$missing"
  missing=$(missing_parts)
  if [ -n "$missing" ]; then die "still missing: ${missing//$'\n'/, }"; fi
fi

choose_build_ca
choose_base_images
