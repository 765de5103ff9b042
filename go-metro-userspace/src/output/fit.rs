//! What fits a screen: which columns of a table, how wide each is, and how names are shortened. Numbers and headers are
//! never cut: what does not fit is left out whole.

use std::net::{IpAddr, Ipv6Addr};

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Columns of a name that matter enough to leave out another column for: all others of [`Order::Context`], and the
/// rest.
const NAME: (usize, usize) = (30, 15);
/// Blanks between two columns.
const GAP: usize = 1;

/// How soon a column is left out where there is no room: the first of these first, the last never.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Order {
    /// What was in the last seconds.
    Trend,
    /// The other end's responses and what this host adds, then the kernel's own figures: least, then smoothed.
    Kernel,
    /// What was retransmitted, what failed.
    Health,
    /// Interface.
    Interface,
    /// This end.
    Context,
    /// From here on a column of numbers; names are shortened first.
    Jitter,
    /// The last sample.
    Last,
    /// The average.
    Average,
    /// p99.
    P99,
    /// The largest.
    Max,
    /// How many samples.
    Samples,
    /// p95.
    P95,
    /// p50.
    P50,
    /// To which end.
    Side,
    /// What rows are sorted by.
    Sorted,
    /// The least, and the other end: without them there is no table.
    Always,
}

/// A column that needs space.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// When it is left out.
    order: Order,
    /// The width of its widest cell and its header.
    full: usize,
    /// What it needs at least: while there are other columns of [`Order::Context`], and without them.
    least: [usize; 2],
}

impl Claim {
    /// A column of numbers, which are never cut.
    pub fn number(order: Order, full: usize) -> Self {
        Self { order, full, least: [full; 2] }
    }

    /// A column of names, which may be shortened; `cells` has the width of each, and of what follows it and may not be.
    pub fn name(order: Order, header: usize, cells: impl Iterator<Item = (usize, usize)>) -> Self {
        let start = Self { order, full: header, least: [header; 2] };
        cells.fold(start, |claim, (name, fixed)| Self {
            order,
            full: claim.full.max(name + fixed),
            least: [claim.least[0].max(name.min(NAME.0) + fixed), claim.least[1].max(name.min(NAME.1) + fixed)],
        })
    }

    fn is_name(&self) -> bool {
        self.least[1] < self.full
    }
}

/// The width of each column, none for those left out; an error, the least width that a table has, where not even those
/// fit that stay last.
///
/// # Errors
///
/// The terminal is too narrow: the columns that it must have.
pub fn widths(claims: &[Claim], width: usize) -> Result<Vec<Option<usize>>, usize> {
    let mut kept: Vec<bool> = vec![true; claims.len()];
    loop {
        let first = claims.iter().zip(&kept).filter(|(_, kept)| **kept).map(|(claim, _)| claim.order).min();
        let name = usize::from(first > Some(Order::Context));
        let each: Vec<Option<usize>> =
            claims.iter().zip(&kept).map(|(claim, kept)| kept.then(|| claim.least[name])).collect();
        let needed = each.iter().flatten().map(|width| width + GAP).sum::<usize>().saturating_sub(GAP);
        if needed <= width {
            return Ok(widened(claims, each, width - needed));
        }
        // The last of an order first: the other end goes on the left.
        let out = claims.iter().zip(&kept).rposition(|(claim, kept)| *kept && Some(claim.order) == first);
        match out.filter(|at| claims[*at].order != Order::Always) {
            Some(at) => kept[at] = false,
            None => return Err(needed),
        }
    }
}

/// Gives what is left to names, the other end's first.
fn widened(claims: &[Claim], mut each: Vec<Option<usize>>, mut left: usize) -> Vec<Option<usize>> {
    let mut names: Vec<usize> = (0..claims.len()).filter(|at| claims[*at].is_name()).collect();
    names.sort_by_key(|at| std::cmp::Reverse(claims[*at].order));
    for at in names {
        if let Some(width) = &mut each[at] {
            let more = claims[at].full.saturating_sub(*width).min(left);
            *width += more;
            left -= more;
        }
    }
    each
}

/// How many columns of a terminal a text takes.
pub fn width(text: &str) -> usize {
    UnicodeWidthStr::width(text)
}

/// A text with blanks up to a width.
pub fn left(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(width(text))))
}

/// Blanks up to a width, and a text.
pub fn right(text: &str, columns: usize) -> String {
    format!("{}{text}", " ".repeat(columns.saturating_sub(width(text))))
}

