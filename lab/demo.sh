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
echo "Two virtual hosts, each with its own Docker, network and netplugin:"
bin/lab down
bin/lab up

type node1 netctl net create contiv-net --subnet=20.1.1.0/24 --gateway=20.1.1.254 --pkt-tag=1001
type node1 docker run -itd --name=web --net=contiv-net contiv/lab sh
type node2 docker run -itd --name=db --net=contiv-net contiv/lab sh
type node1 docker exec web ping -c 3 db
type node1 netctl net ls
type node2 netctl endpoint inspect web

cat <<END

It works: web on node1 and db on node2 share contiv-net, and find each other by name ($(($(date +%s) - started)) s in all).

Try next:
  bin/lab exec node1 -- sh                              a shell on a host, with docker and netctl
  bin/lab exec node1 -- netctl group create contiv-net app
  bin/lab exec node2 -- docker run -itd --net=app.contiv-net contiv/lab sh
  bin/lab exec node1 -- docker exec web ping -c 1 app
  bin/lab status                                        what runs
  bin/lab check                                         kernel, names and netmaster against what runs
End it with:
  bin/lab down
END
