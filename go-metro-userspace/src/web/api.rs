//! The documents below `/api/v1` (docs/web.md describes them field by field). Fields may be added to them, and keep
//! their meaning; names are those of the JSON output where that has the same.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::history::{BASE, History, Name, Second};
use super::series::{Figures, Part, Point, Series};
use crate::status::Live;
use crate::status::document::Counts;
use crate::status::live::Counters;

/// The version that is in the paths.
pub(super) const VERSION: u32 = 1;
/// The paths of documents, and the keys that each takes behind `?`.
pub(super) const PATHS: [(&str, &[&str]); 4] = [
    ("/api/v1/status", &[]),
    ("/api/v1/pairs", &["seconds", "course"]),
    ("/api/v1/history", &["pair", "seconds"]),
    ("/api/v1/events", &[]),
];
/// Most pairs of a list; the most active come first.
const MOST_ROWS: usize = 4096;
/// How long the course of a pair is, in seconds.
const COURSE: u64 = 60;

/// What `/api/v1` itself says.
#[derive(Serialize)]
pub(super) struct Index {
    version: u32,
    program: &'static str,
    /// How far back the history goes at most, in seconds.
    history_s: f64,
    paths: [&'static str; PATHS.len()],
}

impl Index {
    pub(super) fn new(history: &History) -> Self {
        Self {
            version: VERSION,
            program: env!("CARGO_PKG_VERSION"),
            history_s: history.keeps().as_secs_f64(),
            paths: PATHS.map(|(path, _)| path),
        }
    }
}

/// What a pair is called.
#[derive(Serialize)]
struct Named<'a> {
    id: u32,
    src: &'a str,
    dst: &'a str,
    iface: &'a str,
    side: &'static str,
}

impl<'a> Named<'a> {
    fn new(id: u32, name: &'a Name) -> Self {
        let Name { src, dst, iface, to_local } = name;
        Self { id, src, dst, iface, side: if *to_local { "local" } else { "remote" } }
    }
}

/// Samples of one kind.
#[derive(Serialize)]
struct Times {
    count: u64,
    last_ms: f64,
    avg_ms: f64,
    jitter_ms: Option<f64>,
    min_ms: f64,
    p50_ms: f64,
    p95_ms: f64,
    p99_ms: f64,
    max_ms: f64,
}

impl From<&Series> for Times {
    fn from(series: &Series) -> Self {
        let Figures { last, mean, jitter, min, p50, p95, p99, max } = series.figures();
        Self {
            count: series.count,
            last_ms: last,
            avg_ms: mean,
            jitter_ms: jitter,
            min_ms: min,
            p50_ms: p50,
            p95_ms: p95,
            p99_ms: p99,
            max_ms: max,
        }
    }
}

/// What a pair had over a span.
#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    pair: Named<'a>,
    data: Option<Times>,
    connect: Option<Times>,
    base_ms: Option<f64>,
    queueing_ms: Option<f64>,
    peer: Option<Counts>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    course_ms: Vec<Option<f32>>,
}

impl<'a> Row<'a> {
    fn new(id: u32, name: &'a Name, part: &Part, base_ms: Option<f64>) -> Self {
        Self {
            pair: Named::new(id, name),
            queueing_ms: base_ms.zip(part.data.as_ref()).map(|(base, data)| data.queueing(base)),
            data: part.data.as_ref().map(Times::from),
            connect: part.connect.as_deref().map(Times::from),
            base_ms,
            peer: part.health.as_deref().map(Counts::of_peer),
            course_ms: Vec::new(),
        }
    }
}

/// All pairs over a span.
#[derive(Serialize)]
struct Pairs<'a> {
    version: u32,
    /// The number of the newest second in it, and its end.
    second: u64,
    at_ns: u64,
    /// How long the span is.
    covers_s: f64,
    /// Pairs that are left out, as there are too many.
    left_out: usize,
    pairs: Vec<Row<'a>>,
}

/// All pairs over the last so long, the most active first and of those the most recent; with the median of each of the
/// last seconds if that is wanted.
pub(super) fn pairs(history: &History, over: Duration, with_course: bool, now: Instant) -> Vec<u8> {
    let mut sums = history.sums(over, now);
    sums.pairs.retain(|(id, ..)| history.pair(*id).is_some());
    sums.pairs.sort_by_cached_key(|(id, part, _)| {
        (Reverse((part.activity(), history.pair(*id).map(|pair| pair.newest))), *id)
    });
    let left_out = sums.pairs.len().saturating_sub(MOST_ROWS);
    let rows = sums.pairs.iter().take(MOST_ROWS).filter_map(|(id, part, base)| {
        let mut row = Row::new(*id, &history.pair(*id)?.name, part, *base);
        if with_course {
            row.course_ms = course(history, *id);
        }
        Some(row)
    });
    let (second, at_ns) = history.newest().map_or((0, 0), |newest| (newest.number, newest.at_ns));
    let (version, covers_s) = (VERSION, sums.covers.as_secs_f64());
    document(&Pairs { version, second, at_ns, covers_s, left_out, pairs: rows.collect() })
}

/// The median of each of a pair's last seconds, the newest last.
fn course(history: &History, id: u32) -> Vec<Option<f32>> {
    let newest = history.newest().map_or(0, |newest| newest.number);
    let mut course = vec![None; COURSE as usize];
    for second in history.last(COURSE as usize) {
        let place = (COURSE - 1).checked_sub(newest - second.number).and_then(|place| usize::try_from(place).ok());
        if let (Some(place), Some(point)) = (place, second.of(id).filter(|point| point.count > 0)) {
            course[place] = Some(point.p50);
        }
    }
    course
}

