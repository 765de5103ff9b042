//! A JSON schema (draft 2020-12) of the configuration file, from what its reader asks for.
//!
//! The reader is run on nothing at all and notes each key with the type that it would be read into ([`Section`](super::section::Section));
//! each type says here what it takes. What a key means, and its default, stand in conf.yaml.example.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::error::Faults;
use super::init::InitConfig;
use super::instance::Instance;
use super::place::Place;
use super::section::Section;
use super::values::{
    AbsolutePath, AtLeast, AutoOr, AverageWanted, Backend, Bounded, BucketsWanted, Bytes, DelayedAcks, HostName,
    IngressHook, Listen, LogLevel, MetricName, Network, OutputName, PathOrOff, PortRange, Seconds, ServerHost,
    SidesWanted, Span, Text, YesNo,
};

/// A value that can say what it takes.
pub(super) trait Described {
    /// As a schema.
    fn schema() -> Value;
}

/// A schema that is not made before it is wanted.
pub(super) type Lazy = fn() -> Value;

/// What the example says of keys: what each means, and its default.
type Explained<'s> = BTreeMap<&'s str, (String, Option<Value>)>;

/// Keys whose example is no default: without them there is none.
const WITHOUT_DEFAULT: [&str; 3] = ["statsd_socket", "prometheus_listen", "filter"];

/// Of a key that is read by hand.
pub(super) fn anything() -> Value {
    json!({})
}

/// Of a list of these; nothing is an empty one.
pub(super) fn list_of<T: Described>() -> Value {
    json!({"type": ["array", "null"], "items": T::schema()})
}

/// The whole file's.
pub fn schema() -> Value {
    let nothing = serde_yaml::Value::Null;
    let mut faults = Faults::new("");
    InitConfig::read(Section::new(Place::default(), &nothing, &mut faults));
    let init = faults.take_asked();
    Instance::read(Section::new(Place::default(), &nothing, &mut faults));
    let instance = faults.take_asked();
    let (head, tail) = super::EXAMPLE.split_once("\ninstances:").unwrap_or((super::EXAMPLE, ""));
    let instances = json!({
        "type": "array",
        "minItems": 1,
        "items": {
            "type": "object",
            "properties": properties(&instance, &without_defaults(explained(tail, &names(&instance)))),
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
                "description": "What holds for all instances.",
                "type": ["object", "null"],
                "properties": properties(&init, &explained(head, &names(&init))),
                "additionalProperties": false,
            },
            "instances": instances,
            "config": {"description": "An old name of `instances`.", "type": "array"},
        },
        "oneOf": [{"required": ["instances"]}, {"required": ["config"]}],
        "additionalProperties": false,
    })
}

