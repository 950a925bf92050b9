#!/bin/sh
# package.sh [FOLDER]: a release in FOLDER (dist/packages): Debian's packages, an archive to be unpacked at /, sbom.json, copyright, SHA256SUMS.
# The same checkout makes the same bytes. REVISION=N is Debian's revision, where one version is packed again. SOURCE_DATE_EPOCH: seconds
# that all files are dated (default: the last commit's).
set -eu
folder=$(realpath -m "${1:-$(dirname "$0")/../dist/packages}")
cd "$(dirname "$0")/.."
. packaging/lay.sh
command -v dpkg-deb >/dev/null 2>&1 || { echo 'package: dpkg-deb is missing: apt install dpkg' >&2; exit 3; }
packaging/inventory.sh

version=$(sed -n 's/^  "version": "\(.*\)",$/\1/p' package.json)
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
export SOURCE_DATE_EPOCH
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rm -rf "$folder"
mkdir -p "$folder"

date_all() { find "$1" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +; }

fill() { # FILE: with what is said of this package
  sed "s|@version@|$full|g; s|@architecture@|$DEBIAN_ARCH|g; s|@size@|$size|g; s|@services@|$services|g; s|@package@|$package|g" "$1"
}

full=$version${REVISION:+-$REVISION}
for package in $PACKAGES; do
  tree=$work/$package
  lay "$tree" /usr "$package"
  size=$(du -sk --apparent-size "$tree" | cut -f1)
  services=$(entries /usr "$package" | sed -n 's|^unit .*/\(.*\)\.service$|\1|p' | paste -sd' ')
  mkdir "$tree/DEBIAN"
  fill "packaging/debian/$package.control" >"$tree/DEBIAN/control"
  entries /usr "$package" | sed -n 's/^conf .* //p' >"$tree/DEBIAN/conffiles"
  [ -s "$tree/DEBIAN/conffiles" ] || rm "$tree/DEBIAN/conffiles"
  (cd "$tree" && find . -type f ! -path './DEBIAN/*' | sort | sed 's|^\./||' | xargs -d '\n' md5sum) >"$tree/DEBIAN/md5sums"
  for script in preinst postinst prerm postrm; do
    [ -n "$services" ] || [ "$script" = preinst ] || continue
    fill "packaging/debian/$script" >"$tree/DEBIAN/$script"
    chmod 755 "$tree/DEBIAN/$script"
  done
  date_all "$tree"
  # A fifth larger than xz makes it, in a tenth of the time.
  dpkg-deb --root-owner-group -Zzstd -z3 --build "$tree" "$folder/contiv-${package}_${full}_$DEBIAN_ARCH.deb" >/dev/null
done

lay "$work/all" /usr/local $PACKAGES
date_all "$work/all"
tar --sort=name --owner=0 --group=0 --numeric-owner --format=gnu -C "$work/all" -cf - etc usr |
  gzip -n1 >"$folder/contiv-$full-linux-$DEBIAN_ARCH.tar.gz"
cp dist/sbom.json dist/copyright "$folder/"
(cd "$folder" && sha256sum -- * >"$work/sums" && mv "$work/sums" SHA256SUMS)
(cd "$folder" && ls -sh1 --block-size=KiB)
