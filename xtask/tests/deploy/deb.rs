//! The .deb, from installation to purging.

use std::time::{Duration, Instant};

use xtask::lab::statsd::Listener;

use super::machine::{Machine, RTT, wait};

const CAPABILITIES: &str = "/usr/bin/go-metro cap_net_admin,cap_net_raw,cap_perfmon,cap_bpf=ep";

/// As docs/deployment.md has it, from the packages' directory.
const INSTALL: &str = "cd /mnt/packages && apt-get install --yes --no-install-recommends ./go-metro_*.deb";
/// What apt-get does in the end, without its deliberation.
const UNPACK: &str = "dpkg --install /mnt/packages/go-metro_*.deb";
const UPGRADE: &str = "dpkg --install /mnt/packages/next/go-metro_*.deb";

#[test]
fn installing_the_package_is_enough_for_a_service_that_measures() {
    let machine = Machine::start();
    let server = Listener::udp(&machine.lab.a, 8125).unwrap();
    machine.run(INSTALL);
    // `notify`: it is active only once it has said that it is ready.
    assert_eq!(machine.run("systemctl is-active go-metro"), "active");
    assert_eq!(machine.run("systemctl is-enabled go-metro"), "enabled");
    assert_eq!(machine.property("Type"), "notify");
    machine.measures();
    assert!(machine.run("go-metro status").starts_with("state       ok"));
    assert!(machine.run("systemctl status go-metro").contains("Status: \"measuring\""));

    // Root's identity is not needed, and no capability but these four is there.
    let pid = machine.property("MainPID");
    let status = machine.run(&format!("cat /proc/{pid}/status"));
    let capabilities = (1u64 << 12) | (1 << 13) | (1 << 38) | (1 << 39);
    let bounding = status.lines().find_map(|line| line.strip_prefix("CapBnd:\t")).unwrap();
    assert_eq!(u64::from_str_radix(bounding, 16).unwrap() & !capabilities, 0, "{status}");
    assert!(!status.contains("Uid:\t0\t"), "{status}");

    // No report is due before the end; what was measured is sent then.
    let began = Instant::now();
    machine.run("systemctl stop go-metro");
    let took = began.elapsed();
    println!("systemctl stop: {took:?}");
    assert!(took < Duration::from_secs(1), "{took:?}");
    let rtts = wait("the last report", || {
        let metrics = server.metrics().unwrap();
        let rtts: Vec<f64> =
            metrics.iter().filter(|m| m.name == "system.net.tcp.rtt.dist").flat_map(|m| m.values.clone()).collect();
        (rtts.len() >= 10).then_some(rtts)
    });
    let least = RTT.as_secs_f64() * 1e3;
    assert!(rtts.iter().all(|rtt| (least..least + 60.0).contains(rtt)), "{rtts:?}");
}

#[test]
fn the_manager_reloads_it_and_restarts_it_when_it_hangs() {
    let machine = Machine::start();
    machine.run(&format!(
        "mkdir -p /etc/systemd/system/go-metro.service.d && \
         printf '[Service]\\nWatchdogSec=2\\nRestartSec=100ms\\n' > /etc/systemd/system/go-metro.service.d/quick.conf && {UNPACK}"
    ));
    let pid = machine.property("MainPID");
    machine
        .run("sed -i 's/# statsd_port: 8125/statsd_port: 8126/' /etc/go-metro/conf.yaml && systemctl reload go-metro");
    assert_eq!(machine.property("MainPID"), pid);
    assert_eq!(machine.property("ActiveState"), "active");
    wait("the reload is logged", || {
        machine.can("journalctl --unit go-metro | grep -q 'configuration read again'").then_some(())
    });
    machine.measures();

    machine.run(&format!("kill -STOP {pid}"));
    let next = wait("it is started anew", || {
        let next = machine.property("MainPID");
        (next != pid && next != "0" && machine.property("ActiveState") == "active").then_some(next)
    });
    assert_ne!(next, pid);
    assert!(machine.run("journalctl --unit go-metro").contains("Watchdog timeout"));
    machine.measures();
}

#[test]
fn an_upgrade_keeps_configuration_and_capabilities_and_restarts_the_service() {
    let machine = Machine::start();
    machine.run(UNPACK);
    machine.run("echo '# the administrator was here' >> /etc/go-metro/conf.yaml");
    assert_eq!(machine.run("getcap /usr/bin/go-metro"), CAPABILITIES);
    let pid = machine.property("MainPID");

    machine.run(UPGRADE);
    assert_eq!(machine.run("dpkg-query --show --showformat '${Version}' go-metro"), super::shipped::NEXT);
    assert_eq!(machine.run("getcap /usr/bin/go-metro"), CAPABILITIES);
    assert_eq!(machine.run("tail -n 1 /etc/go-metro/conf.yaml"), "# the administrator was here");
    assert_eq!(machine.run("systemctl is-active go-metro"), "active");
    assert_ne!(machine.property("MainPID"), pid);
    machine.measures();

    // Nor does one enable what was disabled, or open what was closed.
    machine
        .run("systemctl disable --now go-metro && dpkg-statoverride --update --add root root 0700 /usr/bin/go-metro");
    machine.run(UNPACK);
    assert!(!machine.can("systemctl is-enabled go-metro"));
    assert_eq!(machine.run("stat --format '%U:%G %a' /usr/bin/go-metro"), "root:root 700");
    assert_eq!(machine.run("getcap /usr/bin/go-metro"), CAPABILITIES);
}

#[test]
fn members_of_the_group_may_measure_and_ask_and_others_may_not() {
    let machine = Machine::start();
    machine.run(UNPACK);
    machine.run("useradd member && useradd stranger && usermod --append --groups go-metro member");
    let measure = "go-metro run --interface eth0 --backend ebpf --status-socket off --duration 0.5 --output json";
    machine.run(&format!("runuser -u member -- {measure}"));
    machine.run("runuser -u member -- go-metro status");
    assert!(!machine.can(&format!("runuser -u stranger -- {measure}")));
    assert!(!machine.can("runuser -u stranger -- go-metro status"));
}

#[test]
fn removing_it_stops_the_service_and_purging_leaves_nothing() {
    let machine = Machine::start();
    let files = "find /etc /usr /var /run -xdev -name '*go-metro*' | sort";
    let before = machine.run(files);
    machine.run(UNPACK);
    machine.measures();
    machine.run("dpkg --remove go-metro");
    assert!(!machine.can("systemctl is-active go-metro"));
    assert!(!machine.can("pgrep --exact go-metro"));
    assert!(!machine.run("bpftool net show").contains("go_metro"), "a classifier stays behind");
    assert_eq!(machine.run("ls /etc/go-metro"), "conf.yaml");

    machine.run("dpkg --purge go-metro");
    assert_eq!(machine.run(files), before);
    assert!(!machine.can("getent passwd go-metro || getent group go-metro"));
}
