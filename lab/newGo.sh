# Sourced: puts a Go on the PATH that goPrograms.sh takes, where the machine's own is Debian 12's (1.19), too old for that. It can fetch a newer one
# all the same, which is a module like others and checked as such; from then on that is there.
case $(go env GOVERSION 2>/dev/null) in
  go1.?|go1.?.*|go1.1?|go1.1?.*|go1.20|go1.20.*)
    toolchain=golang.org/toolchain@v0.0.1-go1.24.4.linux-$(go env GOARCH)
    newer=${CONTIV_CACHE:-/var/cache/contiv-lab}/go/mod/$toolchain
    if [ ! -x "$newer/bin/go" ]; then
      echo '  fetching a newer Go ...' >&2
      (cd / && GOFLAGS= GOMODCACHE=${newer%/golang.org/*} go mod download "$toolchain")
      # A module has no programs: what is one here has to be made so.
      chmod -R u+w,a+x "$newer/bin" "$newer/pkg/tool"
    fi
    PATH=$newer/bin:$PATH
    unset GOROOT ;;
esac
