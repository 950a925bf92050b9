# Sourced, in the checkout's folder, with dist/ and node_modules/ made: lays what packaging/files lists. PREFIX is /usr or /usr/local.
# shellcheck shell=sh
PACKAGES='netctl netmaster netplugin'
SERVICES='contiv-netmaster contiv-netplugin contiv-netkube'
umask 022

case $(uname -m) in
  x86_64) ARCH=x64 DEBIAN_ARCH=amd64 ;;
  aarch64) ARCH=arm64 DEBIAN_ARCH=arm64 ;;
  *) ARCH=$(uname -m) DEBIAN_ARCH=$ARCH ;;
esac

# Lines `what from to` of these packages, `to` from / on and with the file's name at its end.
entries() ( # PREFIX PACKAGE...
  prefix=$1
  shift
  while read -r package what from to; do
    case " $* " in *" $package "*) ;; *) continue ;; esac
    # /etc has the administrator's own units, and a package's lie elsewhere.
    if [ "$what" = unit ]; then
      case $prefix in /usr) to=/usr/lib/systemd/system/ ;; *) to=/etc/systemd/system/ ;; esac
    fi
    case $to in /*) ;; *) to=$prefix/$to ;; esac
    for each in $from; do
      case $to in */) echo "$what $each $to${each##*/}" ;; *) echo "$what $each $to" ;; esac
    done
  done <<LIST
$(sed "/^#/d; s/ARCH/$ARCH/g" packaging/files)
LIST
)

lay() ( # FOLDER PREFIX PACKAGE...
  folder=$1
  shift
  entries "$@" | while read -r what from to; do
    mkdir -p "$folder${to%/*}"
    case $what in
      link) ln -sfn "$from" "$folder$to" ;;
      unit) sed "s|/usr/local/|$1/|g" "$from" >"$folder$to" ;;
      *) cp -R "$from" "$folder$to" ;;
    esac || { echo "install: $from could not be put at $folder$to" >&2; exit 1; }
  done || return 1
  # Whatever the checkout's own are.
  find "$folder" ! -type l -exec chmod u=rwX,go=rX {} +
)
