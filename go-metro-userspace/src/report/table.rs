//! A table for people: live on a terminal, plain lines on a pipe.
//!
//! On a terminal the table is redrawn in place and adds up since the start, so that rows do not come and go with each
//! interval. On a pipe each interval adds its own lines, for `grep` and `awk`.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::{KernelRtt, NamedPair, Report, columns};
use crate::rtt::{Figure, PairSummary, Side, Stats};

/// Rows kept for the live table; beyond them the ones with the fewest samples go.
const LIVE_ROWS: usize = 4096;

/// Columns of a name in the live table.
const LIVE_NAME: usize = 24;

/// What not every table has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Columns {
    /// To which end round trips went.
    pub side: bool,
    /// The kernel's own RTT: smoothed and least.
    pub kernel: bool,
}

/// A pair's name and what was measured.
#[derive(Clone, Copy, Debug)]
struct Row<'a> {
    src: &'a str,
    dst: &'a str,
    iface: &'a str,
    side: Option<Side>,
    summary: &'a PairSummary,
    kernel: Option<KernelRtt>,
}

impl<'a> From<&'a NamedPair> for Row<'a> {
    fn from(pair: &'a NamedPair) -> Self {
        let NamedPair { src, dst, iface, side, summary, kernel, .. } = pair;
        Self { src, dst, iface, side: *side, summary, kernel: *kernel }
    }
}

/// What names a row of the live table.
type Name = (String, String, String, Option<Side>);

/// How a table is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Redrawn in place, for a terminal of this many columns and lines.
    Live {
        /// Columns of the terminal.
        width: usize,
        /// Lines of the terminal.
        height: usize,
    },
    /// Lines added one after another.
    Plain,
}

/// Writes reports as a table.
pub struct Table {
    out: Box<dyn Write + Send>,
    style: fn() -> Style,
    columns: Columns,
    rows: BTreeMap<Name, (PairSummary, Option<KernelRtt>)>,
    /// Of the plain table, once its header is written.
    widths: Option<Widths>,
}

impl Table {
    /// Writes to `out` in the style that `style` says, asked anew for each report because terminals are resized.
    pub fn new(out: Box<dyn Write + Send>, columns: Columns, style: fn() -> Style) -> Self {
        Self { out, style, columns, rows: BTreeMap::new(), widths: None }
    }

    /// Has these columns from now on; a table that grows gets a header of its own for them.
    pub fn show(&mut self, columns: Columns) {
        if columns != self.columns {
            (self.columns, self.widths) = (columns, None);
        }
    }

