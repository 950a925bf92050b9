# Sourced: programs from the Go module registry, each in a folder that all checkouts share, named by what it is made from. A program is
# written aside and renamed, so one that is there is whole; a build that was ended goes on where it was, a second one waits for the first.
# Who sources it defines `build NAME FILE`. $CACHE may be removed whenever nothing is built and nothing of it runs.
CACHE=${CONTIV_CACHE:-/var/cache/contiv-lab}

# The machine's Go where it is new enough, else the one that go.mod names, which Go brings as a module.
export GOTOOLCHAIN=auto GOFLAGS= GOWORK=off CGO_ENABLED=0 GOMODCACHE="$CACHE/go/mod" GOCACHE="$CACHE/go/build"
case $(go env GOVERSION 2>/dev/null) in
  go1.2[1-9]*|go1.[3-9]?*|go[2-9]*) ;;
  *) echo 'build: Go is missing, or older than 1.21: put one from https://go.dev/dl on the PATH' >&2; exit 3 ;;
esac
# Without what debuggers read: half the size.
FLAGS='-trimpath -buildvcs=false'
LEAN='-s -w'

# The contents of the files and of this one, and Go's version, as a few digits.
digest() { { cat ../../goPrograms.sh "$@"; go env GOVERSION; } | sha256sum | cut -c1-12; }

missing() { # FOLDER NAME...
  folder=$1
  shift
  for name in "$@"; do [ -e "$folder/$name" ] || echo "$name"; done
}

# Makes those that are missing. WHAT: as people call it all, COST: what the first time takes, in their words.
make_programs() { # FOLDER WHAT COST NAME...
  folder=$1 what=$2 cost=$3
  shift 3
  [ -n "$(missing "$folder" "$@")" ] || return 0
  mkdir -p "$folder"
  # What it starts has the lock too: while a compiler of a build that was killed still runs, the next one waits.
  exec 9>"$(dirname "$folder")/.lock"
  flock -n 9 || { echo "  waiting for another build of $what ..."; flock 9; }
  rm -f "$folder"/.new.*
  lacking=$(missing "$folder" "$@")
  all=$(echo $lacking | wc -w)
  [ $all != $# ] || echo "  building $what: the first time takes $cost ..."
  n=0
  for name in $lacking; do
    n=$((n + 1))
    echo "  building $name ($n of $all) ..."
    build "$name" "$folder/.new.$name" >"$folder/.new.log" 2>&1 ||
      { tail -8 "$folder/.new.log" >&2; echo "build: $name could not be built" >&2; exit 1; }
    mv "$folder/.new.$name" "$folder/$name"
  done
  rm -f "$folder/.new.log"
}
