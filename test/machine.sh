#!/bin/sh
# Runs a command in an emulated machine with Debian's own kernel, which has what the kernel here may lack: WireGuard, conntrack as a module. The
# machine sees this one's files as they are at each moment, so leave those of src/ alone meanwhile, or programs are bundled anew there; what it writes is its
# own and gone with it; it has no network. Its status is the command's.
#
#   test/machine.sh vitest run --project wireguard
#
# The processor is emulated too (TCG), some twenty times slower than this one: KVM is seldom there where tests run. MACHINE_SECONDS: how long it may take (3000).
set -eu
ROOT=$(dirname "$(dirname "$(readlink -f "$0")")")
CACHE=${MACHINE_CACHE:-/var/cache/contiv-machine}
SECONDS_MAX=${MACHINE_SECONDS:-3000}

for program in qemu-system-x86_64:qemu-system-x86 busybox:busybox-static depmod:kmod wg:wireguard-tools tcpdump:tcpdump iperf3:iperf3; do
  command -v "${program%%:*}" >/dev/null 2>&1 || DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${program#*:}" >/dev/null
done

# The kernel that Debian's meta-package names, unpacked and not installed.
mkdir -p "$CACHE"
if ! ls "$CACHE"/*/boot/vmlinuz-* >/dev/null 2>&1; then
  apt-get update -qq
  package=$(apt-cache depends linux-image-amd64 | sed -n 's/^ *Depends: //p' | head -n 1)
  # What a run that was killed has left is no whole kernel.
  rm -rf "$CACHE/.new" "$CACHE/$package"_*.deb
  said=$(cd "$CACHE" && apt-get download -qq "$package" 2>&1) || {
    printf '%s\n' "$said" >&2
    exit 1
  }
  dpkg-deb -x "$CACHE/$package"_*.deb "$CACHE/.new"
  rm -f "$CACHE/$package"_*.deb
  depmod -b "$CACHE/.new" "${package#linux-image-}"
  mv "$CACHE/.new" "$CACHE/$package"
fi
KERNEL=$(ls "$CACHE"/*/boot/vmlinuz-*)
BASE=${KERNEL%/boot/*}
RELEASE=${KERNEL##*/vmlinuz-}

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
# Answers come by a file, as the console has all that the kernel says too.
mkdir -p "$WORK/init/bin" "$WORK/init/modules" "$WORK/answer"
cp "$(command -v busybox)" "$WORK/init/bin/busybox"
number=1000
# All that is used here comes with the start: what the kernel loads by itself takes a second each, as modprobe is emulated too.
{
  printf '%s\n' 9pnet_virtio 9p virtio_pci overlay wireguard vxlan veth bridge dummy macvlan ifb sch_ingress cls_bpf sch_htb sch_tbf act_mirred
  ls "$BASE/lib/modules/$RELEASE"/kernel/net/netfilter "$BASE/lib/modules/$RELEASE"/kernel/net/ipv[46]/netfilter |
    sed -n 's/^\(nf[a-z0-9_]*\)[.]ko.*/\1/p'
} | while read -r module; do
  modprobe -d "$BASE" -S "$RELEASE" --show-depends "$module" 2>/dev/null | sed -n 's/^insmod \([^ ]*\).*/\1/p'
done | awk '!seen[$0]++' >"$WORK/modules"
while read -r file; do
  cp "$file" "$WORK/init/modules/$number-${file##*/}"
  number=$((number + 1))
done <"$WORK/modules"

cat >"$WORK/init/init" <<'EOF'
#!/bin/busybox sh
b=/bin/busybox
$b mkdir -p /proc /sys /dev /lower /own /root
$b mount -t proc proc /proc && $b mount -t sysfs sysfs /sys && $b mount -t devtmpfs dev /dev
for module in /modules/*; do $b insmod "$module" 2>/dev/null; done
p9=trans=virtio,version=9p2000.L,msize=512000
$b mount -t 9p -o $p9,ro,cache=loose root /lower && $b mount -t tmpfs own /own && $b mkdir /own/upper /own/work
$b mount -t overlay -o lowerdir=/lower,upperdir=/own/upper,workdir=/own/work all /root
for place in proc sys dev; do $b mount --move /$place /root/$place; done
exec $b switch_root /root /bin/sh -c 'mount -t tmpfs run /run && mkdir -p /run/answer && mount -t 9p -o trans=virtio,version=9p2000.L answer /run/answer && . /run/answer/command; echo o >/proc/sysrq-trigger; sleep 60'
EOF
chmod +x "$WORK/init/init"
(cd "$WORK/init" && find . | busybox cpio -o -H newc 2>/dev/null) | gzip -1 >"$WORK/initrd"

# Words as they are, in quotes of the shell's.
quoted=
for word in "$@"; do quoted="$quoted '$(printf %s "$word" | sed "s/'/'\\\\''/g")'"; done
cat >"$WORK/answer/command" <<EOF
export PATH='$PATH' HOME=/root
mount -t tmpfs tmp /tmp
mount -t tmpfs shm /dev/shm 2>/dev/null || { mkdir -p /dev/shm && mount -t tmpfs shm /dev/shm; }
mkdir -p /dev/pts && mount -t devpts pts /dev/pts
mkdir -p /lib/modules && ln -sfn '$BASE/lib/modules/$RELEASE' '/lib/modules/$RELEASE'
ip link set lo up
cd '$ROOT'
{ $quoted; echo \$? >/run/answer/status; } 2>&1 | tee /run/answer/output
EOF

timeout "$SECONDS_MAX" qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m "${MACHINE_MB:-3072}" -nographic -no-reboot -nic none \
  -kernel "$KERNEL" -initrd "$WORK/initrd" -append 'console=ttyS0 quiet panic=-1 mitigations=off' \
  -virtfs local,path=/,mount_tag=root,security_model=none,readonly=on,multidevs=remap \
  -virtfs "local,path=$WORK/answer,mount_tag=answer,security_model=none" </dev/null >"$WORK/console" 2>&1 || true
if [ ! -e "$WORK/answer/status" ]; then
  tail -n 40 "$WORK/console"
  echo "the machine ended, or was ended after $SECONDS_MAX s, before the command did" >&2
  exit 124
fi
cat "$WORK/answer/output"
exit "$(cat "$WORK/answer/status")"
