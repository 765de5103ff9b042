//! The log: `tracing` to standard error, or to a file that is rotated by size.
//!
//! On standard error it suits who reads it: colours on a terminal; a priority and no time stamp under systemd, whose journal has its own;
//! plain lines otherwise. In a file it has the original's form: `2026-01-31 12:00:00 UTC | INFO | (agent.rs:42) | message`.

mod format;
pub mod recent;
mod rotate;

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use tracing::Level;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

use crate::config::{LogLevel, LogSettings};
use format::{FileForm, JournalForm};
use rotate::Rotating;

/// Overrides the configured level, in the directives of `tracing_subscriber::EnvFilter`.
const LEVEL_VARIABLE: &str = "GO_METRO_LOG";

/// Starts logging.
///
/// A file that cannot be written is replaced by standard error: a daemon that measures is worth more than its log. A level in
/// the environment that makes no sense is replaced by the configured one. Both are logged as errors, so that every level
/// shows them.
pub fn init(settings: &LogSettings) {
    let (filter, bad_directive) = filter(settings.level, std::env::var(LEVEL_VARIABLE).ok().as_deref());
    let unwritable = start(settings, filter).err();
    if let Some(error) = unwritable {
        tracing::error!("cannot log to {}: {error}; logging here instead", settings.file.display());
    }
    if let Some(what) = bad_directive {
        tracing::error!("{what}; logging at the configured level");
    }
}

/// Lines of the log that could not be written since the start.
pub fn lines_lost() -> u64 {
    rotate::LOST.load(Ordering::Relaxed)
}

/// Starts logging to the configured file, or else nowhere but [`recent`]: standard error is a screen that others draw on.
pub fn init_off_screen(settings: &LogSettings) {
    let (filter, _) = filter(settings.level, std::env::var(LEVEL_VARIABLE).ok().as_deref());
    if settings.to_file {
        let _ = start(settings, filter);
    } else {
        finish(tracing_subscriber::registry().with(filter).with(recent::Layer).try_init());
    }
}

/// Starts it in the configured place, or on standard error; why not in a file where one was wanted.
fn start(settings: &LogSettings, filter: EnvFilter) -> io::Result<()> {
    let file = settings.to_file.then(|| Rotating::open(&settings.file, settings.max_bytes, settings.files));
    let why_not = match file {
        Some(Ok(file)) => {
            let builder = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false);
            finish(builder.event_format(FileForm).with_writer(file).finish().with(recent::Layer).try_init());
            return Ok(());
        }
        Some(Err(error)) => Err(error),
        None => Ok(()),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    if is_journal() {
        finish(builder.with_ansi(false).event_format(JournalForm).finish().with(recent::Layer).try_init());
    } else {
        let builder = builder.with_ansi(io::stderr().is_terminal()).with_target(false).compact();
        finish(builder.finish().with(recent::Layer).try_init());
    }
    why_not
}

/// Whether something else logs already does not matter: there is one log either way.
fn finish(_started: Result<(), TryInitError>) {}

/// What passes: the environment's word, else the configured level; and what is wrong with the environment's word.
fn filter(level: LogLevel, directives: Option<&str>) -> (EnvFilter, Option<String>) {
    let level = match level {
        LogLevel::Trace => Level::TRACE,
        LogLevel::Debug => Level::DEBUG,
        LogLevel::Info => Level::INFO,
        LogLevel::Warn => Level::WARN,
        LogLevel::Error => Level::ERROR,
    };
    let configured = || EnvFilter::new(level.as_str());
    match directives.filter(|directives| !directives.trim().is_empty()).map(EnvFilter::try_new) {
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (configured(), Some(format!("{LEVEL_VARIABLE}: {error}"))),
        None => (configured(), None),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_speaks_before_the_configured_level() {
        let said = |level, directives| {
            let (filter, wrong) = filter(level, directives);
            (filter.to_string(), wrong)
        };
        assert_eq!(said(LogLevel::Warn, None), ("warn".to_owned(), None));
        assert_eq!(said(LogLevel::Warn, Some("")), ("warn".to_owned(), None));
        assert_eq!(said(LogLevel::Warn, Some("trace")), ("trace".to_owned(), None));
    }

    #[test]
    fn nonsense_in_the_environment_is_told_and_changes_nothing() {
        let (filter, wrong) = filter(LogLevel::Error, Some("go_metro=loud"));
        assert_eq!(filter.to_string(), "error");
        let wrong = wrong.unwrap();
        assert!(wrong.starts_with("GO_METRO_LOG: ") && wrong.len() > 20, "{wrong}");
    }
}
