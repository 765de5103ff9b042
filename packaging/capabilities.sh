# Sets up who may measure: the service by its unit, members of the group go-metro with a copy of the program that has capabilities.
# The program itself has none, so everyone may run it.

privileged=/usr/lib/go-metro/go-metro

# To load and attach the classifier and to capture with libpcap; for kernels before 5.8, which have only libpcap.
capabilities="cap_bpf,cap_net_admin,cap_net_raw,cap_perfmon cap_net_admin,cap_net_raw"

set_up_user() {
    getent group go-metro >/dev/null || groupadd --system go-metro
    getent passwd go-metro >/dev/null || useradd --system --gid go-metro --no-create-home \
        --home-dir /nonexistent --shell /usr/sbin/nologin --comment "TCP round-trip times" go-metro
}

# Makes the copy, with this owner, group and mode.
set_up_capabilities() {
    install -d -m 0755 "${privileged%/*}"
    rm -f "$privileged"
    install --owner "$1" --group "$2" --mode "$3" /usr/bin/go-metro "$privileged"
    for set in $capabilities; do
        # A file that has more than this machine gives (a container, say) could not be started at all.
        if setcap "$set+ep" "$privileged" 2>/dev/null && "$privileged" --version >/dev/null 2>&1; then
            return
        fi
    done
    rm -f "$privileged"
    echo "go-metro: file capabilities are not available; the service has its own, but on the command line only root can measure live traffic" >&2
}
