#!/bin/sh
# boot.sh NAME ROOT: starts the systemd of that Debian in namespaces of its own, and runs as long as that. What it writes is in memory, and goes
# with it; ROOT stays as it is. Its control groups are version 2, as Debian's are, below one named lab-NAME, also on a machine that has version 1.
set -eu
groups=$(findmnt -n -l -t cgroup2 -o TARGET | head -1)
[ -n "$groups" ] || { echo 'debian: control groups of version 2 are mounted nowhere on this machine' >&2; exit 3; }
mkdir -p "$groups/lab-$1"
echo $$ >"$groups/lab-$1/cgroup.procs"
# shellcheck disable=SC2016  # for the shell in the namespaces
exec env -i container=lab PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  unshare --pid --fork --kill-child --mount --uts --ipc --net --cgroup sh -euc '
    mount --make-rprivate /
    mount -t tmpfs tmpfs /mnt
    cd /mnt
    mkdir upper work root
    mount -t overlay overlay -o "lowerdir=$2,upperdir=upper,workdir=work" root
    cd root
    mount -t proc proc proc
    mount -t sysfs sysfs sys
    mount -t cgroup2 cgroup2 sys/fs/cgroup
    mount -t tmpfs -o mode=755 tmpfs run
    mount -t tmpfs -o mode=755 tmpfs dev
    for device in null zero full random urandom tty; do touch dev/$device; mount --bind /dev/$device dev/$device; done
    mkdir dev/pts dev/shm before
    mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
    ln -s pts/ptmx dev/ptmx
    hostname "$1"
    ip link set lo up
    pivot_root . before
    umount -l /before
    rmdir /before
    # As systemd has it on a machine.
    mount --make-rshared /
    exec /lib/systemd/systemd
  ' boot "$1" "$2"
