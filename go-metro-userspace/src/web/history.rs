//! The last minutes of what was measured, in bounded memory: each second as it was, to be drawn, and every ten seconds
//! together, to be added up over any span.
//!
//! Memory goes by what there was: a pair takes [`Point`]'s bytes for each second in which it had something, and
//! [`Part`]'s with its buckets for each ten seconds. When time or bytes are used up, the oldest second goes first, of
//! all pairs: what there is of the others is whole.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use go_metro_rtt::{PairSummary, PeerHealth};

use super::series::{Part, Point};
use crate::output::naming::{OTHER, with_service};
use crate::status::Live;
use crate::status::live::{LiveFlow, LivePair};
use crate::terminal::printable;

/// Most bytes of all of it.
pub(super) const MOST_BYTES: usize = 32 << 20;
/// How long what is kept together lasts, unless it is too much.
const SLOT: Duration = Duration::from_secs(10);
/// What a base is the lowest round trip of.
pub(super) const BASE: Duration = Duration::from_secs(600);
/// Most names of addresses that are remembered.
const MOST_NAMES: usize = 8192;

/// What a pair is called.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Name {
    /// This end.
    pub(super) src: String,
    /// The other end: its name, address or group, with the port of its service where pairs are told apart by it.
    pub(super) dst: String,
    /// On which interface.
    pub(super) iface: String,
    /// Whether it is the way to the local end that was timed.
    pub(super) to_local: bool,
}

impl Name {
    /// Bytes of memory, of both places that have it.
    fn bytes(&self) -> usize {
        2 * (self.src.len() + self.dst.len() + self.iface.len()) + size_of::<(Self, u32)>() + size_of::<(u32, Pair)>()
    }
}

/// A pair that has something in the history.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) name: Name,
    /// The number of the newest second with something of it.
    pub(super) newest: u64,
}

/// One second.
#[derive(Debug)]
pub(super) struct Second {
    /// Counted from the first one on.
    pub(super) number: u64,
    /// Its end, in nanoseconds since the epoch.
    pub(super) at_ns: u64,
    /// How long it was, in seconds.
    pub(super) interval_s: f64,
    came: Instant,
    /// What each pair had, in the order of their numbers.
    pub(super) points: Vec<Point>,
}

impl Second {
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.points.capacity() * size_of::<Point>()
    }

    /// What a pair had.
    pub(super) fn of(&self, pair: u32) -> Option<&Point> {
        self.points.binary_search_by_key(&pair, |point| point.pair).ok().map(|at| &self.points[at])
    }
}

/// Ten seconds together, or fewer.
#[derive(Debug)]
struct Slot {
    began: Instant,
    /// The number of its newest second.
    newest: u64,
    pairs: HashMap<u32, Part>,
    bytes: usize,
}

impl Slot {
    /// Nothing is added any more.
    fn close(&mut self) {
        self.pairs.shrink_to_fit();
        self.pairs.values_mut().for_each(Part::shrink);
        self.measure();
    }

    fn measure(&mut self) {
        let parts: usize = self.pairs.values().map(Part::bytes).sum();
        self.bytes = size_of::<Self>() + self.pairs.capacity() * (size_of::<(u32, Part)>() + 1) + parts;
    }
}

/// What all pairs had over a span.
pub(super) struct Sums {
    /// How long it is, up to ten seconds more than was asked for.
    pub(super) covers: Duration,
    /// Each pair that had something: its number, what it had, and its lowest round trip of the last ten minutes.
    pub(super) pairs: Vec<(u32, Part, Option<f64>)>,
}

/// All of it.
#[derive(Debug)]
pub(super) struct History {
    keeps: Duration,
    most_bytes: usize,
    seconds: VecDeque<Second>,
    slots: VecDeque<Slot>,
    pairs: HashMap<u32, Pair>,
    numbers: HashMap<Name, u32>,
    next_pair: u32,
    next_second: u64,
    /// What addresses are called since their names arrived.
    names: HashMap<IpAddr, String>,
    name_bytes: usize,
}

