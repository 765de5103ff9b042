//! What `go-metro config schema` says of each key, in the order of conf.yaml.example.

use std::fs;

use anyhow::{Context as _, Result};
use serde_json::Value;

use testing_support::workspace::root;

/// The keys of a file.
pub(super) struct Schema {
    pub(super) init_config: Vec<Key>,
    pub(super) instance: Vec<Key>,
}

/// One key.
pub(super) struct Key {
    pub(super) name: String,
    /// The heading that it stands under in the example; none in an instance.
    pub(super) section: String,
    pub(super) description: String,
    pub(super) default: Option<Value>,
    /// What it takes.
    pub(super) takes: Takes,
}

/// What a key takes, as far as a reader wants to know.
pub(super) enum Takes {
    YesNo,
    OneOf(Vec<String>),
    Seconds,
    Number {
        least: Option<u64>,
        most: Option<u64>,
    },
    Bytes,
    Text,
    /// A list of these.
    List(Box<Takes>),
    /// Keys of its own, each with text.
    Keys(Vec<String>),
}

impl Schema {
    /// Reads what the program printed.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let schema: Value = serde_json::from_str(text)?;
        let example = fs::read_to_string(root().join("conf.yaml.example"))?;
        let (head, tail) = example.split_once("\ninstances:").context("no instances in the example")?;
        let keys = |properties: &Value, example: &str| -> Result<Vec<Key>> {
            let properties = properties.as_object().context("no properties")?;
            let mut keys: Vec<(usize, Key)> = Vec::new();
            for (name, schema) in properties {
                let (at, section) = place(name, example).with_context(|| format!("{name} is not in the example"))?;
                let description = schema["description"].as_str().unwrap_or_default().to_owned();
                let default = schema.get("default").cloned();
                let key = Key { name: name.clone(), section, description, default, takes: Takes::of(schema) };
                keys.push((at, key));
            }
            keys.sort_by_key(|(at, _)| *at);
            Ok(keys.into_iter().map(|(_, key)| key).collect())
        };
        let instances = &schema["properties"]["instances"]["items"]["properties"];
        Ok(Self {
            init_config: keys(&schema["properties"]["init_config"]["properties"], head)?,
            instance: keys(instances, tail)?,
        })
    }
}

/// The line on which the example shows a key, and the heading above it.
fn place(key: &str, example: &str) -> Option<(usize, String)> {
    let mut section = String::new();
    for (number, line) in example.lines().enumerate() {
        if let Some(heading) = line.trim_start().strip_prefix("# --- ") {
            section = heading.trim_end_matches('-').trim().to_owned();
        }
        let bare = line.trim_start_matches(['#', ' ', '-']);
        if bare.strip_prefix(key).is_some_and(|rest| rest.starts_with(':')) {
            return Some((number, section));
        }
    }
    None
}

impl Takes {
    fn of(schema: &Value) -> Self {
        // What is also taken as text is of the first kind.
        let first = schema["anyOf"].get(0).unwrap_or(schema);
        if let Some(values) = first["enum"].as_array() {
            if values.contains(&Value::Bool(true)) {
                let others = values.iter().filter_map(Value::as_str).filter(|word| *word == "auto");
                let others: Vec<String> = others.map(str::to_owned).collect();
                return if others.is_empty() {
                    Self::YesNo
                } else {
                    Self::OneOf([others, vec!["true".to_owned(), "false".to_owned()]].concat())
                };
            }
            return Self::OneOf(values.iter().filter_map(Value::as_str).map(str::to_owned).collect());
        }
        let also_as_text = schema["anyOf"][1]["pattern"].as_str().unwrap_or_default();
        if !first["items"].is_null() {
            return Self::List(Box::new(Self::of(&first["items"])));
        }
        if let Some(keys) = first["properties"].as_object() {
            return Self::Keys(keys.keys().cloned().collect());
        }
        match first["type"].as_str() {
            Some("integer") if also_as_text.contains("MiB") => Self::Bytes,
            Some("integer") => Self::Number { least: first["minimum"].as_u64(), most: first["maximum"].as_u64() },
            Some("number") => Self::Seconds,
            _ => Self::Text,
        }
    }

    /// For a table.
    pub(super) fn words(&self) -> String {
        match self {
            Self::YesNo => "true or false".to_owned(),
            Self::OneOf(values) => values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", "),
            Self::Seconds => "seconds".to_owned(),
            Self::Number { least: Some(least), most: Some(most) } => format!("{least} to {most}"),
            Self::Number { .. } => "a number".to_owned(),
            Self::Bytes => "bytes, or with `KiB`, `MiB`, `GiB`".to_owned(),
            Self::Text => "text".to_owned(),
            Self::Keys(keys) => {
                format!("a section with {}", keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", "))
            }
            Self::List(of) => format!("list of {}", of.words()),
        }
    }
}
