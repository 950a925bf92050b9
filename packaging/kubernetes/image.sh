#!/bin/sh
# image.sh FILE: netplugin, netmaster, netkube, netctl and contiv-cni as an image, a docker-archive made here from this checkout and this
# machine's own libraries: no Docker, no registry. The same inputs make the same bytes. Then, on each node,
#   ctr -n k8s.io images import FILE          or elsewhere: docker load -i FILE, skopeo copy docker-archive:FILE docker://...
set -eu
NAME=contiv/netplugin:2.0.0
case ${1:-} in
  ''|-*) echo "image: '${1:-}': must be the file to write, as in netplugin.tar" >&2; exit 3 ;;
  *) FILE=$(realpath -m "$1") ;;
esac
cd "$(dirname "$0")/../.."
busybox=$(command -v busybox) || { echo 'image: busybox is missing: apt install busybox-static' >&2; exit 3; }
nftables=$(ldconfig -p | sed -n 's/.*libnftables\.so\.1 .* => //p' | head -1)
[ -n "$nftables" ] || { echo 'image: libnftables is missing: apt install libnftables1' >&2; exit 3; }
case $(uname -m) in
  x86_64) architecture=amd64 ;;
  aarch64) architecture=arm64 ;;
  *) architecture=$(uname -m) ;;
esac

work=$(mktemp -d)
trap 'rm -rf "$work" "$FILE.new"' EXIT
umask 022
root=$work/root
installed=$work/installed
mkdir -p "$root/bin" "$root/etc" "$root/usr/local/lib" "$root/usr/local/bin" "$root/tmp" "$root/run" "$root/proc" "$root/sys" "$root/dev" \
  "$root/var/lib" "$root/opt/cni/bin"
DESTDIR=$installed packaging/install.sh >"$work/log" || { cat "$work/log" >&2; exit 1; }
mv "$installed/usr/local/lib/contiv" "$root/usr/local/lib/"
# Runtimes name namespaces of pods by it (/var/run/netns/...), and on nodes it leads to the same.
ln -s ../run "$root/var/run"
for command in netctl netmaster netplugin netkube; do ln -s ../lib/contiv/bin/$command "$root/usr/local/bin/$command"; done

# The launchers' shell and its few commands; then each library that something here is linked with, where this machine has it.
cp -L "$busybox" "$root/bin/busybox"
for applet in $("$busybox" --list); do [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"; done
native=$(find "$root/usr/local/lib/contiv/node_modules" -type f \( -path '*/node/bin/node' -o -name '*.node' \))
# Those of other systems are of no use, and no library of this machine is for them.
for file in "$busybox" "$nftables" $native; do ldd "$file" 2>/dev/null || true; done |
  grep -o '/[^ ]*' | grep '^/lib\|^/usr/lib' | { cat; echo "$nftables"; } | sort -u | while read -r library; do
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
  done
printf 'root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' >"$root/etc/passwd"
printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"

pack() { # FOLDER FILE
  tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --format=gnu -C "$1" -cf "$2" .
}
archive=$work/archive
mkdir "$archive"
pack "$root" "$archive/layer.tar"
layer=$(sha256sum "$archive/layer.tar" | cut -d' ' -f1)
# As the OCI's image specification has it (config.md).
printf '{"architecture":"%s","os":"linux","config":{"Env":["PATH=/usr/local/bin:/bin"],"Cmd":["netplugin","--help"],"WorkingDir":"/"},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
  "$architecture" "$layer" >"$archive/config.json"
printf '[{"Config":"config.json","RepoTags":["%s"],"Layers":["layer.tar"]}]' "$NAME" >"$archive/manifest.json"
pack "$archive" "$FILE.new"
mv "$FILE.new" "$FILE"
echo "$NAME is in $FILE, layer sha256:$layer"
