//! What was measured since the view was opened: pairs and flows, each with its statistics and its last two minutes, and
//! how the connections of each pair did.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use go_metro_rtt::{Figure, PairSummary, PeerHealth, Rtt, Stats};

use crate::daemon::{self, Lowest};
use crate::output;
use crate::output::naming::{OTHER, with_service};
use crate::status::Live;
use crate::status::live::{Counters, LivePair};
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

/// What a second had.
#[derive(Clone, Copy, Debug, Default)]
struct Second {
    /// The sum of the samples, in milliseconds.
    sum: f64,
    /// How many samples.
    count: u64,
    /// Segments that were retransmitted.
    resent: u64,
}

/// One pair, or one flow.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    pub(super) summary: PairSummary,
    /// Each second, newest last.
    history: VecDeque<Second>,
    /// The second of the newest entry.
    newest: u64,
    lowest: Option<Lowest>,
    /// The lowest round trip of the last ten minutes, as far as they were watched.
    pub(super) base: Option<Rtt>,
    /// The columns of numbers ([`output::fit::NUMBERS`]), made once a second and not for each frame.
    pub(super) figures: Option<[Option<Figure>; 8]>,
    /// The median of the other end's responses, made as often.
    pub(super) response: Option<Figure>,
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
        self.seconds(now, seconds, |second| (second.count > 0).then(|| second.sum / second.count as f64))
    }

    /// The same of how many segments were retransmitted.
    pub(super) fn resent(&self, now: u64, seconds: usize) -> Vec<u64> {
        self.seconds(now, seconds, |second| second.resent)
    }

    fn seconds<T: Clone + Default>(&self, now: u64, seconds: usize, of: impl Fn(&Second) -> T) -> Vec<T> {
        let silent = usize::try_from(now.saturating_sub(self.newest)).unwrap_or(usize::MAX).min(seconds);
        let known = self.history.iter().rev().map(of).chain(std::iter::repeat(T::default()));
        let mut newest_first: Vec<T> = std::iter::repeat_n(T::default(), silent).chain(known).take(seconds).collect();
        newest_first.reverse();
        newest_first
    }

    fn add(&mut self, second: u64, summary: &PairSummary) {
        if self.newest != second || self.history.is_empty() {
            let gap = if self.history.is_empty() { 1 } else { second - self.newest };
            for _ in 0..gap.min(HISTORY as u64) {
                self.history.push_back(Second::default());
            }
            self.history.drain(..self.history.len().saturating_sub(HISTORY));
            self.newest = second;
        }
        let stats = summary.data.as_ref().or(summary.connect.as_ref());
        // Several flows of a pair in one second come one by one.
        if let Some(of) = self.history.back_mut() {
            of.sum += stats.map_or(0.0, |stats| stats.sum_seconds() * 1e3);
            of.count += stats.map_or(0, Stats::count);
            of.resent += summary.health.as_deref().map_or(0, PeerHealth::retransmits_total);
        }
        if let Some(rtt) = daemon::lowest(summary) {
            let minute = second / daemon::MINUTE.as_secs();
            self.base = self.lowest.get_or_insert_with(|| Lowest::new(minute)).add(minute, rtt);
        }
        self.summary.merge(summary);
        if stats.is_some() || summary.response.is_some() {
            self.make_figures();
        }
    }

    /// Takes another row in, from before this one's name was known.
    fn join(&mut self, earlier: Self) {
        let Self { summary, history, newest, lowest, .. } = earlier;
        if self.history.is_empty() {
            (self.history, self.newest) = (history, newest);
        }
        match (&mut self.lowest, lowest) {
            (Some(mine), Some(theirs)) => mine.merge(theirs),
            (mine, theirs) => *mine = mine.or(theirs),
        }
        self.base = self.lowest.as_ref().and_then(Lowest::lowest);
        let mut whole = summary;
        whole.merge(&self.summary);
        self.summary = whole;
        self.make_figures();
    }

    fn make_figures(&mut self) {
        self.figures = self.stats().map(|stats| output::columns(stats, stats.mean_ms()));
        self.response = self.summary.response.as_ref().map(|stats| stats.quantile(0.5));
    }
}

