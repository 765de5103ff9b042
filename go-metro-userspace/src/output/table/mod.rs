//! A table for people: live on a terminal, plain lines on a pipe.
//!
//! On a terminal the table is redrawn in place and adds up since the start, so that rows do not come and go with each
//! interval; columns and rows that do not fit are left out whole. On a pipe each interval adds its time, its own lines
//! and a blank one.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::net::IpAddr;
use std::time::Duration;

use go_metro_rtt::{Figure, PairSummary, PeerHealth, Side, Stats};

use super::fit::{self, Claim, Order};
use super::{NamedPair, Report, columns, number};
use crate::config::{Config, MetricName, ProcessTags, SidesWanted};
use crate::metrics::pair::{KernelRtt, host_ms};
use crate::output::naming::with_service;
use crate::output::printer::Print;
use crate::terminal::{self, Printable, Spelling, printable, shared_stdout};

/// Rows kept for the live table; beyond them the ones with the fewest samples go.
const LIVE_ROWS: usize = 4096;

/// What not every table has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Columns {
    /// To which end round trips went.
    pub side: bool,
    /// Whose connections they are on this host.
    pub process: bool,
    /// The kernel's own RTT: smoothed and least.
    pub kernel: bool,
    /// How connections do: the share of segments that was retransmitted, and connections that failed.
    pub health: bool,
    /// How long the other end takes for its responses; and with the kernel's own RTT what this host adds.
    pub response: bool,
}

/// A pair's name, as it may be shown, and what was measured.
#[derive(Clone, Debug)]
struct Row<'a> {
    src: Cow<'a, str>,
    dst: Cow<'a, str>,
    iface: Cow<'a, str>,
    side: Option<Side>,
    process: Cow<'a, str>,
    summary: &'a PairSummary,
    kernel: Option<KernelRtt>,
}

impl<'a> From<&'a NamedPair> for Row<'a> {
    fn from(pair: &'a NamedPair) -> Self {
        let NamedPair { src, dst, iface, side, process, port, summary, kernel, .. } = pair;
        let [src, iface, process] = [src, iface, process].map(|name| printable(name));
        Self { src, dst: with_service(printable(dst), *port), iface, side: *side, process, summary, kernel: *kernel }
    }
}

/// What names a row of the live table.
type Name = (String, String, String, Option<Side>, String, Option<u16>);

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
    out: Printable<Box<dyn Write + Send>>,
    style: fn() -> Style,
    columns: Columns,
    rows: BTreeMap<Name, (PairSummary, Option<KernelRtt>)>,
    /// What addresses are called since their names arrived.
    names: HashMap<IpAddr, String>,
    /// How long there has been no sample; none since there was one.
    idle: Option<Duration>,
    is_begun: bool,
}

/// Without a sample for so long, a table says that it waits.
const PATIENCE: Duration = Duration::from_secs(3);
/// What it says.
const WAITING: &str = "no samples yet: waiting for TCP traffic";

impl From<&Config> for Columns {
    fn from(config: &Config) -> Self {
        Self {
            side: config.sides != SidesWanted::Remote,
            process: config.process_tags != ProcessTags::Off,
            kernel: config.kernel_rtt,
            health: config.wants(MetricName::Health),
            response: config.wants(MetricName::Response),
        }
    }
}

impl Table {
    /// On standard output: live on a terminal, else plain.
    pub fn open(config: &Config) -> Self {
        if !terminal::is_screen() {
            return Self::new(shared_stdout(Spelling::Text), config.into(), || Style::Plain);
        }
        Self::new(terminal::screen(), config.into(), || {
            let size = terminal_size::terminal_size();
            let (width, height) = size.map_or((120, 40), |(w, h)| (usize::from(w.0), usize::from(h.0)));
            Style::Live { width, height }
        })
    }

    /// Writes to `out` in the style that `style` says, asked again for each report because terminals are resized.
    pub fn new(out: Printable<Box<dyn Write + Send>>, columns: Columns, style: fn() -> Style) -> Self {
        let (rows, names, idle) = (BTreeMap::new(), HashMap::new(), Some(Duration::ZERO));
        Self { out, style, columns, rows, names, idle, is_begun: false }
    }

