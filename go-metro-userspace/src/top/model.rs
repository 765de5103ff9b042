//! What was measured since the view was opened: pairs and flows, each with its statistics and its last two minutes.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use crate::report;
use crate::rtt::{Figure, PairSummary, Stats};
use crate::status::Live;
use crate::status::live::{Counters, LiveFlow};
use crate::terminal::printable;

/// Seconds of history.
pub(super) const HISTORY: usize = 120;
/// Rows of each kind; beyond them those that were silent longest go.
const MOST_ROWS: usize = 8192;

/// What a row is of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct RowKey {
    pub(super) dst: String,
    pub(super) src: String,
    pub(super) iface: String,
    pub(super) to_local: bool,
}

/// One pair, or one flow.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    pub(super) summary: PairSummary,
    /// The sum of each second's samples in milliseconds and how many there were, newest last.
    history: VecDeque<(f64, u64)>,
    /// The second of the newest entry.
    newest: u64,
    /// The columns of numbers ([`report::fit::NUMBERS`]), made once a second and not for each frame.
    pub(super) figures: Option<[Figure; 8]>,
}

impl Row {
    /// Its statistics: of data, or of handshakes if there is nothing else.
    pub(super) fn stats(&self) -> Option<&Stats> {
        self.summary.data.as_ref().or(self.summary.connect.as_ref())
    }

    /// Whether it only shook hands.
    pub(super) fn is_connect(&self) -> bool {
        self.summary.data.is_none()
    }

    /// The mean of each of the last `seconds`, the newest last, as of second `now`.
    pub(super) fn history(&self, now: u64, seconds: usize) -> Vec<Option<f64>> {
        let silent = usize::try_from(now.saturating_sub(self.newest)).unwrap_or(usize::MAX).min(seconds);
        let mean = |(sum, count): &(f64, u64)| (*count > 0).then(|| sum / *count as f64);
        let known = self.history.iter().rev().map(mean).chain(std::iter::repeat(None));
        let mut newest_first: Vec<Option<f64>> = std::iter::repeat_n(None, silent).chain(known).take(seconds).collect();
        newest_first.reverse();
        newest_first
    }

    fn add(&mut self, second: u64, summary: &PairSummary) {
        if self.newest != second || self.history.is_empty() {
            let gap = if self.history.is_empty() { 1 } else { second - self.newest };
            for _ in 0..gap.min(HISTORY as u64) {
                self.history.push_back((0.0, 0));
            }
            self.history.drain(..self.history.len().saturating_sub(HISTORY));
            self.newest = second;
        }
        let stats = summary.data.as_ref().or(summary.connect.as_ref());
        // Several flows of a pair in one second come one by one.
        if let (Some((sum, count)), Some(stats)) = (self.history.back_mut(), stats) {
            *sum += stats.sum_seconds() * 1e3;
            *count += stats.count();
        }
        self.summary.merge(summary);
        self.figures = self.stats().map(|stats| report::columns(stats, stats.mean_ms()));
    }

    /// Takes another row in, from before this one's name was known.
    fn join(&mut self, earlier: Self) {
        let Self { summary, history, newest, .. } = earlier;
        if self.history.is_empty() {
            (self.history, self.newest) = (history, newest);
        }
        let mut whole = summary;
        whole.merge(&self.summary);
        self.summary = whole;
        self.figures = self.stats().map(|stats| report::columns(stats, stats.mean_ms()));
    }
}

/// Everything.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub(super) pairs: HashMap<RowKey, Row>,
    pub(super) flows: HashMap<RowKey, Row>,
    pub(super) counters: Counters,
    /// Packets and samples a second, of the last one.
    pub(super) rates: (f64, f64),
    pub(super) backend: String,
    pub(super) interfaces: Vec<String>,
    pub(super) program: String,
    /// How many seconds came.
    pub(super) second: u64,
    /// What addresses are called since their names arrived.
    pub(super) names: HashMap<IpAddr, String>,
    /// Whether names are left out.
    pub(super) shows_addresses: bool,
}

