#!/bin/sh
# Runs its arguments as one shell command, or a shell without any; $T is the token and $S the proxy's socket.
set -eu
T=$(cat "$DOOGIE_PROXY_TOKEN_FILE")
S=${DOOGIE_PROXY_URL#unix://}
export T S
if [ $# = 0 ]; then exec sh; else exec sh -c "$*"; fi
