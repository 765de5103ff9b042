//! The .deb, from installation to purging.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use testing_lab::programs::{Hook, attached};
use testing_lab::statsd::Listener;
use testing_support::workspace::root;

use super::machine::{Machine, RTT, wait};
use super::shipped::shipped;

const PRIVILEGED: &str = "/usr/lib/go-metro/go-metro";
const CAPABILITIES: &str = "/usr/lib/go-metro/go-metro cap_net_admin,cap_net_raw,cap_perfmon,cap_bpf=ep";

/// As docs/deployment.md has it, from the packages' directory.
const INSTALL: &str = "cd /mnt/packages && apt-get install --yes --no-install-recommends ./go-metro_*.deb";
/// What apt-get does in the end, without its deliberation.
const UNPACK: &str = "dpkg --install /mnt/packages/go-metro_*.deb";
const UPGRADE: &str = "dpkg --install /mnt/packages/next/go-metro_*.deb";

#[test]
fn set_up_installs_packages_without_enabling_or_starting_their_services() {
    let stand_ins = shipped().join("stand-ins");
    testing_support::setup::write_stand_ins(&stand_ins).unwrap();
    let machine = Machine::start();
    let option = testing_support::setup::without_services(std::path::Path::new("/mnt/packages/stand-ins"));
    let enabled = || machine.run("find /etc/systemd /etc/rc?.d | sort");
    let before = enabled();
    let install = "install --yes --no-install-recommends /mnt/packages/go-metro_*.deb";
    machine.run(&format!("apt-get --option {option} {install}"));
    assert_eq!(enabled(), before);
    assert_eq!(machine.property("ActiveState"), "inactive");
    // The same package enables and starts its service where it may.
    machine.run("apt-get purge --yes go-metro");
    machine.run(&format!("apt-get {install}"));
    assert_ne!(enabled(), before);
    assert_eq!(machine.property("ActiveState"), "active");
}

/// An archive with `tcptrace` in a version that needs a library of its own, and the only one that apt knows; the real
/// `tcptrace` goes.
const ARCHIVE: &str = r#"
set -e
dpkg --purge --force-depends tcptrace
mkdir -p /srv/archive
cd /srv/archive
pack() {
    mkdir -p "$1/DEBIAN" "$1/usr/bin"
    {
        printf 'Package: %s\nVersion: 99\nArchitecture: all\n' "$1"
        printf 'Maintainer: lab <lab@lab.test>\n%sDescription: lab\n' "$2"
    } >"$1/DEBIAN/control"
    printf '#!/bin/sh\n' >"$1/usr/bin/$1"
    chmod 755 "$1/usr/bin/$1"
    dpkg-deb --build "$1" "$1.deb"
    dpkg-deb --field "$1.deb" >>Packages
    sum=$(sha256sum <"$1.deb" | cut -d ' ' -f 1)
    printf 'Filename: ./%s.deb\nSize: %s\nSHA256: %s\n\n' "$1" "$(stat -c %s "$1.deb")" "$sum" >>Packages
}
pack tcptrace 'Depends: lab-library
'
pack lab-library ''
rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*
echo 'deb [trusted=yes] file:/srv/archive ./' >/etc/apt/sources.list
apt-get update
"#;