impl History {
    pub(super) fn new(keeps: Duration, most_bytes: usize) -> Self {
        Self {
            keeps,
            most_bytes,
            seconds: VecDeque::new(),
            slots: VecDeque::new(),
            pairs: HashMap::new(),
            numbers: HashMap::new(),
            next_pair: 1,
            next_second: 1,
            names: HashMap::new(),
            name_bytes: 0,
        }
    }

    /// Goes back so far from now on.
    pub(super) fn keep(&mut self, keeps: Duration) {
        self.keeps = keeps;
    }

    /// How far back it goes at most.
    pub(super) fn keeps(&self) -> Duration {
        self.keeps
    }

    /// The newest second.
    pub(super) fn newest(&self) -> Option<&Second> {
        self.seconds.back()
    }

    /// A pair that has something in it.
    pub(super) fn pair(&self, number: u32) -> Option<&Pair> {
        self.pairs.get(&number)
    }

    /// The seconds of the last so long.
    pub(super) fn seconds(&self, over: Duration, now: Instant) -> impl Iterator<Item = &Second> {
        self.seconds.iter().filter(move |second| now.saturating_duration_since(second.came) < over)
    }

    /// The newest so many seconds.
    pub(super) fn last(&self, count: usize) -> impl Iterator<Item = &Second> {
        self.seconds.iter().skip(self.seconds.len().saturating_sub(count))
    }

    /// Bytes of memory, about.
    pub(super) fn bytes(&self) -> usize {
        let seconds: usize = self.seconds.iter().map(Second::bytes).sum();
        let slots: usize = self.slots.iter().map(|slot| slot.bytes).sum();
        seconds + slots + self.name_bytes
    }

    /// Adds a second that came now.
    pub(super) fn add(&mut self, live: &Live, now: Instant) {
        let mut summaries: HashMap<Name, PairSummary> = HashMap::new();
        for flow in &live.flows {
            summaries.entry(self.named(&Ends::from(flow))).or_default().merge(&flow.summary);
        }
        for pair in &live.pairs {
            summaries.entry(self.named(&Ends::from(pair))).or_default().merge(&counted(&pair.health));
        }
        if live.other != PeerHealth::default() {
            let [src, dst, iface] = [OTHER; 3].map(str::to_owned);
            summaries.insert(Name { src, dst, iface, to_local: false }, counted(&live.other));
        }
        let number = self.next_second;
        self.next_second += 1;
        let most = self.most_bytes / 4;
        let interval = Duration::try_from_secs_f64(live.interval_s).unwrap_or_default().min(SLOT);
        // A second may come a little early or late.
        let is_full = |slot: &Slot| now.saturating_duration_since(slot.began) >= SLOT + interval / 2;
        if self.slots.back().is_none_or(|slot| slot.bytes > most || is_full(slot)) {
            self.slots.back_mut().into_iter().for_each(Slot::close);
            let began = now.checked_sub(interval).unwrap_or(now);
            self.slots.push_back(Slot { began, newest: number, pairs: HashMap::new(), bytes: 0 });
        }
        let mut points = Vec::with_capacity(summaries.len());
        for (name, summary) in summaries {
            let pair = self.number(name, number);
            points.push(Point::of(pair, &summary));
            if let Some(slot) = self.slots.back_mut() {
                slot.newest = number;
                slot.pairs.entry(pair).or_default().add(&summary);
            }
        }
        points.sort_unstable_by_key(|point| point.pair);
        if let Some(slot) = self.slots.back_mut() {
            slot.newest = number;
            slot.measure();
        }
        let (at_ns, interval_s) = (live.at_ns, live.interval_s);
        self.seconds.push_back(Second { number, at_ns, interval_s, came: now, points });
        self.forget(now);
    }

    /// The number of a pair that has something in this second.
    fn number(&mut self, name: Name, second: u64) -> u32 {
        if let Some(number) = self.numbers.get(&name) {
            if let Some(pair) = self.pairs.get_mut(number) {
                pair.newest = second;
            }
            return *number;
        }
        let number = self.next_pair;
        // Far fewer are there at once, so that none has it any more when it comes again.
        self.next_pair = self.next_pair.checked_add(1).unwrap_or(1);
        self.name_bytes += name.bytes();
        self.numbers.insert(name.clone(), number);
        self.pairs.insert(number, Pair { name, newest: second });
        number
    }

