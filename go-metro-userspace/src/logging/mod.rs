//! The log: `tracing` to standard error, or to a file that is rotated by size.
//!
//! On standard error it suits who reads it: colours on a terminal; a priority and no time stamp under systemd, whose
//! journal has its own; plain lines otherwise. In a file it has the original's form: `2026-01-31 12:00:00 UTC | INFO |
//! (agent.rs:42) | message`.
//!
//! Nobody who logs waits for it: lines go through a bounded queue to a thread of their own ([`start`]), and those that
//! cannot be written are counted ([`lines_lost`]).

mod attempt;
mod format;
pub(crate) mod recent;
mod rotate;
mod sparing;
mod writer;

use std::io;
use std::os::fd::AsFd;

use tracing::Level;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

use crate::config::{Config, LogLevel};
use crate::terminal;
pub(crate) use attempt::if_successful;
use format::{FileForm, JournalForm, StreamForm};
use rotate::Rotating;
pub(crate) use sparing::OnceInAWhile;
use writer::{Queue, Target};

/// Overrides the configured level, in the directives of `tracing_subscriber::EnvFilter`.
const LEVEL_VARIABLE: &str = "GO_METRO_LOG";

/// Masks what others may do with files that are made from then on, whatever the caller's mask: the log is 0640.
const UMASK: u32 = 0o027;

/// Starts logging: lines are kept until [`start`].
///
/// A file that cannot be written is replaced by standard error: a daemon that measures is worth more than its log. A
/// level in the environment that makes no sense is replaced by the configured one. Both are logged as errors, so that
/// every level shows them.
pub(crate) fn init(config: &Config) {
    let (filter, bad_directive) = filter(config.log_level, std::env::var(LEVEL_VARIABLE).ok().as_deref());
    let unwritable = open(config, filter).err();
    if let Some(error) = unwritable {
        tracing::error!("cannot log to {}: {error}; logging here instead", config.log_file.display());
    }
    if let Some(what) = bad_directive {
        tracing::error!("{what}; logging at the configured level");
    }
}

/// Lines of the log that could not be written since the start.
pub(crate) fn lines_lost() -> u64 {
    writer::lines_lost()
}

/// Why the log is not where, or not as complete as, it is wanted, if so.
pub(crate) fn problem() -> Option<String> {
    rotate::problem()
}

/// Begins to write what is logged, on a thread of its own; once this process has confined itself, so that the thread is
/// confined too.
pub(crate) fn start() {
    writer::start();
}

/// Waits until what was logged is written; half a second at most.
pub(crate) fn finish() {
    writer::finish();
}

/// Logs what is probably a mistake in a configuration, and variables that have no effect. What was so in the one before
/// is logged already.
pub(crate) fn doubts(config: &Config, before: Option<&Config>) {
    let (known, unused) = before.map(|before| (before.doubts(), before.without_effect())).unwrap_or_default();
    for doubt in config.doubts().iter().filter(|doubt| !known.contains(doubt)) {
        tracing::warn!("{}", doubt.what);
    }
    for line in config.without_effect().iter().filter(|line| !unused.contains(line)) {
        tracing::info!("{line}");
    }
}

/// Starts logging to the configured file, or else nowhere but [`recent`]: standard error is a screen that others draw
/// on.
pub(crate) fn init_off_screen(config: &Config) {
    let (filter, _) = filter(config.log_level, std::env::var(LEVEL_VARIABLE).ok().as_deref());
    if config.log_to_file {
        let _ = open(config, filter);
    } else {
        finish_init(tracing_subscriber::registry().with(filter).with(recent::Layer).try_init());
    }
}

/// Opens the configured place, or standard error; why not a file where one was wanted.
fn open(config: &Config, filter: EnvFilter) -> io::Result<()> {
    let file = config.log_to_file.then(|| {
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(UMASK));
        Rotating::open(&config.log_file, config.log_max_size.into(), config.log_files)
    });
    // What is wrong within `tracing` must not be printed past the queue.
    let builder = tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false).with_ansi(false);
    let why_not = match file {
        Some(Ok(file)) => {
            let exposure = file.exposure();
            let builder = builder.event_format(FileForm).with_writer(Queue::before(Target::File(file)));
            finish_init(builder.finish().with(recent::Layer).try_init());
            if let Some(exposure) = exposure {
                tracing::warn!("{exposure}");
            }
            return Ok(());
        }
        Some(Err(error)) => Err(error),
        None => Ok(()),
    };
    let builder = builder.with_writer(Queue::before(Target::Stderr));
    if is_journal() {
        finish_init(builder.event_format(JournalForm).finish().with(recent::Layer).try_init());
    } else {
        let colours = terminal::is_stderr() && terminal::wants_colours();
        finish_init(builder.event_format(StreamForm { colours }).finish().with(recent::Layer).try_init());
    }
    why_not
}

/// Whether something else logs already does not matter: there is one log either way.
fn finish_init(_started: Result<(), TryInitError>) {}

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

/// Whether standard error is the journal's: systemd names device and inode of the stream in `JOURNAL_STREAM`
/// (systemd.exec(5)).
#[expect(clippy::disallowed_methods, reason = "it is not written to")]
fn is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    nix::sys::stat::fstat(io::stderr().as_fd()).is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
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