#[test]
fn set_up_installs_what_it_announces_and_changes_nothing_else_of_debian() {
    let machine = Machine::start();
    machine.run(ARCHIVE);
    // Where it was built: the machine has a /tmp of its own.
    let place = root().display().to_string();
    machine.run(&format!("mkdir -p '{place}' && mount --bind /mnt/repository '{place}'"));
    let installed = || -> BTreeSet<String> {
        machine
            .run("dpkg-query --show --showformat '${Package} ${Version} ${Status}\\n'")
            .lines()
            .map(str::to_owned)
            .collect()
    };
    let sources = || machine.run("find /etc/apt /etc/sysctl.d /etc/systemd -type f -exec sha256sum {} + | sort");
    let (before, sources_before) = (installed(), sources());
    // With the toolchain that runs this, which is no package.
    let variable = |name: &str| std::env::var(name).map(|value| format!("{name}='{value}' ")).unwrap_or_default();
    let variables = ["PATH", "HOME", "CARGO_HOME", "RUSTUP_HOME"].map(variable).concat();
    let said = machine.run(&format!("env {variables} CI=true '{}' setup 2>&1", testing_e2e::xtask().display()));
    println!("{said}");
    let announced =
        said.lines().find_map(|line| line.strip_prefix("  Debian packages")).expect("it announces packages");
    assert_eq!(announced.trim(), "to compare with: tcptrace", "{said}");
    assert!(said.contains("\n                   and 1 that they depend on: lab-library\n"), "{said}");
    let after = installed();
    let new: Vec<&str> = after.difference(&before).map(String::as_str).collect();
    assert_eq!(new, ["lab-library 99 install ok installed", "tcptrace 99 install ok installed"], "{said}");
    assert!(before.is_subset(&after), "a package has gone");
    assert_eq!(sources(), sources_before);
}

#[test]
fn installing_the_package_is_enough_for_a_service_that_measures() {
    let machine = Machine::start();
    let server = Listener::udp(&machine.lab.a, 8125).unwrap();
    let said = machine.run(INSTALL);
    assert!(said.contains("/etc/go-metro/conf.yaml") && said.contains("go-metro status"), "what comes next: {said}");
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
    // systemd kills what does not end by itself after many more.
    assert!(took < Duration::from_secs(5), "{took:?}");
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
         printf '[Service]\\nWatchdogSec=2\\nRestartSec=100ms\\n' > /etc/systemd/system/go-metro.service.d/quick.conf \
         && {UNPACK}"
    ));
    let pid = machine.property("MainPID");
    machine
        .run("sed -i 's/# statsd_port: 8125/statsd_port: 8126/' /etc/go-metro/conf.yaml && systemctl reload go-metro");
    assert_eq!(machine.property("MainPID"), pid);
    assert_eq!(machine.property("ActiveState"), "active");
    wait("the reload is logged", || {
        machine.can("journalctl --unit go-metro | grep -q 'configuration reloaded'").then_some(())
    });
    machine.measures();

    machine.run(&format!("kill -STOP {pid}"));
    let next = wait("it is started again", || {
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
    assert_eq!(machine.run("getcap /usr/bin/go-metro /usr/lib/go-metro/go-metro"), CAPABILITIES);
    let pid = machine.property("MainPID");

    machine.run(UPGRADE);
    assert_eq!(machine.run("dpkg-query --show --showformat '${Version}' go-metro"), super::shipped::NEXT);
    assert_eq!(machine.run("getcap /usr/bin/go-metro /usr/lib/go-metro/go-metro"), CAPABILITIES);
    assert_eq!(machine.run("tail -n 1 /etc/go-metro/conf.yaml"), "# the administrator was here");
    assert_eq!(machine.run("systemctl is-active go-metro"), "active");
    assert_ne!(machine.property("MainPID"), pid);
    machine.measures();

    // Nor does one enable what was disabled, or open what was closed.
    machine.run(
        "systemctl disable --now go-metro && dpkg-statoverride --update --add root root 0700 \
              /usr/lib/go-metro/go-metro",
    );
    machine.run(UNPACK);
    assert!(!machine.can("systemctl is-enabled go-metro"));
    assert_eq!(machine.run("stat --format '%U:%G %a' /usr/lib/go-metro/go-metro"), "root:root 700");
    assert_eq!(machine.run("getcap /usr/bin/go-metro /usr/lib/go-metro/go-metro"), CAPABILITIES);
}

#[test]
fn members_of_the_group_may_measure_and_ask_and_others_may_not() {
    let machine = Machine::start();
    machine.run(UNPACK);
    machine.run("useradd member && useradd stranger && usermod --append --groups go-metro member");
    let measure = "run --interface eth0 --backend ebpf --status-socket off --duration 0.5 --output json";
    machine.run(&format!("runuser -u member -- {PRIVILEGED} {measure}"));
    machine.run("runuser -u member -- go-metro status");
    for program in [PRIVILEGED, "go-metro"] {
        assert!(!machine.can(&format!("runuser -u stranger -- {program} {measure}")), "{program}");
    }
    assert!(!machine.can("runuser -u stranger -- go-metro status"));
}

#[test]
fn what_needs_no_privileges_works_for_every_user_and_the_manual_is_there() {
    let machine = Machine::start();
    machine.run(&format!("{UNPACK} && useradd stranger"));
    machine.run("cp /mnt/repository/corpus/clean.pcap.gz /tmp/clean.pcap.gz && chmod 0644 /tmp/clean.pcap.gz");
    let stranger = |line: &str| machine.run(&format!("runuser -u stranger -- {line}"));
    assert!(stranger("go-metro --version").starts_with("go-metro "));
    assert!(stranger("go-metro --help").contains("Examples:"));
    assert!(stranger("go-metro read /tmp/clean.pcap.gz").contains("samples"));
    // It fails for want of capabilities, and says so; but it runs, and names the file that has them.
    let checked = machine.try_run("runuser -u stranger -- go-metro check");
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(said.contains("CAP_BPF: missing") && said.contains(PRIVILEGED), "{said}");
    let refused = machine.try_run("runuser -u stranger -- go-metro run --interface eth0 --status-socket off");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains(&format!("join the group go-metro and run {PRIVILEGED}")), "{said}");
    assert!(!refused.status.success() && !said.contains("setcap"), "{said}");
    for page in ["man1/go-metro.1.gz", "man1/go-metro-run.1.gz", "man5/go-metro-conf.5.gz"] {
        assert!(machine.can(&format!("test -e /usr/share/man/{page}")), "{page}");
    }
    // The pages that messages and the unit point to.
    for page in ["privileges.md", "containers.md", "configuration.md", "round-trips.md"] {
        assert!(machine.can(&format!("test -e /usr/share/doc/go-metro/docs/{page}")), "{page}");
    }
}

