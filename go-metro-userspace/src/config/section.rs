//! A mapping of the file, read key by key: what is wrong is noted with its place, and the rest is read on.

use serde::Deserialize;
use serde_yaml::{Mapping, Value};

use super::error::Faults;
use super::place::Place;
use super::schema::{self, Described, Lazy};

/// Below this likeness (Jaro-Winkler, 0 to 1) a guess helps nobody.
const ALIKE: f64 = 0.75;
/// What other programs call a key of ours.
const OTHER_NAMES: [(&str, &str); 14] = [
    ("iface", "interface"),
    ("device", "interface"),
    ("dev", "interface"),
    ("nic", "interface"),
    ("targets", "ips"),
    ("target", "ips"),
    ("addresses", "ips"),
    ("address", "ips"),
    ("names", "hosts"),
    ("interval", "report_interval"),
    ("statsd_host", "statsd_ip"),
    ("statsd_address", "statsd_ip"),
    ("dogstatsd_host", "statsd_ip"),
    ("dogstatsd_port", "statsd_port"),
];

/// A mapping, the keys that were asked for, and where faults are noted.
pub(super) struct Section<'v, 'f, 't> {
    place: Place,
    keys: Option<&'v Mapping>,
    known: Vec<(&'static str, Lazy)>,
    faults: &'f mut Faults<'t>,
    faults_before: usize,
}

impl<'v, 'f, 't> Section<'v, 'f, 't> {
    /// What stands at `place`; nothing at all is an empty mapping.
    pub(super) fn new(place: Place, value: &'v Value, faults: &'f mut Faults<'t>) -> Self {
        let faults_before = faults.count();
        if !value.is_mapping() && !value.is_null() {
            faults.add(&place, &format!("expected keys with values, found {}", kind(value)));
        }
        Self { place, keys: value.as_mapping(), known: Vec::new(), faults, faults_before }
    }

    /// Notes that a key is known, and what it takes.
    fn asked(&mut self, key: &'static str, takes: Lazy) {
        match self.known.iter_mut().find(|(known, _)| *known == key) {
            // It was looked at by hand before.
            Some((_, known)) if takes as usize != schema::anything as Lazy as usize => *known = takes,
            Some(_) => {}
            None => self.known.push((key, takes)),
        }
    }

    /// What stands behind a key, if anything does.
    pub(super) fn value(&mut self, key: &'static str) -> Option<&'v Value> {
        self.asked(key, schema::anything);
        self.keys?.get(key).filter(|value| !value.is_null())
    }

    /// The value of a key; none if it is absent, or wrong and noted.
    pub(super) fn take<T: Deserialize<'v> + Described>(&mut self, key: &'static str) -> Option<T> {
        self.asked(key, T::schema);
        let value = self.value(key)?;
        let place = self.place.key(key);
        read(value, &place, self.faults)
    }

    /// What is read from a mapping behind a key; none if it is absent.
    pub(super) fn within<T>(
        &mut self,
        key: &'static str,
        takes: Lazy,
        read: impl FnOnce(Section<'v, '_, 't>) -> T,
    ) -> Option<T> {
        self.asked(key, takes);
        let value = self.value(key)?;
        Some(read(Section::new(self.place.key(key), value, self.faults)))
    }

    /// The items of a list; none if it is absent. Those that are wrong are noted.
    pub(super) fn take_list<T: Deserialize<'v> + Described>(&mut self, key: &'static str) -> Vec<T> {
        self.asked(key, schema::list_of::<T>);
        let Some(value) = self.value(key) else { return Vec::new() };
        let place = self.place.key(key);
        let Some(items) = value.as_sequence() else {
            let instead = match value {
                Value::String(text) if text.starts_with('-') => "write a blank behind the `-` of each item".to_owned(),
                // What is wrong as an item too is said first.
                _ => match (T::deserialize(value), value) {
                    (Err(error), Value::String(_)) => error.to_string(),
                    (_, Value::Mapping(keys)) => format!("write `{key}: [{}]`", texts(keys)),
                    (_, value) => format!("write `{key}: [{}]`", scalar(value)),
                },
            };
            self.faults.add(&place, &format!("expected a list, found {}; {instead}", kind(value)));
            return Vec::new();
        };
        let faults = &mut *self.faults;
        let read = |(index, item)| read(item, &place.item(index), faults);
        items.iter().enumerate().filter_map(read).collect()
    }