/// Everything.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub(super) pairs: HashMap<RowKey, Row>,
    pub(super) flows: HashMap<RowKey, Row>,
    pub(super) counters: Counters,
    /// Packets and samples a second, of the last one; none before there are two to compare.
    pub(super) rates: Option<(f64, f64)>,
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
            self.rates =
                Some((rate(live.counters.packets, before.packets), rate(live.counters.samples, before.samples)));
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
            let name = learn(&mut self.names, self.shows_addresses, address, &flow.name);
            let key =
                |src: String, dst: String| RowKey { src, dst, iface: shown(&flow.iface), to_local: flow.to_local };
            let keys = |name: Option<&str>| {
                let bare =
                    with_service(name.map_or_else(|| address.to_string().into(), Cow::from), flow.service).into_owned();
                let with_port = name.map_or_else(|| flow.remote.to_string(), |name| format!("{name}:{port}"));
                (key(flow.local.ip().to_string(), bare), key(flow.local.to_string(), with_port))
            };
            let (mut pair, one) = keys(name);
            if name.is_some() {
                let (bare_pair, bare_one) = keys(None);
                renamed.extend(rename(&mut self.pairs, bare_pair, &pair));
                renamed.extend(rename(&mut self.flows, bare_one, &one));
            }
            if let Some(group) = &flow.group {
                pair.dst = with_service(printable(group), flow.service).into_owned();
            }
            add(&mut self.pairs, pair, self.second, &flow.summary);
            add(&mut self.flows, one, self.second, &flow.summary);
        }
        for LivePair { local, remote, name, group, service, iface, to_local, health } in &live.pairs {
            let key = |dst: String| RowKey { src: local.to_string(), dst, iface: shown(iface), to_local: *to_local };
            let named = |dst: Cow<'_, str>| key(with_service(dst, *service).into_owned());
            let bare = named(remote.to_string().into());
            let pair = if let Some(group) = group {
                named(printable(group))
            } else {
                let name = learn(&mut self.names, self.shows_addresses, *remote, name);
                let pair = name.map_or_else(|| bare.clone(), |name| named(name.into()));
                if name.is_some() {
                    renamed.extend(rename(&mut self.pairs, bare, &pair));
                }
                pair
            };
            add(&mut self.pairs, pair, self.second, &counted(health));
        }
        if live.other != PeerHealth::default() {
            let [dst, src, iface] = [OTHER; 3].map(str::to_owned);
            let key = RowKey { dst, src, iface, to_local: false };
            add(&mut self.pairs, key, self.second, &counted(&live.other));
        }
        renamed
    }

    /// Starts over, but for the daemon's own counters.
    pub(super) fn clear(&mut self) {
        self.pairs.clear();
        self.flows.clear();
    }
}

/// What an address is called, now that a daemon has called it this.
fn learn<'a>(
    names: &'a mut HashMap<IpAddr, String>,
    shows_addresses: bool,
    address: IpAddr,
    name: &str,
) -> Option<&'a str> {
    let name = printable(name);
    let is_new = names.get(&address).is_none_or(|known| *known != name);
    if !shows_addresses && is_new && name != address.to_string() {
        names.insert(address, name.into_owned());
    }
    names.get(&address).map(String::as_str)
}

/// Has the row of an address go by its name: its keys before and after, if there was one.
fn rename(rows: &mut HashMap<RowKey, Row>, bare: RowKey, now: &RowKey) -> Option<(RowKey, RowKey)> {
    let earlier = rows.remove(&bare)?;
    rows.entry(now.clone()).or_default().join(earlier);
    Some((bare, now.clone()))
}

/// A summary of nothing but how connections did.
fn counted(health: &PeerHealth) -> PairSummary {
    PairSummary { health: Some(Box::new(*health)), ..PairSummary::default() }
}

fn add(rows: &mut HashMap<RowKey, Row>, key: RowKey, second: u64, summary: &PairSummary) {
    if !rows.contains_key(&key) && rows.len() >= MOST_ROWS {
        let silent = rows.iter().min_by_key(|(_, row)| row.newest).map(|(key, _)| key.clone());
        silent.and_then(|key| rows.remove(&key));
    }
    rows.entry(key).or_default().add(second, summary);
}

