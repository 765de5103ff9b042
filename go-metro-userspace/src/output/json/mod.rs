//! JSON lines: one object per pair and interval, and one for the agent's health.
//!
//! ```json
//! {"time_ns":1700000000000000000,"interval_s":30.0,"src":"10.0.0.1","dst":"db.example","iface":"eth0",
//!  "tags":["env:test"],
//!  "data":{"count":3,"last_ms":21.385,"avg_ms":21.6,"jitter_ms":2.8,"min_ms":20.0,"p50_ms":21.4,"p95_ms":23.5,
//!  "p99_ms":23.5,"max_ms":23.5},
//!  "connect":null}
//! {"time_ns":1700000000000000000,"interval_s":30.0,"backend":"ebpf","health":{"packets":100,"records":90,"lost":0}}
//! ```
//!
//! Where the local side is measured too, a pair has `"side":"remote"` or `"side":"local"` behind its `iface`; where the
//! kernel's own RTT is asked for, `"kernel":{"sockets":1,"srtt_ms":21.9,"min_ms":20.1,"host_ms":0.3}` behind `connect`,
//! of this host's sockets between the two; `host_ms` is `srtt_ms` less the mean of `data`.
//! `metrics: [default, base, health]` adds `"base_ms":20.0,"queueing_ms":1.4` and
//! `"peer":{"segments":9,"bytes":9000,"retransmits":{"syn":0,"timeout":0,"fast":1,"tail_probe":0,"unknown":0},
//! "spurious_retransmits":0,"connects":{"established":{"client":1,"server":0},"refused":{…},…},
//! "resets":{"local":0,"remote":0},"closes":1,"zero_window_ms":0,"ece":0}`, with `"incomplete":true` where records are
//! missing. `metrics: [default, response]` adds `"response":{"count":3,…}`, like `data`.
//!
//! `jitter_ms` is null where there is a single sample, `queueing_ms` where there is a base and no sample. `time_ns` is
//! the end of the interval, in nanoseconds since the epoch. Field names are kept from version to version.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::UNIX_EPOCH;

use go_metro_common::metric;
use go_metro_rtt::{PeerHealth, Rtt, Side, Stats};
use serde::ser::{Serialize, SerializeMap as _, Serializer};

use super::{NamedPair, Report, figures};
use crate::metrics::pair::{PEER, host_ms, queueing_ms};
use crate::metrics::{self, Health};
use crate::output::printer::Print;
use crate::terminal::{Spelling, shared_stdout};

/// Writes reports as JSON lines.
pub struct Json {
    out: Box<dyn Write + Send>,
}

#[derive(serde::Serialize)]
struct PairLine<'a> {
    // A capture has no intervals.
    #[serde(skip_serializing_if = "Option::is_none")]
    time_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interval_s: Option<f64>,
    src: &'a str,
    dst: &'a str,
    iface: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    side: Option<&'static str>,
    tags: &'a [String],
    data: Option<Series>,
    connect: Option<Series>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel: Option<Kernel>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base_ms: Option<f64>,
    /// Null where there is a base and no sample.
    #[serde(skip_serializing_if = "Option::is_none")]
    queueing_ms: Option<Option<f64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<Series>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<Peer>,
}

/// How a pair's connections did: counts by name, and those with labels below each.
struct Peer(PeerHealth);

impl Serialize for Peer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for metric in PEER {
            let mut all = serde_json::Value::Null;
            for (labels, count) in (metric.values)(&self.0) {
                let place = labels.iter().fold(&mut all, |place, (_, value)| &mut place[*value]);
                *place = count.into();
            }
            map.serialize_entry(&metric.json_name(), &all)?;
        }
        if self.0.incomplete {
            map.serialize_entry("incomplete", &true)?;
        }
        map.end()
    }
}

#[derive(serde::Serialize)]
struct Kernel {
    sockets: u64,
    srtt_ms: f64,
    min_ms: Option<f64>,
    host_ms: Option<f64>,
}

