//! What the documentation is made from: every key with all that its declaration says.

use serde_json::{Value, json};

use super::declaration::{Key, Section as _};
use super::{Config, Instance, example};

/// Every key of both sections, and the example.
pub fn reference() -> Value {
    let keys = |keys: &[Key]| -> Value { keys.iter().map(described).collect() };
    json!({"init_config": keys(Config::KEYS), "instances": keys(Instance::KEYS), "example": example()})
}

fn described(key: &Key) -> Value {
    json!({
        "name": key.name,
        "heading": key.heading,
        "text": key.text(),
        "takes": (key.takes)(),
        "default": key.shown_default(),
        "example": key.shown(),
        "reload": key.reload.words(),
        "environment": key.environment,
        "within": key.within.iter().map(described).collect::<Vec<_>>(),
    })
}