    /// A blank line, the time and a table for each interval with samples.
    fn plain(&mut self, report: &Report) -> String {
        if report.pairs.is_empty() {
            if let Some(idle) = &mut self.idle {
                *idle += report.interval;
                if *idle >= PATIENCE {
                    self.idle = None;
                    tracing::info!("{WAITING}");
                }
            }
            return String::new();
        }
        self.idle = None;
        let blank = if std::mem::replace(&mut self.is_begun, true) { "\n" } else { "" };
        let at = jiff::Timestamp::try_from(report.at).unwrap_or_default();
        format!("{blank}{at:.0}\n{}", render(&report.pairs, self.columns))
    }

    /// Adds a report to the rows, each of which stays one when the name of its remote end arrives.
    fn add(&mut self, report: &Report) {
        if self.names.len() > 2 * LIVE_ROWS {
            self.names.clear();
        }
        for pair in report.pairs.iter().filter(|pair| pair.dst.parse::<IpAddr>().is_err()) {
            self.names.extend(pair.remotes.iter().map(|address| (*address, pair.dst.clone())));
        }
        self.rename();
        for NamedPair { src, dst, iface, side, process, port, summary, kernel, .. } in &report.pairs {
            let name = self.name_of(dst).unwrap_or(dst).to_owned();
            let key = (src.clone(), name, iface.clone(), *side, process.clone(), *port);
            let row = self.rows.entry(key).or_default();
            row.0.merge(summary);
            // The kernel's word is of now.
            row.1 = *kernel;
        }
        while self.rows.len() > LIVE_ROWS {
            let fewest = self.rows.iter().min_by_key(|(_, (summary, _))| samples(summary)).map(|(key, _)| key.clone());
            fewest.and_then(|key| self.rows.remove(&key));
        }
    }

    /// What an address is called, if that is known.
    fn name_of(&self, dst: &str) -> Option<&str> {
        self.names.get(&dst.parse().ok()?).map(String::as_str)
    }

    /// Every row that goes by an address whose name is known goes by that name, with the rows of the name's other
    /// addresses.
    fn rename(&mut self) {
        let known = self.rows.keys().filter_map(|key| Some((key.clone(), self.name_of(&key.1)?.to_owned())));
        for (key, name) in known.collect::<Vec<_>>() {
            let Some((mut whole, _)) = self.rows.remove(&key) else { continue };
            let (src, _, iface, side, process, port) = key;
            // What came under the name is the newer.
            let named = self.rows.entry((src, name, iface, side, process, port)).or_default();
            whole.merge(&named.0);
            named.0 = whole;
        }
    }

    fn live(&mut self, report: &Report, width: usize, height: usize) -> Vec<String> {
        self.add(report);
        let health = &report.health;
        let title = [
            "go-metro".to_owned(),
            report.backend.to_owned(),
            format!("{} flows", health.flows),
            format!("{} samples", health.engine.samples_total()),
            format!("{} lost", health.source.packets.lost),
            format!("{} rejected", health.engine.rejected_total()),
        ];
        let mut lines = vec![fit::parts(title, width).join("  "), String::new()];
        let rows = self.rows.iter().map(|((src, dst, iface, side, process, port), (summary, kernel))| Row {
            src: printable(src),
            dst: with_service(printable(dst), *port),
            iface: printable(iface),
            side: *side,
            process: printable(process),
            summary,
            kernel: *kernel,
        });
        let mut rows: Vec<Row<'_>> = rows.collect();
        rows.sort_by_cached_key(Row::order);
        // The title, a blank line, the header, a line on what is left out, and where the cursor stays.
        let room = height.saturating_sub(5).max(1);
        let (all, shown) = (rows.len(), rows.len().min(room));
        rows.truncate(shown);
        match screen(&rows, self.columns, width) {
            Ok(_) if rows.is_empty() => {
                let waiting = [WAITING, "waiting for TCP traffic", "waiting"];
                lines.extend(waiting.into_iter().find(|text| fit::width(text) <= width).map(str::to_owned));
            }
            Ok(table) => {
                lines.extend(table);
                let count = if shown < all { format!("{shown} of {all} pairs") } else { format!("{all} pairs") };
                let order = if shown < all { "those with most samples" } else { "" };
                let notes = [count, "times in ms".to_owned(), order.to_owned()];
                lines.push(fit::parts(notes.into_iter().filter(|note| !note.is_empty()), width).join("  "));
            }
            Err(needed) => lines.push(fit::too_small(needed, width)),
        }
        lines.truncate(height.max(2) - 1);
        lines
    }
}

