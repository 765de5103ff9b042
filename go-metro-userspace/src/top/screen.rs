//! The screen: a title, the drops, the table, the chosen row at closer look, and the keys. What does not fit is left
//! out whole, as [`fit`] says.

use go_metro_rtt::{PeerHealth, Stats};
use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Clear, Paragraph, RenderDirection, Sparkline, Wrap};

use super::app::{App, Kind, Sort};
use super::columns::{Columns, Level, short_count, short_ms};
use super::model::{HISTORY, Model, Row, RowKey, distribution};
use crate::metrics::pair::PEER;
use crate::output::fit::{self, Claim, Order};
use crate::output::number;
use crate::terminal;

/// Below this height the table alone is shown.
const TALL: u16 = 18;
/// Lines of the closer look, with its frame.
const DETAIL: u16 = 10;
/// Least lines of a screen: title, drops, header, a row, a note and the keys.
const LEAST: u16 = 6;
/// Columns of a number of samples in the distribution.
const COUNT: u16 = 8;
/// Below this width the closer look has no distribution.
const ROOMY: u16 = 64;
/// Below this width counts follow their names.
const WIDE_COUNTS: usize = 50;
/// Seconds of the trend.
const TREND: usize = 12;

/// Before the other end of round trips to this end.
const TO_LOCAL: &str = "←";

const TITLE: Style = Style::new().add_modifier(Modifier::BOLD);
const FAINT: Style = Style::new().add_modifier(Modifier::DIM);
const ALARM: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
const NOTABLE: Style = Style::new().fg(Color::Yellow);
const CHOSEN: Style = Style::new().add_modifier(Modifier::REVERSED);
const ACCENT: Style = Style::new().fg(Color::Cyan);

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, app: &mut App) {
    let area = frame.area();
    if area.height < LEAST {
        let text = fit::longest(
            [&format!("terminal too small: {LEAST} lines needed"), "terminal too small", "too small"],
            area.width.into(),
        );
        frame.render_widget(Line::from(text), area);
        return;
    }
    let detail = if area.height >= TALL { DETAIL + area.height.saturating_sub(24) / 4 } else { 0 };
    let [title, drops, table, closer, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(3),
        Constraint::Length(detail),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(title_line(app, title.width), title);
    frame.render_widget(drops_line(app, drops.width), drops);
    draw_table(frame, app, table);
    if detail > 0 {
        draw_closer(frame, app, closer);
    }
    frame.render_widget(keys_line(app, keys.width), keys);
    if app.help {
        draw_help(frame, app.columns, area);
    }
}

/// Replaces what is not ASCII, for a terminal whose locale does not write UTF-8.
pub(super) fn to_ascii(buffer: &mut Buffer) {
    for cell in buffer.content.iter_mut().filter(|cell| !cell.symbol().is_ascii()) {
        let stand_in = terminal::ascii(cell.symbol()).chars().next().unwrap_or(' ');
        cell.set_char(stand_in);
    }
}

/// Words of a line, each with its style.
struct Word(String, Style);

impl AsRef<str> for Word {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// As many words as fit, whole.
fn line(words: Vec<Word>, width: u16) -> Line<'static> {
    let mut spans = Vec::new();
    for Word(text, style) in fit::parts(words, width.into()) {
        if !spans.is_empty() {
            spans.push(Span::raw("  "));
        }
        spans.push(Span::styled(text, style));
    }
    Line::from(spans)
}

fn title_line(app: &App, width: u16) -> Line<'static> {
    let now = app.now();
    let plain = Style::new();
    let mut words = vec![Word("go-metro top".to_owned(), TITLE)];
    if now.second == 0 {
        words.push(Word(format!("{}: waiting for the first second", app.label), plain));
        return line(words, width);
    }
    if app.is_paused() {
        words.push(Word("PAUSED".to_owned(), ALARM));
    }
    // A pause holds the rates that were those of the rows.
    let held = app.shown();
    let rate =
        |of: fn((f64, f64)) -> f64| held.rates.map_or_else(|| "-".to_owned(), |rates| of(rates).round().to_string());
    let rest = [
        format!("{} on {}", now.backend, now.interfaces.join(" ")),
        format!("{} flows", held.counters.flows),
        format!("{} packets/s", rate(|(packets, _)| packets)),
        format!("{} samples/s", rate(|(_, samples)| samples)),
    ];
    words.extend(rest.map(|text| Word(text, plain)));
    line(words, width)
}

