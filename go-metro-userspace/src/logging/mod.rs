//! The log: `tracing` to standard error, or to a file that is rotated by size.
//!
//! On standard error it suits who reads it: colours on a terminal; a priority and no time stamp under systemd, whose journal has its own;
//! plain lines otherwise. In a file it has the original's form: `2026-01-31 12:00:00 UTC | INFO | (agent.rs:42) | message`.

mod format;
mod rotate;

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

use tracing::Level;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::{LogLevel, LogSettings};
use format::{FileForm, JournalForm};
use rotate::Rotating;

/// Overrides the configured level, in the directives of `tracing_subscriber::EnvFilter`.
const LEVEL_VARIABLE: &str = "GO_METRO_LOG";

/// Starts logging. A file that cannot be written is replaced by standard error, with a warning: a daemon that measures is
/// worth more than its log.
pub fn init(settings: &LogSettings) {
    if settings.to_file {
        match Rotating::open(&settings.file, settings.max_bytes, settings.files) {
            Ok(file) => {
                let builder = tracing_subscriber::fmt().with_env_filter(filter(settings.level)).with_ansi(false);
                finish(builder.event_format(FileForm).with_writer(file).try_init());
                return;
            }
            Err(error) => {
                eprintln!("go-metro: cannot log to {}: {error}; logging here instead", settings.file.display());
            }
        }
    }
    let builder = tracing_subscriber::fmt().with_env_filter(filter(settings.level)).with_writer(io::stderr);
    if is_journal() {
        finish(builder.with_ansi(false).event_format(JournalForm).try_init());
    } else {
        finish(builder.with_ansi(io::stderr().is_terminal()).with_target(false).compact().try_init());
    }
}

/// Whether something else logs already does not matter: there is one log either way.
fn finish(_started: Result<(), Box<dyn std::error::Error + Send + Sync>>) {}

fn filter(level: LogLevel) -> EnvFilter {
    let level = match level {
        LogLevel::Trace => Level::TRACE,
        LogLevel::Debug => Level::DEBUG,
        LogLevel::Info => Level::INFO,
        LogLevel::Warn => Level::WARN,
        LogLevel::Error => Level::ERROR,
    };
    EnvFilter::try_from_env(LEVEL_VARIABLE).unwrap_or_else(|_| EnvFilter::new(level.as_str()))
}

/// Whether standard error is the journal's: systemd names device and inode of the stream in `JOURNAL_STREAM` (systemd.exec(5)).
fn is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    nix::sys::stat::fstat(io::stderr().as_fd()).is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

impl<'a> MakeWriter<'a> for Rotating {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}
