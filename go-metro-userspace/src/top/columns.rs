//! What the table shows of a row beside its names: round-trip times, or how connections do.

use go_metro_rtt::{Cause, Connect, Figure, PeerHealth, Rtt, Stats};

use super::model::Row;
use crate::output::fit::{self, Order};
use crate::output::number;

/// Which columns of numbers there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Columns {
    /// Round-trip times.
    #[default]
    Times,
    /// How connections do: what was retransmitted, and what failed.
    Health,
}

impl Columns {
    /// Each, from left to right.
    pub(super) fn each(self) -> &'static [Column] {
        match self {
            Self::Times => TIMES,
            Self::Health => HEALTH,
        }
    }

    /// The others.
    pub(super) fn other(self) -> Self {
        match self {
            Self::Times => Self::Health,
            Self::Health => Self::Times,
        }
    }
}

/// Where a column's numbers come from.
#[derive(Clone, Copy)]
enum Source {
    Samples,
    /// One of [`fit::NUMBERS`].
    Figure(usize),
    Base,
    Queueing,
    /// The median of the other end's responses.
    Response,
    /// A count of the pair's connections.
    Count(fn(&PeerHealth) -> u64),
    /// A share of what was counted.
    Share(fn(&PeerHealth) -> Option<f64>),
}

/// A column of numbers.
pub(super) struct Column {
    pub(super) title: &'static str,
    /// When it is left out.
    pub(super) order: Order,
    /// Columns of the screen that it takes unless a cell is wider: numbers come and go, and columns stay in place.
    pub(super) width: usize,
    source: Source,
    /// From which number on a cell is notable, and from which it is bad.
    loud: Option<[f64; 2]>,
}

/// How loud a cell is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Quiet,
    Notable,
    Bad,
}

const SAMPLES: Column =
    Column { title: "samples", order: Order::Samples, width: 8, source: Source::Samples, loud: None };

const TIMES: &[Column] =
    &[SAMPLES, figure(0), figure(1), figure(2), figure(3), figure(4), figure(5), figure(6), figure(7)];

const fn figure(at: usize) -> Column {
    let (title, order) = fit::NUMBERS[at];
    Column { title, order, width: 6, source: Source::Figure(at), loud: None }
}

/// The median, among the figures.
const P50: usize = 3;

/// Of segments that were retransmitted: less is usual where many share a path, and more slows TCP down (RFC 5681: the
/// window shrinks with each loss).
const RESENT: [f64; 2] = [0.001, 0.01];

/// A single one deserves a look.
const ANY: [f64; 2] = [f64::INFINITY, 1.0];

const HEALTH: &[Column] = &[
    SAMPLES,
    Column { title: "base", order: Order::P95, width: 6, source: Source::Base, loud: None },
    Column { title: "queueing", order: Order::P50, width: 8, source: Source::Queueing, loud: None },
    Column { title: "response", order: Order::Last, width: 8, source: Source::Response, loud: None },
    count("segments", Order::Jitter, None, |health| health.segments),
    Column {
        title: "retrans",
        order: Order::Always,
        width: 7,
        source: Source::Share(PeerHealth::resent),
        loud: Some(RESENT),
    },
    // Not "timeouts": attempts to connect that time out are in `failed`.
    count("rto", Order::P99, Some([1.0, f64::INFINITY]), |health| health.retransmits[Cause::Timeout as usize]),
    count("opened", Order::Average, None, |health| health.connects_total(Connect::Established)),
    count("failed", Order::Sorted, Some(ANY), PeerHealth::failed),
];

const fn count(title: &'static str, order: Order, loud: Option<[f64; 2]>, count: fn(&PeerHealth) -> u64) -> Column {
    Column { title, order, width: title.len(), source: Source::Count(count), loud }
}

impl Column {
    /// What rows are sorted by; none where there is nothing.
    pub(super) fn value(&self, row: &Row) -> Option<f64> {
        let health = row.summary.health.as_deref();
        match self.source {
            Source::Samples => row.stats().map(|stats| stats.count() as f64),
            Source::Figure(at) => figure_of(row, at).map(|figure| figure.ms),
            Source::Base => row.base.map(Rtt::as_millis_f64),
            // None of handshakes alone, as in reports.
            Source::Queueing => row.base.zip(figure_of(row, P50).filter(|_| !row.is_connect())).map(queueing),
            Source::Response => row.response.map(|figure| figure.ms),
            Source::Count(of) => health.map(|health| of(health) as f64),
            Source::Share(of) => health.and_then(of),
        }
    }

    /// A cell; `-` is none.
    pub(super) fn cell(&self, row: &Row) -> String {
        match self.source {
            Source::Samples => Some(short_count(row.stats().map_or(0, Stats::count))),
            Source::Figure(at) => figure_of(row, at).map(shown),
            Source::Base | Source::Queueing => self.value(row).map(short_ms),
            Source::Response => row.response.map(shown),
            Source::Count(_) => self.value(row).map(|count| short_count(count as u64)),
            Source::Share(_) => self.value(row).map(number::per_cent),
        }
        .unwrap_or_else(|| "-".to_owned())
    }

    /// How loud the cell is.
    pub(super) fn level(&self, row: &Row) -> Level {
        match (self.loud, self.value(row)) {
            (Some([_, bad]), Some(value)) if value >= bad => Level::Bad,
            (Some([notable, _]), Some(value)) if value >= notable => Level::Notable,
            _ => Level::Quiet,
        }
    }
}

fn figure_of(row: &Row, at: usize) -> Option<Figure> {
    row.figures.and_then(|figures| figures[at])
}

/// What the median has above the base, in milliseconds.
fn queueing((base, median): (Rtt, Figure)) -> f64 {
    (median.ms - base.as_millis_f64()).max(0.0)
}

/// A figure in at most six columns, with the digits that it deserves.
fn shown(figure: Figure) -> String {
    if figure.is_exact { short_ms(figure.ms) } else { number::fixed(figure, 3) }
}

/// At most six columns: as many decimals as there is room for.
pub(super) fn short_ms(ms: f64) -> String {
    match ms {
        ms if ms < 9.999_5 => number::fixed(Figure::exact(ms), 3),
        ms if ms < 99.995 => format!("{ms:.2}"),
        ms if ms < 9999.95 => format!("{ms:.1}"),
        ms => format!("{ms:.0}"),
    }
}

/// At most seven columns.
pub(super) fn short_count(count: u64) -> String {
    match count {
        0..=999_999 => count.to_string(),
        1_000_000..=999_999_999 => format!("{:.2}M", count as f64 / 1e6),
        _ => format!("{:.2}G", count as f64 / 1e9),
    }
}