/// What is missing from what is shown; what should be 0 is loud when it is not, and comes first where there is little
/// room.
fn drops_line(app: &App, width: u16) -> Line<'static> {
    let counters = &app.now().counters;
    let loud = |name: &str, count: u64| Word(format!("{name} {count}"), if count > 0 { ALARM } else { FAINT });
    let quiet = |name: &str, count: u64| Word(format!("{name} {count}"), FAINT);
    let mut words = vec![
        loud("lost", counters.lost),
        loud("evicted", counters.evicted),
        loud("unparsable", counters.unparsable),
        quiet("rejected", counters.rejected),
        quiet("retransmitted", counters.retransmissions),
    ];
    if counters.left_out > 0 {
        words.insert(1, loud("not shown", counters.left_out));
    }
    line(words, width)
}

/// A row's cells: this end, the other, interface, samples, the numbers, the trend.
struct Cells {
    src: String,
    dst: String,
    /// Before the other end's name, as wide in every row so that a name is shortened alike in both of its rows; never
    /// shortened.
    way: &'static str,
    /// Behind the other end's name, and never shortened.
    note: String,
    /// This end's port, of a flow.
    port: Option<u16>,
    iface: String,
    numbers: Vec<(String, Style)>,
    trend: String,
}

/// How a cell is written.
fn style_of(level: Level) -> Style {
    match level {
        Level::Quiet => Style::new(),
        Level::Notable => NOTABLE,
        Level::Bad => ALARM,
    }
}

impl Cells {
    fn of(key: &RowKey, row: &Row, columns: Columns, second: u64, has_both: bool) -> Self {
        let course = match columns {
            Columns::Times => row.history(second, TREND),
            Columns::Health => {
                row.resent(second, TREND).iter().map(|count| (*count > 0).then_some(*count as f64)).collect()
            }
        };
        Self {
            src: key.src.clone(),
            dst: key.dst.clone(),
            way: match (key.to_local, has_both) {
                (true, _) => TO_LOCAL,
                (false, true) => " ",
                (false, false) => "",
            },
            note: if row.is_connect() && row.stats().is_some() { " (connect)".to_owned() } else { String::new() },
            port: local_port(key),
            iface: key.iface.clone(),
            numbers: columns.each().iter().map(|column| (column.cell(row), style_of(column.level(row)))).collect(),
            trend: trend(&course),
        }
    }
}

fn draw_table(frame: &mut Frame<'_>, app: &mut App, area: Rect) {
    let [body, foot] = Layout::vertical([Constraint::Min(2), Constraint::Length(1)]).areas(area);
    app.page = usize::from(body.height.saturating_sub(1)).max(1);
    let second = app.shown().second;
    let rows = app.rows();
    let place = app.chosen.as_ref().and_then(|chosen| rows.iter().position(|(key, _)| *key == chosen));
    let place = place.unwrap_or(0).min(rows.len().saturating_sub(1));
    // As far as the chosen row needs, no further than the last row allows.
    let first = app.first.clamp((place + 1).saturating_sub(app.page), place).min(rows.len().saturating_sub(app.page));
    let has_both = rows.iter().any(|(key, _)| key.to_local) && rows.iter().any(|(key, _)| !key.to_local);
    let cells = rows.iter().skip(first).take(app.page);
    let cells: Vec<Cells> = cells.map(|(key, row)| Cells::of(key, row, app.columns, second, has_both)).collect();
    let chosen = rows.get(place).map(|(key, _)| (*key).clone());
    let all = rows.len();
    drop(rows);
    (app.first, app.chosen) = (first, chosen);
    let lines = match table(app, &cells, body.width.into(), (!cells.is_empty()).then_some(place - first)) {
        Ok(lines) => lines,
        Err(needed) => vec![Line::from(fit::too_small(needed, body.width.into()))],
    };
    frame.render_widget(Paragraph::new(lines), body);
    let kind = if app.kind == Kind::Pairs { "pairs" } else { "flows" };
    let note = if all == 0 {
        let why =
            if app.filter.is_empty() { "no samples yet: waiting for TCP traffic" } else { "no row matches the filter" };
        let short = if app.filter.is_empty() { "waiting for traffic" } else { "no match" };
        fit::longest([why, short], foot.width.into())
    } else if cells.len() < all {
        fit::parts([format!("{} of {all} {kind}", cells.len()), "times in ms".to_owned()], foot.width.into()).join(", ")
    } else {
        fit::parts([format!("{all} {kind}"), "times in ms".to_owned()], foot.width.into()).join(", ")
    };
    frame.render_widget(Line::from(Span::styled(note, FAINT)), foot);
}

