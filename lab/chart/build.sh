#!/bin/sh
# build.sh [where]: helm and kubeconform, which judge the chart, from the Go module registry (../goPrograms.sh). where: prints the folder.
# Quick when both are there.
set -eu
cd "$(dirname "$0")/build"
. ../../goPrograms.sh
OUT=$CACHE/chart/$(digest ../build.sh go.mod go.sum)
case ${1:-} in
  where) echo "$OUT"; exit ;;
  '') ;;
  *) echo "build: '$1': must be where or nothing" >&2; exit 3 ;;
esac

build() { # NAME FILE
  case $1 in
    helm) go build $FLAGS -ldflags "$LEAN" -o "$2" helm.sh/helm/v4/cmd/helm ;;
    kubeconform) go build $FLAGS -ldflags "$LEAN" -o "$2" github.com/yannh/kubeconform/cmd/kubeconform ;;
  esac
}

make_programs "$OUT" 'what judges the chart' 'some minutes' kubeconform helm