    /// Lets go of what is too old, or too much.
    fn forget(&mut self, now: Instant) {
        let before = self.seconds.len();
        while let Some(oldest) = self.seconds.front() {
            let is_old = now.saturating_duration_since(oldest.came) >= self.keeps;
            let is_too_much = self.seconds.len() > 1 && self.bytes() > self.most_bytes;
            if !is_old && !is_too_much {
                break;
            }
            let number = oldest.number;
            self.seconds.pop_front();
            while self.slots.front().is_some_and(|slot| slot.newest <= number) {
                self.slots.pop_front();
            }
        }
        if self.seconds.len() == before {
            return;
        }
        let first = self.seconds.front().map_or(u64::MAX, |second| second.number);
        self.pairs.retain(|_, pair| pair.newest >= first);
        let Self { pairs, numbers, .. } = self;
        numbers.retain(|_, number| pairs.contains_key(number));
        if pairs.len() < pairs.capacity() / 4 {
            pairs.shrink_to_fit();
            numbers.shrink_to_fit();
        }
        self.name_bytes = numbers.keys().map(Name::bytes).sum();
    }

    /// What all pairs had in the last so long.
    pub(super) fn sums(&self, over: Duration, now: Instant) -> Sums {
        let mut wholes: HashMap<u32, Part> = HashMap::new();
        for slot in self.within(over, now) {
            for (pair, part) in &slot.pairs {
                wholes.entry(*pair).or_default().merge(part);
            }
        }
        let pairs = wholes.into_iter().map(|(pair, part)| (pair, part, self.base(pair, now)));
        Sums { covers: self.covers(over, now), pairs: pairs.collect() }
    }

    /// What one pair had in the last so long, its lowest round trip of ten minutes, and how long that is.
    pub(super) fn sum(&self, pair: u32, over: Duration, now: Instant) -> (Part, Option<f64>, Duration) {
        let mut whole = Part::default();
        for slot in self.within(over, now) {
            slot.pairs.get(&pair).into_iter().for_each(|part| whole.merge(part));
        }
        (whole, self.base(pair, now), self.covers(over, now))
    }

    /// What has seconds of the last so long, and up to ten seconds more.
    fn within(&self, over: Duration, now: Instant) -> impl Iterator<Item = &Slot> {
        self.slots.iter().filter(move |slot| now.saturating_duration_since(slot.began) < over + SLOT)
    }

    fn covers(&self, over: Duration, now: Instant) -> Duration {
        let first = self.within(over, now).next();
        first.map_or(Duration::ZERO, |slot| now.saturating_duration_since(slot.began))
    }

    /// The lowest round trip of a pair in the last ten minutes, as far as the history goes.
    fn base(&self, pair: u32, now: Instant) -> Option<f64> {
        let recent = self.slots.iter().filter(|slot| now.saturating_duration_since(slot.began) < BASE);
        recent.filter_map(|slot| slot.pairs.get(&pair)?.lowest()).min_by(f64::total_cmp)
    }

    /// What a pair is called now. One that went by its address goes by its name once that has arrived.
    fn named(&mut self, ends: &Ends<'_>) -> Name {
        let with = |dst: &str| Name {
            src: ends.local.to_string(),
            dst: with_service(dst.into(), ends.service).into_owned(),
            iface: printable(ends.iface).into_owned(),
            to_local: ends.to_local,
        };
        if let Some(group) = ends.group {
            return with(&printable(group));
        }
        let address = ends.remote.to_string();
        let told = printable(ends.name);
        if told != address && self.names.get(&ends.remote).is_none_or(|known| *known != told) {
            if self.names.len() >= MOST_NAMES {
                self.names.clear();
            }
            self.names.insert(ends.remote, told.into_owned());
        }
        let Some(known) = self.names.get(&ends.remote) else { return with(&address) };
        let now = with(known);
        self.rename(&with(&address), &now);
        now
    }

    /// Has a pair go by another name from its first second on.
    fn rename(&mut self, before: &Name, now: &Name) {
        let Some(number) = self.numbers.remove(before) else { return };
        self.name_bytes = self.name_bytes.saturating_sub(before.bytes());
        if let Some(kept) = self.numbers.get(now) {
            let kept = *kept;
            self.join(number, kept);
            return;
        }
        self.name_bytes += now.bytes();
        self.numbers.insert(now.clone(), number);
        if let Some(pair) = self.pairs.get_mut(&number) {
            pair.name = now.clone();
        }
    }

