//! Forms of a line.

use std::fmt;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};
use tracing::{Event, Level, Subscriber};
use tracing_log::NormalizeEvent;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::terminal;

/// The original's: `YYYY-MM-DD HH:MM:SS TZ | LEVEL | (file:line) | message`.
pub(super) struct FileForm;

impl<S, N> FormatEvent<S, N> for FileForm
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        // What came through the `log` crate has its place among its fields.
        let normalized = event.normalized_metadata();
        let metadata = normalized.as_ref().unwrap_or_else(|| event.metadata());
        let file = metadata.file().unwrap_or("?").rsplit('/').next().unwrap_or("?");
        let (now, level, line) = (time(&now()), metadata.level(), metadata.line().unwrap_or(0));
        write!(writer, "{now} | {level} | ({file}:{line}) | ")?;
        one_line(context, writer, event)
    }
}

/// The time on the wall; UTC where the system's time zone cannot be told.
fn now() -> ZonedDateTime {
    Timestamp::now().to_zoned_datetime(TimeZone::try_system().unwrap_or(TimeZone::UTC))
}

fn time(now: &ZonedDateTime) -> String {
    now.strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
}

/// The message, whatever is in it, as the rest of one line: what comes from name servers or the kernel must not forge
/// another.
fn one_line<S, N>(context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    let mut message = String::new();
    context.format_fields(Writer::new(&mut message), event)?;
    writeln!(writer, "{}", terminal::one_line(&message))
}

/// Of a terminal or a pipe: `2026-01-31T12:00:00.000000Z  INFO message`.
pub(super) struct StreamForm {
    /// Whether the reader shows colours.
    pub(super) colours: bool,
}

impl<S, N> FormatEvent<S, N> for StreamForm
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let normalized = event.normalized_metadata();
        let level = *normalized.as_ref().unwrap_or_else(|| event.metadata()).level();
        let mut now = String::new();
        SystemTime.format_time(&mut Writer::new(&mut now))?;
        if self.colours {
            let colour = match level {
                Level::ERROR => 31,
                Level::WARN => 33,
                Level::INFO => 32,
                Level::DEBUG => 34,
                Level::TRACE => 35,
            };
            write!(writer, "\x1b[2m{now}\x1b[0m \x1b[{colour}m{level:>5}\x1b[0m ")?;
        } else {
            write!(writer, "{now} {level:>5} ")?;
        }
        one_line(context, writer, event)
    }
}

/// The journal's: a syslog priority in front (sd-daemon(3)), and nothing that it knows itself.
pub(super) struct JournalForm;

impl<S, N> FormatEvent<S, N> for JournalForm
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let priority = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            _ => 7,
        };
        write!(writer, "<{priority}>")?;
        one_line(context, writer, event)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Lines {
        type Writer = Self;
        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    fn logged<F>(form: F, log: impl FnOnce()) -> String
    where
        F: for<'a> FormatEvent<tracing_subscriber::Registry, tracing_subscriber::fmt::format::DefaultFields>
            + Send
            + Sync
            + 'static,
    {
        use tracing_subscriber::layer::SubscriberExt;
        let lines = Lines::default();
        let layer = tracing_subscriber::fmt::layer().with_ansi(false).event_format(form).with_writer(lines.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_time_is_written_with_the_name_of_its_zone_as_the_original_does() {
        let at = Timestamp::from_second(1_785_456_000).unwrap();
        assert_eq!(time(&at.to_zoned_datetime(TimeZone::UTC)), "2026-07-31 00:00:00 UTC");
        // A zone in POSIX's words needs no database.
        let berlin = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        assert_eq!(time(&at.to_zoned_datetime(berlin)), "2026-07-31 02:00:00 CEST");
    }

    #[test]
    fn a_line_in_the_file_has_the_originals_parts() {
        let line = logged(FileForm, || tracing::warn!(host = "db", "cannot resolve"));
        let parts: Vec<&str> = line.trim_end().split(" | ").collect();
        let [time, level, place, message] = parts.as_slice() else { panic!("four parts: {line}") };
        assert_eq!(time.split(' ').map(str::len).take(2).collect::<Vec<_>>(), [10, 8], "{line}");
        assert!(time.rsplit(' ').next().is_some_and(|zone| !zone.is_empty()), "{line}");
        assert_eq!((*level, *message), ("WARN", "cannot resolve host=\"db\""));
        assert!(place.starts_with("(format.rs:") && place.ends_with(')'), "{line}");
    }

    #[test]
    fn what_the_log_crate_brings_keeps_its_level_and_place() {
        let line = logged(FileForm, || {
            tracing_log::format_trace(
                &log::Record::builder()
                    .args(format_args!("of the classifier"))
                    .level(log::Level::Error)
                    .target("go_metro")
                    .file(Some("src/classify.rs"))
                    .line(Some(7))
                    .build(),
            )
            .unwrap();
        });
        assert!(line.ends_with(" | ERROR | (classify.rs:7) | of the classifier\n"), "{line}");
    }

    #[test]
    fn the_journal_gets_a_priority_in_front_of_a_message_and_no_time() {
        let lines = logged(JournalForm, || {
            tracing::error!("one\ntwo");
            tracing::info!("three");
            tracing::debug!("four");
        });
        assert_eq!(lines, "<3>one two\n<6>three\n<7>four\n");
    }
}
