//! Kinds of value that are a time.

use std::time::Duration;

use serde_json::{Value as Json, json};
use serde_yaml::Value;

use super::{Scalar, Wrong};

/// A time, perhaps none.
pub(in crate::config) struct Span;

impl Scalar for Span {
    type Value = Duration;

    fn parse(value: &Value) -> Result<Duration, Wrong> {
        let seconds = value.as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        seconds.or_else(|| duration(value.as_str()?)).ok_or(Wrong::Other)
    }

    fn takes() -> String {
        "seconds, or a time such as 500ms, 10s, 5m, 1h or 1d".to_owned()
    }

    fn schema() -> Json {
        let text = json!({"type": "string", "pattern": r"^\s*[0-9.]+\s*(ms|s|sec|m|min|h|d)?\s*$"});
        json!({"anyOf": [{"type": "number", "minimum": 0}, text]})
    }

    fn shown(value: &Duration) -> Json {
        if value.subsec_nanos() == 0 { value.as_secs().into() } else { value.as_secs_f64().into() }
    }
}

/// A time: seconds, whole or not, or a number and its unit.
fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let seconds = match &text[number.len()..] {
        "ms" => 0.001,
        "" | "s" | "sec" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return None,
    };
    let number: f64 = number.trim_end().parse().ok()?;
    Duration::try_from_secs_f64(number * seconds).ok()
}

/// Seconds that no time is longer than.
const UNLIMITED: u64 = u64::MAX;

/// A time above 0 that is no shorter than this many milliseconds, and no longer than so many seconds.
pub(in crate::config) struct Time<const SHORTEST_MS: u64, const LONGEST_S: u64 = UNLIMITED>;

impl<const SHORTEST_MS: u64, const LONGEST_S: u64> Scalar for Time<SHORTEST_MS, LONGEST_S> {
    type Value = Duration;

    fn parse(value: &Value) -> Result<Duration, Wrong> {
        let time = Span::parse(value)?;
        let [shortest, longest] = [Duration::from_millis(SHORTEST_MS), Duration::from_secs(LONGEST_S)];
        let seconds = |time: Duration| time.as_secs_f64();
        if time < shortest {
            let [time, shortest] = [time, shortest].map(seconds);
            return Err(Wrong::Said(format!("{time} s is too short; the smallest is {shortest} s")));
        }
        if time.is_zero() {
            return Err(Wrong::Said(NO_TIME.to_owned()));
        }
        if time > longest {
            let [time, longest] = [time, longest].map(seconds);
            return Err(Wrong::Said(format!("{time} s is too long; the largest is {longest} s")));
        }
        Ok(time)
    }

    fn takes() -> String {
        <Span as Scalar>::takes()
    }

    fn schema() -> Json {
        let mut schema = <Span as Scalar>::schema();
        schema["anyOf"][0] = match SHORTEST_MS {
            0 => json!({"type": "number", "exclusiveMinimum": 0}),
            milliseconds => json!({"type": "number", "minimum": milliseconds as f64 / 1000.0}),
        };
        if LONGEST_S != UNLIMITED {
            schema["anyOf"][0]["maximum"] = LONGEST_S.into();
        }
        schema
    }

    fn shown(value: &Duration) -> Json {
        <Span as Scalar>::shown(value)
    }
}

/// What is wrong with a time that is none.
pub(in crate::config) const NO_TIME: &str = "`0` is not allowed; use a time above 0";
