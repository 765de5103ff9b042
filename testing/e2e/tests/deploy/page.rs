//! The commands of docs/deployment.md, each as it stands there, in the page's order.

use std::fs;

use testing_support::workspace::root;

use super::image::{CONTEXT, WITH_BPF, allow_containers, change_profile};
use super::machine::{Machine, wait};

/// The commands in blocks that a comment puts on a machine of this kind.
fn commands(kind: &str) -> Vec<String> {
    let page = fs::read_to_string(root().join("docs/deployment.md")).unwrap();
    let blocks = page
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
