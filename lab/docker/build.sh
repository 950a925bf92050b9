#!/bin/sh
# build.sh VERSION [where]: a Docker newer than Debian's from the Go module registry (../goPrograms.sh). where: prints the folder.
# 28 is the last of github.com/docker/docker; 29 that of github.com/moby/moby/v2, which is a module with a go.mod of its own, as is
# runc, so that all they need has its version and its checksum there. Both have the client of 28: Debian's is too old for 29.
set -eu
cd "$(dirname "$0")/build"
. ../../goPrograms.sh
case ${1:-} in
  28) NAMES='docker dockerd docker-proxy' ;;
  # Containers have a time namespace, which Debian's runc 1.1 does not know.
  29) NAMES='docker dockerd docker-proxy runc' ;;
  *) echo "build: Docker '${1:-}' must be 28 or 29" >&2; exit 3 ;;
esac
VERSION=$1
MOBY=v2.0.0-beta.24
RUNC=v1.5.3
OUT=$CACHE/docker/$VERSION-$(digest ../build.sh go.mod go.sum)
case ${2:-} in
  where) echo "$OUT"; exit ;;
  '') ;;
  *) echo "build: '$2': must be where or nothing" >&2; exit 3 ;;
esac

# A program of a module that has a go.mod: PACKAGE@VERSION FILE, and what else go install is to know.
install() {
  from=$1 to=$2
  shift 2
  GOBIN=$OUT/.new.bin go install $FLAGS "$@" "$from"
  program=${from%@*}
  mv "$OUT/.new.bin/${program##*/}" "$to"
  rm -rf "$OUT/.new.bin"
}

build() { # NAME FILE
  case $VERSION-$1 in
    *-docker) go build $FLAGS -ldflags "$LEAN -X github.com/docker/cli/cli/version.Version=28.5.2" -o "$2" github.com/docker/cli/cmd/docker ;;
    28-*) go build $FLAGS -ldflags "$LEAN -X github.com/docker/docker/dockerversion.Version=28.5.2" -o "$2" "github.com/docker/docker/cmd/$1" ;;
    # It enters namespaces in C, and filters system calls by libseccomp.
    29-runc) (export CGO_ENABLED=1 && install "github.com/opencontainers/runc@$RUNC" "$2" -tags seccomp -ldflags "$LEAN") ;;
    29-*) install "github.com/moby/moby/v2/cmd/$1@$MOBY" "$2" -ldflags "$LEAN -X github.com/moby/moby/v2/dockerversion.Version=29-moby-$MOBY" ;;
  esac
}

make_programs "$OUT" "Docker $VERSION" 'some minutes and 3 GB' $NAMES
