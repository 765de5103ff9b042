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

/// How full the ring may be, in hundredths, before flows are thinned by themselves; none if they never are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermark(pub Option<u8>);

impl Default for Watermark {
    /// Half: what comes while the daemon does not get to run finds as much room again.
    fn default() -> Self {
        Self(Some(50))
    }
}

impl<'de> Deserialize<'de> for Watermark {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const EXPECTED: &str = "off, or a share of the ring from 1% to 99%";
        parsed(deserializer, EXPECTED, |text| {
            let share =
                |text: &str| text.strip_suffix('%')?.trim_end().parse().ok().filter(|share| (1..=99).contains(share));
            match text.trim() {
                "off" => Ok(Self(None)),
                text => share(text).map(|share| Self(Some(share))).ok_or_else(|| format!("`{text}` is not {EXPECTED}")),
            }
        })
    }
}

/// Which samples are not taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Thinning {
    /// At any time.
    pub per_flow: PerFlow,
    /// When the ring runs full.
    pub watermark: Watermark,
}

impl Thinning {
    /// Every sample is taken, and what the ring has no room for is lost.
    pub const OFF: Self = Self { per_flow: PerFlow::Off, watermark: Watermark(None) };
}

impl Described for Watermark {
    fn schema() -> Value {
        json!({"type": "string", "pattern": r"^\s*(off|[1-9][0-9]?\s*%)\s*$"})
    }
}

impl Described for PerFlow {
    fn schema() -> Value {
        json!({"type": "string", "pattern": r"^\s*(off|1rtt|[0-9]+\s*m?s)\s*$"})
    }
}

/// The mapping behind `sampling`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SamplingWanted {
    per_flow: Option<PerFlow>,
    watermark: Option<Watermark>,
}

impl SamplingWanted {
    /// Reads it out of the section that holds it.
    pub(super) fn read(section: &mut Section<'_, '_, '_>) -> Self {
        if let Some(text) = section.value("sampling").and_then(serde_yaml::Value::as_str) {
            section.fault_in("sampling", &format!("has keys; write `sampling: {{per_flow: {text}}}`"));
            return Self::default();
        }
        let wanted = section.within("sampling", schema, |mut section| {
            let wanted = Self { per_flow: section.take("per_flow"), watermark: section.take("watermark") };
            section.finish();
            wanted
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

    /// With the defaults.
    pub(super) fn thinning(self) -> Thinning {
        let Self { per_flow, watermark } = self;
        Thinning { per_flow: per_flow.unwrap_or_default(), watermark: watermark.unwrap_or_default() }
    }
}

fn schema() -> Value {
    let properties = json!({"per_flow": PerFlow::schema(), "watermark": Watermark::schema()});
    json!({"type": ["object", "null"], "properties": properties, "additionalProperties": false})
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Config;
    use super::*;

    fn read(init: &str) -> Result<Thinning, String> {
        let text = format!("init_config: {init}\ninstances: [{{interface: lo, ips: ['::1']}}]");
        Config::parse(&text, Path::new("c"), &|_| None).map(|config| config.thinning).map_err(|error| error.to_string())
    }

    #[test]
    fn samples_are_left_out_where_that_is_said_or_when_the_ring_is_half_full() {
        let of = |per_flow, watermark| Ok(Thinning { per_flow, watermark: Watermark(watermark) });
        assert_eq!(read("{}"), of(PerFlow::Off, Some(50)));
        assert_eq!(read("{sampling: {per_flow: 1rtt}}"), of(PerFlow::Rtt, Some(50)));
        let every = PerFlow::Every(Duration::from_millis(100));
        assert_eq!(read("{sampling: {per_flow: 100ms, watermark: 80 %}}"), of(every, Some(80)));
        assert_eq!(read("{sampling: {watermark: off}}"), Ok(Thinning::OFF));
    }

    #[test]
    fn what_cannot_be_is_refused_at_its_place() {
        for (wrong, place) in [
            ("{sampling: {per_flow: 0ms}}", "sampling.per_flow"),
            ("{sampling: {per_flow: often}}", "sampling.per_flow"),
            ("{sampling: {watermark: 100%}}", "sampling.watermark"),
            ("{sampling: {watermark: 50}}", "sampling.watermark"),
            ("{sampling: {watermarks: 50%}}", "did you mean `watermark`"),
            ("{sides: both, sampling: {per_flow: 1rtt}}", "one side"),
        ] {
            let error = read(wrong).unwrap_err();
            assert!(error.contains(place), "{wrong}: {error}");
        }
    }
}
