//! The commands of docs/deployment.md and docs/migration.md, each as it stands there, in the page's order.

use std::fs;

use testing_support::workspace::root;

use super::image::{CONTEXT, WITH_BPF, allow_containers, change_profile};
use super::machine::{Machine, wait};

/// The commands in blocks that a comment puts on a machine of this kind.
fn commands(kind: &str) -> Vec<String> {
    let pages = ["docs/deployment.md", "docs/migration.md"];
    let text = pages.map(|page| fs::read_to_string(root().join(page)).unwrap()).concat();
    let blocks = text
        .split("<!-- on: ")
        .skip(1)
        .filter_map(|part| part.strip_prefix(kind)?.strip_prefix(" -->\n```shell-session\n"));
    let lines = blocks.flat_map(|block| block.split("```").next().unwrap().lines());
    lines.map(|line| line.strip_prefix("# ").or_else(|| line.strip_prefix("$ ")).expect(line).to_owned()).collect()
}

/// Runs them where the page says: in a clone of the repository with `target/dist`.
fn run_all(machine: &Machine, kind: &str) {
    let commands = commands(kind);
    assert!(commands.len() > 1, "{kind}: {commands:?}");
    machine.run(&format!(
        "mkdir -p {CONTEXT}/target && cp -a /mnt/packages {CONTEXT}/target/dist && \
         cp -a /mnt/repository/packaging {CONTEXT}/"
    ));
    for command in commands {
        // apt asks and systemctl pages, where there is a terminal.
        let command = command.replace("apt ", "apt-get --yes --no-install-recommends ");
        println!("{command}");
        machine.run(&format!("cd {CONTEXT} && {command}"));
        if command.starts_with("podman run") {
            // Nobody waits for it to be ready, as systemd does.
            wait("the daemon answers", || machine.can("podman exec go-metro go-metro status").then_some(()));
        }
    }
}

#[test]
fn what_the_page_says_of_the_deb_can_be_done() {
    let machine = Machine::start();
    machine.run("useradd alice && dpkg --install /mnt/packages/go-metro_*.deb");
    machine.measures();
    run_all(&machine, "deb");
    assert!(!machine.can("test -e /etc/go-metro || test -e /usr/bin/go-metro"));
}

#[test]
fn what_the_page_says_of_a_migration_can_be_done_and_the_package_says_that_it_is_to_be_done() {
    let original = "/etc/dd-agent/conf.d/go-metro.yaml";
    let machine = Machine::start();
    machine.run(&format!(
        "mkdir -p /etc/dd-agent/conf.d && printf 'init_config:\\n  snaplen: 512\\n  idle_ttl: 300\\n  exp_ttl: 60\\n\
         instances:\\n  - interface: eth0\\n    tags: [role:old]\\n    ips: [{}]\\n' > {original}",
        machine.lab.b.v4
    ));
    let said = machine.run("dpkg --install /mnt/packages/go-metro_*.deb");
    assert!(said.contains(original) && said.contains("cp ") && said.contains("every peer"), "{said}");
    // The command as the package gives it does it too, before the page's.
    let command = said.lines().find(|line| line.contains(" && cp ")).expect("a command");
    machine.run(command);
    assert!(machine.run("cat /etc/go-metro/conf.yaml").contains("role:old"));
    run_all(&machine, "migrated");
    machine.measures();
    // An upgrade has nothing more to say.
    let said = machine.run("dpkg --install /mnt/packages/next/go-metro_*.deb");
    assert!(!said.contains("dd-agent"), "{said}");

    let machine = Machine::start();
    machine.run(&format!("mkdir -p /etc/dd-agent/conf.d && touch {original}"));
    let said = machine.run("rpm --nodeps --force-debian --install /mnt/packages/go-metro-*.rpm");
    assert!(said.contains(original), "{said}");
}

#[test]
fn what_the_page_says_of_the_rpm_can_be_done() {
    let machine = Machine::start();
    // Of what Debian has installed, rpm does not know.
    machine.run(
        "printf '#!/bin/sh\\nexec /usr/bin/rpm --nodeps --force-debian \"$@\"\\n' > /usr/local/sbin/rpm && \
                 chmod +x /usr/local/sbin/rpm",
    );
    run_all(&machine, "rpm");
    machine.measures();
}

#[test]
fn what_the_page_says_of_the_image_can_be_done() {
    let machine = Machine::start();
    allow_containers(&machine);
    change_profile(&machine, WITH_BPF);
    run_all(&machine, "image");
    machine.measures_by("podman exec go-metro go-metro");
    assert!(machine.run("podman exec go-metro go-metro status").contains("backend     ebpf"));
}