impl Print for Table {
    fn report(&mut self, report: &Report) -> io::Result<()> {
        match (self.style)() {
            Style::Plain => {
                let text = self.plain(report);
                self.out.write_all(text.as_bytes())?;
            }
            Style::Live { width, height } => {
                let lines = self.live(report, width, height);
                self.out.redraw(lines.iter().map(String::as_str))?;
            }
        }
        self.out.flush()
    }

    fn show(&mut self, columns: Columns) {
        self.columns = columns;
    }
}

/// The rows under their header, in the columns that fit.
fn screen(rows: &[Row<'_>], columns: Columns, width: usize) -> Result<Vec<String>, usize> {
    let mut titles = vec![("src", Order::Context), ("dst", Order::Always), ("iface", Order::Interface)];
    if columns.side {
        titles.push(("side", Order::Side));
    }
    if columns.process {
        titles.push(("process", Order::Side));
    }
    let names = titles.len();
    titles.push(("samples", Order::Samples));
    titles.extend(fit::NUMBERS);
    if columns.kernel {
        titles.extend([("kernel", Order::Kernel), ("k.min", Order::Kernel)]);
    }
    titles.extend(columns.whose().iter().map(|title| (*title, Order::Kernel)));
    if columns.health {
        titles.extend(HEALTH.map(|title| (title, Order::Health)));
    }
    let cells: Vec<Vec<String>> = rows.iter().map(|row| row.cells(columns)).collect();
    let claims: Vec<Claim> = titles
        .iter()
        .enumerate()
        .map(|(at, (title, order))| {
            let note = |cells: &[String]| if at == 1 { fit::width(rows_note(cells)) } else { 0 };
            let mut each = cells.iter().map(|cells| (fit::width(&cells[at]), note(cells)));
            if at < names && *title != "side" {
                Claim::name(*order, title.len(), each)
            } else {
                let widest = each.by_ref().map(|(width, _)| width).max().unwrap_or(0);
                Claim::number(*order, widest.max(title.len()))
            }
        })
        .collect();
    let widths = fit::widths(&claims, width)?;
    let line = |cells: &[String], note: &str| {
        let each = cells.iter().zip(&widths).enumerate().filter_map(|(at, (cell, width))| {
            let width = (*width)?;
            let note = if at == 1 { note } else { "" };
            let cell = if at < names {
                fit::left(&(fit::name(cell, width.saturating_sub(fit::width(note))) + note), width)
            } else {
                fit::right(cell, width)
            };
            Some(cell)
        });
        each.collect::<Vec<_>>().join(" ").trim_end().to_owned()
    };
    let header: Vec<String> = titles.iter().map(|(title, _)| (*title).to_owned()).collect();
    let rows = cells.iter().map(|cells| line(cells, rows_note(cells)));
    Ok(std::iter::once(line(&header, "")).chain(rows).collect())
}

/// The last cell of a row, which goes behind its name: that only handshakes were seen.
fn rows_note(cells: &[String]) -> &str {
    cells.last().map_or("", String::as_str)
}

impl Row<'_> {
    /// Busiest first.
    fn order(&self) -> (std::cmp::Reverse<u64>, [String; 3], Option<Side>, String) {
        let names = [&self.src, &self.dst, &self.iface].map(ToString::to_string);
        (std::cmp::Reverse(samples(self.summary)), names, self.side, self.process.to_string())
    }

    /// A cell for each column, and a note.
    fn cells(&self, columns: Columns) -> Vec<String> {
        let mut cells = [&self.src, &self.dst, &self.iface].map(ToString::to_string).to_vec();
        if columns.side {
            cells.push(self.side.map_or("", Side::name).to_owned());
        }
        if columns.process {
            cells.push(self.process.to_string());
        }
        let stats = self.summary.data.as_ref().or(self.summary.connect.as_ref());
        cells.push(stats.map_or_else(String::new, |stats| stats.count().to_string()));
        match stats {
            Some(stats) => {
                let figures = super::columns(stats, stats.average_ms());
                cells.extend(figures.map(|figure| cell(figure).trim_start().to_owned()));
            }
            None => cells.extend(std::iter::repeat_n(String::new(), fit::NUMBERS.len())),
        }
        if columns.kernel {
            cells.extend(kernel_columns(self.kernel).map(|figure| cell(figure).trim_start().to_owned()));
        }
        let whose = whose_columns(self, columns);
        cells.extend(whose.into_iter().map(|figure| cell(figure).trim_start().to_owned()));
        if columns.health {
            cells.extend(health_columns(self.summary.health.as_deref()));
        }
        cells.push(if stats.is_some() && self.summary.data.is_none() {
            " (connect)".to_owned()
        } else {
            String::new()
        });
        cells
    }
}

