//! `sampling`: which samples are taken where not all can be, or need be.

use std::time::Duration;

use serde_json::{Value as Json, json};
use serde_yaml::Value;

use super::declaration::{Section as _, settings};
use super::kinds::{Scalar, Wrong};
use super::section::Reader;

/// How many samples of a flow are taken where it has many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PerFlow {
    /// All.
    Off,
    /// One in each round trip.
    Rtt,
    /// One in each such time.
    Every(Duration),
}

impl Scalar for PerFlow {
    type Value = Self;

    fn parse(value: &Value) -> Result<Self, Wrong> {
        let time = |digits: &str, nanos: u64| {
            let time = digits.trim().parse::<u64>().ok().filter(|number| *number > 0)?.checked_mul(nanos)?;
            Some(Self::Every(Duration::from_nanos(time)))
        };
        let every = match value.as_str().unwrap_or_default().trim() {
            "off" => Some(Self::Off),
            "1rtt" => Some(Self::Rtt),
            text => match (text.strip_suffix("ms"), text.strip_suffix('s')) {
                (Some(digits), _) => time(digits, 1_000_000),
                (None, Some(digits)) => time(digits, 1_000_000_000),
                (None, None) => None,
            },
        };
        every.ok_or(Wrong::Other)
    }

    fn takes() -> String {
        "off, 1rtt, or a time such as 100ms or 2s".to_owned()
    }

    fn schema() -> Json {
        json!({"type": "string", "pattern": r"^\s*(off|1rtt|[0-9]+\s*m?s)\s*$"})
    }

    fn shown(value: &Self) -> Json {
        match value {
            Self::Off => "off".into(),
            Self::Rtt => "1rtt".into(),
            Self::Every(time) => format!("{}ms", time.as_millis()).into(),
        }
    }
}

/// How full the ring may be, in hundredths, before flows are thinned; none if they never are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermark(pub Option<u8>);

impl Scalar for Watermark {
    type Value = Self;

    fn parse(value: &Value) -> Result<Self, Wrong> {
        let text = value.as_str().unwrap_or_default().trim();
        let share = || text.strip_suffix('%')?.trim_end().parse().ok().filter(|share| (1..=99).contains(share));
        match text {
            "off" => Ok(Self(None)),
            _ => share().map(|share| Self(Some(share))).ok_or(Wrong::Other),
        }
    }

    fn takes() -> String {
        "off, or a share of the ring from 1% to 99%".to_owned()
    }

    fn schema() -> Json {
        json!({"type": "string", "pattern": r"^\s*(off|[1-9][0-9]?\s*%)\s*$"})
    }

    fn shown(Self(share): &Self) -> Json {
        share.map_or(json!("off"), |share| format!("{share}%").into())
    }
}

settings! {
    /// Per-flow sampling: how many samples of a flow are taken, and when.
    #[derive(Copy)]
    pub struct Thinning {
        /// Most samples to take of each flow: off (no limit), 1rtt (one per round trip), or a time such as 100ms (one
        /// in that time).
        pub per_flow: PerFlow = PerFlow::Off, on_reload ReopenFlows;

        /// How full the ring may get before long flows are thinned, until it has room again; off to lose records
        /// instead. 50% leaves half of the ring for what arrives while the daemon is not running.
        pub watermark: Watermark = Watermark(Some(50)), on_reload ReopenFlows;
    }
}

impl Thinning {
    /// Every sample is taken, and what the ring has no room for is lost.
    pub const OFF: Self = Self { per_flow: PerFlow::Off, watermark: Watermark(None) };

    fn check(self, _reader: &mut Reader<'_, '_>) {}
}

impl Default for Thinning {
    fn default() -> Self {
        Self::defaults()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Config;
    use super::*;

    fn read(init: &str) -> Result<Thinning, String> {
        let text = format!("init_config: {init}\ninstances: [{{interface: lo, ips: ['::1']}}]");
        Config::parse(&text, Path::new("c"), &|_| None).map(|config| config.sampling).map_err(|error| error.to_string())
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
