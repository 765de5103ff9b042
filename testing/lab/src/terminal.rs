//! A real terminal, as a person has it over ssh: tmux, of a size that can be changed, with keys to type and a screen to
//! read; and one that keeps what is written to it byte by byte.

use std::fs::File;
use std::io::Read as _;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::Pid;

use super::Host;
use super::agent::NOTICE_CALLS;
use testing_support::workspace::{capture, run};

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

/// A terminal that keeps every byte that is written to it, and changes none; its program is killed when it is dropped.
#[derive(Debug)]
pub struct Recorder {
    child: Child,
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Starts a command whose three standard streams are the terminal.
    ///
    /// # Errors
    ///
    /// There is no terminal to be had, or the command cannot be run.
    pub fn start(mut command: Command) -> Result<Self> {
        let size = Winsize { ws_row: 40, ws_col: 200, ws_xpixel: 0, ws_ypixel: 0 };
        let OpenptyResult { master, slave } = openpty(&size, None)?;
        // Otherwise it would put a carriage return before each newline.
        let mut settings = tcgetattr(&slave)?;
        cfmakeraw(&mut settings);
        tcsetattr(&slave, SetArg::TCSANOW, &settings)?;
        command.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave);
        let child = command.env("TERM", "xterm-256color").env_remove("NO_COLOR").envs(NOTICE_CALLS).spawn()?;
        let bytes = Arc::<Mutex<Vec<u8>>>::default();
        let kept = bytes.clone();
        let reader = thread::spawn(move || {
            let (mut terminal, mut buffer) = (File::from(master), [0; 4096]);
            // EIO once the last program is gone.
            while let Ok(count @ 1..) = terminal.read(&mut buffer) {
                kept.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..count]);
            }
        });
        Ok(Self { child, bytes, reader: Some(reader) })
    }

    /// What has been written so far.
    #[must_use]
    pub fn seen(&self) -> Vec<u8> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends SIGTERM, and waits for the end as [`Self::finish`] does.
    ///
    /// # Errors
    ///
    /// As [`Self::finish`].
    pub fn stop(self) -> Result<(ExitStatus, Vec<u8>)> {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM)?;
        self.finish()
    }

    /// Waits until the program has ended: how, and what it wrote.
    ///
    /// # Errors
    ///
    /// It does not end within a minute.
    pub fn finish(mut self) -> Result<(ExitStatus, Vec<u8>)> {
        let deadline = Instant::now() + Duration::from_secs(60);
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if Instant::now() > deadline {
                bail!("it does not end; it wrote {}", self.seen().escape_ascii());
            }
            thread::sleep(Duration::from_millis(5));
        };
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        Ok((status, self.seen()))
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