#[test]
fn logging_to_a_file_and_the_environment_file_work_in_the_service() {
    let machine = Machine::start();
    machine.run(&format!("printf 'DD_ENV=lab\\n' > /etc/default/go-metro && {UNPACK}"));
    machine
        .run("sed -i 's/^init_config:/&\\n  log_to_file: true/' /etc/go-metro/conf.yaml && systemctl restart go-metro");
    machine.measures();
    let log = machine.run("cat /var/log/go-metro/go-metro.log");
    assert!(log.contains("configuration: /etc/go-metro/conf.yaml"), "{log}");
    let pid = machine.property("MainPID");
    assert!(machine.can(&format!("grep -qz '^DD_ENV=lab$' /proc/{pid}/environ")));
}

#[test]
fn a_reload_of_a_broken_file_fails_and_changes_nothing() {
    let machine = Machine::start();
    machine.run(UNPACK);
    let pid = machine.property("MainPID");
    machine.run("systemctl reload go-metro");
    machine.run("cp /etc/go-metro/conf.yaml /tmp/kept && echo 'nonsense: [' >> /etc/go-metro/conf.yaml");
    assert!(!machine.can("systemctl reload go-metro"));
    let said = machine.try_run("go-metro reload");
    assert_eq!(said.status.code(), Some(1));
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("refused") && said.contains("/etc/go-metro/conf.yaml"), "{said}");
    assert_eq!(machine.property("MainPID"), pid);
    machine.measures();
    machine.run("cp /tmp/kept /etc/go-metro/conf.yaml && systemctl reload go-metro");
    // Where there is no socket to ask at, the reload is only signalled.
    machine.run(
        "sed -i 's/^init_config:/&\\n  status_socket: off/' /etc/go-metro/conf.yaml && systemctl restart go-metro",
    );
    machine.run("systemctl reload go-metro");
    wait("the reload is logged", || {
        machine.can("journalctl --unit go-metro | grep -q 'configuration reloaded'").then_some(())
    });
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
    for hook in [Hook::Ingress, Hook::Egress] {
        assert_eq!(attached(&machine.lab.a, hook).unwrap(), Vec::<String>::new(), "a classifier stays behind");
    }
    assert_eq!(machine.run("ls /etc/go-metro"), "conf.yaml");

    machine.run("dpkg --purge go-metro");
    assert_eq!(machine.run(files), before);
}

