//! Forms of a line.

use std::fmt;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{ChronoLocal, FormatTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// The original's: `YYYY-MM-DD HH:MM:SS TZ | LEVEL | (file:line) | message`.
pub(super) struct FileForm;

impl<S, N> FormatEvent<S, N> for FileForm
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let metadata = event.metadata();
        ChronoLocal::new("%Y-%m-%d %H:%M:%S %Z".to_owned()).format_time(&mut writer)?;
        let file = metadata.file().unwrap_or("?").rsplit('/').next().unwrap_or("?");
        write!(writer, " | {} | ({file}:{}) | ", metadata.level(), metadata.line().unwrap_or(0))?;
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
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
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}
