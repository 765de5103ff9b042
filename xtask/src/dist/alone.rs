//! Static binaries, tried where there is nothing beside them.

use std::fs;
use std::process::Command;

use anyhow::{Result, ensure};

use super::musl::Static;
use testing_support::workspace::{capture, output, root, which};
use testing_support::{paths, setup};

/// Runs a static binary as it is shipped: this machine's in an empty root, another machine's by qemu.
pub(super) fn run(built: &Static) -> Result<()> {
    let sections = capture(Command::new("readelf").args(["--wide", "--sections"]).arg(&built.binary))?;
    // Not all of `.debug_*`: rustc has the name of a script for gdb loaded with the program.
    let has = |name| sections.split_whitespace().any(|word| word == name);
    ensure!(!has(".debug_info") && !has(".symtab"), "{} has symbols", built.binary.display());
    paths::ensure_absent(&built.binary)?;
    let tree = tempfile::tempdir()?;
    fs::copy(&built.binary, tree.path().join("go-metro"))?;
    fs::copy(root().join("corpus/clean.pcap.gz"), tree.path().join("clean.pcap.gz"))?;
    let emulator = format!("qemu-{}", built.architecture);
    let native = built.architecture == std::env::consts::ARCH;
    if native && !setup::is_root() {
        println!("{}: not tried in a root of its own, which needs root", built.architecture);
        return Ok(());
    }
    if !native && which(&emulator).is_none() {
        println!("{}: not tried, as there is no {emulator}", built.architecture);
        return Ok(());
    }
    let command = |arguments: &[&str]| {
        let mut command;
        if native {
            command = Command::new("chroot");
            command.arg(tree.path()).arg("/go-metro");
        } else {
            command = Command::new(&emulator);
            command.arg("./go-metro").current_dir(tree.path());
        }
        command.args(arguments);
        command
    };
    for arguments in [&["--version"][..], &["completions", "bash"]] {
        capture(&mut command(arguments))?;
    }
    let said = capture(&mut command(&["read", "clean.pcap.gz"]))?;
    ensure!(said.contains("538 packets"), "{}: `read` says {said}", built.architecture);
    // What it finds depends on the machine; it has to come to its end.
    let said = String::from_utf8(output(&mut command(&["check"]))?.stdout)?;
    ensure!(said.contains("bpf(2)"), "{}: `check` says {said}", built.architecture);
    println!("{}: runs {}", built.architecture, if native { "in an empty root" } else { "under qemu" });
    Ok(())
}
