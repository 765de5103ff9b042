# Sets up who may measure: the service by its unit, members of the group go-metro by hand.

# To load and attach the classifier and to capture with libpcap; for kernels before 5.8, which have only libpcap.
capabilities="cap_bpf,cap_net_admin,cap_net_raw,cap_perfmon cap_net_admin,cap_net_raw"

set_up_user() {
    getent group go-metro >/dev/null || groupadd --system go-metro
    getent passwd go-metro >/dev/null || useradd --system --gid go-metro --no-create-home \
        --home-dir /nonexistent --shell /usr/sbin/nologin --comment "TCP round-trip times" go-metro
}

# Unpacking a package lays down a new file, without what the old one was given: this belongs to every configuration.
set_up_capabilities() {
    for set in $capabilities; do
        # A file that has more than this machine gives (a container, say) could not be started at all.
        if setcap "$set+ep" "$1" 2>/dev/null && "$1" --version >/dev/null 2>&1; then
            return
        fi
    done
    setcap -r "$1" 2>/dev/null || true
    echo "go-metro: no file capabilities here; the service has its own, and by hand only root can measure live traffic" >&2
}
