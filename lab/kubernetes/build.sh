#!/bin/sh
# build.sh [cluster|where]: Kubernetes and CoreDNS from the Go module registry, and upstream's suites (../goPrograms.sh).
# cluster: what `bin/lab up --kubernetes` needs; without it the suites and kube-proxy too. where: prints the folder. Quick when all
# is there.
set -eu
cd "$(dirname "$0")/build"
. ../../goPrograms.sh
VERSION=v1.37.2
CLUSTER='kubectl kube-apiserver kube-controller-manager kube-scheduler kubelet pause agnhost localhost.crt localhost.key coredns coredns.yaml'
SUITES='e2e.test policyapi.test clusternetworkpolicies.yaml kube-proxy'
OUT=$CACHE/kubernetes/$(digest ../build.sh go.mod go.sum e2e/*.go policyapi/go.* coredns/*)

wanted=$CLUSTER
case ${1:-} in
  where) echo "$OUT"; exit ;;
  cluster) ;;
  '') wanted="$CLUSTER $SUITES" ;;
  *) echo "build: '$1': must be cluster, where or nothing" >&2; exit 3 ;;
esac

LEAN="$LEAN -X k8s.io/component-base/version.gitVersion=$VERSION"
folder_of() { go list -m -f '{{.Dir}}' "$1"; }

build() { # NAME FILE
  case $1 in
    pause) gcc -static -Os -Wall -o "$2" "$(folder_of k8s.io/kubernetes)/build/pause/linux/pause.c" ;;
    agnhost) go build $FLAGS -ldflags "$LEAN" -o "$2" k8s.io/kubernetes/test/images/agnhost ;;
    localhost.*) cp "$(folder_of k8s.io/kubernetes)/test/images/agnhost/porter/$1" "$2" ;;
    coredns) (cd coredns && go build $FLAGS -ldflags '-s -w' -o "$2" .) ;;
    coredns.yaml) cp "$(folder_of k8s.io/kubernetes)/cluster/addons/dns/coredns/$1.base" "$2" ;;
    e2e.test) go test -c $FLAGS -ldflags "$LEAN" -o "$2" ./e2e ;;
    policyapi.test) (cd policyapi && go test -c $FLAGS -ldflags '-s -w' -o "$2" sigs.k8s.io/network-policy-api/conformance) ;;
    clusternetworkpolicies.yaml)
      cp "$(cd policyapi && folder_of sigs.k8s.io/network-policy-api)/config/crd/standard/policy.networking.k8s.io_$1" "$2" ;;
    *) go build $FLAGS -ldflags "$LEAN" -o "$2" "k8s.io/kubernetes/cmd/$1" ;;
  esac
}

make_programs "$OUT" Kubernetes 'a quarter of an hour and 12 GB' $wanted
