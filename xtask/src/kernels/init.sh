#!/bin/busybox sh
# The first process of a test machine: mounts, modules, the tests, and off.
/bin/busybox --install -s /bin
export PATH=/usr/bin:/bin HOME=/
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
for module in /modules/*.ko; do insmod "$module"; done
ip link set lo up
stty -F /dev/ttyS1 raw -echo
RUST_BACKTRACE=0 GO_METRO_BIN=/usr/bin/go-metro xtask guest --object /usr/lib/go-metro.o > /dev/ttyS1
echo "the tests ended with $?"
poweroff -f
