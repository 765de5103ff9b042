//! The .rpm, from installation to erasure: by rpm itself, whose database does not know what Debian has installed.

use std::process::Command;

use testing_support::workspace::capture;

use super::machine::Machine;
use super::shipped::{file, shipped};

const CAPABILITIES: &str = "/usr/lib/go-metro/go-metro cap_net_admin,cap_net_raw,cap_perfmon,cap_bpf=ep";
const RPM: &str = "rpm --nodeps --force-debian";

#[test]
fn it_installs_upgrades_and_erases() {
    let machine = Machine::start();
    machine.run(&format!("{RPM} --install /mnt/packages/go-metro-*.rpm"));
    assert_eq!(machine.run("getcap /usr/bin/go-metro /usr/lib/go-metro/go-metro"), CAPABILITIES);
    assert_eq!(machine.run("stat --format '%U:%G %a' /usr/bin/go-metro"), "root:root 755");
    assert_eq!(machine.run("stat --format '%U:%G %a' /usr/lib/go-metro/go-metro"), "root:go-metro 750");
    // Whether it starts by itself is the distribution's to say: Debian's presets do enable it, and nothing has started
    // it.
    assert!(!machine.can("systemctl is-active go-metro"));
    machine.run("systemctl enable --now go-metro");
    machine.measures();
    // The copy with capabilities is the script's; all else is as it was packed.
    assert_eq!(machine.run("rpm --verify --nodeps go-metro"), "");

    machine.run("echo '# the administrator was here' >> /etc/go-metro/conf.yaml");
    let pid = machine.property("MainPID");
    machine.run(&format!("{RPM} --upgrade /mnt/packages/next/go-metro-*.rpm"));
    assert_eq!(machine.run("rpm --query --queryformat '%{VERSION}' go-metro"), super::shipped::NEXT);
    assert_eq!(machine.run("getcap /usr/bin/go-metro /usr/lib/go-metro/go-metro"), CAPABILITIES);
    assert_eq!(machine.run("tail -n 1 /etc/go-metro/conf.yaml"), "# the administrator was here");
    assert_ne!(machine.property("MainPID"), pid);
    machine.measures();

    machine.run("rpm --nodeps --erase go-metro");
    assert!(!machine.can("systemctl is-active go-metro"));
    assert!(!machine.can("systemctl is-enabled go-metro"));
    // What the administrator wrote stays, beside nothing else.
    assert_eq!(machine.run("ls /etc/go-metro"), "conf.yaml.rpmsave");
    for gone in ["/usr/bin/go-metro", "/usr/lib/go-metro", "/usr/share/doc/go-metro", "/usr/share/licenses/go-metro"] {
        assert!(!machine.can(&format!("test -e {gone}")), "{gone}");
    }
    // As both families of distributions want it: their numbers may be on files.
    machine.run("getent passwd go-metro && getent group go-metro");
    // What nobody has changed goes.
    machine.run(&format!("rm -r /etc/go-metro && {RPM} --install /mnt/packages/go-metro-*.rpm"));
    assert_eq!(
        machine.run("rpm --query --file /usr/lib/go-metro /etc/go-metro --queryformat '%{NAME} '"),
        "go-metro go-metro"
    );
    machine.run("rpm --nodeps --erase go-metro");
    assert!(!machine.can("test -e /etc/go-metro"));
}

#[test]
fn it_names_what_it_needs_and_which_file_is_configuration() {
    let package = file(shipped(), "rpm");
    let ask = |what: &str| capture(Command::new("rpm").args(["--query", "--package", what]).arg(&package)).unwrap();
    assert_eq!(ask("--configfiles"), "/etc/go-metro/conf.yaml");
    assert!(ask("--docfiles").contains("/usr/share/doc/go-metro/conf.yaml.example"));
    assert!(ask("--licensefiles").contains("/usr/share/licenses/go-metro/LICENSE-MIT"));
    let needs = ask("--requires");
    for need in ["libc.so.6(GLIBC_2.", "/usr/sbin/setcap", "/usr/sbin/useradd"] {
        assert!(needs.contains(need), "{needs}");
    }
    let files = ask("--list");
    for name in ["/usr/lib/systemd/system/go-metro.service", "/usr/share/man/man1/go-metro.1.gz"] {
        assert!(files.contains(name), "{files}");
    }
}
