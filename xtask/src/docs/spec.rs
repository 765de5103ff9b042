//! The specification of the configuration in the form of Datadog's integrations, from which their tool writes the
//! example.

use anyhow::Result;
use serde_json::{Value, json};

use super::schema::{Key, Schema, Takes};

/// Longest line of a description.
const LINE: usize = 110;

/// As YAML; JSON is YAML, and wants no serializer of its own.
pub(super) fn yaml(schema: &Schema) -> Result<String> {
    let init: Vec<Value> = schema.init_config.iter().map(|key| option(key, false)).collect();
    let instance: Vec<Value> =
        schema.instance.iter().map(|key| option(key, ["interface", "ips"].contains(&key.name.as_str()))).collect();
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
    let mut value = json!({"type": of_type(&key.takes)});
    if let Takes::List(of) = &key.takes {
        value["items"] = json!({"type": of_type(of)});
    }
    if let Takes::Keys(keys) = &key.takes {
        value["properties"] = keys.iter().map(|key| json!({"name": key, "type": "string"})).collect();
    }
    let as_type = |shown: Value| if value["type"] == "string" { json!(super::reference::shown(&shown)) } else { shown };
    let (shown, default) =
        (as_type(key.default.clone().unwrap_or_else(|| example(key))), key.default.clone().map(as_type));
    value["example"] = shown;
    value["display_default"] = default.unwrap_or(Value::Null);
    let description = wrapped(&key.description);
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

fn of_type(takes: &Takes) -> &'static str {
    match takes {
        Takes::YesNo => "boolean",
        Takes::Seconds | Takes::Number { .. } => "number",
        Takes::List(_) => "array",
        Takes::Keys(_) => "object",
        Takes::OneOf(_) | Takes::Bytes | Takes::Text => "string",
    }
}

/// Of a key without a default: something that could stand there.
fn example(key: &Key) -> Value {
    match (key.name.as_str(), &key.takes) {
        ("interface", _) => json!("eth0"),
        ("ips", _) => json!(["10.0.0.0/8"]),
        ("hosts", _) => json!(["db.example.org"]),
        ("tags", _) => json!(["env:prod"]),
        ("statsd_socket", _) => json!("/var/run/datadog/dsd.socket"),
        ("prometheus_listen", _) => json!("127.0.0.1:9464"),
        ("filter", _) => json!("tcp"),
        ("pcap", _) => json!("/tmp/capture.pcap"),
        (_, Takes::Keys(keys)) => {
            keys.iter().map(|key| (key.clone(), json!("off"))).collect::<serde_json::Map<_, _>>().into()
        }
        (_, Takes::YesNo) => json!(false),
        (_, Takes::Seconds | Takes::Number { .. }) => json!(10),
        (_, Takes::OneOf(values)) => json!(values.first()),
        (_, Takes::List(_)) => json!([]),
        (_, Takes::Bytes | Takes::Text) => json!(""),
    }
}
