#!/bin/sh
# build.sh [where]: what judges histories of the churn (../goPrograms.sh). where: prints the folder. Quick when it is there.
set -eu
cd "$(dirname "$0")/build"
. ../../newGo.sh
. ../../goPrograms.sh
OUT=$CACHE/history/$(digest ../build.sh go.mod go.sum main.go)
case ${1:-} in
  where) echo "$OUT"; exit ;;
  '') ;;
  *) echo "build: '$1': must be where or nothing" >&2; exit 3 ;;
esac

build() { # NAME FILE
  go build $FLAGS -ldflags "$LEAN" -o "$2" .
}

make_programs "$OUT" 'what judges histories' 'a minute' history
