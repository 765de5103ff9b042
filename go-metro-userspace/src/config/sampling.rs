//! `sampling`: which samples are taken where not all can be, or need be.

use std::time::Duration;

use serde::Deserialize;
use serde::de::Deserializer;
use serde_json::{Value, json};

use super::schema::Described;
use super::section::Section;
use super::values::parsed;

/// How many samples of a flow are taken where it has many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PerFlow {
    /// All.
    #[default]
    Off,
    /// One in each round trip.
    Rtt,
    /// One in each such time.
    Every(Duration),
}

impl<'de> Deserialize<'de> for PerFlow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const EXPECTED: &str = "off, 1rtt, or a time such as 100ms or 2s";
        parsed(deserializer, EXPECTED, |text| {
            let time = |digits: &str, nanos: u64| {
                let time = digits.trim().parse::<u64>().ok().filter(|number| *number > 0)?.checked_mul(nanos)?;
                Some(Self::Every(Duration::from_nanos(time)))
            };
            let every = match text.trim() {
                "off" => Some(Self::Off),
                "1rtt" => Some(Self::Rtt),
                text => match (text.strip_suffix("ms"), text.strip_suffix('s')) {
                    (Some(digits), _) => time(digits, 1_000_000),
                    (None, Some(digits)) => time(digits, 1_000_000_000),
                    (None, None) => None,
                },
            };
            every.ok_or_else(|| format!("`{text}` is not {EXPECTED}"))
        })
    }
}

impl Described for PerFlow {
    fn schema() -> Value {
        json!({"type": ["string", "boolean"], "pattern": r"^\s*(off|1rtt|[0-9]+\s*m?s)\s*$"})
    }
}

/// The mapping behind `sampling`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SamplingWanted {
    pub(super) per_flow: Option<PerFlow>,
}

impl SamplingWanted {
    /// Reads it out of the section that holds it.
    pub(super) fn read(section: &mut Section<'_, '_, '_>) -> Self {
        let wanted = section.within("sampling", schema, |mut section| {
            let per_flow = section.take("per_flow");
            section.finish();
            Self { per_flow }
        });
        let wanted = wanted.unwrap_or_default();
        let both = section.value("sides").is_some_and(|sides| sides == "both");
        if both && wanted.per_flow.is_some_and(|per_flow| per_flow != PerFlow::Off) {
            let what =
                "`sampling.per_flow` thins one side of a connection; leave it out, or set `sides` to remote or local";
            section.fault_at("sampling", what);
        }
        wanted
    }
}

fn schema() -> Value {
    let properties = json!({"per_flow": PerFlow::schema()});
    json!({"type": ["object", "null"], "properties": properties, "additionalProperties": false})
}