    /// Writes a report.
    ///
    /// # Errors
    ///
    /// What writing to `out` fails with.
    pub fn report(&mut self, report: &Report) -> io::Result<()> {
        let text = match (self.style)() {
            Style::Plain => self.plain(report),
            Style::Live { width, height } => self.live(report, width, height),
        };
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    fn plain(&mut self, report: &Report) -> String {
        let rows = report.pairs.iter().map(Row::from);
        if report.pairs.is_empty() {
            return String::new();
        }
        // As wide as the first interval with pairs needs; a longer name later pushes its own line only.
        let first = self.widths.is_none();
        let columns = self.columns;
        let widths = *self.widths.get_or_insert_with(|| Widths::of(rows.clone(), columns, usize::MAX));
        let header = first.then(|| widths.header());
        header.into_iter().chain(widths.lines(rows)).map(|line| line + "\n").collect()
    }

    fn live(&mut self, report: &Report, width: usize, height: usize) -> String {
        for NamedPair { src, dst, iface, side, summary, kernel, .. } in &report.pairs {
            let row = self.rows.entry((src.clone(), dst.clone(), iface.clone(), *side)).or_default();
            row.0.merge(summary);
            // The kernel's word is of now.
            row.1 = *kernel;
        }
        while self.rows.len() > LIVE_ROWS {
            let fewest = self.rows.iter().min_by_key(|(_, (summary, _))| samples(summary)).map(|(key, _)| key.clone());
            fewest.and_then(|key| self.rows.remove(&key));
        }
        let health = &report.health;
        let title = format!(
            "go-metro  {}  {} flows  {} samples  {} rejected  {} lost",
            report.backend,
            health.flows,
            health.engine.samples_total(),
            health.engine.rejected_total(),
            health.source.lost,
        );
        let names: Vec<[String; 3]> =
            self.rows.keys().map(|(a, b, c, _)| [a, b, c].map(|n| fitted(n, LIVE_NAME))).collect();
        let rows = names.iter().zip(&self.rows).map(|([src, dst, iface], (name, (summary, kernel)))| Row {
            src,
            dst,
            iface,
            side: name.3,
            summary,
            kernel: *kernel,
        });
        let widths = Widths::of(rows.clone(), self.columns, LIVE_NAME);
        let mut text = String::from("\x1b[H");
        let body = [title, String::new(), widths.header()].into_iter().chain(widths.lines(rows));
        let shown: Vec<String> =
            body.take(height.max(4) - 1).map(|line| line.chars().take(width).collect::<String>()).collect();
        for line in shown {
            text += &line;
            text += "\x1b[K\n";
        }
        text + "\x1b[J"
    }
}

/// A whole table with its header, busiest pairs first.
pub fn render(pairs: &[NamedPair], columns: Columns) -> String {
    let rows = pairs.iter().map(Row::from);
    let widths = Widths::of(rows.clone(), columns, usize::MAX);
    let lines = std::iter::once(widths.header()).chain(widths.lines(rows));
    lines.map(|line| line + "\n").collect()
}

/// Which columns there are, and how wide those of names.
#[derive(Clone, Copy, Debug)]
struct Widths {
    src: usize,
    dst: usize,
    iface: usize,
    columns: Columns,
}

impl Widths {
    /// As wide as the widest of `rows`, no wider than `most`.
    fn of<'a>(rows: impl Iterator<Item = Row<'a>>, columns: Columns, most: usize) -> Self {
        let least = Self { src: 7, dst: 7, iface: 5, columns };
        let width = |name: &str, least: usize| name.chars().count().clamp(least, most);
        rows.fold(least, |w, row| Self {
            src: width(row.src, w.src),
            dst: width(row.dst, w.dst),
            iface: width(row.iface, w.iface),
            columns,
        })
    }

    fn names(self, src: &str, dst: &str, iface: &str, side: &str) -> String {
        let Self { src: s, dst: d, iface: i, columns } = self;
        let names = format!("{src:<s$}  {dst:<d$}  {iface:<i$}");
        if columns.side { format!("{names}  {side:<6}") } else { names }
    }

    fn header(self) -> String {
        let ms = ["last", "avg", "min", "p50", "p95", "p99", "max", "jitter"];
        let kernel: &[&str] = if self.columns.kernel { &["kernel", "k.min"] } else { &[] };
        let titles: String = ms.iter().chain(kernel).map(|title| format!(" {title:>8}")).collect();
        format!("{} {:>8}{titles}  ms", self.names("src", "dst", "iface", "side"), "samples")
    }

    /// The rows, busiest first.
    fn lines<'a>(self, rows: impl Iterator<Item = Row<'a>>) -> Vec<String> {
        let mut rows: Vec<_> = rows.collect();
        rows.sort_by_key(|row| (std::cmp::Reverse(samples(row.summary)), row.src, row.dst, row.iface, row.side));
        rows.iter().map(|row| self.line(row)).collect()
    }

    /// A pair that only shook hands is shown by its handshakes.
    fn line(self, row: &Row<'_>) -> String {
        let Row { src, dst, iface, side, summary, kernel } = *row;
        let names = self.names(src, dst, iface, side.map_or("", Side::name));
        let Some(stats) = summary.data.as_ref().or(summary.connect.as_ref()) else { return names };
        let values = columns(stats, stats.average_ms());
        let mut values: String = values.iter().map(|value| format!(" {}", aligned(*value))).collect();
        if self.columns.kernel {
            let both = [kernel.map(|kernel| kernel.srtt_ms()), kernel.and_then(|kernel| kernel.min_ms())];
            values.extend(both.map(|ms| ms.map_or_else(|| format!(" {:>8}", "-"), |ms| format!(" {ms:>8.3}"))));
        }
        let note = if summary.data.is_none() { "  connect" } else { "" };
        format!("{names} {:>8}{values}{note}", stats.count())
    }
}

fn samples(summary: &PairSummary) -> u64 {
    summary.data.as_ref().map_or(0, Stats::count)
}

/// A figure in eight columns, decimal points below each other: an estimate has fewer decimals, and blanks instead.
fn aligned(figure: Figure) -> String {
    const DECIMALS: usize = 3;
    let decimals = figure.decimals(DECIMALS);
    let number = format!("{:.decimals$}", figure.ms);
    let blanks = DECIMALS - decimals + usize::from(decimals == 0);
    format!("{:>8}", number + &" ".repeat(blanks))
}