/// The rows under their header, in the columns that fit; or the width that they need at least.
fn table(app: &App, cells: &[Cells], width: usize, chosen: Option<usize>) -> Result<Vec<Line<'static>>, usize> {
    let mark = |column: Sort| match (column == app.sort, app.ascending) {
        (false, _) => "",
        (true, true) => "▲",
        (true, false) => "▼",
    };
    let columns = app.columns.each();
    let numbers = columns.iter().enumerate().map(|(at, column)| {
        let is_sorted = app.sort == Sort::Number(at);
        let order = if is_sorted && column.order != Order::Always { Order::Sorted } else { column.order };
        (format!("{}{}", mark(Sort::Number(at)), column.title), order, is_sorted)
    });
    let numbers: Vec<(String, Order, bool)> = numbers.collect();
    let widest =
        |title: &str, of: &dyn Fn(&Cells) -> usize| cells.iter().map(of).chain([fit::width(title)]).max().unwrap_or(0);
    let dst_title = format!("dst{}", mark(Sort::Name));
    // What tells parallel flows apart, where there is no room for the whole of this end.
    let port = |cells: &Cells| if cells.port.is_some() { 6 } else { 0 };
    let mut claims = vec![
        Claim::name(Order::Context, 3, cells.iter().map(|cells| (fit::width(&cells.src), 0))),
        Claim::name(
            Order::Always,
            fit::width(&dst_title),
            cells
                .iter()
                .map(|cells| (fit::width(&cells.dst), fit::width(cells.way) + fit::width(&cells.note) + port(cells))),
        ),
        Claim::name(Order::Interface, 5, cells.iter().map(|cells| (fit::width(&cells.iface), 0))),
    ];
    claims.extend(numbers.iter().enumerate().map(|(at, (title, order, _))| {
        let cell = |cells: &Cells| cells.numbers.get(at).map_or(0, |(cell, _)| fit::width(cell));
        Claim::number(*order, widest(title, &cell).max(columns[at].width))
    }));
    let trend_title = match app.columns {
        Columns::Times => format!("last {TREND} s"),
        Columns::Health => format!("retrans {TREND} s"),
    };
    claims.push(Claim::number(Order::Trend, TREND.max(fit::width(&trend_title))));
    let widths = fit::widths(&claims, width)?;
    let heading =
        |text: String, is_sorted: bool| Span::styled(text, if is_sorted { TITLE.patch(ACCENT) } else { TITLE });
    let joined = |cells: Vec<Option<Span<'static>>>| {
        let mut spans = Vec::new();
        for cell in cells.into_iter().flatten() {
            if !spans.is_empty() {
                spans.push(Span::raw(" "));
            }
            spans.push(cell);
        }
        Line::from(spans)
    };
    let mut header = vec![
        widths[0].map(|width| heading(fit::left("src", width), false)),
        widths[1].map(|width| heading(fit::left(&dst_title, width), app.sort == Sort::Name)),
        widths[2].map(|width| heading(fit::left("iface", width), false)),
    ];
    header.extend(
        numbers
            .iter()
            .zip(&widths[3..])
            .map(|((title, _, is_sorted), width)| width.map(|width| heading(fit::right(title, width), *is_sorted))),
    );
    let last = widths[widths.len() - 1];
    header.push(last.map(|width| heading(fit::left(&trend_title, width), false)));
    let mut lines = vec![joined(header)];
    for (number, row) in cells.iter().enumerate() {
        let named = |name: &str, width: usize| fit::left(&fit::name(name, width), width);
        let other = |width: usize| {
            let port = row.port.filter(|_| widths[0].is_none()).map_or_else(String::new, |port| format!("{port:>5} "));
            let room = width.saturating_sub(fit::width(&port) + fit::width(row.way) + fit::width(&row.note));
            fit::left(&(port + row.way + &fit::name(&row.dst, room) + &row.note), width)
        };
        let mut spans = vec![
            widths[0].map(|width| Span::raw(named(&row.src, width))),
            widths[1].map(|width| Span::raw(other(width))),
            widths[2].map(|width| Span::raw(named(&row.iface, width))),
        ];
        spans.extend(
            row.numbers
                .iter()
                .zip(&widths[3..])
                .map(|((cell, style), width)| width.map(|width| Span::styled(fit::right(cell, width), *style))),
        );
        spans.push(last.map(|_| Span::styled(row.trend.clone(), accent(app.columns))));
        let line = joined(spans);
        let padding = width.saturating_sub(line.width());
        let line = if padding > 0 { joined_to(line, padding) } else { line };
        lines.push(if Some(number) == chosen { line.style(CHOSEN) } else { line });
    }
    Ok(lines)
}

