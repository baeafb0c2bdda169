#!/bin/sh
# Runs its arguments as one shell command, or a shell without any. Of the proxy, $T is the token and $S the socket; of
# the chat side's web app, where there is one, $A is the admin's token and $C the socket.
set -eu
T=$(cat "$DOOGIE_PROXY_TOKEN_FILE")
S=${DOOGIE_PROXY_URL#unix://}
A=
if [ -r /var/lib/doogie-chat/admin.token ]; then A=$(cat /var/lib/doogie-chat/admin.token); fi
C=/run/doogie-chat/chat.sock
export T S A C
if [ $# = 0 ]; then exec sh; else exec sh -c "$*"; fi
