# Becomes systemd, as a machine of its own: this machine's files with everything written kept apart, in memory; the network of who starts it.
set -e
work=$1 packages=$2 repository=$3
mount --make-rprivate /
mount -t tmpfs tmpfs "$work"
mkdir "$work/upper" "$work/work" "$work/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/work" "$work/root"
cd "$work/root"
# Images of systems for containers forbid services to start.
rm -f usr/sbin/policy-rc.d
# Nothing here outlives the test: no index of manual pages, no waiting for a disk.
rm -f var/lib/man-db/auto-update
echo force-unsafe-io > etc/dpkg/dpkg.cfg.d/lab
mkdir -p mnt/packages mnt/repository mnt/old
mount --bind "$packages" mnt/packages
# It may be below a directory that is another one here, such as /tmp.
mount --bind "$repository" mnt/repository
mount -t proc proc proc
# Neither the kernel's parameters nor its devices are this machine's own.
mount --bind proc/sys proc/sys
mount -o remount,ro,bind proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs dev
for device in null zero full random urandom tty; do
    touch "dev/$device"
    mount --bind "/dev/$device" "dev/$device"
done
mkdir dev/shm dev/pts
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
pivot_root . mnt/old
umount -l mnt/old
# As in a container: no hardware is set up. Only what services stand on is started, and what a test installs.
exec env -i container=lab PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --unit=basic.target --log-target=journal
