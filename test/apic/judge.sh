#!/bin/bash
# Clients of an ACI fabric's controllers that nobody here wrote, from PyPI: acitoolkit, which the gateway of Contiv 1.x is of the time of, reads
# what is there, and a4i has the fabric's classes as its makers document them. judge.py says how each is asked.
#
#   test/apic/judge.sh read URL USER PASSWORD TENANT       what acitoolkit reads of a tenant, as JSON
#   test/apic/judge.sh watch URL USER PASSWORD TENANT      what acitoolkit is told of the tenant's groups, a line each, until it is ended
#   test/apic/judge.sh model <OBJECTS                      what a4i's dictionary says against objects, a line each
#
# Exit status: that of judge.py; 2 it could not be tried.
set -euo pipefail

# acitoolkit names more packages than it loads: those of a web interface of its own are left out.
ACITOOLKIT=acitoolkit==0.4
PACKAGES='requests==2.34.2 websocket-client==1.9.0 six==1.17.0 jsonschema==4.23.0 tabulate==0.9.0 graphviz==0.20.3 a4i==0.0.4'
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/contiv/aci-judge-1

untried() { echo "judge: cannot be tried: $*" >&2 && exit 2; }

mkdir -p "$CACHE"
exec 9>"$CACHE/lock"
flock 9
if [ ! -e "$CACHE/whole" ]; then
  python3 -m venv --clear "$CACHE/venv" >&2 || untried 'python3 has no venv: apt-get install python3-venv'
  # shellcheck disable=SC2086
  { "$CACHE/venv/bin/pip" install -q $PACKAGES && "$CACHE/venv/bin/pip" install -q --no-deps "$ACITOOLKIT"; } >&2 ||
    untried "PyPI has not $PACKAGES $ACITOOLKIT"
  touch "$CACHE/whole"
fi
flock -u 9
exec "$CACHE/venv/bin/python" -W ignore "$(dirname "$0")/judge.py" "$@"
