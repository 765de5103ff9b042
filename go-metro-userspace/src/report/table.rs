//! A table for people: live on a terminal, plain lines on a pipe.
//!
//! On a terminal the table is redrawn in place and adds up since the start, so that rows do not come and go with each
//! interval. On a pipe each interval adds its own lines, for `grep` and `awk`.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::{NamedPair, Report};
use crate::rtt::{PairSummary, Stats};

/// Rows kept for the live table; beyond them the ones with the fewest samples go.
const LIVE_ROWS: usize = 4096;

/// Columns of a name in the live table.
const LIVE_NAME: usize = 24;

/// Source, destination, interface, and what was measured between them.
pub type Row<'a> = (&'a str, &'a str, &'a str, &'a PairSummary);

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
    rows: BTreeMap<(String, String, String), PairSummary>,
    /// Of the plain table, once its header is written.
    widths: Option<Widths>,
}

impl Table {
    /// Writes to `out` in the style that `style` says, asked anew for each report because terminals are resized.
    pub fn new(out: Box<dyn Write + Send>, style: fn() -> Style) -> Self {
        Self { out, style, rows: BTreeMap::new(), widths: None }
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
        let rows = report.pairs.iter().map(|p| (p.src.as_str(), p.dst.as_str(), p.iface.as_str(), &p.summary));
        if report.pairs.is_empty() {
            return String::new();
        }
        // As wide as the first interval with pairs needs; a longer name later pushes its own line only.
        let first = self.widths.is_none();
        let widths = *self.widths.get_or_insert_with(|| Widths::of(rows.clone(), usize::MAX));
        let header = first.then(|| widths.header());
        header.into_iter().chain(widths.lines(rows)).map(|line| line + "\n").collect()
    }

    fn live(&mut self, report: &Report, width: usize, height: usize) -> String {
        for NamedPair { src, dst, iface, summary, .. } in &report.pairs {
            self.rows.entry((src.clone(), dst.clone(), iface.clone())).or_default().merge(summary);
        }
        while self.rows.len() > LIVE_ROWS {
            let fewest = self.rows.iter().min_by_key(|(_, summary)| samples(summary)).map(|(key, _)| key.clone());
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
            self.rows.keys().map(|(a, b, c)| [a, b, c].map(|n| fitted(n, LIVE_NAME))).collect();
        let rows = names.iter().zip(self.rows.values()).map(|([a, b, c], summary)| (&**a, &**b, &**c, summary));
        let widths = Widths::of(rows.clone(), LIVE_NAME);
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

/// A whole table with its header, busiest rows first: source, destination, interface and summary each.
pub fn render<'a>(rows: impl Iterator<Item = Row<'a>> + Clone) -> String {
    let widths = Widths::of(rows.clone(), usize::MAX);
    let lines = std::iter::once(widths.header()).chain(widths.lines(rows));
    lines.map(|line| line + "\n").collect()
}

/// Columns that names take.
#[derive(Clone, Copy, Debug)]
struct Widths {
    src: usize,
    dst: usize,
    iface: usize,
}

impl Widths {
    /// As wide as the widest of `rows`, no wider than `most`.
    fn of<'a>(rows: impl Iterator<Item = Row<'a>>, most: usize) -> Self {
        let least = Self { src: 7, dst: 7, iface: 5 };
        let width = |name: &str, least: usize| name.chars().count().clamp(least, most);
        rows.fold(least, |w, (src, dst, iface, _)| Self {
            src: width(src, w.src),
            dst: width(dst, w.dst),
            iface: width(iface, w.iface),
        })
    }

    fn names(self, src: &str, dst: &str, iface: &str) -> String {
        let Self { src: s, dst: d, iface: i } = self;
        format!("{src:<s$}  {dst:<d$}  {iface:<i$}")
    }

    fn header(self) -> String {
        let ms = ["last", "avg", "min", "p50", "p95", "p99", "max", "jitter"];
        let titles: String = ms.iter().map(|title| format!(" {title:>8}")).collect();
        format!("{} {:>8}{titles}  ms", self.names("src", "dst", "iface"), "samples")
    }

    /// The rows, busiest first.
    fn lines<'a>(self, rows: impl Iterator<Item = Row<'a>>) -> Vec<String> {
        let mut rows: Vec<_> = rows.collect();
        rows.sort_by_key(|(src, dst, iface, summary)| (std::cmp::Reverse(samples(summary)), *src, *dst, *iface));
        rows.iter().map(|row| self.line(row)).collect()
    }

    /// A pair that only shook hands is shown by its handshakes.
    fn line(self, (src, dst, iface, summary): &Row<'_>) -> String {
        let names = self.names(src, dst, iface);
        let Some(stats) = summary.data.as_ref().or(summary.connect.as_ref()) else { return names };
        let values = [
            stats.last().as_millis_f64(),
            stats.average_ms(),
            stats.min().as_millis_f64(),
            stats.quantile_ms(0.5),
            stats.quantile_ms(0.95),
            stats.quantile_ms(0.99),
            stats.max().as_millis_f64(),
            stats.jitter_ms(),
        ];
        let values: String = values.iter().map(|value| format!(" {value:>8.3}")).collect();
        let note = if summary.data.is_none() { "  connect" } else { "" };
        format!("{names} {:>8}{values}{note}", stats.count())
    }
}

fn samples(summary: &PairSummary) -> u64 {
    summary.data.as_ref().map_or(0, Stats::count)
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
        let mut table = Table::new(Box::new(out.clone()), || Style::Plain);
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
    fn on_a_terminal_rows_add_up_and_fit_the_screen() {
        let out = Shared::default();
        let mut table = Table::new(Box::new(out.clone()), || Style::Live { width: 80, height: 6 });
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
    fn long_names_keep_their_end() {
        assert_eq!(fitted("2001:db8:1234:5678:9abc:def0:1:2", 24), "…234:5678:9abc:def0:1:2".replace("…", "…1"));
        assert_eq!(fitted("short", 24), "short");
    }
}