/// A line with blanks to the edge of the screen, so that a mark on it reaches there.
fn joined_to(mut line: Line<'static>, padding: usize) -> Line<'static> {
    line.push_span(Span::raw(" ".repeat(padding)));
    line
}

/// What a course is drawn with.
fn accent(columns: Columns) -> Style {
    match columns {
        Columns::Times => ACCENT,
        Columns::Health => NOTABLE,
    }
}

/// The chosen row: its names whole, its figures, its course, and its distribution or what was counted.
fn draw_closer(frame: &mut Frame<'_>, app: &App, area: Rect) {
    let rows = app.rows();
    let found = app.chosen.as_ref().and_then(|chosen| rows.iter().find(|(key, _)| *key == chosen));
    let Some((key, row)) = found else {
        frame.render_widget(Block::new().borders(Borders::TOP).title(Span::styled(" nothing chosen ", TITLE)), area);
        return;
    };
    let (arrow, width) = (if key.to_local { TO_LOCAL } else { "→" }, usize::from(area.width));
    let whole = format!("{} {arrow} {}  {}", key.src, key.dst, key.iface);
    // Over as many lines as it takes.
    let fits = fit::width(&whole) + 2 <= width;
    let title = if fits { format!(" {whole} ") } else { " chosen ".to_owned() };
    let block = Block::new().borders(Borders::TOP).title(Span::styled(title, TITLE));
    let mut inner = block.inner(area);
    frame.render_widget(block, area);
    let mut above: Vec<Line<'_>> = Vec::new();
    if !fits {
        let ends = [key.src.clone(), format!("{arrow} {}  {}", key.dst, key.iface)];
        let characters = ends.iter().flat_map(|end| {
            let all: Vec<char> = end.chars().collect();
            all.chunks(width.max(1)).map(|part| part.iter().collect::<String>()).collect::<Vec<_>>()
        });
        above.extend(characters.map(|text| Line::from(Span::styled(text, TITLE))));
    }
    if area.width < ROOMY {
        let words = app.columns.each().iter().map(|column| format!("{} {}", column.title, column.cell(row)));
        above.extend(wrapped(words, width).map(|line| Line::from(Span::styled(line, FAINT))));
    }
    let lines = (above.len() as u16).min(inner.height);
    frame.render_widget(Paragraph::new(above), Rect { height: lines, ..inner });
    inner = Rect { y: inner.y + lines, height: inner.height - lines, ..inner };
    if inner.height < 2 {
        return;
    }
    if area.width < ROOMY {
        draw_course(frame, app, row, inner);
        return;
    }
    let [course, gap, shape] =
        Layout::horizontal([Constraint::Percentage(50), Constraint::Length(2), Constraint::Percentage(50)])
            .areas(inner);
    let _ = gap;
    draw_course(frame, app, row, course);
    match (app.columns, row.stats()) {
        (Columns::Times, Some(stats)) => draw_shape(frame, stats, shape),
        (Columns::Times, None) => {}
        (Columns::Health, _) => draw_counts(frame, app.kind, row.summary.health.as_deref(), shape),
    }
}

/// These words over as many lines as they take.
fn wrapped(words: impl Iterator<Item = String>, width: usize) -> impl Iterator<Item = String> {
    let mut words: Vec<String> = words.collect();
    std::iter::from_fn(move || {
        let mut part = fit::parts(words.clone(), width);
        if part.is_empty() {
            // One that is wider than a line has one of its own.
            part.extend(words.first().cloned());
        }
        words.retain(|word| !part.contains(word));
        Some(part.join("  ")).filter(|line| !line.is_empty())
    })
}

/// All that was counted of a pair's connections, a line a metric: of those with labels what is not zero.
fn draw_counts(frame: &mut Frame<'_>, kind: Kind, health: Option<&PeerHealth>, area: Rect) {
    let Some(health) = health else {
        let why = match kind {
            Kind::Pairs => "nothing was counted for its connections",
            Kind::Flows => "counted for pairs, not for single flows",
        };
        frame.render_widget(Span::styled(fit::longest([why], area.width.into()), FAINT), area);
        return;
    };
    let name = |name: &str| name.replace('_', " ");
    let width = usize::from(area.width);
    // Names have a column of their own where there is room for one.
    let widest = PEER.iter().map(|metric| fit::width(metric.name)).max().unwrap_or(0);
    let column = if width >= WIDE_COUNTS { widest } else { 0 };
    let mut lines = Vec::new();
    for metric in PEER {
        let counts = (metric.values)(health).into_iter().filter(|(_, count)| *count > 0);
        let words = counts.map(|(labels, count)| {
            let labels = labels.iter().map(|(_, value)| name(value) + " ");
            labels.collect::<String>() + &short_count(count) + if metric.is_time() { " ms" } else { "" }
        });
        let style = if metric.is_bad { NOTABLE } else { Style::new() };
        let first = format!("{:<column$} ", name(metric.name));
        let rest = " ".repeat(if column > 0 { column + 1 } else { 2 });
        let mut values = wrapped(words, width.saturating_sub(fit::width(&first))).peekable();
        let is_none = values.peek().is_none();
        let all = values.chain(is_none.then(|| "0".to_owned()));
        lines.extend(all.enumerate().map(|(at, text)| {
            let title = if at == 0 { first.clone() } else { rest.clone() };
            let style = if is_none { FAINT } else { style };
            Line::from(vec![Span::styled(title, FAINT), Span::styled(text, style)])
        }));
    }
    frame.render_widget(Paragraph::new(lines), area);
}

fn draw_course(frame: &mut Frame<'_>, app: &App, row: &Row, area: Rect) {
    let model = app.shown();
    // No longer than has been watched.
    let watched = usize::try_from(model.second).unwrap_or(usize::MAX);
    let seconds = usize::from(area.width).min(HISTORY).min(watched);
    let [label, chart] = Layout::vertical([Constraint::Length(1), Constraint::Min(1)]).areas(area);
    let (text, bars) = match app.columns {
        Columns::Times => times_course(row, model, seconds),
        Columns::Health => resent_course(row, model, seconds),
    };
    frame.render_widget(Span::styled(fit::parts([text], area.width.into()).concat(), FAINT), label);
    let spark = Sparkline::default()
        .data(bars.iter().rev().copied())
        .max(bars.iter().flatten().copied().max().unwrap_or(1).max(1))
        .direction(RenderDirection::RightToLeft)
        .style(accent(app.columns));
    frame.render_widget(spark, chart);
}

/// A line on the mean of each second, and its bars.
fn times_course(row: &Row, model: &Model, seconds: usize) -> (String, Vec<Option<u64>>) {
    let history = row.history(model.second, seconds);
    let known = || history.iter().flatten().copied();
    let (low, high) = (known().fold(f64::MAX, f64::min), known().fold(0.0, f64::max));
    if known().next().is_none() {
        return (format!("silent for {seconds} s"), Vec::new());
    }
    // From a little below the lowest, so that small changes of a long way are seen.
    let floor = (low - (high - low) * 0.15).max(0.0).min(low * 0.98);
    let bars = history.iter().map(|mean| mean.map(|mean| (((mean - floor) * 1000.0) as u64).max(1)));
    (format!("last {seconds} s: {} to {} ms", short_ms(low), short_ms(high)), bars.collect())
}

/// A line on what was retransmitted in each second, and its bars.
fn resent_course(row: &Row, model: &Model, seconds: usize) -> (String, Vec<Option<u64>>) {
    let history = row.resent(model.second, seconds);
    let all: u64 = history.iter().sum();
    let text = format!("retransmitted in the last {seconds} s: {}", short_count(all));
    (text, history.into_iter().map(|count| (count > 0).then_some(count)).collect())
}

fn draw_shape(frame: &mut Frame<'_>, stats: &Stats, area: Rect) {
    let bins = usize::from(area.height.saturating_sub(2)).clamp(1, 16);
    let (bars, above) = distribution(stats, bins);
    let most = bars.iter().map(|(.., count)| *count).max().unwrap_or(1).max(1);
    let bars: Vec<([String; 2], u64)> =
        bars.into_iter().map(|(from, to, count)| (number::range(from, to), count)).collect();
    // As wide as the widest, but no narrower than usual.
    let widest = bars.iter().flat_map(|(ends, _)| ends).map(String::len).max().unwrap_or(0).max(6);
    let room = usize::from(area.width).saturating_sub(2 * widest + 4 + usize::from(COUNT));
    let mut lines = vec![Line::from(Span::styled("distribution, up to p99", FAINT))];
    for ([from, to], count) in bars {
        let bar = bar(count as f64 / most as f64, room);
        lines.push(Line::from(vec![
            Span::raw(format!("{from:>widest$}–{to:<widest$} ")),
            Span::styled(format!("{bar:<room$}"), ACCENT),
            Span::styled(format!(" {:>6}", short_count(count)), FAINT),
        ]));
    }
    let tail = format!("{:>6} above, up to {} ms", short_count(above), short_ms(stats.max().as_millis_f64()));
    lines.push(Line::from(Span::styled(tail, FAINT)));
    frame.render_widget(Paragraph::new(lines), area);
}

fn keys_line(app: &App, width: u16) -> Line<'static> {
    if app.typing {
        return Line::from(vec![Span::styled("filter: ", TITLE), Span::raw(format!("{}█", app.filter))]);
    }
    let mut words = Vec::new();
    if !app.filter.is_empty() {
        words.push(Word(format!("filter: {}  Esc clear", app.filter), TITLE));
    }
    let others = if app.kind == Kind::Flows { "Tab pairs" } else { "Tab flows" };
    let columns = if app.columns == Columns::Health { "m times" } else { "m health" };
    let keys = ["q quit", "↑↓ choose", "←→ sort", "h help", columns, "/ filter", others, "r reverse", "space pause"];
    words.extend(keys.map(|key| Word(key.to_owned(), Style::new())));
    let mut spans = Vec::new();
    for Word(text, style) in fit::parts(words, width.into()) {
        if !spans.is_empty() {
            spans.push(Span::raw("  "));
        }
        match text.split_once(' ').filter(|_| style == Style::new()) {
            Some((key, what)) => {
                spans.push(Span::styled(key.to_owned(), TITLE));
                spans.push(Span::styled(format!(" {what}"), FAINT));
            }
            None => spans.push(Span::styled(text, style)),
        }
    }
    Line::from(spans)
}

