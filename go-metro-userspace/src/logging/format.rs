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
        one_line(context, writer, event)
    }
}

/// The message, whatever is in it, as the rest of one line: what comes from name servers or the kernel must not forge another.
fn one_line<S, N>(context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    let mut message = String::new();
    context.format_fields(Writer::new(&mut message), event)?;
    let parts = message.split(char::is_control).filter(|part| !part.is_empty());
    for (index, text) in parts.enumerate() {
        write!(writer, "{}{text}", if index == 0 { "" } else { " " })?;
    }
    writeln!(writer)
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
