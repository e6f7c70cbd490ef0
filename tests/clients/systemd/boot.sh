#!/bin/sh
# Boots systemd as the first process of namespaces of its own, on an overlay of this host's files that nobody else sees and that
# ends with it. Started by tests/src/systemd_host.rs: boot.sh FOLDER CGROUP PROGRAMS.
set -eu

if [ "${4:-}" != inside ]; then
    mkdir "$2"
    echo $$ > "$2/cgroup.procs"
    exec unshare --pid --fork --mount --cgroup --uts --ipc --kill-child=KILL "$0" "$1" "$2" "$3" inside
fi

here="$1/host"
mkdir "$here"
mount -t tmpfs tmpfs "$here"
mkdir "$here/upper" "$here/work" "$here/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$here/upper,workdir=$here/work" "$here/root"
cd "$here/root"

# Nothing of the host's own services, and nothing that would be set for the whole kernel.
rm -rf lib/systemd/system-generators/* lib/systemd/system/*.wants etc/systemd/system/*
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs tmpfs run
mount --rbind /dev dev

for program in sni-router sni-terminator; do
    touch "usr/bin/$program"
    mount --bind "$3/$program" "usr/bin/$program"
done
mkdir -p etc/sni-router etc/systemd/system/sni-router.service.d
cp "$1/sni-router.service" etc/systemd/system/sni-router.service
cp "$1/config.yaml" etc/sni-router/config.yaml
# There is no journal.
printf '[Service]\nStandardOutput=append:/var/log/service\nStandardError=inherit\n' \
    > etc/systemd/system/sni-router.service.d/log.conf
printf '[Unit]\nDefaultDependencies=no\n' > etc/systemd/system/nothing.target

mkdir -p mnt/host
pivot_root . mnt/host
umount -l /mnt/host
container=sni-router exec /lib/systemd/systemd --system --unit=nothing.target --log-target=console --show-status=no
