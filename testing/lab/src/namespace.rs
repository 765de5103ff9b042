//! Network namespaces, named after the process that made them.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{process, thread};

use anyhow::{Context as _, Result, bail};
use nix::sched::{CloneFlags, setns};

/// Where iproute2 keeps namespaces by name.
const DIRECTORY: &str = "/run/netns";
const PREFIX: &str = "gm-";

/// A network namespace, removed when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    file: File,
}

/// Numbers the labs of this process.
pub(super) fn next_number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Removes namespaces whose process is gone.
pub(super) fn sweep() {
    let Ok(entries) = fs::read_dir(DIRECTORY) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        let Some(owner) = owner.and_then(|pid| pid.parse::<u32>().ok()) else { continue };
        if !Path::new(&format!("/proc/{owner}")).exists() {
            remove(&name);
        }
    }
}

fn remove(name: &str) {
    let _ = Command::new("ip").args(["netns", "delete", name]).stderr(Stdio::null()).status();
}

impl Namespace {
    /// Makes a namespace for this process's lab `number`.
    ///
    /// # Errors
    ///
    /// What `ip netns add` says.
    pub fn new(number: u32, role: &str) -> Result<Self> {
        let name = format!("{PREFIX}{}-{number}-{role}", process::id());
        let output = Command::new("ip").args(["netns", "add", &name]).output().context("cannot run ip")?;
        if !output.status.success() {
            bail!("cannot make namespace {name}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        match File::open(Path::new(DIRECTORY).join(&name)) {
            Ok(file) => Ok(Self { name, file }),
            Err(error) => {
                remove(&name);
                Err(error).with_context(|| format!("cannot open namespace {name}"))
            }
        }
    }

    /// Makes a namespace that belongs to no lab.
    ///
    /// # Errors
    ///
    /// As [`Namespace::new`].
    pub fn of_this_process(role: &str) -> Result<Self> {
        sweep();
        Self::new(next_number(), role)
    }

    /// Its name, for `ip netns exec`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its file, by which a process enters it.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        Path::new(DIRECTORY).join(&self.name)
    }

    /// Runs `ip` commands in it, one a line.
    ///
    /// # Errors
    ///
    /// What `ip` says.
    pub fn ip(&self, commands: &str) -> Result<()> {
        let mut child = Command::new("ip")
            .args(["-n", &self.name, "-batch", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run ip")?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(commands.as_bytes())?;
        }
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!("`ip` refuses: {commands}\n{}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }

    /// Sets a kernel parameter below `/proc/sys`.
    ///
    /// # Errors
    ///
    /// The kernel refuses it.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        self.enter(|| fs::write(format!("/proc/sys/{key}"), value)).with_context(|| format!("cannot set {key}={value}"))
    }

    /// Has one processor receive all frames of `device`, a veth end. A veth otherwise queues on the sender's processor,
    /// and frames overtake each other when the sender moves to another one.
    ///
    /// # Errors
    ///
    /// `ip netns exec` fails.
    pub(super) fn keep_order(&self, device: &str, cpu: usize) -> Result<()> {
        let cpus = thread::available_parallelism().map_or(1, usize::from).min(32);
        // A kernel without RPS has no such file; a lab that reorders now and then is still a lab.
        let script =
            format!("f=/sys/class/net/{device}/queues/rx-0/rps_cpus; [ ! -e $f ] || echo {:x} > $f", 1 << (cpu % cpus));
        // /sys shows the namespace that it was mounted in; `ip netns exec` mounts another.
        let output = Command::new("ip").args(["netns", "exec", &self.name, "sh", "-c", &script]).output()?;
        if !output.status.success() {
            bail!("cannot set up {device}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }

    /// Runs `inside` on a thread that has entered it, and waits for it.
    ///
    /// # Panics
    ///
    /// When `inside` does, or the namespace cannot be entered, which only a lack of rights explains.
    pub fn enter<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                if let Err(error) = setns(&self.file, CloneFlags::CLONE_NEWNET) {
                    panic!("cannot enter namespace {}: {error}", self.name);
                }
                inside()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// A command that will run in it, and that dies with the thread that starts it, should that be killed.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        use std::os::fd::{AsRawFd as _, BorrowedFd};
        use std::os::unix::process::CommandExt as _;
        let mut command = Command::new(program);
        let namespace = self.file.as_raw_fd();
        // SAFETY: both are async-signal-safe system calls; the descriptor outlives the fork, since `self` is alive
        // wherever the caller starts the command (a closed one would give an error, nothing worse).
        unsafe {
            command.pre_exec(move || {
                setns(BorrowedFd::borrow_raw(namespace), CloneFlags::CLONE_NEWNET)?;
                nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
                Ok(())
            });
        }
        command
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name);
    }
}
