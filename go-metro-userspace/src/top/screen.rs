//! The screen: a title, the drops, the table, the chosen row at closer look, and the keys.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Clear, Paragraph, RenderDirection, Row as TableRow, Sparkline, Table};

use super::app::{App, Column, Kind};
use super::model::{HISTORY, Row, RowKey, distribution};
use crate::rtt::{Figure, Stats};

/// Below this height the table alone is shown.
const TALL: u16 = 18;
/// Lines of the closer look, with its frame.
const DETAIL: u16 = 10;
/// Columns of a number: `123.45`.
const NUMBER: u16 = 6;
/// Columns of a number of samples.
const COUNT: u16 = 8;
/// Least columns of a name, and most.
const NAME: (u16, u16) = (15, 40);
/// Below this width one column of numbers makes room.
const ROOMY: u16 = 90;
/// From this width the other end's columns are shown, and from the second the trend.
const WIDE: (u16, u16) = (108, 128);

const TITLE: Style = Style::new().add_modifier(Modifier::BOLD);
const FAINT: Style = Style::new().add_modifier(Modifier::DIM);
const ALARM: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
const CHOSEN: Style = Style::new().add_modifier(Modifier::REVERSED);
const ACCENT: Style = Style::new().fg(Color::Cyan);

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, app: &mut App) {
    let area = frame.area();
    let detail = if area.height >= TALL { DETAIL + area.height.saturating_sub(24) / 4 } else { 0 };
    let [title, drops, table, closer, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(3),
        Constraint::Length(detail),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(title_line(app), title);
    frame.render_widget(drops_line(app), drops);
    draw_table(frame, app, table);
    if detail > 0 {
        draw_closer(frame, app, closer);
    }
    frame.render_widget(keys_line(app), keys);
    if app.help {
        draw_help(frame, area);
    }
}

fn title_line(app: &App) -> Line<'static> {
    let now = app.now();
    let mut line = vec![Span::styled("go-metro top", TITLE)];
    if now.second == 0 {
        line.push(Span::raw(format!("  {}: waiting for the first second", app.label)));
        return Line::from(line);
    }
    let (packets, samples) = now.rates;
    line.push(Span::raw(format!(
        "  {} on {}  {} flows  {} packets/s  {} samples/s",
        now.backend,
        now.interfaces.join(" "),
        now.counters.flows,
        packets.round(),
        samples.round()
    )));
    if app.is_paused() {
        line.push(Span::styled("  PAUSED", ALARM));
    }
    Line::from(line)
}

/// What is missing from what is shown; what should be 0 is loud when it is not.
fn drops_line(app: &App) -> Line<'static> {
    let counters = &app.now().counters;
    let loud =
        |name: &str, count: u64| Span::styled(format!("{name} {count}  "), if count > 0 { ALARM } else { FAINT });
    let quiet = |name: &str, count: u64| Span::styled(format!("{name} {count}  "), FAINT);
    let mut spans = vec![
        Span::styled("drops: ", FAINT),
        loud("lost", counters.lost),
        loud("evicted", counters.evicted),
        loud("unparsable", counters.unparsable),
        quiet("rejected", counters.rejected),
        quiet("retransmitted", counters.retransmissions),
    ];
    if counters.left_out > 0 {
        spans.push(loud("not shown", counters.left_out));
    }
    Line::from(spans)
}