    /// Makes one pair of two: another address had the name already.
    fn join(&mut self, number: u32, kept: u32) {
        for second in &mut self.seconds {
            let Ok(at) = second.points.binary_search_by_key(&number, |point| point.pair) else { continue };
            let point = second.points.remove(at);
            match second.points.binary_search_by_key(&kept, |point| point.pair) {
                Ok(at) => second.points[at].join(&point),
                Err(at) => second.points.insert(at, Point { pair: kept, ..point }),
            }
        }
        for slot in &mut self.slots {
            if let Some(part) = slot.pairs.remove(&number) {
                slot.pairs.entry(kept).or_default().merge(&part);
                slot.measure();
            }
        }
        if let (Some(gone), Some(pair)) = (self.pairs.remove(&number), self.pairs.get_mut(&kept)) {
            pair.newest = pair.newest.max(gone.newest);
        }
    }
}

/// A summary of nothing but how connections did.
fn counted(health: &PeerHealth) -> PairSummary {
    PairSummary { health: Some(Box::new(*health)), ..PairSummary::default() }
}

/// The two ends of an entry in a second's figures.
struct Ends<'a> {
    local: IpAddr,
    remote: IpAddr,
    name: &'a str,
    group: Option<&'a str>,
    service: Option<u16>,
    iface: &'a str,
    to_local: bool,
}

impl<'a> From<&'a LiveFlow> for Ends<'a> {
    fn from(flow: &'a LiveFlow) -> Self {
        let LiveFlow { local, remote, name, group, service, iface, to_local, .. } = flow;
        let (local, remote) = (local.ip(), remote.ip());
        Self { local, remote, name, group: group.as_deref(), service: *service, iface, to_local: *to_local }
    }
}

impl<'a> From<&'a LivePair> for Ends<'a> {
    fn from(pair: &'a LivePair) -> Self {
        let LivePair { local, remote, name, group, service, iface, to_local, .. } = pair;
        let (local, remote) = (*local, *remote);
        Self { local, remote, name, group: group.as_deref(), service: *service, iface, to_local: *to_local }
    }
}

#[cfg(test)]
mod tests {
    use super::super::examples::{flow, second};
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const AGES: Duration = Duration::from_secs(3600);

    fn names(history: &History, now: Instant) -> Vec<(String, u64)> {
        let sums = history.sums(AGES, now);
        let mut names: Vec<_> = sums
            .pairs
            .iter()
            .map(|(number, part, _)| (history.pair(*number).unwrap().name.dst.clone(), part.count()))
            .collect();
        names.sort();
        names
    }

    #[test]
    fn seconds_are_kept_for_their_time_and_so_are_the_pairs_in_them() {
        let mut history = History::new(Duration::from_secs(60), MOST_BYTES);
        let start = Instant::now();
        for k in 0..200_u32 {
            // One pair in every second, another in the first half.
            let mut flows = vec![flow(1, "10.1.0.1", &[20_000, 22_000])];
            flows.extend((k < 100).then(|| flow(2, "10.1.0.2", &[5_000])));
            history.add(&second(flows), start + SECOND * k);
            assert!(history.seconds.len() <= 60, "{}", history.seconds.len());
        }
        let now = start + SECOND * 199;
        assert_eq!(names(&history, now), [("10.1.0.1".to_owned(), 2 * history.slots.len() as u64 * 10)]);
        assert_eq!((history.pairs.len(), history.numbers.len(), history.slots.len()), (1, 1, 6));
        assert_eq!(history.seconds(Duration::from_secs(10), now).count(), 10);
        history.keep(Duration::from_secs(10));
        history.add(&second(Vec::new()), now + SECOND);
        assert_eq!(history.seconds.len(), 10);
        // Nothing came for a while.
        history.add(&second(Vec::new()), now + AGES);
        assert_eq!((history.seconds.len(), history.pairs.len(), history.slots.len()), (1, 0, 1));
    }

