//! Kinds of value that hold others: lists, sections, and what may be absent.

use std::fmt;
use std::marker::PhantomData;

use go_metro_rtt::Ports;
use serde_json::{Map, Value as Json, json};
use serde_yaml::Value;

use super::texts::PortRange;
use super::{Kind, Scalar, Wrong, listed};
use crate::config::declaration::{Key, Section};
use crate::config::error::Faults;
use crate::config::place::Place;
use crate::config::schema::properties;
use crate::config::section::{Reader, kind, scalar};

/// A value, or none if the key is absent.
pub(in crate::config) struct Optional<K>(PhantomData<K>);

impl<K: Kind> Kind for Optional<K> {
    type Value = Option<K::Value>;

    fn read(value: &Value, place: &Place, faults: &mut Faults) -> Option<Self::Value> {
        K::read(value, place, faults).map(Some)
    }

    fn takes() -> String {
        K::takes()
    }

    fn schema() -> Json {
        K::schema()
    }

    fn shown(value: &Self::Value) -> Json {
        value.as_ref().map_or(Json::Null, K::shown)
    }
}

/// The words for none; one that is not quoted may be a truth value.
const OFF: [&str; 3] = ["off", "no", "false"];

/// A value, or `off` for none.
pub(in crate::config) struct OrOff<S>(PhantomData<S>);

impl<S: Scalar> Scalar for OrOff<S> {
    type Value = Option<S::Value>;

    fn parse(value: &Value) -> Result<Self::Value, Wrong> {
        if value.as_bool() == Some(false) || value.as_str().is_some_and(|word| OFF.contains(&word)) {
            return Ok(None);
        }
        S::parse(value).map(Some)
    }

    fn takes() -> String {
        format!("{}, or off", S::takes())
    }

    fn schema() -> Json {
        let words = OFF.into_iter().map(Json::from).chain([json!(false)]);
        json!({"anyOf": [S::schema(), {"enum": words.collect::<Vec<_>>()}]})
    }

    fn shown(value: &Self::Value) -> Json {
        value.as_ref().map_or(json!(OFF[0]), S::shown)
    }
}

/// A list.
pub(in crate::config) struct List<K>(PhantomData<K>);

impl<K: Kind> Kind for List<K> {
    type Value = Vec<K::Value>;

    fn read(value: &Value, place: &Place, faults: &mut Faults) -> Option<Self::Value> {
        let Some(items) = value.as_sequence() else {
            let instead = match value {
                Value::String(text) if text.starts_with('-') => "put a space after the `-` of each item".to_owned(),
                Value::Mapping(keys) => {
                    let items = keys.iter().map(|(key, value)| format!("\"{}:{}\"", scalar(key), scalar(value)));
                    format!("write `{}: [{}]`", place.name(), items.collect::<Vec<_>>().join(", "))
                }
                // What is wrong as an item too is said first.
                value => {
                    let mut as_item = Faults::default();
                    K::read(value, place, &mut as_item);
                    let wrong = as_item.first().filter(|_| value.is_string()).map(str::to_owned);
                    wrong.unwrap_or_else(|| format!("write `{}: [{}]`", place.name(), scalar(value)))
                }
            };
            faults.add(place, &format!("expected a list, found {}; {instead}", kind(value)));
            return None;
        };
        let read = |(index, item)| K::read(item, &place.item(index), faults);
        Some(items.iter().enumerate().filter_map(read).collect())
    }

    fn takes() -> String {
        format!("a list, each {}", K::takes())
    }

    fn schema() -> Json {
        json!({"type": ["array", "null"], "items": K::schema()})
    }

    fn shown(value: &Self::Value) -> Json {
        value.iter().map(K::shown).collect()
    }
}

/// A list that means something only if it holds something.
pub(in crate::config) struct OneOrMore<K>(PhantomData<K>);

impl<K: Kind> Kind for OneOrMore<K> {
    type Value = Vec<K::Value>;

    fn read(value: &Value, place: &Place, faults: &mut Faults) -> Option<Self::Value> {
        let items = List::<K>::read(value, place, faults)?;
        if value.as_sequence().is_some_and(Vec::is_empty) {
            faults.add(place, "is empty; leave the key out for its default");
        }
        Some(items).filter(|items| !items.is_empty())
    }

    fn takes() -> String {
        List::<K>::takes()
    }

    fn schema() -> Json {
        List::<K>::schema()
    }

    fn shown(value: &Self::Value) -> Json {
        List::<K>::shown(value)
    }
}

/// The ports of a service.
pub(in crate::config) struct PortList;

impl Kind for PortList {
    type Value = Ports;

    fn read(value: &Value, place: &Place, faults: &mut Faults) -> Option<Ports> {
        let ranges = List::<PortRange>::read(value, place, faults)?;
        let ports = Ports::new(&ranges);
        if ports.is_none() {
            let (count, most) = (ranges.len(), Ports::MOST);
            faults.add(place, &format!("holds {count} ports or ranges; at most {most} are allowed"));
        }
        ports
    }

    fn takes() -> String {
        List::<PortRange>::takes()
    }

    fn schema() -> Json {
        List::<PortRange>::schema()
    }

    fn shown(value: &Ports) -> Json {
        value.names().collect()
    }
}

/// A section below a key.
pub(in crate::config) struct Keys<S>(PhantomData<S>);

impl<S: Section + Clone + fmt::Debug + PartialEq> Kind for Keys<S> {
    type Value = S;
    const KEYS: &'static [Key] = S::KEYS;

    fn read(value: &Value, place: &Place, faults: &mut Faults) -> Option<S> {
        if let (Some(text), Some(key)) = (value.as_str(), S::NAMES.valid.first()) {
            faults.add(place, &format!("has keys; write `{}: {{{key}: {text}}}`", place.name()));
            return None;
        }
        let mut reader = Reader::new(place.clone(), value, S::NAMES, faults);
        let section = S::read(&mut reader);
        reader.finish();
        Some(section)
    }

    fn takes() -> String {
        format!(
            "a section with {}",
            listed(&S::NAMES.valid.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>(), "and")
        )
    }

    fn schema() -> Json {
        json!({"type": ["object", "null"], "properties": properties(S::KEYS), "additionalProperties": false})
    }

    fn shown(value: &S) -> Json {
        S::KEYS.iter().map(|key| key.name.to_owned()).zip(value.shown()).collect::<Map<_, _>>().into()
    }
}