/// How many values lie between each two of `bins` + 1 even bounds from the smallest to the 99th percentile, and how
/// many above it: all together as many as there are. Values that are all alike are one bar.
pub(super) fn distribution(stats: &Stats, bins: usize) -> (Vec<(f64, f64, u64)>, u64) {
    let least = stats.min().as_millis_f64();
    let p99 = stats.unrounded(0.99);
    let bins = if p99 > least { bins } else { 1 };
    let width = (p99 - least).max(0.0) / bins as f64;
    let bound = |k: usize| if k == bins { p99 } else { least + k as f64 * width };
    let upto = stats.at_most(&(1..=bins).map(bound).collect::<Vec<_>>());
    let below = std::iter::once(&0).chain(&upto);
    let each = upto.iter().zip(below).enumerate().map(|(k, (upto, below))| (bound(k), bound(k + 1), upto - below));
    (each.collect(), stats.count() - upto[bins - 1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::examples::summary;
    use crate::status::live::LiveFlow;

    #[test]
    fn hosts_of_a_group_are_one_pair_and_their_flows_keep_their_addresses() {
        let flow = |last: u8, group: Option<&str>, service: Option<u16>| LiveFlow {
            local: ([10, 0, 0, 1], 40_000).into(),
            remote: ([10, 1, 0, last], 443).into(),
            name: format!("10.1.0.{last}"),
            group: group.map(str::to_owned),
            service,
            iface: "eth0".to_owned(),
            to_local: false,
            summary: summary(&[1000], &[]),
        };
        let (office, port) = (Some("office"), Some(443));
        let flows = vec![
            flow(1, office, port),
            flow(2, office, port),
            flow(3, office, None),
            LiveFlow { name: "db.example".to_owned(), ..flow(4, None, port) },
            flow(5, Some("2001:db8::/48"), port),
        ];
        let mut model = Model::default();
        model.add(&Live { flows, ..Live::default() });
        let mut shown: Vec<(String, u64)> =
            model.pairs.iter().map(|(key, row)| (key.dst.clone(), row.summary.count())).collect();
        shown.sort();
        let expected = [("[2001:db8::/48]:443", 1), ("db.example:443", 1), ("office", 1), ("office:443", 2)];
        assert_eq!(shown, expected.map(|(dst, count)| (dst.to_owned(), count)));
        let mut flows: Vec<&str> = model.flows.keys().map(|key| key.dst.as_str()).collect();
        flows.sort_unstable();
        let expected = ["10.1.0.1:443", "10.1.0.2:443", "10.1.0.3:443", "10.1.0.5:443", "db.example:443"];
        assert_eq!(flows, expected);
    }

    #[test]
    fn what_was_counted_of_a_service_is_in_the_row_of_its_round_trips() {
        let remote: std::net::SocketAddr = ([10, 1, 0, 4], 443).into();
        let flow = |name: &str| LiveFlow {
            local: ([10, 0, 0, 1], 40_000).into(),
            remote,
            name: name.to_owned(),
            group: None,
            service: Some(443),
            iface: "eth0".to_owned(),
            to_local: false,
            summary: summary(&[1000], &[]),
        };
        let pair = |name: &str| LivePair {
            local: [10, 0, 0, 1].into(),
            remote: remote.ip(),
            name: name.to_owned(),
            group: None,
            service: Some(443),
            iface: "eth0".to_owned(),
            to_local: false,
            health: PeerHealth { segments: 7, ..PeerHealth::default() },
        };
        let mut model = Model::default();
        // The name comes a second later.
        for name in ["10.1.0.4", "db.example"] {
            model.add(&Live { flows: vec![flow(name)], pairs: vec![pair(name)], ..Live::default() });
        }
        let rows = model.pairs.iter().map(|(key, row)| {
            let segments = row.summary.health.as_deref().map_or(0, |health| health.segments);
            (key.dst.as_str(), row.summary.count(), segments)
        });
        assert_eq!(rows.collect::<Vec<_>>(), [("db.example:443", 2, 14)]);
    }

    #[test]
    fn the_bars_of_a_distribution_are_all_samples_and_those_above_p99_at_most_a_hundredth() {
        for count in [1_u64, 2, 48, 58, 212, 1024, 3000, 40_000] {
            let series: Vec<u64> = (0..count).map(|k| 1_000 + k * 7919 % 500_000 * (1 + k % 5)).collect();
            let stats = summary(&series, &[]).data.unwrap();
            for bins in [1, 5, 16] {
                let (bars, above) = distribution(&stats, bins);
                assert_eq!(bars.iter().map(|(.., count)| count).sum::<u64>() + above, count, "{bins} bins of {count}");
                assert!(above <= count / 100, "{above} of {count} are above p99");
            }
        }
    }
}
