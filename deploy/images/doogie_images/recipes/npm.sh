#!/bin/sh
# What npm.Dockerfile runs in build containers: npm.sh resolve PACKAGE | install | scripts
set -eu

if grep -q BEGIN /run/secrets/ca; then export NODE_EXTRA_CA_CERTS=/run/secrets/ca; fi
export npm_config_audit=false npm_config_fund=false npm_config_update_notifier=false npm_config_omit=dev
export npm_config_omit_lockfile_registry_resolved=true npm_config_fetch_retry_mintimeout=1000

case $1 in
  # What /requested names, as package-lock.json; or npm's answer and the newest version of the package.
  resolve)
    if xargs -d '\n' npm install --json --package-lock-only --save-exact --ignore-scripts --prefer-online -- \
      </requested >answer.json; then
      rm answer.json
    else
      npm view "$2" version --json >newest || rm newest
    fi
    ;;
  install)
    npm ci --ignore-scripts
    ;;
  # The packages' own, which may do anything here.
  scripts)
    npm rebuild
    ;;
esac
