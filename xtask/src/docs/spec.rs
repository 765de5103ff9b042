//! The specification of the configuration in the form of Datadog's integrations, from which their tool writes the
//! example.

use anyhow::Result;
use serde_json::{Value, json};

use super::keys::{Key, Reference};

/// Longest line of a description.
const LINE: usize = 110;

/// As YAML; JSON is YAML, and needs no serializer of its own.
pub(super) fn yaml(reference: &Reference) -> Result<String> {
    let init: Vec<Value> = reference.init_config.iter().map(|key| option(key, false)).collect();
    let required = |key: &Key| ["interface", "ips"].contains(&key.name.as_str());
    let instance: Vec<Value> = reference.instances.iter().map(|key| option(key, required(key))).collect();
    let spec = json!({
        "name": "Go-Metro",
        "files": [{
            "name": "go_metro.yaml",
            "options": [
                {"template": "init_config", "options": init},
                {"template": "instances", "options": instance},
            ],
        }],
    });
    Ok(format!("# Made by `cargo xtask docs`.\n{}\n", serde_json::to_string_pretty(&spec)?))
}

fn option(key: &Key, required: bool) -> Value {
    let mut value = json!({"type": type_of(&key.example), "example": key.example, "display_default": key.default});
    if let Some(items) = key.example.as_array() {
        value["items"] = json!({"type": items.first().map_or("string", type_of)});
    }
    if !key.within.is_empty() {
        let of_key = |key: &Key| json!({"name": key.name, "type": type_of(&key.example)});
        value["properties"] = key.within.iter().map(of_key).collect();
    }
    let within = key.within.iter().map(|key| format!(" {}: {}", key.name, key.text));
    let description = wrapped(&std::iter::once(key.text.clone()).chain(within).collect::<String>());
    json!({"name": key.name, "description": description, "required": required, "value": value})
}

/// In lines of the length that Datadog's tool allows.
fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + word.len() < LINE => {
                if !line.is_empty() {
                    line.push(' ');
                }
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
        Value::String(_) | Value::Null => "string",
    }
}
