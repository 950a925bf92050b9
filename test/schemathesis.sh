#!/bin/bash
# An API fuzzer that nobody here wrote, schemathesis from PyPI, over the /openapi.json of a netmaster of its own: no answer may be a 5xx, of
# another status, type or form than the document says. Watches, which do not end, and what netmasters ask each other are left out.
#
#   REQUESTS=100000 SEED=1 test/schemathesis.sh       # WORKERS=4: as many at once, for a machine that is busy with other things too
#
# Exit status: 0 nothing found, 1 something (said with the request), 2 it could not be tried.
set -euo pipefail
cd "$(dirname "$0")/.."

VERSION=4.32.5
REQUESTS=${REQUESTS:-100000}
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/contiv/schemathesis-$VERSION
UNTRIED='watch$|/replicas/'

untried() { echo "schemathesis: cannot be tried: $*" >&2 && exit 2; }

case $REQUESTS in '' | *[!0-9]*) untried "REQUESTS: '$REQUESTS' must be a number" ;; esac
if [ ! -e "$CACHE/whole" ]; then
  echo "  installing schemathesis $VERSION ..."
  python3 -m venv --clear "$CACHE" || untried 'python3 has no venv: apt-get install python3-venv'
  "$CACHE/bin/pip" install -q "schemathesis==$VERSION" || untried "PyPI has no schemathesis $VERSION"
  touch "$CACHE/whole"
fi

folder=$(mktemp -d)
netmaster=
# Ended before its folder goes.
trap 'if [ -n "$netmaster" ]; then kill "$netmaster" 2>/dev/null; wait "$netmaster" 2>/dev/null || true; fi; rm -rf "$folder"' EXIT
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
bin/netmaster --listen "127.0.0.1:$port" --store "sqlite:$folder/netmaster.db" --log-level error &
netmaster=$!
url=http://127.0.0.1:$port
for _ in {1..300}; do
  curl -sf "$url/healthz" >/dev/null && break
  sleep 0.1
done
curl -sf "$url/openapi.json" >"$folder/openapi.json" || untried 'netmaster does not answer'

# As many for each operation; what it tries first is not counted by it.
operations=$(python3 - "$folder/openapi.json" "$UNTRIED" <<'PYTHON'
import json, re, sys
paths = json.load(open(sys.argv[1]))['paths']
print(sum(len(methods) for path, methods in paths.items() if not re.search(sys.argv[2], path)))
PYTHON
)
each=$(((REQUESTS + operations - 1) / operations))
echo "  $operations operations, $each requests each, as many seconds as this machine takes ..."
# It keeps what it has found in the folder that it runs in.
cd "$folder"
"$CACHE/bin/schemathesis" run "$url/openapi.json" \
  --phases coverage,fuzzing --max-examples "$each" --generation-database none ${SEED:+--seed "$SEED"} ${WORKERS:+--workers "$WORKERS"} \
  --checks not_a_server_error,response_schema_conformance,status_code_conformance,content_type_conformance \
  --exclude-path-regex "$UNTRIED" --continue-on-failure --request-timeout 20 --warnings off --no-color
