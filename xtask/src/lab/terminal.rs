//! A real terminal, as a person has it over ssh: tmux, of a size that can be changed, with keys to type and a screen to read.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::Host;
use crate::workspace::{capture, run};

/// A terminal with a program in it; gone when dropped.
#[derive(Debug)]
pub struct Terminal {
    server: String,
}

impl Terminal {
    /// Starts a shell command in the namespace of `host`, on a terminal of `columns` and `lines`.
    ///
    /// # Errors
    ///
    /// There is no tmux, or it refuses.
    pub fn start(host: &Host, (columns, lines): (u16, u16), command: &str) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let server = format!("gm-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let terminal = Self { server };
        let (columns, lines) = (columns.to_string(), lines.to_string());
        let mut tmux = terminal.tmux();
        tmux.args(["-f", "/dev/null", "new-session", "-d", "-x", &columns, "-y", &lines]);
        // The shell's own words are on the screen too, so that what is left there can be seen.
        tmux.args(["ip", "netns", "exec", host.namespace.name(), "sh", "-c", command]);
        run(tmux.env("LC_ALL", "C.UTF-8").env("TERM", "xterm-256color").env_remove("NO_COLOR").env_remove("TMUX"))?;
        run(terminal.tmux().args(["set-option", "-g", "status", "off"]))?;
        Ok(terminal)
    }

    /// Types: tmux's names of keys, such as `Tab`, `Down`, `Escape`, or letters.
    ///
    /// # Errors
    ///
    /// The terminal is gone.
    pub fn press(&self, keys: &[&str]) -> Result<()> {
        run(self.tmux().arg("send-keys").args(keys))
    }

    /// Makes it another size.
    ///
    /// # Errors
    ///
    /// The terminal is gone.
    pub fn resize(&self, (columns, lines): (u16, u16)) -> Result<()> {
        let (columns, lines) = (columns.to_string(), lines.to_string());
        run(self.tmux().args(["resize-window", "-x", &columns, "-y", &lines]))
    }

    /// What is on it.
    ///
    /// # Errors
    ///
    /// The terminal is gone.
    pub fn screen(&self) -> Result<String> {
        capture(self.tmux().args(["capture-pane", "-p"]))
    }

    /// What is on it, with its colours as escape sequences (ECMA-48 section 8.3.117).
    ///
    /// # Errors
    ///
    /// The terminal is gone.
    pub fn coloured_screen(&self) -> Result<String> {
        capture(self.tmux().args(["capture-pane", "-p", "-e"]))
    }

    /// Waits until the screen satisfies `enough`, and returns it.
    ///
    /// # Errors
    ///
    /// It does not within `limit`; the error shows the screen.
    pub fn wait_for(&self, limit: Duration, enough: impl Fn(&str) -> bool) -> Result<String> {
        let deadline = Instant::now() + limit;
        loop {
            let screen = self.screen()?;
            if enough(&screen) {
                return Ok(screen);
            }
            if Instant::now() > deadline {
                bail!("not within {limit:?}; the screen:\n{screen}");
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn tmux(&self) -> Command {
        let mut tmux = Command::new("tmux");
        tmux.args(["-L", &self.server]);
        tmux
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.tmux().arg("kill-server").output();
    }
}