#[derive(serde::Serialize)]
struct Series {
    count: u64,
    last_ms: f64,
    avg_ms: f64,
    /// None of a single sample.
    jitter_ms: Option<f64>,
    min_ms: f64,
    p50_ms: f64,
    p95_ms: f64,
    p99_ms: f64,
    max_ms: f64,
}

#[derive(serde::Serialize)]
struct HealthLine<'a> {
    time_ns: u64,
    interval_s: f64,
    backend: &'a str,
    health: HealthFields<'a>,
}

/// The daemon's own numbers, each as its declaration has it.
struct HealthFields<'a>(&'a Health);

impl Serialize for HealthFields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for reading in metrics::readings(self.0) {
            let Some(name) = metrics::json_name(reading.meta) else { continue };
            if reading.meta.labels.is_empty() || reading.meta.json == metric::Json::Total {
                map.serialize_entry(&name, &reading.total())?;
            } else {
                map.serialize_entry(&name, &reading.by_label().collect::<BTreeMap<_, _>>())?;
            }
        }
        map.end()
    }
}

impl<'a> From<&'a NamedPair> for PairLine<'a> {
    fn from(pair: &'a NamedPair) -> Self {
        Self {
            time_ns: None,
            interval_s: None,
            src: &pair.src,
            dst: &pair.dst,
            iface: &pair.iface,
            side: pair.side.map(Side::name),
            tags: &pair.tags,
            data: pair.summary.data.as_ref().map(Series::from),
            connect: pair.summary.connect.as_ref().map(Series::from),
            kernel: pair.kernel.map(|kernel| Kernel {
                sockets: kernel.sockets(),
                srtt_ms: kernel.srtt_ms(),
                min_ms: kernel.min_ms(),
                host_ms: pair.summary.data.as_ref().map(|data| host_ms(&kernel, data)),
            }),
            base_ms: pair.base.map(Rtt::as_millis_f64),
            queueing_ms: pair.base.map(|base| queueing_ms(base, pair.summary.data.as_ref())),
            response: pair.summary.response.as_ref().map(Series::from),
            peer: pair.summary.health.as_deref().map(|health| Peer(*health)),
        }
    }
}