fn draw_table(frame: &mut Frame<'_>, app: &mut App, area: Rect) {
    app.page = usize::from(area.height.saturating_sub(2)).max(1);
    let (is_wide, has_trend) = (area.width >= WIDE.0, area.width >= WIDE.1);
    // On a small screen names need the room; the closer look tells the smallest anyway.
    let hidden = (area.width < ROOMY).then_some(if app.sort == Column::Min { Column::Jitter } else { Column::Min });
    let columns: Vec<Column> = Column::ALL[1..].iter().copied().filter(|column| Some(*column) != hidden).collect();
    let numbers = COUNT + 1 + (NUMBER + 1) * (columns.len() as u16 - 1);
    let names = if is_wide { 2 } else { 1 };
    let other = if is_wide { 10 } else { 0 } + if has_trend { 13 } else { 0 };
    let name = (area.width.saturating_sub(numbers + other) / names).saturating_sub(1).clamp(NAME.0, NAME.1);
    let second = app.shown().second;
    let rows = app.rows();
    let place = app.chosen.as_ref().and_then(|chosen| rows.iter().position(|(key, ..)| *key == chosen));
    let place = place.unwrap_or(0).min(rows.len().saturating_sub(1));
    let lines: Vec<TableRow<'_>> = rows
        .iter()
        .map(|(key, row, stats)| {
            let mut cells = Vec::new();
            if is_wide {
                cells.push(Cell::from(fitted(&key.src, name)));
            }
            cells.push(Cell::from(match local_port(key).filter(|_| !is_wide) {
                // What tells parallel flows apart, where there is no room for the whole of this end.
                Some(port) => format!("{port:>5} {}", fitted(&dst(key, row), name - 6)),
                None => fitted(&dst(key, row), name),
            }));
            if is_wide {
                cells.push(Cell::from(fitted(&key.iface, 9)));
            }
            cells.extend(columns.iter().map(|column| {
                let text = column.figure(stats).map_or_else(|| short_count(stats.count()), shown);
                Cell::from(Line::from(text).alignment(Alignment::Right))
            }));
            if has_trend {
                cells.push(Cell::from(Span::styled(trend(&row.history(second, 12)), ACCENT)));
            }
            TableRow::new(cells)
        })
        .collect();
    let chosen = rows.get(place).map(|(key, ..)| (*key).clone());
    let counted = format!("{} {}", rows.len(), if app.kind == Kind::Pairs { "pairs" } else { "flows" });
    let mut widths = Vec::new();
    let mut titles = Vec::new();
    let mark = |column: Column| match (column == app.sort, app.ascending) {
        (false, _) => "",
        (true, true) => "▲",
        (true, false) => "▼",
    };
    let heading = |text: String, is_sorted: bool| {
        let style = if is_sorted { TITLE.patch(ACCENT) } else { TITLE };
        Line::from(Span::styled(text, style))
    };
    if is_wide {
        titles.push(Cell::from(heading("src".to_owned(), false)));
        widths.push(Constraint::Length(name));
    }
    titles.push(Cell::from(heading(format!("dst{}", mark(Column::Dst)), app.sort == Column::Dst)));
    widths.push(Constraint::Length(name));
    if is_wide {
        titles.push(Cell::from(heading("iface".to_owned(), false)));
        widths.push(Constraint::Length(9));
    }
    for column in &columns {
        let text = format!("{}{}", mark(*column), column.title());
        let width = if *column == Column::Samples { COUNT } else { NUMBER };
        let text = if text.chars().count() > usize::from(width) { column.title().to_owned() } else { text };
        titles.push(Cell::from(heading(text, *column == app.sort).alignment(Alignment::Right)));
        widths.push(Constraint::Length(width));
    }
    if has_trend {
        titles.push(Cell::from(heading("last 12 s".to_owned(), false)));
        widths.push(Constraint::Length(12));
    }
    let table = Table::new(lines, widths).header(TableRow::new(titles)).column_spacing(1).row_highlight_style(CHOSEN);
    let is_empty = rows.is_empty();
    drop(rows);
    app.table.select(chosen.is_some().then_some(place));
    app.chosen = chosen;
    let [body, foot] = Layout::vertical([Constraint::Min(2), Constraint::Length(1)]).areas(area);
    frame.render_stateful_widget(table, body, &mut app.table);
    let note = if is_empty {
        let why =
            if app.filter.is_empty() { "no sample yet: waiting for TCP traffic" } else { "nothing passes the filter" };
        Span::styled(why, FAINT)
    } else {
        Span::styled(format!("{counted}, times in ms"), FAINT)
    };
    frame.render_widget(Line::from(note), foot);
}

/// The chosen row: its course and its distribution.
fn draw_closer(frame: &mut Frame<'_>, app: &App, area: Rect) {
    let rows = app.rows();
    let found = app.chosen.as_ref().and_then(|chosen| rows.iter().find(|(key, ..)| *key == chosen));
    let title = match found {
        Some((key, ..)) => {
            let arrow = if key.to_local { "←" } else { "→" };
            let text = format!(" {} {arrow} {}  {} ", key.src, key.dst, key.iface);
            fitted(&text, area.width.saturating_sub(2))
        }
        None => " nothing chosen ".to_owned(),
    };
    let block = Block::new().borders(Borders::TOP).title(Span::styled(title, TITLE));
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let Some((_, row, stats)) = found else { return };
    let [course, gap, shape] =
        Layout::horizontal([Constraint::Percentage(50), Constraint::Length(2), Constraint::Percentage(50)])
            .areas(inner);
    let _ = gap;
    draw_course(frame, row, app.shown().second, course);
    draw_shape(frame, stats, shape);
}

fn draw_course(frame: &mut Frame<'_>, row: &Row, second: u64, area: Rect) {
    let seconds = usize::from(area.width).min(HISTORY);
    let history = row.history(second, seconds);
    let known = || history.iter().flatten().copied();
    let (low, high) = (known().fold(f64::MAX, f64::min), known().fold(0.0, f64::max));
    let [label, chart] = Layout::vertical([Constraint::Length(1), Constraint::Min(1)]).areas(area);
    if known().next().is_none() {
        frame.render_widget(Span::styled(format!("silent for {seconds} s"), FAINT), label);
        return;
    }
    let text = format!("last {seconds} s: {} to {} ms", short_ms(low), short_ms(high));
    frame.render_widget(Span::styled(fitted(&text, area.width), FAINT), label);
    // From a little below the lowest, so that small changes of a long way are seen.
    let floor = (low - (high - low) * 0.15).max(0.0).min(low * 0.98);
    let bars = history.iter().rev().map(|mean| mean.map(|mean| (((mean - floor) * 1000.0) as u64).max(1)));
    let spark = Sparkline::default()
        .data(bars)
        .max((((high - floor) * 1000.0) as u64).max(1))
        .direction(RenderDirection::RightToLeft)
        .style(ACCENT);
    frame.render_widget(spark, chart);
}