impl Model {
    /// Adds a second. Rows whose name has just arrived go by it from now on: their keys before and after.
    pub(super) fn add(&mut self, live: &Live) -> Vec<(RowKey, RowKey)> {
        self.second += 1;
        let before = std::mem::replace(&mut self.counters, live.counters);
        if self.second > 1 && live.interval_s > 0.0 {
            let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / live.interval_s;
            self.rates = (rate(live.counters.packets, before.packets), rate(live.counters.samples, before.samples));
        }
        // What a daemon and its name server say is shown as it may be.
        let shown = |text: &String| printable(text).into_owned();
        self.backend = shown(&live.backend);
        self.interfaces = live.interfaces.iter().map(shown).collect();
        self.program = shown(&live.program);
        let mut renamed = Vec::new();
        if self.names.len() > MOST_ROWS {
            self.names.clear();
        }
        for flow in &live.flows {
            let (address, port) = (flow.remote.ip(), flow.remote.port());
            let key =
                |src: String, dst: String| RowKey { src, dst, iface: shown(&flow.iface), to_local: flow.to_local };
            let keys = |name: Option<&str>| {
                let bare = name.map_or_else(|| address.to_string(), str::to_owned);
                let with_port = name.map_or_else(|| flow.remote.to_string(), |name| format!("{name}:{port}"));
                (key(flow.local.ip().to_string(), bare), key(flow.local.to_string(), with_port))
            };
            let name = printable(&flow.name);
            let is_new = self.names.get(&address).is_none_or(|known| *known != name);
            if !self.shows_addresses && is_new && name != address.to_string() {
                self.names.insert(address, name.into_owned());
            }
            let name = self.names.get(&address).map(String::as_str);
            let (pair, one) = keys(name);
            if name.is_some() {
                let (bare_pair, bare_one) = keys(None);
                for (rows, bare, now) in [(&mut self.pairs, bare_pair, &pair), (&mut self.flows, bare_one, &one)] {
                    if let Some(earlier) = rows.remove(&bare) {
                        rows.entry(now.clone()).or_default().join(earlier);
                        renamed.push((bare, now.clone()));
                    }
                }
            }
            add(&mut self.pairs, pair, self.second, flow);
            add(&mut self.flows, one, self.second, flow);
        }
        renamed
    }

    /// Begins anew, but for the daemon's own counters.
    pub(super) fn clear(&mut self) {
        self.pairs.clear();
        self.flows.clear();
    }
}

fn add(rows: &mut HashMap<RowKey, Row>, key: RowKey, second: u64, flow: &LiveFlow) {
    if !rows.contains_key(&key) && rows.len() >= MOST_ROWS {
        let silent = rows.iter().min_by_key(|(_, row)| row.newest).map(|(key, _)| key.clone());
        silent.and_then(|key| rows.remove(&key));
    }
    rows.entry(key).or_default().add(second, &flow.summary);
}

/// How many values lie between each two of `bins` + 1 even bounds from the smallest to the 99th percentile, and above: told by the quantiles, so
/// within a few per cent.
pub(super) fn distribution(stats: &Stats, bins: usize) -> (Vec<(f64, f64, u64)>, u64) {
    const STEPS: usize = 400;
    let least = stats.min().as_millis_f64();
    let shares: [f64; STEPS] = std::array::from_fn(|step| (step as f64 + 0.5) / STEPS as f64);
    let values = stats.course(shares);
    let [p99] = stats.course([0.99]);
    let (low, high) = (least, p99.max(least * 1.001));
    let width = (high - low) / bins as f64;
    let mut counts = vec![0_usize; bins + 1];
    for value in values {
        let bin = ((value - low) / width).max(0.0) as usize;
        counts[if value > high { bins } else { bin.min(bins - 1) }] += 1;
    }
    let scaled = |count: usize| (count as u64 * stats.count()).div_ceil(STEPS as u64);
    let above = scaled(counts[bins]);
    let each = counts[..bins].iter().enumerate();
    (each.map(|(k, count)| (low + k as f64 * width, low + (k + 1) as f64 * width, scaled(*count))).collect(), above)
}
