#!/bin/sh
# build.sh [cluster|where]: Kubernetes from the Go module registry, and upstream's suites, into a folder that all checkouts share.
# cluster: what `bin/lab up --kubernetes` needs; without it the suites and kube-proxy too. where: prints the folder. Quick when all
# is there. A program is written aside and renamed, so one that is there is whole; a build that was ended goes on where it was.
set -eu
cd "$(dirname "$0")/build"
CACHE=${CONTIV_CACHE:-/var/cache/contiv-lab}
VERSION=v1.37.2
CLUSTER='kubectl kube-apiserver kube-controller-manager kube-scheduler kubelet pause agnhost'
SUITES='netpol.test policyapi.test clusternetworkpolicies.yaml kube-proxy'

# The machine's Go where it is new enough, else the one that go.mod names, which Go brings as a module.
export GOTOOLCHAIN=auto GOFLAGS= GOWORK=off CGO_ENABLED=0 GOMODCACHE="$CACHE/go/mod" GOCACHE="$CACHE/go/build"
case $(go env GOVERSION 2>/dev/null) in
  go1.2[1-9]*|go1.[3-9]?*|go[2-9]*) ;;
  *) echo 'build: Go is missing, or older than 1.21: put one from https://go.dev/dl on the PATH' >&2; exit 3 ;;
esac
INPUTS=$({ cat ../build.sh go.mod go.sum netpol/*.go policyapi/go.mod policyapi/go.sum; go env GOVERSION; } | sha256sum | cut -c1-12)
OUT=$CACHE/kubernetes/$INPUTS

wanted=$CLUSTER
case ${1:-} in
  where) echo "$OUT"; exit ;;
  cluster) ;;
  '') wanted="$CLUSTER $SUITES" ;;
  *) echo "build: '$1': must be cluster, where or nothing" >&2; exit 3 ;;
esac

missing() { for name in $wanted; do [ -e "$OUT/$name" ] || echo "$name"; done; }
# Without what debuggers read: half the size.
FLAGS="-trimpath -buildvcs=false"
LEAN="-s -w -X k8s.io/component-base/version.gitVersion=$VERSION"
folder_of() { go list -m -f '{{.Dir}}' "$1"; }

build() { # NAME FILE
  case $1 in
    pause) gcc -static -Os -Wall -o "$2" "$(folder_of k8s.io/kubernetes)/build/pause/linux/pause.c" ;;
    agnhost) go build $FLAGS -ldflags "$LEAN" -o "$2" k8s.io/kubernetes/test/images/agnhost ;;
    netpol.test) go test -c $FLAGS -ldflags "$LEAN" -o "$2" ./netpol ;;
    policyapi.test) (cd policyapi && go test -c $FLAGS -ldflags '-s -w' -o "$2" sigs.k8s.io/network-policy-api/conformance) ;;
    clusternetworkpolicies.yaml)
      cp "$(cd policyapi && folder_of sigs.k8s.io/network-policy-api)/config/crd/standard/policy.networking.k8s.io_$1" "$2" ;;
    *) go build $FLAGS -ldflags "$LEAN" -o "$2" "k8s.io/kubernetes/cmd/$1" ;;
  esac
}

[ -n "$(missing)" ] || exit 0
mkdir -p "$OUT"
# What it starts has the lock too: while a compiler of a build that was killed still runs, the next one waits.
exec 9>"$CACHE/kubernetes/.lock"
flock -n 9 || { echo '  waiting for another build of Kubernetes ...'; flock 9; }
rm -f "$OUT"/.new.*
all=$(missing | wc -w)
[ -e "$GOCACHE" ] || echo '  building Kubernetes: the first time takes a quarter of an hour and 12 GB ...'
n=0
for name in $(missing); do
  n=$((n + 1))
  echo "  building $name ($n of $all) ..."
  build "$name" "$OUT/.new.$name" >"$OUT/.new.log" 2>&1 || { tail -8 "$OUT/.new.log" >&2; echo "build: $name could not be built" >&2; exit 1; }
  mv "$OUT/.new.$name" "$OUT/$name"
done
rm -f "$OUT/.new.log"