/// A name in `width` columns: what is too long keeps its end, which tells hosts of one address block apart.
fn fitted(name: &str, width: usize) -> String {
    let length = name.chars().count();
    if length <= width {
        return name.to_owned();
    }
    let tail: String = name.chars().skip(length + 1 - width).collect();
    format!("…{tail}")
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::super::examples::{pair, report};
    use super::*;
    use crate::rtt::Rtt;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Shared {
        fn take(&self) -> String {
            String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
        }
    }

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const ROW: &str = "10.42.31.222  db       va           2   23.500   21.750   20.000";

    #[test]
    fn on_a_pipe_each_interval_adds_its_lines_under_one_header() {
        let out = Shared::default();
        let mut table = Table::new(Box::new(out.clone()), Columns::default(), || Style::Plain);
        let example = report(vec![pair("once", &[], &[9_000]), pair("db", &[20_000, 23_500], &[])]);
        table.report(&report(vec![])).unwrap();
        table.report(&example).unwrap();
        table.report(&example).unwrap();
        let text = out.take();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 5, "{text}");
        assert!(lines[0].starts_with("src           dst      iface  samples     last      avg      min"));
        assert!(lines[1].starts_with(ROW) && lines[3].starts_with(ROW), "{text}");
        assert!(lines[2].ends_with("connect"));
        assert!(!text.contains('\x1b'));
    }

    #[test]
    fn other_columns_after_a_reload_come_under_another_header() {
        let out = Shared::default();
        let mut table = Table::new(Box::new(out.clone()), Columns::default(), || Style::Plain);
        let example = report(vec![pair("db", &[20_000], &[])]);
        table.report(&example).unwrap();
        table.show(Columns::default());
        table.report(&example).unwrap();
        assert_eq!(out.take().lines().count(), 3, "the same columns need no new header");
        table.show(Columns { side: true, kernel: true });
        table.report(&example).unwrap();
        let text = out.take();
        let header = text.lines().next().unwrap();
        assert!(header.contains("side") && header.contains("kernel"), "{text}");
    }

    #[test]
    fn on_a_terminal_rows_add_up_and_fit_the_screen() {
        let out = Shared::default();
        let mut table = Table::new(Box::new(out.clone()), Columns::default(), || Style::Live { width: 80, height: 6 });
        let pairs = (0..9).map(|k| pair(&format!("host{k}"), &vec![20_000; 10 - k], &[])).collect();
        table.report(&report(pairs)).unwrap();
        out.take();
        table.report(&report(vec![pair("host0", &[10_000], &[])])).unwrap();
        let text = out.take();
        assert!(text.starts_with("\x1b[Hgo-metro  ebpf") && text.ends_with("\x1b[J"));
        let lines: Vec<&str> = text.lines().map(|l| l.trim_end_matches("\x1b[K")).collect();
        assert_eq!(lines.len(), 6, "five lines and the erasure: {text}");
        assert!(lines.iter().all(|line| line.chars().count() <= 83));
        assert!(lines[3].contains("host0") && lines[3].contains("      11 "), "{text}");
    }

    #[test]
    fn sides_and_the_kernels_word_have_columns_where_they_are_asked_for() {
        let kernel = KernelRtt::of(Rtt(25_000_000), Some(Rtt(19_500_000)));
        let local = NamedPair { side: Some(Side::Local), ..pair("db", &[300], &[]) };
        let remote = NamedPair { side: Some(Side::Remote), kernel: Some(kernel), ..pair("db", &[20_000, 23_500], &[]) };
        let text = render(&[local, remote], Columns { side: true, kernel: true });
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].ends_with(" jitter   kernel    k.min  ms") && lines[0].contains("iface  side   "), "{text}");
        assert!(
            lines[1].contains("va     remote        2") && lines[1].ends_with("    3.500   25.000   19.500"),
            "{text}"
        );
        assert!(
            lines[2].contains("va     local         1") && lines[2].ends_with("    0.000        -        -"),
            "{text}"
        );
    }

    #[test]
    fn long_names_keep_their_end() {
        assert_eq!(fitted("2001:db8:1234:5678:9abc:def0:1:2", 24), "…234:5678:9abc:def0:1:2".replace("…", "…1"));
        assert_eq!(fitted("short", 24), "short");
    }
}
