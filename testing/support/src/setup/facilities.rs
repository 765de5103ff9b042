//! What the kernel and this user's rights allow: the lab needs root, network namespaces and a TUN device.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use super::Outcome;
use crate::workspace::{cargo_home, output, quoted, target, which};

/// Says what is there. Building needs none of it, so that nothing here fails a set-up.
pub(super) fn report() -> Outcome {
    match require() {
        Ok(()) => Outcome::Present(format!("Linux {}: root, network namespaces, TUN", release())),
        Err(error) => Outcome::Skipped(format!("builds work; the demo and end-to-end tests do not: {error}")),
    }
}

/// Whether this process may make namespaces, as far as its user goes.
#[must_use]
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// What an ordinary user types to run a task as root, and what follows from that.
#[must_use]
pub fn as_root(task: &str) -> String {
    let directories = [Some(target()), cargo_home().ok()];
    let directories: Vec<_> = directories.iter().flatten().map(|directory| quoted(directory.as_os_str())).collect();
    format!(
        "    sudo -E env PATH=\"$PATH\" cargo xtask {task}\nand then, to own the files that root has built there:\n    \
         sudo chown -R \"$(id -u):$(id -g)\" {}",
        directories.join(" ")
    )
}

/// Checks that the lab can run.
pub(super) fn require() -> Result<()> {
    if !is_root() {
        bail!("the network lab needs root: run\n{}", as_root("..."));
    }
    if which("ip").is_none() {
        bail!("no `ip` command; run `cargo xtask setup`");
    }
    if !output(Command::new("unshare").args(["--net", "true"]))?.status.success() {
        bail!("cannot create network namespaces here (in a container, start it with --privileged)");
    }
    if !Path::new("/dev/net/tun").exists() {
        bail!("/dev/net/tun is missing; run: modprobe tun");
    }
    Ok(())
}

fn release() -> String {
    nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default()
}
