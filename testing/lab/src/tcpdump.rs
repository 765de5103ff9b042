//! tcpdump on a host's interface, into a file.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Host, INTERFACE, Namespace};

/// A running capture.
#[derive(Debug)]
pub struct Tcpdump {
    child: Child,
}

impl Tcpdump {
    /// Starts a capture of everything into `file`, and returns once it runs.
    ///
    /// # Errors
    ///
    /// tcpdump cannot be run, or ends.
    pub fn start(host: &Host, file: &Path) -> Result<Self> {
        Self::start_with(&host.namespace, INTERFACE, &["-s", "200"], file)
    }

    /// Starts a capture on `interface` of a namespace, with arguments of its own, and returns once it runs.
    ///
    /// # Errors
    ///
    /// As [`Tcpdump::start`].
    pub fn start_with(namespace: &Namespace, interface: &str, args: &[&str], file: &Path) -> Result<Self> {
        let mut child = namespace
            .command("tcpdump")
            // Root stays root: the file may be in a directory that nobody else may write to.
            .args(["-i", interface, "-Z", "root", "--immediate-mode", "-B", "16384", "-w"])
            .arg(file)
            .args(args)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run tcpdump")?;
        let mut said = String::new();
        if let Some(stderr) = child.stderr.take() {
            let mut lines = BufReader::new(stderr);
            while lines.read_line(&mut said)? > 0 {
                if said.contains("listening on") {
                    // Dropping the pipe would end tcpdump at its closing words.
                    child.stderr = Some(lines.into_inner());
                    return Ok(Self { child });
                }
            }
        }
        let _ = child.kill();
        let _ = child.wait();
        bail!("tcpdump did not start: {}", said.trim());
    }

    /// Ends the capture; the file is then complete.
    ///
    /// # Errors
    ///
    /// tcpdump failed.
    pub fn stop(mut self) -> Result<()> {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGINT)?;
        let status = self.child.wait()?;
        if !status.success() {
            bail!("tcpdump failed ({status})");
        }
        Ok(())
    }
}

impl Drop for Tcpdump {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