/// A name in so many columns, shortened where names are alike: the end of a host's name, the middle of an address. A
/// port stays.
pub fn name(name: &str, columns: usize) -> String {
    if width(name) <= columns {
        return name.to_owned();
    }
    let is_address = |text: &str| text.parse::<IpAddr>().is_ok() || text.parse::<std::net::SocketAddr>().is_ok();
    if is_address(name) || name.starts_with('[') || name.parse::<Ipv6Addr>().is_ok() {
        // The end tells the hosts of a network apart.
        let head = columns.saturating_sub(1) / 3;
        return format!("{}…{}", first(name, head), last(name, columns.saturating_sub(head + 1)));
    }
    let port = name.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok() && port.len() + 2 < columns);
    let port = port.map_or_else(String::new, |(_, port)| format!(":{port}"));
    let host = first(name, columns.saturating_sub(width(&port) + 1));
    if columns == 0 { String::new() } else { format!("{host}…{port}") }
}

fn first(text: &str, columns: usize) -> String {
    let mut taken = 0;
    let fits = |c: &char| {
        taken += c.width().unwrap_or(0);
        taken <= columns
    };
    text.chars().take_while(fits).collect()
}

fn last(text: &str, columns: usize) -> String {
    let mut taken = 0;
    let fits = |c: &char| {
        taken += c.width().unwrap_or(0);
        taken <= columns
    };
    let backwards: Vec<char> = text.chars().rev().take_while(fits).collect();
    backwards.into_iter().rev().collect()
}

/// As many of these parts as fit in a line, in their order, with two blanks between them. One that does not fit is left
/// out whole.
pub fn parts<T: AsRef<str>>(parts: impl IntoIterator<Item = T>, columns: usize) -> Vec<T> {
    let mut taken = 0;
    let fits = |part: &T| {
        let wider = taken + width(part.as_ref()) + if taken > 0 { 2 } else { 0 };
        let fits = wider <= columns;
        taken = if fits { wider } else { taken };
        fits
    };
    parts.into_iter().filter(fits).collect()
}

/// The first of these that fits, the longest first; else as much of the last as does.
pub fn longest<'a>(texts: impl IntoIterator<Item = &'a str>, columns: usize) -> String {
    let mut shortest = "";
    for text in texts {
        if width(text) <= columns {
            return text.to_owned();
        }
        shortest = text;
    }
    first(shortest, columns)
}

/// What a screen shows that is too narrow for a table.
pub fn too_small(needed: usize, columns: usize) -> String {
    longest(
        [format!("terminal too small: {needed} columns needed").as_str(), "terminal too small", "too small"],
        columns,
    )
}

/// The columns of numbers, in their order on a screen: title, and when each is left out.
pub const NUMBERS: [(&str, Order); 8] = [
    ("last", Order::Last),
    ("avg", Order::Average),
    ("min", Order::Always),
    ("p50", Order::P50),
    ("p95", Order::P95),
    ("p99", Order::P99),
    ("max", Order::Max),
    ("jitter", Order::Jitter),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shortened_where_they_are_alike() {
        for (whole, columns, wanted) in [
            ("db.example.org", 14, "db.example.org"),
            ("db-primary-1.eu-west.example.org", 20, "db-primary-1.eu-wes…"),
            ("db-primary-1.eu-west.example.org:5432", 20, "db-primary-1.e…:5432"),
            ("2001:db8:1234:5678:9abc:def0:1:2", 16, "2001:…c:def0:1:2"),
            ("[2001:db8:9:8:7:6:5:4321]:443", 18, "[2001…:5:4321]:443"),
            ("198.51.100.7:443", 15, "198.….100.7:443"),
        ] {
            assert_eq!(name(whole, columns), wanted);
        }
    }

    #[test]
    fn columns_are_left_out_in_their_order_and_names_get_what_is_left() {
        let claims = [
            Claim::name(Order::Context, 3, [(20, 0), (4, 0)].into_iter()),
            Claim::name(Order::Always, 3, [(20, 0)].into_iter()),
            Claim::number(Order::Last, 6),
            Claim::number(Order::Always, 6),
        ];
        assert_eq!(widths(&claims, 55), Ok(vec![Some(20), Some(20), Some(6), Some(6)]));
        assert_eq!(widths(&claims, 54), Ok(vec![None, Some(20), Some(6), Some(6)]));
        assert_eq!(widths(&claims, 30), Ok(vec![None, Some(16), Some(6), Some(6)]));
        assert_eq!(widths(&claims, 28), Ok(vec![None, Some(20), None, Some(6)]));
        assert_eq!(widths(&claims, 22), Ok(vec![None, Some(15), None, Some(6)]));
        assert_eq!(widths(&claims, 21), Err(22));
    }

    #[test]
    fn parts_that_do_not_fit_are_left_out_whole() {
        assert_eq!(parts(["go-metro", "12 flows", "1501 samples", "x"], 20), ["go-metro", "12 flows"]);
        assert_eq!(parts(["go-metro", "1501 samples", "x"], 12), ["go-metro", "x"]);
    }
}
