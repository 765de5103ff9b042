//! A machine that boots a kernel: qemu, without KVM.
//!
//! Its clock counts instructions (`-icount`), not seconds: how busy the real machine is shows in nothing that is
//! measured inside, and time in which nothing is to be done costs none.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use testing_support::setup::emulator;

/// Two nanoseconds an instruction, and no waiting for real time.
const CLOCK: &str = "shift=1,sleep=off";
/// Real time that a run may take. Alone on a machine it is a minute.
const LIMIT: Duration = Duration::from_mins(30);

/// What a machine is, as Debian calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Architecture {
    Amd64,
    Arm64,
}

impl Architecture {
    /// The name in packages and in Debian's kernels.
    pub(super) fn debian(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// Debian's package of the emulator, and its program.
    fn emulator(self) -> (&'static str, &'static str) {
        match self {
            Self::Amd64 => ("qemu-system-x86", "qemu-system-x86_64"),
            Self::Arm64 => ("qemu-system-arm", "qemu-system-aarch64"),
        }
    }

    fn console(self) -> &'static str {
        match self {
            Self::Amd64 => "ttyS0",
            Self::Arm64 => "ttyAMA0",
        }
    }
}

/// What a machine has said.
pub(super) struct Said {
    /// On its second serial port: results.
    pub(super) results: String,
    /// On its first one.
    pub(super) console: String,
}

/// Boots `image` with the file system `initramfs` and waits until it turns itself off, or for as long as it may take.
///
/// # Errors
///
/// There is no qemu.
pub(super) fn run(architecture: Architecture, image: &Path, initramfs: &[u8]) -> Result<Said> {
    let directory = tempfile::tempdir()?;
    let at = |name: &str| directory.path().join(name);
    fs::write(at("initramfs"), initramfs)?;
    let (package, program) = architecture.emulator();
    let mut command = emulator(package, program);
    if architecture == Architecture::Arm64 {
        command.args(["-machine", "virt", "-cpu", "cortex-a57"]);
    }
    command
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-m", "512", "-smp", "1"])
        .args(["-accel", "tcg", "-icount", CLOCK])
        .arg("-kernel")
        .arg(image)
        .arg("-initrd")
        .arg(at("initramfs"))
        .arg("-append")
        .arg(format!("console={} quiet panic=-1 random.trust_cpu=on", architecture.console()))
        .arg("-serial")
        .arg(format!("file:{}", at("console").display()));
    if architecture == Architecture::Amd64 {
        command.arg("-serial").arg(format!("file:{}", at("results").display()));
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // SAFETY: one async-signal-safe system call.
    unsafe {
        command.pre_exec(|| Ok(nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?));
    }
    let mut child = command.spawn().with_context(|| format!("cannot run {program}"))?;
    let start = Instant::now();
    let mut late = "";
    while child.try_wait()?.is_none() {
        if start.elapsed() > LIMIT {
            child.kill()?;
            child.wait()?;
            late = "\nit did not end in time";
        }
        thread::sleep(Duration::from_millis(50));
    }
    let read = |name: &str| fs::read(at(name)).map(|bytes| String::from_utf8_lossy(&bytes).replace('\r', ""));
    let console = read("console").unwrap_or_default() + late;
    let results = match architecture {
        Architecture::Amd64 => read("results").unwrap_or_default(),
        // JSON, a line each; the last is a plain string.
        Architecture::Arm64 => console
            .lines()
            .filter(|line| line.starts_with("{\"") || *line == "\"Done\"")
            .fold(String::new(), |text, line| text + line + "\n"),
    };
    Ok(Said { results, console })
}

/// The last lines of a console.
pub(super) fn tail(console: &str) -> String {
    let lines: Vec<&str> = console.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
