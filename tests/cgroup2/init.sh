#!/bin/sh
# The first process inside. The root is this machine's own, read-only; what is written goes to memory.
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs "$PORTCULLIS_SCRATCH"
mount -t cgroup2 cgroup2 /sys/fs/cgroup
export TMPDIR="$PORTCULLIS_SCRATCH" PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin
"$PORTCULLIS_TESTS" --test-threads=1 --color never
# The launcher ends when it sees that the tests have.
tries=0
while [ "$tries" -lt 100 ] && [ -n "$(find /sys/fs/cgroup -mindepth 1 -type d)" ]; do
  tries=$((tries + 1))
  sleep 0.05
done
find /sys/fs/cgroup -mindepth 1 -type d | sed 's/^/left: /'
echo "all is said"
echo o > /proc/sysrq-trigger
sleep 60