fn draw_shape(frame: &mut Frame<'_>, stats: &Stats, area: Rect) {
    let bins = usize::from(area.height.saturating_sub(2)).clamp(1, 16);
    let (bars, above) = distribution(stats, bins);
    let most = bars.iter().map(|(.., count)| *count).max().unwrap_or(1).max(1);
    let room = usize::from(area.width).saturating_sub(16 + usize::from(COUNT));
    let mut lines = vec![Line::from(Span::styled("distribution, up to p99", FAINT))];
    for (from, to, count) in bars {
        let bar = bar(count as f64 / most as f64, room);
        lines.push(Line::from(vec![
            Span::raw(format!("{:>6}–{:<6} ", short_ms(from), short_ms(to))),
            Span::styled(format!("{bar:<room$}"), ACCENT),
            Span::styled(format!(" {:>6}", short_count(count)), FAINT),
        ]));
    }
    let tail = format!("{:>6} above, up to {} ms", short_count(above), short_ms(stats.max().as_millis_f64()));
    lines.push(Line::from(Span::styled(tail, FAINT)));
    frame.render_widget(Paragraph::new(lines), area);
}

fn keys_line(app: &App) -> Line<'static> {
    if app.typing {
        return Line::from(vec![Span::styled("filter: ", TITLE), Span::raw(format!("{}█", app.filter))]);
    }
    let mut spans = Vec::new();
    if !app.filter.is_empty() {
        spans.push(Span::styled(format!("filter: {}  Esc clear  ", app.filter), TITLE));
    }
    let keys = [
        ("q", "quit"),
        ("↑↓", "choose"),
        ("←→", "sort"),
        ("r", "reverse"),
        ("/", "filter"),
        ("Tab", "flows"),
        ("space", "pause"),
        ("h", "help"),
    ];
    for (key, what) in keys {
        let what = if key == "Tab" && app.kind == Kind::Flows { "pairs" } else { what };
        spans.push(Span::styled(key, TITLE));
        spans.push(Span::styled(format!(" {what}  "), FAINT));
    }
    Line::from(spans)
}

const HELP: [(&str, &str); 12] = [
    ("↑ ↓ j k", "choose a row; PgUp, PgDn, Home, End too"),
    ("← → < >", "sort by the column to the left, to the right"),
    ("r", "the other way round"),
    ("Tab f", "host pairs, or single flows"),
    ("/", "filter: words that src, dst or iface contain"),
    ("Esc", "clear the filter; quit"),
    ("space p", "pause; what comes meanwhile is not lost"),
    ("c", "clear the statistics"),
    ("q Ctrl-C", "quit"),
    ("", ""),
    ("lost", "records that a full buffer cost: see ring_size"),
    ("rejected", "acknowledgements that cannot be timed surely"),
];

fn draw_help(frame: &mut Frame<'_>, area: Rect) {
    let (width, height) = (64.min(area.width), (HELP.len() as u16 + 2).min(area.height));
    let place = Rect::new((area.width - width) / 2, (area.height - height) / 2, width, height);
    let lines = HELP.map(|(key, what)| Line::from(vec![Span::styled(format!(" {key:<10}"), TITLE), Span::raw(what)]));
    let block = Block::new().borders(Borders::ALL).title(Span::styled(" keys; any key closes ", TITLE));
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(lines.to_vec()).block(block), place);
}

/// This end's port, of a flow.
fn local_port(key: &RowKey) -> Option<u16> {
    key.src.parse::<std::net::SocketAddr>().ok().map(|address| address.port())
}

/// The other end; marked where only its handshakes were seen.
fn dst(key: &RowKey, row: &Row) -> String {
    let side = if key.to_local { "←" } else { "" };
    let note = if row.is_connect() { " (connect)" } else { "" };
    format!("{side}{}{note}", key.dst)
}

/// A figure in at most six columns, with the digits that it deserves.
fn shown(figure: Figure) -> String {
    if figure.is_exact { short_ms(figure.ms) } else { format!("{:.*}", figure.decimals(3), figure.ms) }
}

/// At most six columns: as many decimals as there is room for.
fn short_ms(ms: f64) -> String {
    match ms {
        ms if ms < 9.999_5 => format!("{ms:.3}"),
        ms if ms < 99.995 => format!("{ms:.2}"),
        ms if ms < 9999.95 => format!("{ms:.1}"),
        ms => format!("{ms:.0}"),
    }
}

fn short_count(count: u64) -> String {
    match count {
        0..=999_999 => count.to_string(),
        1_000_000..=999_999_999 => format!("{:.2}M", count as f64 / 1e6),
        _ => format!("{:.2}G", count as f64 / 1e9),
    }
}

/// A name in so many columns: what is too long keeps its end, which tells hosts of one address block apart.
fn fitted(name: &str, width: u16) -> String {
    let (length, width) = (name.chars().count(), usize::from(width));
    if length <= width {
        return name.to_owned();
    }
    let tail: String = name.chars().skip(length + 1 - width.max(1)).collect();
    format!("…{tail}")
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
