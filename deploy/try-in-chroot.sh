#!/bin/sh
# Runs the service in a small root made of what deploy/Dockerfile's image holds of this kind: the two executables, the
# programs of the default rules, their libraries, and nothing else; as the image's user, with the image's settings. Then
# runs the README's first command there, and the six checks. For who has no container engine. Needs root.
#
#   deploy/try-in-chroot.sh [--pivot] DIRECTORY        DIRECTORY holds portcullis-server and portcullis
#
# By chroot(2), in which the kernel makes no user namespace: level `landlock`, as with plain `docker run`. With --pivot
# by pivot_root(2), as a container engine does: the best level that the host gives to the image's user.
set -eu

pivot=no
if [ "${1-}" = --pivot ]; then pivot=yes; shift; fi
executables=${1:?"usage: try-in-chroot.sh [--pivot] DIRECTORY"}
image_user=65532

say() { echo "try-in-chroot: $*"; }

# Inside, after pivot_root: the rest of this script is its own child there.
if [ "${TRY_IN_CHROOT_INSIDE-}" ]; then
  root=$TRY_IN_CHROOT_INSIDE
  mount --make-rprivate /
  mount --bind "$root" "$root"
  for device in null zero full random urandom; do
    : > "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
  done
  mount -t proc proc "$root/proc"
  if [ "$pivot" = yes ]; then
    cd "$root"
    pivot_root . old
    umount -l /old
    exec setpriv --reuid $image_user --regid $image_user --clear-groups --bounding-set=-all --inh-caps=-all sh /try
  fi
  exec chroot --userspec=$image_user:$image_user "$root" sh /try
fi

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"
for directory in usr/bin usr/sbin usr/lib usr/lib64 usr/local/bin etc proc dev old var/lib/portcullis; do
  mkdir -p "$root/$directory"
done
mkdir -m 1777 "$root/tmp"
for name in bin sbin lib lib64; do ln -s "usr/$name" "$root/$name"; done
echo "portcullis:x:$image_user:$image_user::/nonexistent:/usr/sbin/nologin" > "$root/etc/passwd"
echo "portcullis:x:$image_user:" > "$root/etc/group"
chown $image_user:$image_user "$root/var/lib/portcullis"
chmod 700 "$root/var/lib/portcullis"

# A file with the libraries that it names, at the places where the loader looks for them.
put() {
  cp -L "$1" "$root/$2"
  { ldd "$1" 2>/dev/null || true; } | grep -o '/[^ ]*' | while read -r library; do
    target=$root/$library
    [ -e "$target" ] && continue
    mkdir -p "$(dirname "$target")"
    cp -L "$library" "$target"
  done
}
put "$executables/portcullis-server" usr/local/bin/portcullis-server
put "$executables/portcullis" usr/local/bin/portcullis
for program in sh ls echo cat grep find pwd true sleep umount setpriv env; do
  put "$(PATH=/usr/bin:/bin:/usr/sbin:/sbin; command -v "$program" | grep / || echo "/usr/bin/$program")" "usr/bin/$program"
done

cat > "$root/try" <<'INSIDE'
set -eu
export PATH=/usr/local/bin:/usr/bin PORTCULLIS_DATA_DIR=/var/lib/portcullis PORTCULLIS_LISTEN=127.0.0.1:0
portcullis-server doctor || [ $? = 3 ]
portcullis-server 2> /tmp/log &
service=$!
tries=0
until [ -e /var/lib/portcullis/url ]; do
  tries=$((tries + 1))
  if [ $tries = 200 ] || ! kill -0 $service 2>/dev/null; then cat /tmp/log; exit 1; fi
  sleep 0.1
done
said=$(portcullis run "echo 'Hello, World!'") || { cat /tmp/log; exit 1; }
[ "$said" = 'Hello, World!' ] || { echo "it said: $said"; exit 1; }
echo "try-in-chroot: echo said $said"
portcullis verify || { cat /tmp/log; exit 1; }
kill -TERM $service
wait $service
echo "try-in-chroot: the service ended well"
INSIDE

say "a root of $(du -sh "$root" | cut -f1) in $root"
export TRY_IN_CHROOT_INSIDE="$root"
if [ "$pivot" = yes ]; then set -- --pivot "$executables"; else set -- "$executables"; fi
# Not exec: the trap takes the root away.
unshare --mount --pid --fork --kill-child sh "$0" "$@"
