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
# Only a PC has a second serial port; elsewhere results are told from other lines of the console by their form.
case $(uname -m) in x86_64) results=/dev/ttyS1 ;; *) results=/dev/console ;; esac
stty -F $results raw -echo
RUST_BACKTRACE=0 GO_METRO_BIN=/usr/bin/go-metro tests guest --object /usr/lib/go-metro.o > $results
echo "the tests ended with $?"
poweroff -f