/// The seconds of a pair in which it had something, each column as long as the others.
#[derive(Default, Serialize)]
struct Columns {
    at_ms: Vec<u64>,
    count: Vec<u32>,
    connect: Vec<bool>,
    min_ms: Vec<Option<f32>>,
    avg_ms: Vec<Option<f32>>,
    p50_ms: Vec<Option<f32>>,
    p95_ms: Vec<Option<f32>>,
    max_ms: Vec<Option<f32>>,
    segments: Vec<u32>,
    retransmits: Vec<u32>,
    opened: Vec<u16>,
    failed: Vec<u16>,
    resets: Vec<u16>,
}

impl Columns {
    fn push(&mut self, at_ns: u64, point: &Point) {
        let time = |ms: f32| (point.count > 0).then_some(ms);
        self.at_ms.push(at_ns / 1_000_000);
        self.count.push(point.count);
        self.connect.push(point.is_connect);
        self.min_ms.push(time(point.min));
        self.avg_ms.push(time(point.mean));
        self.p50_ms.push(time(point.p50));
        self.p95_ms.push(time(point.p95));
        self.max_ms.push(time(point.max));
        self.segments.push(point.segments);
        self.retransmits.push(point.resent);
        self.opened.push(point.opened);
        self.failed.push(point.failed);
        self.resets.push(point.resets);
    }
}

/// How the samples of a span are distributed: of each bucket that is not empty its bounds in milliseconds, the lower
/// one exclusive, and how many are in it.
#[derive(Serialize)]
struct Distribution {
    data: Vec<(f64, f64, u32)>,
    connect: Vec<(f64, f64, u32)>,
}

fn rounded((from, to, count): (f64, f64, u32)) -> (f64, f64, u32) {
    let six_digits = |ms: f64| format!("{ms:.5e}").parse().unwrap_or(ms);
    (six_digits(from), six_digits(to), count)
}

/// The course of one pair.
#[derive(Serialize)]
struct Course<'a> {
    version: u32,
    second: u64,
    /// The newest second's end, and the beginning of the history: of this pair there may be less.
    at_ns: u64,
    from_ns: u64,
    /// How long the span of sums and distribution is.
    covers_s: f64,
    sums: Row<'a>,
    seconds: Columns,
    distribution: Distribution,
}

/// The course of a pair over the last so long; none of a pair that is not there.
pub(super) fn history(history: &History, id: u32, over: Duration, now: Instant) -> Option<Vec<u8>> {
    let name = &history.pair(id)?.name;
    let mut seconds = Columns::default();
    let mut from_ns = None;
    for second in history.seconds(over, now) {
        from_ns.get_or_insert(second.at_ns);
        second.of(id).into_iter().for_each(|point| seconds.push(second.at_ns, point));
    }
    let (part, base, covers) = history.sum(id, over, now);
    let buckets =
        |series: Option<&Series>| series.map(|series| series.buckets.each().map(rounded).collect()).unwrap_or_default();
    let (second, at_ns) = history.newest().map_or((0, 0), |newest| (newest.number, newest.at_ns));
    Some(document(&Course {
        version: VERSION,
        second,
        at_ns,
        from_ns: from_ns.unwrap_or(at_ns),
        covers_s: covers.as_secs_f64(),
        sums: Row::new(id, name, &part, base),
        seconds,
        distribution: Distribution { data: buckets(part.data.as_ref()), connect: buckets(part.connect.as_deref()) },
    }))
}

/// What one pair had in one second.
#[derive(Serialize)]
struct Had {
    id: u32,
    count: u32,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    connect: bool,
    min_ms: Option<f32>,
    avg_ms: Option<f32>,
    p50_ms: Option<f32>,
    p95_ms: Option<f32>,
    max_ms: Option<f32>,
    segments: u32,
    retransmits: u32,
    opened: u16,
    failed: u16,
    resets: u16,
}

impl From<&Point> for Had {
    fn from(point: &Point) -> Self {
        let time = |ms: f32| (point.count > 0).then_some(ms);
        Self {
            id: point.pair,
            count: point.count,
            connect: point.is_connect,
            min_ms: time(point.min),
            avg_ms: time(point.mean),
            p50_ms: time(point.p50),
            p95_ms: time(point.p95),
            max_ms: time(point.max),
            segments: point.segments,
            retransmits: point.resent,
            opened: point.opened,
            failed: point.failed,
            resets: point.resets,
        }
    }
}

/// A second, as those who follow get it.
#[derive(Serialize)]
struct Event<'a> {
    version: u32,
    program: &'a str,
    second: u64,
    at_ns: u64,
    interval_s: f64,
    history_s: f64,
    base_s: u64,
    backend: &'a str,
    interfaces: &'a [String],
    counters: &'a Counters,
    pairs: Vec<Had>,
}

/// A second as a server-sent event (WHATWG HTML, section 9.2): its number is the event's id.
pub(super) fn event(history: &History, second: &Second, live: &Live) -> Vec<u8> {
    let event = Event {
        version: VERSION,
        program: &live.program,
        second: second.number,
        at_ns: second.at_ns,
        interval_s: second.interval_s,
        history_s: history.keeps().as_secs_f64(),
        base_s: BASE.as_secs(),
        backend: &live.backend,
        interfaces: &live.interfaces,
        counters: &live.counters,
        pairs: second.points.iter().map(Had::from).collect(),
    };
    let mut text = format!("id: {}\nevent: second\ndata: ", second.number).into_bytes();
    // JSON has no ends of lines but between its tokens, where serde_json writes none.
    text.append(&mut document(&event));
    text.extend(b"\n");
    text
}

/// As one line.
pub(super) fn document(document: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(document).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}
