//! A JSON schema (draft 2020-12) of the configuration file, from its declarations.

use serde_json::{Map, Value, json};

use super::declaration::{Key, Section as _};
use super::{Config, Instance};

/// The JSON schema of the whole file.
pub fn schema() -> Value {
    let instances = json!({
        "type": "array",
        "minItems": 1,
        "items": {
            "type": "object",
            "properties": properties(Instance::KEYS),
            "required": ["interface"],
            "anyOf": [{"required": ["ips"]}, {"required": ["hosts"]}],
            "additionalProperties": false,
        },
    });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "go-metro's configuration",
        "type": "object",
        "properties": {
            "init_config": {
                "description": "Settings for all instances.",
                "type": ["object", "null"],
                "properties": properties(Config::KEYS),
                "additionalProperties": false,
            },
            "instances": instances,
            "config": {"description": "An old name for `instances`.", "type": "array"},
        },
        "oneOf": [{"required": ["instances"]}, {"required": ["config"]}],
        "additionalProperties": false,
    })
}

/// Of the keys of a section.
pub(super) fn properties(keys: &[Key]) -> Map<String, Value> {
    let each = keys.iter().map(|key| {
        let mut schema = (key.schema)();
        if let Some(schema) = schema.as_object_mut() {
            schema.insert("description".to_owned(), json!(key.text()));
            if let Some(default) = key.shown_default().filter(|_| key.within.is_empty()) {
                schema.insert("default".to_owned(), default);
            }
        }
        (key.name.to_owned(), schema)
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;

    fn check(yaml: &str) -> Result<(), String> {
        let file: Value = serde_yaml::from_str(yaml).unwrap();
        let validator = jsonschema::validator_for(&schema()).unwrap();
        let wrong: Vec<String> = validator.iter_errors(&file).map(|e| format!("{}: {e}", e.instance_path())).collect();
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
    }

    /// The example, as it is and with every commented key switched on that goes with the others.
    #[test]
    fn a_validator_takes_the_example() {
        let example = example();
        check(&example).unwrap();
        let (head, tail) = example.split_once("\ninstances:").unwrap();
        let all = schema();
        let keys = all["properties"]["init_config"]["properties"].as_object().unwrap();
        let switched_on = |line: &str| match line.strip_prefix("  # ") {
            Some(setting) if setting.split(':').next().is_some_and(|key| keys.contains_key(key)) => {
                format!("  {setting}")
            }
            _ => line.to_owned(),
        };
        let head: Vec<String> = head.lines().map(switched_on).collect();
        check(&format!("{}\ninstances:{tail}", head.join("\n"))).unwrap();
    }

    #[test]
    fn a_validator_and_the_reader_refuse_the_same() {
        let instance = "instances: [{interface: lo, ips: ['::1']}]";
        for wrong in [
            "init_config: {idle_tll: 3}\ninstances: [{interface: lo, ips: ['::1']}]",
            "init_config: {backend: xdp}\ninstances: [{interface: lo, ips: ['::1']}]",
            "init_config: {snaplen: 3}\ninstances: [{interface: lo, ips: ['::1']}]",
            "init_config: {status_socket: here}\ninstances: [{interface: lo, ips: ['::1']}]",
            "init_config: {prometheus_listen: nowhere}\ninstances: [{interface: lo, ips: ['::1']}]",
            "init_config: {web_listen: nowhere}\ninstances: [{interface: lo, ips: ['::1']}]",
            "init_config: {web_history: 86401}\ninstances: [{interface: lo, ips: ['::1']}]",
            "instances: []",
            "instances: [{ips: ['::1']}]",
            "instances: [{interface: lo}]",
            "instances: [{interface: lo, ips: [somewhere]}]",
        ] {
            assert!(check(wrong).is_err(), "the schema takes {wrong}");
            let read = Config::parse(wrong, std::path::Path::new("c"), &|_| None);
            assert!(read.is_err(), "the reader takes {wrong}");
        }
        for off in ["off", "'off'", "false"] {
            check(&format!("init_config: {{web_listen: {off}, status_socket: {off}}}\n{instance}")).unwrap();
        }
    }

    #[test]
    fn every_key_is_explained_and_the_defaults_are_told() {
        let schema = schema();
        let init = schema["properties"]["init_config"]["properties"].as_object().unwrap();
        let instance = schema["properties"]["instances"]["items"]["properties"].as_object().unwrap();
        for keys in [init, instance] {
            let mut explanations = std::collections::BTreeSet::new();
            for (key, value) in keys {
                let text = value["description"].as_str().unwrap_or_default();
                assert!(text.len() > 10, "{key}: {value}");
                assert!(explanations.insert(text), "{key} is not explained by itself: {text}");
            }
        }
        assert_eq!(init["report_interval"]["default"], 30);
        assert!(
            init["sides"]["description"]
                .as_str()
                .unwrap()
                .starts_with("Which round trips to measure. remote: from here to the")
        );
    }
}