#[test]
fn a_configuration_that_is_there_is_kept_and_nobody_is_asked() {
    let machine = Machine::start();
    let program = "/mnt/packages/go-metro";
    // Without a terminal and without a word, nothing is written.
    let refused = machine.try_run(&format!("{program} config init"));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("--yes") && said.contains("/etc/go-metro/conf.yaml"), "{said}");
    assert!(!machine.can("test -e /etc/go-metro"));
    assert!(machine.run(&format!("{program} config init -")).contains("interface: eth0"));
    machine.run(&format!("{program} config init --yes && echo '# mine' >> /etc/go-metro/conf.yaml"));
    let sum = "sha256sum /etc/go-metro/conf.yaml";
    let before = machine.run(sum);
    // As an unattended installation does it: nothing says that nobody is there, and standard input has ended.
    machine.run(&INSTALL.replace("apt-get", "env --unset DEBIAN_FRONTEND apt-get"));
    assert_eq!(machine.run(sum), before);
    assert_eq!(machine.run("systemctl is-active go-metro"), "active");
    machine.run(&format!("env --unset DEBIAN_FRONTEND {UPGRADE}"));
    assert_eq!(machine.run(sum), before);
    machine.run("dpkg --remove go-metro");
    assert_eq!(machine.run(sum), before);
    // Beside it somebody else's file stays.
    machine.run("touch /etc/go-metro/other && dpkg --purge go-metro");
    assert_eq!(machine.run("ls /etc/go-metro"), "other");

    // Where there is none, the one written is for everyone to read, whatever the umask.
    machine.run(&format!("rm -r /etc/go-metro && umask 077 && {UNPACK}"));
    assert_eq!(machine.run("stat --format '%a' /etc/go-metro /etc/go-metro/conf.yaml"), "755\n644");
}

#[test]
fn purging_it_keeps_accounts_that_were_there_and_dpkg_works_with_an_override_of_the_group() {
    let machine = Machine::start();
    machine.run("useradd --create-home go-metro && echo precious > /home/go-metro/file");
    let account = machine.run("getent passwd go-metro");
    machine.run(UNPACK);
    machine.run("dpkg-statoverride --update --add root go-metro 0710 /usr/lib/go-metro/go-metro");
    machine.run("dpkg --purge go-metro");
    assert_eq!(machine.run("getent passwd go-metro"), account);
    assert_eq!(machine.run("cat /home/go-metro/file"), "precious");
    // dpkg refuses every package while an override names a group that does not exist.
    machine.run(UNPACK);
    assert_eq!(machine.run("stat --format '%U:%G %a' /usr/lib/go-metro/go-metro"), "root:go-metro 710");
    // A service that runs as a user with a home of its own measures too.
    machine.measures();
    // Without it, and without the override, both accounts can go.
    machine.run("dpkg --purge go-metro && dpkg-statoverride --remove /usr/lib/go-metro/go-metro && userdel go-metro");
    machine.run(UNPACK);
    machine.run("dpkg --purge go-metro && getent passwd go-metro && getent group go-metro");
    machine.run("userdel go-metro && ! getent group go-metro && dpkg --audit");
    machine.run(UNPACK);
}
