# The images everything is built from: the public ones where a registry answers, else ones made here, from the
# machine's own distribution and from PyPI. Sourced by bootstrap.sh, which defines say, die, setting and remember.

readonly public_python=python:3.13-slim public_node=node:24-slim
readonly local_python=doogie-base-python local_node=doogie-base-node
readonly recipe_label=io.doogie.recipe

choose_base_images() {
  local python node
  python=$(setting DOOGIE_PYTHON_BASE)
  node=$(setting DOOGIE_NODE_BASE)
  if [ -z "$python" ]; then
    say "asking the engine for $public_python, to see whether a registry answers"
    if docker image inspect "$public_python" >/dev/null 2>&1 || docker pull "$public_python"; then
      python=$public_python
      node=${node:-$public_node}
    else
      say "no: base images will be made here, and builds will use the host's network"
      python=$local_python
      remember DOOGIE_BUILD_NETWORK host # what keeps a registry away usually leaves the bridge without DNS too
    fi
    remember DOOGIE_PYTHON_BASE "$python"
  fi
  if [ -z "$node" ]; then
    case $python in "$local_python") node=$local_node ;; *) node=$public_node ;; esac
  fi
  remember DOOGIE_NODE_BASE "$node"
  if [ "$python" = "$local_python" ]; then make_python_base; fi
  if [ "$node" = "$local_node" ]; then make_node_base "$python"; fi
}

# A machine that trusts authorities of its own is probably behind a proxy that inspects TLS: then builds need its bundle
# too. They get it as a BuildKit secret, which no image keeps.
choose_build_ca() {
  local bundle=/etc/ssl/certs/ca-certificates.crt
  if [ -z "$(setting DOOGIE_BUILD_CA)" ] && ls /usr/local/share/ca-certificates/*.crt >/dev/null 2>&1; then
    say "builds will trust the authorities this machine trusts ($bundle): it has some of its own"
    remember DOOGIE_BUILD_CA "$bundle"
  fi
}

# Whether an image exists and was made from these files as they are now: is_current IMAGE FILE…
is_current() {
  local image=$1 label
  shift
  label=$(docker image inspect --format "{{index .Config.Labels \"$recipe_label\"}}" "$image" 2>/dev/null) &&
    [ "$label" = "$(recipe_hash "$@")" ]
}

recipe_hash() { cat "$@" | cksum | tr -d ' \n'; }

# Debian (or Ubuntu) as small as it gets with Python: about 130 MB.
make_python_base() {
  local recipe=deploy/bootstrap/base-images.sh
  if is_current "$local_python" "$recipe"; then return; fi
  if ! command -v mmdebstrap >/dev/null; then
    if [ "${BOOTSTRAP:-1}" = 0 ]; then
      die "no registry answers, and BOOTSTRAP=0 forbids installing mmdebstrap, which makes a base image without one." \
        "Install it, or set DOOGIE_PYTHON_BASE and DOOGIE_NODE_BASE to images this engine has."
    fi
    install_packages mmdebstrap
  fi
  say "making $local_python from this machine's distribution (about a minute)"
  local log
  log=$(mktemp)
  # The hook takes the place of the package usrmerge, which would bring all of Perl.
  distribution_sources | mmdebstrap --quiet --variant=minbase --include=python3-venv,ca-certificates \
    --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    "$(. /etc/os-release && echo "$VERSION_CODENAME")" - - 2>"$log" |
    docker import --change 'ENV LANG=C.UTF-8' --change 'CMD ["python3"]' \
      --change "LABEL $recipe_label=$(recipe_hash "$recipe")" - "$local_python" >/dev/null ||
    die "mmdebstrap failed:" "$(tail -n 20 "$log")"
  rm -f "$log"
}

# Node from a PyPI package that carries it whole, npm included.
make_node_base() {
  local recipe=deploy/bootstrap/node.Dockerfile lock=deploy/bootstrap/node.lock base=deploy/bootstrap/base-images.sh
  if is_current "$local_node" "$recipe" "$lock" "$base"; then return; fi
  say "making $local_node from the pinned PyPI package that carries Node"
  docker buildx build --quiet --load --tag "$local_node" --file "$recipe" \
    --build-arg PYTHON_BASE="$1" --label "$recipe_label=$(recipe_hash "$recipe" "$lock" "$base")" \
    --network "$(setting DOOGIE_BUILD_NETWORK | grep . || echo default)" \
    --secret id=ca,src="$(setting DOOGIE_BUILD_CA | grep . || echo deploy/no-ca.pem)" \
    deploy/bootstrap >/dev/null
}