    #[test]
    fn memory_is_bounded_however_many_pairs_there_are_and_however_they_change() {
        const BOUND: usize = 1 << 20;
        let mut history = History::new(AGES, BOUND);
        let start = Instant::now();
        for k in 0..300_u32 {
            // Five hundred pairs, all of them new, with names of a length that names may have.
            let flows = (0..500).map(|host| {
                let name = format!("{}-{k}-{host}.example", "x".repeat(200));
                flow(u32::from(u8::MAX) + 500 * k + host, &name, &[1_000 + u64::from(host)])
            });
            history.add(&second(flows.collect()), start + SECOND * k);
            assert!(history.bytes() <= BOUND || history.seconds.len() == 1, "{} bytes", history.bytes());
        }
        assert!(history.seconds.len() < 10 && history.pairs.len() < 5000, "{} pairs", history.pairs.len());
        assert_eq!(history.pairs.len(), history.numbers.len());
        assert!(history.name_bytes > history.pairs.len() * 400, "names count");
    }

    #[test]
    fn what_is_reckoned_is_what_a_steady_load_takes() {
        const PAIRS: u32 = 100;
        let mut history = History::new(Duration::from_secs(900), MOST_BYTES);
        let start = Instant::now();
        for k in 0..900_u32 {
            let spread = |pair: u32| (0..20).map(move |n| 20_000 + u64::from((pair * 31 + k * 17 + n * 7) % 400) * 50);
            let flows = (0..PAIRS).map(|pair| flow(pair, &format!("10.2.0.{pair}"), &spread(pair).collect::<Vec<_>>()));
            history.add(&second(flows.collect()), start + SECOND * k);
        }
        assert_eq!(history.seconds.len(), 900);
        let each = history.bytes() / PAIRS as usize;
        println!("{each} bytes a pair for 900 seconds; a point has {}", size_of::<Point>());
        // docs/web.md says some 85 kB.
        assert!((60_000..100_000).contains(&each), "{each} bytes");
    }

    #[test]
    fn a_pair_goes_by_its_name_from_the_first_second_on_and_two_addresses_of_a_name_are_one() {
        let mut history = History::new(AGES, MOST_BYTES);
        let start = Instant::now();
        let of = |first: &str, second: &str| vec![flow(1, first, &[20_000]), flow(2, second, &[30_000, 31_000])];
        history.add(&second(of("10.1.0.1", "10.1.0.2")), start);
        let number = *history.numbers.values().min().unwrap();
        history.add(&second(of("db.example", "10.1.0.2")), start + SECOND);
        let two = [("10.1.0.2".to_owned(), 4), ("db.example".to_owned(), 2)];
        assert_eq!(names(&history, start + SECOND), two);
        history.add(&second(of("db.example", "db.example")), start + 2 * SECOND);
        assert_eq!(names(&history, start + 2 * SECOND), [("db.example".to_owned(), 9)]);
        // A name that is not told for a second stays.
        history.add(&second(of("10.1.0.1", "db.example")), start + 3 * SECOND);
        assert_eq!(names(&history, start + 3 * SECOND), [("db.example".to_owned(), 12)]);
        let counts: Vec<u32> =
            history.seconds.iter().map(|second| second.points.iter().map(|point| point.count).sum()).collect();
        assert_eq!((counts, history.pairs.len()), (vec![3; 4], 1));
        assert!(history.pair(number).is_some() || history.pairs.len() == 1);
    }

    #[test]
    fn the_base_is_the_lowest_of_ten_minutes_whatever_the_span() {
        let mut history = History::new(Duration::from_secs(900), MOST_BYTES);
        let start = Instant::now();
        for k in 0..700_u32 {
            let us = match k {
                0 => 5_000,
                300 => 10_000,
                _ => 20_000,
            };
            history.add(&second(vec![flow(1, "db.example", &[us])]), start + SECOND * k);
        }
        let base = |k: u32| history.sums(Duration::from_secs(60), start + SECOND * k).pairs[0].2;
        // The first second was longer ago than ten minutes.
        assert_eq!(base(699), Some(10.0));
        let (part, base, covers) = history.sum(1, Duration::from_secs(60), start + SECOND * 699);
        assert_eq!((part.lowest(), base), (Some(20.0), Some(10.0)));
        assert!((60..70).contains(&covers.as_secs()), "{covers:?}");
    }
}
