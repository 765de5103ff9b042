//! The last warnings and errors, kept in memory for `status`.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::Context;

use super::attempt;
use crate::terminal;

/// How many are kept.
const KEPT: usize = 16;
/// Longest message kept, in characters.
const LONGEST: usize = 400;

static RECENT: Mutex<VecDeque<Message>> = Mutex::new(VecDeque::new());

/// A warning or an error that was logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// When.
    pub at: SystemTime,
    /// The same, on a clock that nobody sets.
    pub logged: Instant,
    /// `warning` or `error`.
    pub level: &'static str,
    /// Its text, with its fields behind it.
    pub text: String,
}

/// The last ones, oldest first.
pub(crate) fn messages() -> Vec<Message> {
    RECENT.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
}

fn note(message: Message) {
    let mut recent = RECENT.lock().unwrap_or_else(PoisonError::into_inner);
    if recent.len() == KEPT {
        recent.pop_front();
    }
    recent.push_back(message);
}

/// Notes them as they are logged.
pub(super) struct Layer;

impl<S: Subscriber> tracing_subscriber::Layer<S> for Layer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warning",
            _ => return,
        };
        let mut text = Text::default();
        event.record(&mut text);
        let text = text.message + &text.fields;
        let text = terminal::one_line(&text).chars().take(LONGEST).collect();
        let message = Message { at: SystemTime::now(), logged: Instant::now(), level, text };
        attempt::when_certain(move || note(message));
    }
}

#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            // What the `log` crate's records carry beside their message.
            name if name.starts_with("log.") => Ok(()),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn warnings_and_errors_are_kept_the_last_of_them_and_nothing_less() {
        let subscriber = tracing_subscriber::registry().with(Layer);
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("not this");
            (0..20).for_each(|k| tracing::warn!(interface = "eth0", number = k, "went\naway"));
            tracing::error!("the last");
        });
        let kept = messages();
        assert_eq!(kept.len(), KEPT);
        assert_eq!(kept[KEPT - 2].text, "went away interface=eth0 number=19");
        assert_eq!((kept[KEPT - 1].level, kept[KEPT - 1].text.as_str()), ("error", "the last"));
    }
}