/// Writes each pair of a capture as a line.
///
/// # Errors
///
/// What writing fails with.
pub fn write_pairs(out: &mut impl Write, pairs: &[NamedPair]) -> io::Result<()> {
    for pair in pairs {
        serde_json::to_writer(&mut *out, &PairLine::from(pair))?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

impl From<&Stats> for Series {
    fn from(stats: &Stats) -> Self {
        let figures = figures(stats, stats.average_ms()).map(|figure| figure.ms);
        let [last_ms, avg_ms, min_ms, p50_ms, p95_ms, p99_ms, max_ms] = figures;
        let (count, jitter_ms) = (stats.count(), stats.jitter_ms());
        Self { count, last_ms, avg_ms, jitter_ms, min_ms, p50_ms, p95_ms, p99_ms, max_ms }
    }
}

impl Json {
    /// On standard output.
    pub fn open() -> Self {
        Self::new(Box::new(shared_stdout(Spelling::Json)))
    }

    /// Writes to `out`, one flush a report.
    pub fn new(out: Box<dyn Write + Send>) -> Self {
        Self { out }
    }
}

impl Print for Json {
    fn report(&mut self, report: &Report) -> io::Result<()> {
        let since_epoch = report.at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let time_ns = u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX);
        let interval_s = report.interval.as_secs_f64();
        let mut lines = Vec::new();
        for pair in &report.pairs {
            let line = PairLine { time_ns: Some(time_ns), interval_s: Some(interval_s), ..PairLine::from(pair) };
            serde_json::to_writer(&mut lines, &line)?;
            lines.push(b'\n');
        }
        let health = HealthFields(&report.health);
        serde_json::to_writer(&mut lines, &HealthLine { time_ns, interval_s, backend: report.backend, health })?;
        lines.push(b'\n');
        self.out.write_all(&lines)?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::super::NamedPair;
    use super::super::examples::{pair, report};
    use super::*;
    use crate::metrics::pair::KernelRtt;
    use go_metro_rtt::{Rejection, Rtt};

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn each_pair_and_the_health_are_a_line() {
        let out = Shared::default();
        let mut example = report(vec![pair("db\"1", &[20_000, 23_500], &[])]);
        example.health.engine.rejected[Rejection::Hole as usize] = 4;
        Json::new(Box::new(out.clone())).report(&example).unwrap();
        let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["time_ns"], 1_700_000_000_000_000_000_u64);
        assert_eq!(lines[0]["dst"], "db\"1");
        assert_eq!(lines[0]["data"]["count"], 2);
        assert_eq!(lines[0]["data"]["jitter_ms"], 3.5);
        assert!(lines[0]["connect"].is_null());
        assert!(lines[0].get("side").is_none() && lines[0].get("kernel").is_none());
        assert_eq!(lines[1]["health"]["rejected"]["hole"], 4);
    }

    #[test]
    fn what_is_counted_of_connections_is_below_peer_and_says_if_something_is_missing() {
        use super::super::examples::counted;
        let out = Shared::default();
        let mut db = counted("db", &[20_000]);
        db.summary.health.as_mut().unwrap().incomplete = true;
        let example = report(vec![db, pair("a", &[300], &[])]);
        Json::new(Box::new(out.clone())).report(&example).unwrap();
        let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let peer = serde_json::json!({
            "segments": 800, "bytes": 1_000_000,
            "retransmits": {"syn": 0, "timeout": 0, "fast": 5, "tail_probe": 2, "unknown": 0},
            "spurious_retransmits": 1,
            "connects": {
                "established": {"client": 4, "server": 0}, "refused": {"client": 2, "server": 0},
                "timeout": {"client": 0, "server": 0}, "reset": {"client": 0, "server": 0}
            },
            "resets": {"local": 0, "remote": 1}, "closes": 3, "zero_window_ms": 250, "ece": 4, "incomplete": true
        });
        assert_eq!(lines[0]["peer"], peer);
        assert_eq!((&lines[0]["base_ms"], &lines[0]["queueing_ms"]), (&18.0.into(), &2.0.into()));
        assert!(["peer", "base_ms", "queueing_ms"].iter().all(|name| lines[1].get(*name).is_none()), "{text}");
        let silent = serde_json::to_value(PairLine::from(&counted("db", &[]))).unwrap();
        assert!(silent["data"].is_null() && silent["base_ms"].is_number(), "{silent}");
        assert_eq!(silent.get("queueing_ms"), Some(&serde_json::Value::Null), "{silent}");
    }

    #[test]
    fn whose_delay_it_is_is_told_where_responses_are_timed() {
        let line = |pair: &NamedPair| serde_json::to_value(PairLine::from(pair)).unwrap();
        let mut db = super::super::examples::responding("db", &[20_000], &[5_000, 7_000]);
        let told = line(&db);
        assert_eq!((&told["response"]["count"], &told["response"]["max_ms"]), (&2.into(), &7.0.into()));
        db.kernel = Some(KernelRtt::of(Rtt(20_300_000), None));
        assert_eq!(line(&db)["kernel"]["host_ms"], 0.3);
        assert!(line(&pair("a", &[300], &[])).get("response").is_none());
    }

    #[test]
    fn a_pair_tells_its_side_and_the_kernels_word_where_they_are_known() {
        let out = Shared::default();
        let kernel = Some(KernelRtt::of(Rtt(21_900_000), None));
        let local = NamedPair { side: Some(Side::Local), kernel, ..pair("db", &[300], &[]) };
        Json::new(Box::new(out.clone())).report(&report(vec![local])).unwrap();
        let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert!(line["data"].as_object().unwrap()["jitter_ms"].is_null(), "{line}");
        assert_eq!(line["side"], "local");
        let kernel = serde_json::json!({"sockets": 1, "srtt_ms": 21.9, "min_ms": null, "host_ms": 21.6});
        assert_eq!(line["kernel"], kernel);
    }
}