/// A whole table for a terminal of so many columns, as the live one, busiest pairs first.
pub fn render_within(width: usize, pairs: &[NamedPair], columns: Columns) -> String {
    let mut rows: Vec<Row<'_>> = pairs.iter().map(Row::from).collect();
    rows.sort_by_cached_key(Row::order);
    let lines = match screen(&rows, columns, width) {
        Ok(mut lines) => {
            lines.push(fit::parts([format!("{} pairs", rows.len()), "times in ms".to_owned()], width).join("  "));
            lines
        }
        Err(needed) => vec![fit::too_small(needed, width)],
    };
    lines.into_iter().map(|line| line + "\n").collect()
}

/// A whole table with its header, busiest pairs first, for what is no terminal.
pub fn render(pairs: &[NamedPair], columns: Columns) -> String {
    let rows = pairs.iter().map(Row::from);
    let widths = Widths::of(rows.clone(), columns);
    let lines = std::iter::once(widths.header()).chain(widths.lines(rows));
    lines.map(|line| line + "\n").collect()
}

/// Which columns there are, and how wide those of names.
#[derive(Clone, Copy, Debug)]
struct Widths {
    src: usize,
    dst: usize,
    iface: usize,
    process: usize,
    columns: Columns,
}

impl Widths {
    /// As wide as the widest of `rows`.
    fn of<'a>(rows: impl Iterator<Item = Row<'a>>, columns: Columns) -> Self {
        let least = Self { src: 7, dst: 7, iface: 5, process: 7, columns };
        let width = |name: &str, least: usize| name.chars().count().max(least);
        rows.fold(least, |w, row| Self {
            src: width(&row.src, w.src),
            dst: width(&row.dst, w.dst),
            iface: width(&row.iface, w.iface),
            process: width(&row.process, w.process),
            columns,
        })
    }

    fn names(self, src: &str, dst: &str, iface: &str, side: &str, process: &str) -> String {
        let Self { src: s, dst: d, iface: i, process: p, columns } = self;
        let names = format!("{src:<s$}  {dst:<d$}  {iface:<i$}");
        let names = if columns.side { format!("{names}  {side:<6}") } else { names };
        if columns.process { format!("{names}  {process:<p$}") } else { names }
    }

    fn header(self) -> String {
        let ms = ["last", "avg", "min", "p50", "p95", "p99", "max", "jitter"];
        let kernel: &[&str] = if self.columns.kernel { &["kernel", "k.min"] } else { &[] };
        let health: &[&str] = if self.columns.health { &HEALTH } else { &[] };
        let whose = self.columns.whose();
        let titles: String =
            ms.iter().chain(kernel).chain(whose).chain(health).map(|title| format!(" {title:>8}")).collect();
        format!("{} {:>8}{titles}  ms", self.names("src", "dst", "iface", "side", "process"), "samples")
    }

    /// The rows, busiest first.
    fn lines<'a>(self, rows: impl Iterator<Item = Row<'a>>) -> Vec<String> {
        let mut rows: Vec<_> = rows.collect();
        rows.sort_by_cached_key(Row::order);
        rows.iter().map(|row| self.line(row)).collect()
    }

    /// A pair that only shook hands is shown by its handshakes.
    fn line(self, row: &Row<'_>) -> String {
        let Row { src, dst, iface, side, process, summary, kernel } = row;
        let whose = whose_columns(row, self.columns);
        let names = self.names(src, dst, iface, side.map_or("", Side::name), process);
        let stats = summary.data.as_ref().or(summary.connect.as_ref());
        if stats.is_none() && summary.health.is_none() && summary.response.is_none() {
            return names;
        }
        let values = stats.map_or([None; 8], |stats| columns(stats, stats.average_ms()));
        let kernel = self.columns.kernel.then(|| kernel_columns(*kernel));
        let values = values.iter().chain(kernel.iter().flatten()).chain(&whose);
        let values: String = values.map(|value| format!(" {}", cell(*value))).collect();
        let health = self.columns.health.then(|| health_columns(summary.health.as_deref()));
        let health: String = health.iter().flatten().map(|value| format!(" {value:>8}")).collect();
        let note = if stats.is_some() && summary.data.is_none() { "  connect" } else { "" };
        format!("{names} {:>8}{values}{health}{note}", stats.map_or(0, Stats::count))
    }
}

