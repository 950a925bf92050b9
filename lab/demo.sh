#!/bin/sh
# The quick start, for real: each command as a user types it, with its output.
set -eu
cd "$(dirname "$0")/.."
type() { # HOST COMMAND...
  host=$1
  shift
  printf '\n[%s]$ %s\n' "$host" "$*"
  bin/lab exec "$host" -- "$@"
}
started=$(date +%s)
cat <<'END'
Two virtual hosts on this machine, each with its own Docker and netplugin; then one network and a container on
each host that find each other. It takes about half a minute, and leaves all of it up.

END
bin/lab down
bin/lab up --brief

type node1 netctl net create contiv-net --subnet=20.1.1.0/24 --gateway=20.1.1.254 --pkt-tag=1001
type node1 docker run -itd --name=web --net=contiv-net contiv/lab sh
type node2 docker run -itd --name=db --net=contiv-net contiv/lab sh
type node1 docker exec web ping -c 3 db
type node1 netctl net ls
type node2 netctl endpoint inspect web

# As it must be typed where the lab has a name of its own.
on="${LAB:+LAB=$LAB }bin/lab"
cat <<END

It works: web on node1 and db on node2 share contiv-net, and find each other by name ($(($(date +%s) - started)) s in all).

Try next, a group that policy protects:
  $on exec node1 -- netctl policy create closed
  $on exec node1 -- netctl policy rule-add closed 1 -direction=in -protocol=tcp -action=deny
  $on exec node1 -- netctl policy rule-add closed 2 -direction=in -protocol=tcp -port=80 -action=allow -priority=10
  $on exec node1 -- netctl group create contiv-net app -policy=closed
  $on exec node2 -- docker run -d --net=app.contiv-net contiv/lab httpd -f -p 80 -h /www
  $on exec node1 -- docker exec web curl -s http://app/              # answers: port 80 is allowed
  $on exec node1 -- docker exec web curl -s -m 3 http://app:5432/    # does not: everything else is denied
  $on exec node1 -- netctl policy trace --from=web --to=app --port=5432 --live    # says why
Look around:
  $on exec node1 -- sh     # a shell on a host, with docker and netctl
  $on status               # what runs
  $on check                # kernel, names and netmaster against what runs
How it goes on: docs/guide/quick-start.md
End it with:
  $on down
END