fn names(asked: &[(&'static str, Lazy)]) -> Vec<&'static str> {
    asked.iter().map(|(key, _)| *key).collect()
}

fn properties(asked: &[(&'static str, Lazy)], explained: &Explained<'_>) -> Map<String, Value> {
    let each = asked.iter().map(|(key, schema)| {
        let mut schema = schema();
        if let (Some(schema), Some((text, shown))) = (schema.as_object_mut(), explained.get(key)) {
            schema.insert("description".to_owned(), json!(text));
            if let Some(shown) = shown {
                schema.insert("default".to_owned(), shown.clone());
            }
        }
        ((*key).to_owned(), schema)
    });
    each.collect()
}

/// What an instance shows while commented out is an example, no default.
fn without_defaults(mut explained: Explained<'_>) -> Explained<'_> {
    explained.values_mut().for_each(|(_, shown)| *shown = None);
    explained
}

/// What the example says of each key of a section: the comment above it, which may be of several keys, and the value that it shows while
/// commented out, which is the default.
fn explained<'s>(section: &'s str, keys: &[&str]) -> Explained<'s> {
    let mut found = BTreeMap::new();
    let mut comment = String::new();
    let mut is_of_keys = false;
    for line in section.lines() {
        let bare = line.trim_start();
        let (text, is_off) = match bare.strip_prefix("# ") {
            Some(text) => (text, true),
            None => (bare.strip_prefix("- ").unwrap_or(bare), false),
        };
        // Items of a list that is commented out as a whole have keys too.
        let bare_text = text.trim_start().trim_start_matches("- ");
        let setting = bare_text.split_once(':').filter(|(_, rest)| rest.is_empty() || rest.starts_with(' '));
        match setting.filter(|(key, _)| keys.contains(key)) {
            Some((key, rest)) => {
                is_of_keys = true;
                let shown: Option<Value> = Some(rest.trim())
                    .filter(|rest| is_off && !rest.is_empty() && !WITHOUT_DEFAULT.contains(&key))
                    .and_then(|rest| serde_yaml::from_str::<Value>(rest).ok());
                // Where a key is shown twice, the first is its own place.
                found.entry(key).or_insert_with(|| (comment.trim().to_owned(), shown));
            }
            None if bare.is_empty() || bare.starts_with("# ---") => {
                comment.clear();
                is_of_keys = false;
            }
            None if is_off && !text.starts_with("  ") => {
                if is_of_keys {
                    comment.clear();
                    is_of_keys = false;
                }
                comment.push_str(text);
                comment.push(' ');
            }
            None => {}
        }
    }
    found
}

impl Described for PathBuf {
    fn schema() -> Value {
        json!({"type": ["string", "null"]})
    }
}

impl<const MIN: u64, const MAX: u64> Described for Bounded<MIN, MAX> {
    fn schema() -> Value {
        json!({"anyOf": [{"type": "integer", "minimum": MIN, "maximum": MAX}, {"type": "string", "pattern": "^\\s*[0-9]+\\s*$"}]})
    }
}

impl<const MILLISECONDS: u64> Described for AtLeast<MILLISECONDS> {
    fn schema() -> Value {
        let mut schema = Seconds::schema();
        schema["anyOf"][0] = json!({"type": "number", "minimum": MILLISECONDS as f64 / 1000.0});
        schema
    }
}

/// Types that are one of a few words.
macro_rules! words {
    ($($type:ty: $($word:literal)*;)*) => {
        $(impl Described for $type {
            fn schema() -> Value {
                json!({"enum": [$($word),*]})
            }
        })*
    };
}

words! {
    Backend: "auto" "ebpf" "pcap";
    SidesWanted: "remote" "local" "both";
    IngressHook: "tc" "xdp";
    DelayedAcks: "keep" "drop";
    AverageWanted: "mean" "smoothed";
    BucketsWanted: "fine" "coarse";
    OutputName: "statsd" "prometheus" "json";
    MetricName: "rtt" "rtt.avg" "rtt.jitter" "rtt.min" "rtt.max" "rtt.dist" "rtt.connect" "rtt.kernel" "go_metro";
    YesNo: true false "true" "false" "yes" "no" "on" "off" "y" "n";
    AutoOr: "auto" true false "true" "false" "yes" "no" "on" "off" "y" "n";
    LogLevel: "trace" "debug" "info" "warning" "warn" "error" "err" "critical" "crit";
}

/// Types that are any value of a few kinds.
macro_rules! kinds {
    ($($type:ty: $schema:tt;)*) => {
        $(impl Described for $type {
            fn schema() -> Value {
                json!($schema)
            }
        })*
    };
}

kinds! {
    Seconds: {"anyOf": [
        {"type": "number", "exclusiveMinimum": 0},
        {"type": "string", "pattern": "^\\s*[0-9.]+\\s*(ms|s|sec|m|min|h|d)?\\s*$"}
    ]};
    Span: {"anyOf": [
        {"type": "number", "minimum": 0},
        {"type": "string", "pattern": "^\\s*[0-9.]+\\s*(ms|s|sec|m|min|h|d)?\\s*$"}
    ]};
    PortRange: {"anyOf": [
        {"type": "integer", "minimum": 1, "maximum": 65535},
        {"type": "string", "pattern": "^\\s*[0-9]+\\s*(-\\s*[0-9]+\\s*)?$"}
    ]};
    Bytes: {"anyOf": [
        {"type": "integer", "minimum": 1, "maximum": 4_294_967_295_u32},
        {"type": "string", "pattern": "^[0-9]+ ?(B|k|K|KiB|M|MiB|G|GiB)?$"}
    ]};
    Text: {"type": ["string", "integer", "boolean"]};
    ServerHost: {"type": "string", "minLength": 1};
    AbsolutePath: {"type": "string", "pattern": "^/"};
    PathOrOff: {"anyOf": [{"type": "string", "pattern": "^(/.*|off|no|false)$"}, {"const": false}]};
    Listen: {"type": "string", "pattern": ":[0-9]+$"};
    Network: {"type": "string", "pattern": "^[0-9a-fA-F:.]+(/[0-9]+)?$"};
    HostName: {"type": "string", "minLength": 1, "maxLength": 254};
}

#[cfg(test)]
mod tests {
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
        check(super::super::EXAMPLE).unwrap();
        let (head, tail) = super::super::EXAMPLE.split_once("\ninstances:").unwrap();
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
            "instances: []",
            "instances: [{ips: ['::1']}]",
            "instances: [{interface: lo}]",
            "instances: [{interface: lo, ips: [somewhere]}]",
        ] {
            assert!(check(wrong).is_err(), "the schema takes {wrong}");
            let read = super::super::Config::parse(wrong, std::path::Path::new("c"), &|_| None);
            assert!(read.is_err(), "the reader takes {wrong}");
        }
        check(instance).unwrap();
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
        assert!(init["sides"]["description"].as_str().unwrap().starts_with("remote: from here to the remote end"));
    }
}