    /// Whether a key is there, be its value right or wrong.
    pub(super) fn has(&self, key: &str) -> bool {
        self.keys.and_then(|keys| keys.get(key)).is_some_and(|value| !value.is_null())
    }

    /// Whether a key that nobody asked for is a slip in this one.
    pub(super) fn is_meant(&self, key: &str) -> bool {
        let names: Vec<&'static str> = self.known.iter().map(|(key, _)| *key).collect();
        let mut slips = self.keys.into_iter().flat_map(Mapping::keys).filter_map(Value::as_str);
        slips.any(|slip| !names.contains(&slip) && guess(slip, &names) == Some(key))
    }

    /// Notes a fault of the value of a key.
    pub(super) fn fault_in(&mut self, key: &str, what: &str) {
        self.faults.add(&self.place.key(key), what);
    }

    /// Notes a fault of the whole, shown at one of its keys.
    pub(super) fn fault_at(&mut self, key: &str, what: &str) {
        self.faults.add_at(&self.place.key(key), &self.place, what);
    }

    /// Notes a fault of the whole.
    pub(super) fn fault(&mut self, what: &str) {
        self.faults.add(&self.place, what);
    }

    /// Notes the keys that nobody asked for; whether nothing at all is wrong.
    pub(super) fn finish(self) -> bool {
        let names: Vec<&'static str> = self.known.iter().map(|(key, _)| *key).collect();
        for key in self.keys.into_iter().flat_map(Mapping::keys) {
            match key.as_str() {
                Some(key) if names.contains(&key) => {}
                Some(key) => {
                    self.faults.add_at(&self.place.key(key), &self.place, &unknown(key, &names));
                }
                None => self.faults.add(&self.place, &format!("{} is no key; use a word", kind(key))),
            }
        }
        self.faults.note_asked(self.known);
        self.faults.count() == self.faults_before
    }
}

fn read<'v, T: Deserialize<'v>>(value: &'v Value, place: &Place, faults: &mut Faults<'_>) -> Option<T> {
    T::deserialize(value).map_err(|error| faults.add(place, &error.to_string())).ok()
}

fn unknown(key: &str, valid: &[&str]) -> String {
    let guess = guess(key, valid).map_or_else(String::new, |nearest| format!("; did you mean `{nearest}`?"));
    format!("unknown key `{key}`{guess} (valid: {})", valid.join(", "))
}

/// The key that was probably meant.
fn guess<'k>(key: &str, valid: &[&'k str]) -> Option<&'k str> {
    let other = OTHER_NAMES.iter().find(|(other, _)| *other == key).map(|(_, ours)| *ours);
    if let Some(ours) = valid.iter().find(|valid| Some(**valid) == other) {
        return Some(ours);
    }
    let likeness = |valid: &str| strsim::jaro_winkler(valid, key);
    let nearest = valid.iter().copied().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    nearest.filter(|nearest| likeness(nearest) >= ALIKE)
}

/// Keys and values as the texts that were probably meant: `"env:prod"`.
fn texts(keys: &Mapping) -> String {
    let each = keys.iter().map(|(key, value)| format!("\"{}:{}\"", scalar(key), scalar(value)));
    each.collect::<Vec<_>>().join(", ")
}

/// A value that is neither a list nor keys, as it is written.
fn scalar(value: &Value) -> String {
    match value {
        Value::Bool(value) => value.to_string(),
        Value::Number(value) => value.to_string(),
        Value::String(value) => value.clone(),
        Value::Null | Value::Sequence(_) | Value::Mapping(_) | Value::Tagged(_) => "...".to_owned(),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Sequence(_) => "a list",
        Value::Mapping(_) => "keys with values",
        Value::Tagged(_) => "a tagged value",
    }
}
