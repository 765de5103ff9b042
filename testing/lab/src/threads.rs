//! The threads of a process, as the kernel shows them (proc_pid_task(5)).

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::unistd::Pid;

/// One thread, as it was when it was asked about.
pub struct Thread {
    /// Its id.
    pub id: Pid,
    /// proc_pid_status(5).
    status: String,
    /// Documentation/scheduler/sched-stats.rst.
    schedstat: String,
}

/// All threads of a process but those that end meanwhile.
///
/// # Errors
///
/// There is no such process.
pub fn threads(of: Pid) -> Result<Vec<Thread>> {
    let mut threads = Vec::new();
    for task in fs::read_dir(format!("/proc/{of}/task")).with_context(|| format!("no process {of}"))? {
        let task = task?;
        let id = task.file_name().to_string_lossy().parse()?;
        let read = |name| fs::read_to_string(task.path().join(name));
        if let (Ok(status), Ok(schedstat)) = (read("status"), read("schedstat")) {
            threads.push(Thread { id: Pid::from_raw(id), status, schedstat });
        }
    }
    Ok(threads)
}

impl Thread {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.field("Name").unwrap_or_default()
    }

    /// What its status has under a key.
    #[must_use]
    pub fn field(&self, key: &str) -> Option<&str> {
        let (_, value) = self.status.lines().filter_map(|line| line.split_once(':')).find(|(name, _)| *name == key)?;
        Some(value.trim())
    }

    /// The same, as a number.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn number(&self, key: &str, radix: u32) -> Result<u64> {
        let value = self.field(key).with_context(|| format!("no {key} in {}", self.status))?;
        Ok(u64::from_str_radix(value, radix)?)
    }

    /// How often it gave its processor up by itself, and so was woken.
    ///
    /// # Errors
    ///
    /// The kernel does not tell.
    pub fn wakes(&self) -> Result<u64> {
        self.number("voluntary_ctxt_switches", 10)
    }

    /// What it has worked so far.
    ///
    /// # Errors
    ///
    /// The kernel does not tell.
    pub fn worked(&self) -> Result<Duration> {
        Ok(Duration::from_nanos(self.schedstat.split(' ').next().unwrap_or_default().parse()?))
    }
}
