#!/bin/sh
# npm.sh FOLDER [FLAGS]: the npm packages of its lock file, Node 24 among them. Quick when they are there.
set -eu
cd "$1"
shift
if [ ! -e node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
  echo "  installing npm packages ..."
  log=$(mktemp)
  npm ci --no-audit --no-fund "$@" >"$log" 2>&1 || { tail -8 "$log" >&2; rm -f "$log"; echo "setup: npm ci failed" >&2; exit 1; }
  rm -f "$log"
  touch node_modules/.package-lock.json
fi
if [ ! -x node_modules/node/bin/node ]; then
  (cd node_modules/node && npm run --silent preinstall) >/dev/null 2>&1 || { echo "setup: Node 24 was not installed by the npm package node" >&2; exit 1; }
fi
