#!/bin/sh
# Makes the cluster and the chat side's database, once, and serves them. No password anywhere: the kernel tells the
# server which uid is at the other end of the socket (peer authentication).
set -eu
new=$PGDATA.new
if [ ! -d "$PGDATA" ]; then
  rm -rf "$new" # a first start that was cut short
  initdb --pgdata "$new" --auth=peer --encoding=UTF8 --locale=C.UTF-8 --data-checksums >/dev/null
  printf '%s\n' 'CREATE ROLE doogie LOGIN;' 'CREATE DATABASE doogie OWNER doogie;' |
    while read -r statement; do echo "$statement" | postgres --single -j -D "$new" postgres >/dev/null; done
  mv "$new" "$PGDATA"
fi
exec postgres -D "$PGDATA" -c listen_addresses= -c unix_socket_directories=/run/postgresql "$@"
