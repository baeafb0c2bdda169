#!/bin/sh
# Becomes doogie-proxy without privileges, as a member of whichever group owns the engine's socket on this host.
#
# That group's number differs from host to host and Compose cannot look it up; so the container starts as root with
# nothing but SETUID, SETGID and SETPCAP, looks, and gives all of it up before the first line of Python runs. What
# runs has uid 10000, no capability, none to be had, and no-new-privileges. An operator who knows the number starts
# the container as `user: 10000:10000` with `group_add` and no capability at all (deploy/compose.production.yaml does);
# there is nothing to give up then.
set -eu

uid=10000 shared_gid=10002

if [ "$(id -u)" != 0 ]; then exec doogie-proxy "$@"; fi

groups=$shared_gid
engine=${DOOGIE_PROXY_ENGINE:-unix:///var/run/docker.sock}
case $engine in
  unix://*)
    if ! socket_gid=$(stat -L -c %g "${engine#unix://}"); then
      echo "doogie-proxy: the engine's socket is not mounted at ${engine#unix://}" >&2
      exit 1
    fi
    groups=$socket_gid,$shared_gid
    ;;
esac
exec setpriv --reuid "$uid" --regid "$uid" --groups "$groups" --inh-caps=-all --ambient-caps=-all \
  --bounding-set=-all --no-new-privs doogie-proxy "$@"