fn samples(summary: &PairSummary) -> u64 {
    summary.data.as_ref().map_or(0, Stats::count)
}

/// The kernel's word in its columns: smoothed, and least.
fn kernel_columns(kernel: Option<KernelRtt>) -> [Option<Figure>; 2] {
    [kernel.map(|kernel| kernel.srtt_ms()), kernel.and_then(|kernel| kernel.min_ms())].map(|ms| ms.map(Figure::exact))
}

impl Columns {
    /// The columns of [`whose_columns`].
    fn whose(self) -> &'static [&'static str] {
        match self {
            Self { response: false, .. } => &[],
            Self { kernel: true, .. } => &["host", "response"],
            Self { kernel: false, .. } => &["response"],
        }
    }
}

/// Whose delay it is beside the network's: what this host adds, and the median of the other end's responses.
fn whose_columns(row: &Row<'_>, columns: Columns) -> Vec<Option<Figure>> {
    let data = row.summary.data.as_ref();
    let host = row.kernel.zip(data).map(|(kernel, data)| Figure::exact(host_ms(&kernel, data)));
    let response = row.summary.response.as_ref().map(|stats| stats.quantile(0.5));
    let each = columns.whose().iter().map(|title| if *title == "host" { host } else { response });
    each.collect()
}

/// The columns of [`health_columns`].
const HEALTH: [&str; 2] = ["retrans", "failed"];

/// The share of segments that was retransmitted, at least that where something is missing, and connections that were
/// refused, reset or did not come about.
fn health_columns(health: Option<&PeerHealth>) -> [String; 2] {
    let Some(health) = health else { return ["-", "-"].map(str::to_owned) };
    let least = if health.incomplete { ">" } else { "" };
    let resent = match health.resent() {
        None => "-".to_owned(),
        Some(share) => least.to_owned() + &number::per_cent(share),
    };
    [resent, health.failed().to_string()]
}

