# Installs what bootstrap.sh found missing, on Debian and Ubuntu. Sourced by bootstrap.sh, which defines say, die and
# what looks at the engine.

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

# Reads the package lists, the first time they are needed.
read_package_lists() {
  if [ -n "${lists_are_read:-}" ]; then return; fi
  say "reading the package lists"
  as_root apt-get update -qq
  lists_are_read=yes
}

# Installs packages of this distribution, saying so first.
install_packages() {
  read_package_lists
  say "installing with apt: $*"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# The first of the packages that this distribution has, if need be in at least a version: NAME or NAME>=VERSION.
first_available() {
  local wanted name candidate
  for wanted in "$@"; do
    name=${wanted%%>=*}
    candidate=$(apt-cache policy "$name" | sed -n 's/^ *Candidate: //p')
    case $candidate in '' | '(none)') continue ;; esac
    if [ "$wanted" = "$name" ] || dpkg --compare-versions "$candidate" ge "${wanted#*>=}"; then
      echo "$name"
      return
    fi
  done
}

install_parts() {
  command -v apt-get >/dev/null || die "only Debian and Ubuntu are known here; install these yourself."
  for part in $1; do
    case $part in
      engine) install_engine ;;
      compose) install_plugin docker-compose docker-compose-plugin docker-compose-v2 "docker-compose>=2.24.4" ;;
      buildx) install_plugin docker-buildx docker-buildx-plugin docker-buildx ;;
      python) install_packages python3-venv ;;
      systemd) install_packages systemd ;;
      postgresql) install_postgresql ;;
      newest-engine) install_newest_engine ;;
      gvisor) install_gvisor ;;
      registry) install_registry ;;
    esac
  done
}

# The programs alone: the package would also make a database cluster and start it on port 5432.
install_postgresql() {
  local settings=/etc/postgresql-common/createcluster.d
  as_root mkdir -p "$settings"
  echo 'create_main_cluster = false' | as_root tee "$settings/doogie.conf" >/dev/null
  install_packages postgresql
  as_root rm "$settings/doogie.conf"
}

install_engine() {
  # dockerd lies in /usr/sbin, which is not on every user's path.
  if ! PATH=$PATH:/usr/sbin command -v dockerd >/dev/null; then install_packages docker.io iptables; fi
  if ! engine_answers; then start_engine; fi
}

start_engine() {
  if [ -d /run/systemd/system ]; then
    say "starting the engine with systemd"
    as_root systemctl start docker
  else
    say "starting the engine: dockerd, which logs to /var/log/dockerd.log (this machine has no systemd)"
    forget_old_pid /var/run/docker.pid dockerd
    forget_old_pid /var/run/docker/containerd/containerd.pid containerd
    as_root setsid --fork sh -c 'exec dockerd >>/var/log/dockerd.log 2>&1 </dev/null'
  fi
  for _ in $(seq 120); do
    if engine_answers; then return; fi
    sleep 0.5 # between two looks, for a minute at most
  done
  die "the engine does not answer after a minute: $(why_not)"
}

# Without systemd nothing empties /run when a machine starts. dockerd would take whatever process now has the number
# for its predecessor, and not start; and what it takes for its containerd it would even end.
forget_old_pid() {
  local file=$1 program=$2 pid
  pid=$(cat "$file" 2>/dev/null) || return 0
  if [ "$(cat "/proc/$pid/comm" 2>/dev/null)" != "$program" ]; then as_root rm -f "$file"; fi
}

# A plugin of the docker command: this distribution's package if it has one (newest naming first), else Debian 13's.
install_plugin() {
  local plugin=$1 package
  shift
  read_package_lists
  package=$(first_available "$@")
  if [ -n "$package" ]; then install_packages "$package"; else unpack_newer_plugin "$plugin"; fi
}

# Debian 12 has neither plugin. Debian 13's are single binaries that run here, so one is unpacked beside the system
# instead of installed into it.
unpack_newer_plugin() {
  local unpacked target=/usr/local/lib/docker/cli-plugins
  say "unpacking $1 of Debian 13 into $target (this distribution has none that is recent enough)"
  unpacked=$(mktemp -d)
  unpack_packages "$unpacked" trixie "$1"
  as_root install -D -m 755 "$unpacked/usr/libexec/docker/cli-plugins/$1" "$target/$1"
  rm -rf "$unpacked"
}

# Unpacks packages of a release of Debian: unpack_packages DIRECTORY RELEASE PACKAGE… apt fetches and verifies them
# from the machine's own mirror, in a private root: the machine's package sources stay as they are.
unpack_packages() {
  local directory=$1 release=$2 root apt keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  shift 2
  [ -r "$keyring" ] || install_packages debian-archive-keyring
  root=$(mktemp -d)
  mkdir -p "$root/lists/partial" "$root/cache/archives/partial"
  echo "deb [signed-by=$keyring] $(debian_mirror) $release main" >"$root/sources.list"
  apt="apt-get -qq -o Dir::Etc::SourceList=$root/sources.list -o Dir::Etc::SourceParts=-"
  apt="$apt -o Dir::State::Lists=$root/lists -o Dir::Cache=$root/cache -o APT::Sandbox::User=root"
  $apt update
  (cd "$root" && $apt download "$@")
  for package in "$root"/*.deb; do dpkg -x "$package" "$directory"; done
  rm -rf "$root"
}

# The mirror of Debian that this machine uses; on Ubuntu, which has none, the public one.
debian_mirror() {
  case $(. /etc/os-release && echo "$ID") in
    debian) distribution_sources | awk '{ print $2; exit }' | grep . || die "no Debian mirror is configured." ;;
    *) echo http://deb.debian.org/debian ;;
  esac
}

# The machine's own package sources of its distribution, as lines for sources.list: the release first, then its updates.
distribution_sources() {
  local name codename
  name=$(. /etc/os-release && echo "${NAME%% *}")
  codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
  # shellcheck disable=SC2016 # apt expands these, not the shell
  apt-get indextargets --format '$(CODENAME) deb $(REPO_URI) $(RELEASE) $(COMPONENT)' \
    'Created-By: Packages' "Origin: $name" |
    sed -En "s/^$codename(-updates|-security)? //p" | sort -u -k 3
}
