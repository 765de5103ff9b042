//! A mapping of the file, read key by key: what is wrong is noted with its place, and the rest is read on.

use serde_yaml::{Mapping, Value};

use super::declaration::Names;
use super::error::Faults;
use super::kinds::Kind;
use super::place::Place;

/// Below this likeness (Jaro-Winkler, 0 to 1) a guess helps nobody.
const ALIKE: f64 = 0.75;
/// So many keys are named beside a guess; more would bury it.
const FEW_KEYS: usize = 12;

/// A mapping, the names of its keys, and where faults are noted.
pub(super) struct Reader<'v, 'f> {
    place: Place,
    keys: Option<&'v Mapping>,
    names: Names,
    faults: &'f mut Faults,
    faults_before: usize,
}

impl<'v, 'f> Reader<'v, 'f> {
    /// Of what stands at `place`; nothing at all is an empty mapping.
    pub(super) fn new(place: Place, value: &'v Value, names: Names, faults: &'f mut Faults) -> Self {
        let faults_before = faults.count();
        if !value.is_mapping() && !value.is_null() {
            faults.add(&place, &format!("expected keys with values, found {}", kind(value)));
        }
        Self { place, keys: value.as_mapping(), names, faults, faults_before }
    }

    /// What stands behind a key, if anything does.
    pub(super) fn value(&self, key: &str) -> Option<&'v Value> {
        self.keys?.get(key).filter(|value| !value.is_null())
    }

    /// The value of a key; none if it is absent, or wrong and noted.
    pub(super) fn take<K: Kind>(&mut self, key: &str) -> Option<K::Value> {
        K::read(self.value(key)?, &self.place.key(key), self.faults)
    }

    /// Whether a key is there, be its value right or wrong.
    pub(super) fn has(&self, key: &str) -> bool {
        self.value(key).is_some()
    }

    /// Whether a key that does not exist is a slip in this one.
    pub(super) fn is_meant(&self, key: &str) -> bool {
        let mut slips = self.keys.into_iter().flat_map(Mapping::keys).filter_map(Value::as_str);
        slips.any(|slip| !self.names.valid.contains(&slip) && guess(slip, self.names) == Some(key))
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

    /// Notes the keys that do not exist; whether nothing at all is wrong.
    pub(super) fn finish(self) -> bool {
        for key in self.keys.into_iter().flat_map(Mapping::keys) {
            match key.as_str() {
                Some(key) if self.names.valid.contains(&key) => {}
                Some(key) => self.faults.add_at(&self.place.key(key), &self.place, &unknown(key, self.names)),
                None => self.faults.add(&self.place, &format!("{} cannot be a key; use a word", kind(key))),
            }
        }
        self.faults.count() == self.faults_before
    }
}

fn unknown(key: &str, names: Names) -> String {
    if let Some(home) = super::home_of(key) {
        return format!("unknown key `{key}`; it belongs in {home}");
    }
    let valid = format!(" (valid: {})", names.valid.join(", "));
    match guess(key, names) {
        Some(nearest) if names.valid.len() > FEW_KEYS => format!("unknown key `{key}`; did you mean `{nearest}`?"),
        Some(nearest) => format!("unknown key `{key}`; did you mean `{nearest}`?{valid}"),
        None => format!("unknown key `{key}`{valid}"),
    }
}

/// The key that was probably meant.
fn guess(key: &str, names: Names) -> Option<&'static str> {
    if let Some((_, ours)) = names.elsewhere.iter().find(|(other, _)| *other == key) {
        return Some(ours);
    }
    nearest(key, names.valid.iter().copied())
}

/// The word that is most like this one, if it is so alike that it was probably meant.
pub(super) fn nearest<'w>(word: &str, words: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    let likeness = |valid: &str| strsim::jaro_winkler(valid, word);
    let nearest = words.max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    nearest.filter(|nearest| likeness(nearest) >= ALIKE)
}

/// A value that is neither a list nor keys, as it is written.
pub(super) fn scalar(value: &Value) -> String {
    match value {
        Value::Bool(value) => value.to_string(),
        Value::Number(value) => value.to_string(),
        Value::String(value) => value.clone(),
        Value::Null | Value::Sequence(_) | Value::Mapping(_) | Value::Tagged(_) => "...".to_owned(),
    }
}

/// What a value is, beside what was expected: itself if it is a word or number.
pub(super) fn found(value: &Value) -> String {
    match value {
        Value::Bool(_) | Value::Number(_) | Value::String(_) => format!("`{}`", scalar(value)),
        value => kind(value).to_owned(),
    }
}

/// What kind of value it is.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Sequence(_) => "a list",
        Value::Mapping(_) => "keys with values",
        Value::Tagged(_) => "a tagged value",
    }
}
