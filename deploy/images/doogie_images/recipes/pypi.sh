#!/bin/sh
# What pypi.Dockerfile runs in build containers: pypi.sh resolve PACKAGE | install, with SCRIPTS=with or without.
set -eu

if grep -q BEGIN /run/secrets/ca; then export SSL_CERT_FILE=/run/secrets/ca; fi
export UV_NO_CONFIG=1 UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy UV_PYTHON=/server/bin/python
# Whatever is not a wheel has to be built, and what builds it is the package's own code.
if [ "$SCRIPTS" = without ]; then kinds='--only-binary :all:'; else kinds=--no-cache; fi

compile() { uv pip compile --quiet --no-header --no-annotate $kinds "$@"; }

case $1 in
  # What /requested names, as requirements.lock; or uv's answer and the newest version of the package.
  resolve)
    if compile --generate-hashes --refresh-package "$2" /requested >requirements.lock 2>answer.txt; then
      rm answer.txt
    else
      rm requirements.lock
      echo "$2" | compile --no-deps - >newest || rm newest
    fi
    ;;
  install)
    uv pip sync --quiet --require-hashes $kinds requirements.lock
    # Not by the Python of /server, which would run what packages put into .pth files.
    python3 -I -S -m compileall -q -j 0 /server/lib
    ;;
esac