/// A key, or a word of the screen, and what it is.
type Explained = (&'static str, &'static str);

const KEYS: [Explained; 10] = [
    ("↑ ↓ j k", "choose a row; also PgUp, PgDn, Home, End"),
    ("← → < >", "sort by the column to the left or right"),
    ("r", "reverse the order"),
    ("Tab f", "host pairs or single flows"),
    ("m", "round-trip times or health of connections"),
    ("/", "filter: words that src, dst or iface contain"),
    ("Esc", "clear the filter; quit"),
    ("space p", "pause the display; measuring goes on"),
    ("c", "clear the statistics"),
    ("q Ctrl-C", "quit"),
];

const NOTES: [Explained; 3] = [
    ("←ADDRESS", "round trips to this end: --sides local or both"),
    ("lost", "records lost to a full buffer: see ring_size"),
    ("rejected", "acknowledgements that gave no sample"),
];

/// The columns of [`Columns::Health`].
const HEALTH: [Explained; 8] = [
    ("base", "lowest round trip of the last ten minutes"),
    ("queueing", "median minus base: a queue, or response < 40 ms"),
    ("response", "how long the other end took to respond: median"),
    ("segments", "sent with payload or FIN"),
    ("retrans", "share retransmitted: yellow 0.1 %, red 1 %"),
    ("rto", "of these, because the retransmission timer expired"),
    ("opened", "connections that were established"),
    ("failed", "refused, reset, or not opened in time"),
];

