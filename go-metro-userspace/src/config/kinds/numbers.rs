//! Kinds of value that are a number, or yes and no.

use std::fmt;
use std::marker::PhantomData;

use serde_json::{Value as Json, json};
use serde_yaml::Value;

use super::{Scalar, Wrong};

/// The words for yes and no, also those of YAML 1.1, which the original's parser took.
const YES_AND_NO: [&str; 8] = ["true", "false", "yes", "no", "on", "off", "y", "n"];

fn yes_or_no(word: &str) -> Option<bool> {
    let at = YES_AND_NO.iter().position(|known| word.eq_ignore_ascii_case(known))?;
    Some(at % 2 == 0)
}

/// Yes or no.
pub(in crate::config) struct YesNo;

impl Scalar for YesNo {
    type Value = bool;

    fn parse(value: &Value) -> Result<bool, Wrong> {
        value.as_bool().or_else(|| yes_or_no(value.as_str()?)).ok_or(Wrong::Other)
    }

    fn takes() -> String {
        "true or false".to_owned()
    }

    fn schema() -> Json {
        let values: Vec<Json> = [json!(true), json!(false)].into_iter().chain(YES_AND_NO.map(Json::from)).collect();
        json!({"enum": values})
    }

    fn shown(value: &bool) -> Json {
        (*value).into()
    }
}

/// Yes, no, or `auto`: found out, for which there is no value.
pub(in crate::config) struct AutoOr;

impl Scalar for AutoOr {
    type Value = Option<bool>;

    fn parse(value: &Value) -> Result<Option<bool>, Wrong> {
        match value.as_str() {
            Some(word) if word.eq_ignore_ascii_case("auto") => Ok(None),
            _ => YesNo::parse(value).map(Some),
        }
    }

    fn takes() -> String {
        "auto, true or false".to_owned()
    }

    fn schema() -> Json {
        let mut schema = <YesNo as Scalar>::schema();
        if let Some(words) = schema["enum"].as_array_mut() {
            words.insert(0, json!("auto"));
        }
        schema
    }

    fn shown(value: &Option<bool>) -> Json {
        value.map_or(json!("auto"), Json::from)
    }
}

/// A whole number within bounds.
pub(in crate::config) struct Number<T, const MIN: u64, const MAX: u64>(PhantomData<T>);

impl<T, const MIN: u64, const MAX: u64> Scalar for Number<T, MIN, MAX>
where
    T: TryFrom<u64> + TryInto<u64> + Copy + fmt::Debug + PartialEq,
{
    type Value = T;

    fn parse(value: &Value) -> Result<T, Wrong> {
        let number = value.as_u64().or_else(|| value.as_str()?.trim().parse().ok());
        let bounded = number.filter(|number| (MIN..=MAX).contains(number));
        bounded.and_then(|number| T::try_from(number).ok()).ok_or(Wrong::Other)
    }

    fn takes() -> String {
        format!("a whole number from {MIN} to {MAX}")
    }

    fn schema() -> Json {
        let number = json!({"type": "integer", "minimum": MIN, "maximum": MAX});
        json!({"anyOf": [number, {"type": "string", "pattern": r"^\s*[0-9]+\s*$"}]})
    }

    fn shown(value: &T) -> Json {
        (*value).try_into().map_or(Json::Null, |number: u64| number.into())
    }
}

/// Units of bytes, the largest first; each with its other names.
const BYTES: [(u64, &[&str]); 4] =
    [(1 << 30, &["GiB", "G"]), (1 << 20, &["MiB", "M"]), (1 << 10, &["KiB", "K", "k"]), (1, &["", "B"])];

/// A number of bytes: `8388608` or `8MiB`.
pub(in crate::config) struct Bytes;

impl Scalar for Bytes {
    type Value = u32;

    fn parse(value: &Value) -> Result<u32, Wrong> {
        let written = || {
            let text = value.as_str()?;
            let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic()).trim_end();
            let unit = text[digits.len()..].trim();
            let (bytes, _) = BYTES.iter().find(|(_, names)| names.contains(&unit))?;
            digits.parse::<u64>().ok()?.checked_mul(*bytes)
        };
        let bytes = value.as_u64().or_else(written).and_then(|bytes| u32::try_from(bytes).ok());
        bytes.filter(|bytes| *bytes > 0).ok_or(Wrong::Other)
    }

    fn takes() -> String {
        "a number of bytes such as 65536, 512KiB or 8MiB".to_owned()
    }

    fn schema() -> Json {
        let number = json!({"type": "integer", "minimum": 1, "maximum": u32::MAX});
        json!({"anyOf": [number, {"type": "string", "pattern": "^[0-9]+ ?(B|k|K|KiB|M|MiB|G|GiB)?$"}]})
    }

    fn shown(value: &u32) -> Json {
        let value = u64::from(*value);
        match BYTES.iter().find(|(bytes, _)| *bytes > 1 && value.is_multiple_of(*bytes)) {
            Some((bytes, names)) => format!("{}{}", value / bytes, names[0]).into(),
            None => value.into(),
        }
    }
}
