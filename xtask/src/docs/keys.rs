//! The keys of the configuration file, as the program declares them (`go-metro config reference`).

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::Value;

/// What the program prints.
#[derive(Deserialize)]
pub(super) struct Reference {
    pub(super) init_config: Vec<Key>,
    pub(super) instances: Vec<Key>,
    /// The commented file with every key.
    pub(super) example: String,
}

/// One key.
#[derive(Deserialize)]
pub(super) struct Key {
    pub(super) name: String,
    /// The heading that begins with it, if one does.
    pub(super) heading: String,
    /// What it means.
    pub(super) text: String,
    /// What it takes.
    pub(super) takes: String,
    pub(super) default: Option<Value>,
    /// The default, or another value where there is none.
    pub(super) example: Value,
    /// What a reload does with it.
    pub(super) reload: String,
    /// The environment variables that count where the file does not set it.
    pub(super) environment: Vec<String>,
    /// Keys below it.
    pub(super) within: Vec<Key>,
}

impl Reference {
    pub(super) fn parse(text: &str) -> Result<Self> {
        serde_json::from_str(text).context("what `go-metro config reference` prints")
    }
}

/// A value as one would write it in YAML.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => format!("[{}]", values.iter().map(shown).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}