/// A figure in eight columns, decimal points below each other: an estimate has fewer decimals, and blanks instead; `-`
/// is none.
fn cell(figure: Option<Figure>) -> String {
    const DECIMALS: usize = 3;
    let Some(figure) = figure else { return format!("{:>8}", "-") };
    let decimals = figure.decimals(DECIMALS);
    let blanks = DECIMALS - decimals + usize::from(decimals == 0);
    format!("{:>8}", number::fixed(figure, DECIMALS) + &" ".repeat(blanks))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use go_metro_rtt::Rtt;

    use super::super::examples::{is_as_before, pair, report};
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
    fn on_a_pipe_each_interval_has_its_time_a_header_and_a_blank_line_before_it() {
        let out = Shared::default();
        let mut table =
            Table::new(Printable::new(Box::new(out.clone()), Spelling::Text), Columns::default(), || Style::Plain);
        let example = report(vec![pair("once", &[], &[9_000]), pair("db", &[20_000, 23_500], &[])]);
        table.report(&report(vec![])).unwrap();
        table.report(&example).unwrap();
        table.show(Columns { side: true, kernel: true, ..Columns::default() });
        table.report(&example).unwrap();
        let text = out.take();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 9, "{text}");
        assert_eq!((lines[0], lines[4], lines[5]), ("2023-11-14T22:13:20Z", "", "2023-11-14T22:13:20Z"));
        assert!(lines[1].starts_with("src           dst      iface  samples     last      avg      min"));
        assert!(lines[2].starts_with(ROW), "{text}");
        assert!(lines[3].ends_with("connect"));
        assert!(lines[6].contains("side") && lines[6].contains("kernel"), "a reload asked for other columns: {text}");
        assert!(!text.contains('\x1b'));
    }

    /// A live table after these reports.
    fn lived(reports: &[Report], style: fn() -> Style) -> String {
        let out = Shared::default();
        let mut table = Table::new(
            Printable::new(Box::new(out.clone()), Spelling::Text),
            Columns { kernel: true, ..Columns::default() },
            style,
        );
        for report in reports {
            out.take();
            table.report(report).unwrap();
        }
        let text = out.take();
        assert!(text.starts_with("\x1b[H") && text.ends_with("\x1b[J"));
        let lines = text.trim_start_matches("\x1b[H").trim_end_matches("\x1b[J").replace("\x1b[K", "");
        lines.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
    }

    /// Long names and addresses, and a number with many digits.
    fn long() -> Report {
        let kernel = Some(KernelRtt::of(Rtt(25_000_000), Some(Rtt(19_500_000))));
        let v6 =
            NamedPair { src: "2001:db8:85a3:1234:5678:8a2e:370:7334".to_owned(), ..pair("2001:db8::1", &[1000], &[]) };
        let pairs = vec![
            NamedPair {
                kernel,
                ..pair("db-primary-1.eu-west-1.internal.example.org", &[20_000, 23_500, 1_501_000], &[])
            },
            NamedPair {
                dst: "2001:db8:9:8:7:6:5:4321".to_owned(),
                summary: pair("", &[181_000, 190_123], &[]).summary,
                ..v6
            },
            pair("198.51.100.7", &vec![420; 5000], &[]),
            pair("once.example.org", &[], &[12_345_678]),
        ];
        report(pairs)
    }

    #[test]
    fn no_number_header_or_address_is_cut_however_wide_the_terminal_is() {
        let style: [(usize, fn() -> Style); 5] = [
            (40, || Style::Live { width: 40, height: 12 }),
            (60, || Style::Live { width: 60, height: 12 }),
            (80, || Style::Live { width: 80, height: 12 }),
            (120, || Style::Live { width: 120, height: 12 }),
            (200, || Style::Live { width: 200, height: 12 }),
        ];
        for (width, style) in style {
            let text = lived(&[long()], style);
            assert!(text.lines().all(|line| fit::width(line) <= width), "{width}:\n{text}");
            is_as_before("output/table/screens", &format!("live-{width}"), &text);
        }
        let text = lived(&[long()], || Style::Live { width: 12, height: 12 });
        assert!(text.contains("too small") && text.lines().all(|line| fit::width(line) <= 12), "{text}");
    }

    #[test]
    fn a_table_that_is_shown_once_fits_its_terminal_as_the_live_one_does() {
        let pairs = long().pairs;
        for width in [40, 60, 80, 120, 200] {
            let text = render_within(width, &pairs, Columns { kernel: true, ..Columns::default() });
            assert!(text.lines().all(|line| fit::width(line) <= width), "{width}:\n{text}");
            let live = live_screen(width);
            // The live one has a title and a blank line before the same table.
            let table: Vec<&str> = live.lines().skip(2).collect();
            assert_eq!(text.lines().map(str::trim_end).collect::<Vec<_>>(), table, "{width}");
            assert!(text.contains(" (connect)") && text.ends_with("times in ms\n"), "{text}");
        }
        assert!(render_within(12, &pairs, Columns::default()).contains("too small"));
    }

    /// A live table of so many columns, as it was seen to be right.
    fn live_screen(width: usize) -> String {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/output/table/screens");
        std::fs::read_to_string(folder.join(format!("live-{width}.txt"))).unwrap()
    }

    #[test]
    fn on_a_terminal_rows_add_up_and_it_says_how_many_are_left_out() {
        let pairs = (0..9).map(|k| pair(&format!("host{k}"), &vec![20_000; 10 - k], &[])).collect();
        let both = [report(pairs), report(vec![pair("host0", &[10_000], &[])])];
        let text = lived(&both, || Style::Live { width: 80, height: 8 });
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 7, "{text}");
        assert!(lines[3].contains("host0") && lines[3].contains(" 11 "), "{text}");
        assert_eq!(lines[6], "3 of 9 pairs  times in ms  those with most samples");
    }

    #[test]
    fn no_name_moves_the_cursor_or_makes_a_row() {
        let hostile = NamedPair { iface: "e\x1b[2J\n".to_owned(), ..pair("a\r\u{202e}b", &[20_000], &[]) };
        let live = lived(&[report(vec![hostile.clone()])], || Style::Live { width: 120, height: 8 });
        let out = Shared::default();
        let mut table =
            Table::new(Printable::new(Box::new(out.clone()), Spelling::Text), Columns::default(), || Style::Plain);
        table.report(&report(vec![hostile])).unwrap();
        for (text, lines) in [(live, 5), (out.take(), 3)] {
            assert!(text.contains("a\\r\\u{202e}b") && text.contains("e\\u{1b}[2J\\n"), "{text}");
            assert!(text.lines().count() == lines && terminal::is_printable(&text), "{text:?}");
        }
    }

    #[test]
    fn an_idle_table_says_that_it_waits() {
        assert!(lived(&[report(vec![])], || Style::Live { width: 80, height: 8 }).contains("waiting for TCP traffic"));
    }

    #[test]
    fn a_pair_stays_one_row_when_its_name_arrives_and_when_it_goes() {
        let address = || pair("192.0.2.1", &[20_000], &[]);
        let named = NamedPair { dst: "db.example.org".to_owned(), ..address() };
        let reports = [report(vec![address()]), report(vec![named]), report(vec![address()])];
        let text = lived(&reports, || Style::Live { width: 80, height: 8 });
        let rows: Vec<&str> = text.lines().filter(|line| line.contains("20.000")).collect();
        assert!(rows.len() == 1 && rows[0].contains("db.example.org") && rows[0].contains(" 3 "), "{text}");
    }

    #[test]
    fn every_row_of_an_address_goes_by_its_name_once_any_of_them_does() {
        let of = |dst: &str, address: &str, side: Option<Side>| NamedPair {
            dst: dst.to_owned(),
            side,
            ..pair(address, &[20_000], &[])
        };
        let rows = |reports: &[Report]| -> Vec<String> {
            let text = lived(reports, || Style::Live { width: 100, height: 20 });
            text.lines().filter(|line| line.contains("20.000")).map(str::to_owned).collect()
        };
        // Both ways are measured, and the name comes with both at once.
        let ways = |dst: &str| [Side::Remote, Side::Local].map(|side| of(dst, "192.0.2.1", Some(side))).to_vec();
        let named = rows(&[report(ways("192.0.2.1")), report(ways("db.example.org"))]);
        assert!(
            named.len() == 2 && named.iter().all(|row| row.contains("db.example.org") && row.contains(" 2 ")),
            "{named:?}"
        );
        // Two addresses have one name; each is silent when the other's arrives.
        let [first, second] = ["192.0.2.1", "192.0.2.2"];
        let one = rows(&[
            report(vec![of(first, first, None), of(second, second, None)]),
            report(vec![of("db.example.org", first, None)]),
            report(vec![of("db.example.org", second, None), of(first, first, None)]),
        ]);
        assert!(one.len() == 1 && one[0].contains("db.example.org") && one[0].contains(" 5 "), "{one:?}");
        // Of two interfaces one is silent since.
        let on = |iface: &str, dst: &str| NamedPair { iface: iface.to_owned(), ..of(dst, first, None) };
        let both = rows(&[report(vec![on("va", first), on("vb", first)]), report(vec![on("va", "db.example.org")])]);
        assert!(both.len() == 2 && both.iter().all(|row| row.contains("db.example.org")), "{both:?}");
    }

    #[test]
    fn what_is_too_small_for_three_decimals_is_less_than_the_last_and_columns_stay_straight() {
        let mut tiny = pair("near", &[1], &[]);
        tiny.summary = super::super::examples::summary_ns(&[476, 476, 900]);
        let text = render(&[tiny, pair("db", &[20_000; 2], &[])], Columns::default());
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[1].ends_with("    0.001    0.001   <0.001   <0.001    0.001    0.001    0.001   <0.001"),
            "{text}"
        );
        assert!(lines[2].ends_with("   20.000    0.000") && lines[1].len() == lines[2].len(), "{text}");
    }

    #[test]
    fn what_was_retransmitted_and_what_failed_have_columns_where_they_are_counted() {
        use super::super::examples::counted;
        let columns = Columns { health: true, ..Columns::default() };
        let pairs = [counted("db", &[20_000, 23_500]), counted("refuses", &[]), pair("cache", &[300], &[])];
        let text = render(&pairs, columns);
        let ends = ["  jitter  retrans   failed  ms", "   3.500   0.88 %        3", "       -        -        -"];
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.iter().zip(ends).all(|(line, end)| line.ends_with(end)), "{text}");
        // Of one there is no round trip at all.
        assert!(lines[3].contains("refuses  va           0        -") && lines[3].ends_with(" 3"), "{text}");
        let text = render_within(120, &pairs, columns);
        assert!(text.contains(" 0.88 % ") && text.contains("retrans failed"), "{text}");
        assert!(!render_within(79, &pairs, columns).contains("retrans"));
    }

    #[test]
    fn whose_connections_they_are_has_a_column_and_a_row_each_where_it_is_asked_for() {
        let of = |process: &str| NamedPair { process: process.to_owned(), ..pair("db", &[20_000, 23_500], &[]) };
        let pairs = [of("nginx.service"), of("a\x1b[2J.service"), pair("cache", &[300], &[])];
        let columns = Columns { process: true, ..Columns::default() };
        for text in [render(&pairs, columns), render_within(160, &pairs, columns)] {
            let lines: Vec<&str> = text.lines().collect();
            assert!(lines[0].contains(" iface") && lines[0].contains(" process "), "{text}");
            assert!(lines[1..3].iter().any(|line| line.contains(" nginx.service ")), "{text}");
            assert!(lines[3].contains("cache") && !text.contains('\x1b'), "{text}");
        }
        assert!(!render(&pairs, Columns::default()).contains("nginx"));
        let twice = [report(pairs.to_vec()), report(pairs.to_vec())];
        let out = Shared::default();
        let mut table = Table::new(Printable::new(Box::new(out.clone()), Spelling::Text), columns, || Style::Live {
            width: 160,
            height: 12,
        });
        twice.iter().for_each(|report| table.report(report).unwrap());
        let text = out.take();
        assert_eq!(text.rsplit("\x1b[H").next().unwrap().matches(".service").count(), 2, "{text}");
    }

    #[test]
    fn sides_and_the_kernels_word_have_columns_where_they_are_asked_for() {
        let kernel = KernelRtt::of(Rtt(25_000_000), Some(Rtt(19_500_000)));
        let local = NamedPair { side: Some(Side::Local), ..pair("db", &[300], &[]) };
        let remote = NamedPair { side: Some(Side::Remote), kernel: Some(kernel), ..pair("db", &[20_000, 23_500], &[]) };
        let text = render(&[local, remote], Columns { side: true, kernel: true, ..Columns::default() });
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].ends_with(" jitter   kernel    k.min  ms") && lines[0].contains("iface  side   "), "{text}");
        assert!(
            lines[1].contains("va     remote        2") && lines[1].ends_with("    3.500   25.000   19.500"),
            "{text}"
        );
        assert!(
            lines[2].contains("va     local         1") && lines[2].ends_with("    0.300        -        -        -"),
            "{text}"
        );
    }
}
