//! What stands behind keys: how each kind of value is read into a type that cannot hold a bad one, what it takes, and
//! how it is shown.

mod lists;
mod numbers;
mod texts;
mod times;

use std::fmt;

use serde_json::Value as Json;
use serde_yaml::Value;

use super::declaration::Key;
use super::error::Faults;
use super::place::Place;
use super::section::{found, nearest};

pub(super) use lists::{Keys, List, OneOrMore, Optional, OrOff, PortList};
pub(super) use numbers::*;
pub(super) use texts::*;
pub(super) use times::*;

/// A kind of value.
pub(super) trait Kind {
    /// What it is in the program.
    type Value: Clone + fmt::Debug + PartialEq;
    /// Keys of its own.
    const KEYS: &'static [Key] = &[];

    /// Reads the value that stands at a place; none if it is wrong, which is noted.
    fn read(value: &Value, place: &Place, faults: &mut Faults) -> Option<Self::Value>;

    /// What it takes, for people.
    fn takes() -> String;

    /// What it takes, as a JSON schema.
    fn schema() -> Json;

    /// The value as a file would state it; null for none.
    fn shown(value: &Self::Value) -> Json;
}

/// Why a value is none of a kind.
pub(super) enum Wrong {
    /// It is not what the kind takes.
    Other,
    /// Something better can be said.
    Said(String),
}

/// A kind of value that is a word, a number or the like.
pub(super) trait Scalar {
    /// What it is in the program.
    type Value: Clone + fmt::Debug + PartialEq;

    /// Reads it.
    fn parse(value: &Value) -> Result<Self::Value, Wrong>;

    /// What it takes, for people.
    fn takes() -> String;

    /// The words that it takes, if it takes nothing else.
    fn words() -> Vec<String> {
        Vec::new()
    }

    /// What it takes, as a JSON schema.
    fn schema() -> Json;

    /// The value as a file would state it; null for none.
    fn shown(value: &Self::Value) -> Json;
}

impl<S: Scalar> Kind for S {
    type Value = S::Value;

    fn read(value: &Value, place: &Place, faults: &mut Faults) -> Option<Self::Value> {
        parse::<S>(value).map_err(|what| faults.add(place, &what)).ok()
    }

    fn takes() -> String {
        S::takes()
    }

    fn schema() -> Json {
        S::schema()
    }

    fn shown(value: &Self::Value) -> Json {
        S::shown(value)
    }
}

/// Reads a scalar.
pub(super) fn parse<S: Scalar>(value: &Value) -> Result<S::Value, String> {
    S::parse(value).map_err(|wrong| match wrong {
        Wrong::Said(what) => what,
        Wrong::Other => {
            let words = S::words();
            let meant = value.as_str().and_then(|word| nearest(word, words.iter().map(String::as_str)));
            let guess = meant.map_or_else(String::new, |meant| format!("; did you mean `{meant}`?"));
            format!("expected {}, found {}{guess}", S::takes(), found(value))
        }
    })
}

/// Reads a scalar from an argument of the command line.
pub(super) fn argument<S: Scalar>(text: &str) -> Result<S::Value, String> {
    parse::<S>(&Value::from(text))
}

/// A text, and nothing that only looks like one.
pub(super) fn text(value: &Value) -> Result<&str, Wrong> {
    value.as_str().ok_or(Wrong::Other)
}

/// A value, or what is wrong with it.
fn said<T>(result: Result<T, String>) -> Result<T, Wrong> {
    result.map_err(Wrong::Said)
}

/// Alternatives as people list them.
pub(super) fn listed(words: &[String], last: &str) -> String {
    match words {
        [] => String::new(),
        [word] => word.clone(),
        [words @ .., word] => format!("{} {last} {word}", words.join(", ")),
    }
}