/// What the help says, a line each; the columns come first, as a small screen shows only the beginning.
fn help(columns: Columns) -> Vec<Explained> {
    let blank = ("", "");
    match columns {
        Columns::Times => KEYS.into_iter().chain([blank]).chain(NOTES).collect(),
        Columns::Health => HEALTH.into_iter().chain([blank]).chain(KEYS).chain(NOTES).collect(),
    }
}

fn draw_help(frame: &mut Frame<'_>, columns: Columns, area: Rect) {
    let width = 64.min(area.width);
    let lines: Vec<Line<'_>> = help(columns)
        .into_iter()
        .map(|(key, what)| Line::from(vec![Span::styled(format!(" {key:<10}"), TITLE), Span::raw(what)]))
        .collect();
    let room = usize::from(width.saturating_sub(2)).max(1);
    let wrapped: usize = lines.iter().map(|line| line.width().div_ceil(room).max(1)).sum();
    let height = (wrapped as u16 + 2).min(area.height);
    let place = Rect::new((area.width - width) / 2, (area.height - height) / 2, width, height);
    let block = Block::new().borders(Borders::ALL).title(Span::styled(" keys; any key closes ", TITLE));
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }).block(block), place);
}

/// This end's port, of a flow.
fn local_port(key: &RowKey) -> Option<u16> {
    key.src.parse::<std::net::SocketAddr>().ok().map(|address| address.port())
}

/// A bar of eighths.
fn bar(share: f64, room: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (share.clamp(0.0, 1.0) * room as f64 * 8.0).round() as usize;
    "█".repeat(eighths / 8) + EIGHTHS[eighths % 8]
}

/// A line of bars, from the smallest to the largest of its own.
fn trend(history: &[Option<f64>]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let known = || history.iter().flatten().copied();
    let (low, high) = (known().fold(f64::MAX, f64::min), known().fold(0.0, f64::max));
    let bar = |mean: f64| BARS[if high > low { ((mean - low) / (high - low) * 7.0).round() as usize } else { 0 }];
    history.iter().map(|mean| mean.map_or(' ', bar)).collect()
}

#[cfg(test)]
mod tests;
