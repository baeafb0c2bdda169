# For the tests: the newest engine, gVisor and a registry, beside the machine's own engine and without touching it. They
# are unpacked into .cache/engines, where tests/support finds and starts them; remove that directory to have them
# fetched anew. Sourced by bootstrap.sh, which defines say and die.

readonly engines=.cache/engines
readonly newest_engine=$engines/newest gvisor=$engines/gvisor registry=$engines/registry

newest_engine_is_there() { "$newest_engine/dockerd" --version >/dev/null 2>&1; }
registry_is_there() { "$registry/docker-registry" --version && "$registry/busybox" true; } >/dev/null 2>&1
gvisor_is_there() { "$gvisor/runsc" --version >/dev/null 2>&1; }

# Debian's unstable release follows Docker's; its binaries need no more of the C library than Debian 12 and Ubuntu 22.04
# have. But not its runc, which is why this engine uses the machine's.
install_newest_engine() {
  say "unpacking Docker Engine and containerd of Debian sid into $newest_engine (50 MB, and 23 MB of package lists)"
  keep_programs "$newest_engine" sid docker.io containerd tini-static
  newest_engine_is_there || die "Debian sid's dockerd does not run here:" "$("$newest_engine/dockerd" --version 2>&1)"
  say "that is: $("$newest_engine/dockerd" --version)"
}

# Debian 13's and not sid's, which is the same gVisor of 2024 built with Go 1.26: it reads a wrong field of
# that Go's goroutines, and about half of all containers end with "panic: running on goroutine …".
install_gvisor() {
  say "unpacking gVisor of Debian 13 into $gvisor (7 MB, and 10 MB of package lists)"
  keep_programs "$gvisor" trixie runsc
  gvisor_is_there || die "Debian 13's runsc does not run here:" "$("$gvisor/runsc" --version 2>&1)"
}

install_registry() {
  say "unpacking the registry and the static busybox of Debian 13 into $registry (8 MB, and 10 MB of package lists)"
  keep_programs "$registry" trixie docker-registry busybox-static
  registry_is_there || die "Debian 13's docker-registry does not run here:" "$("$registry/docker-registry" --version 2>&1)"
}

# Puts the programs of packages into a directory, which is there whole or not at all:
# keep_programs DIRECTORY RELEASE PACKAGE…
keep_programs() {
  local directory=$1 release=$2 unpacked
  shift 2
  unpacked=$(mktemp -d)
  unpack_packages "$unpacked" "$release" "$@"
  rm -rf "$directory" "$directory.new"
  mkdir -p "$directory.new"
  find "$unpacked/usr" -path '*bin/*' ! -type d -exec mv -t "$directory.new" {} +
  mv "$directory.new" "$directory"
  rm -rf "$unpacked"
}
