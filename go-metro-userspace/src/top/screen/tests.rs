//! Whole screens, as a person would see them. `GO_METRO_BLESS=1` rewrites them, to be looked at before they are
//! committed.

use std::net::SocketAddr;

use go_metro_rtt::{
    Addr, By, Cause, Class, Connect, Endpoint, FlowKey, Kind as SampleKind, Label, Nanos, PairSummary, Place, Role,
    Rtt, Sample, SeqNum, Side, SummaryLimits,
};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::super::app::Wish;
use super::*;
use crate::status::Live;
use crate::status::live::{Counters, LiveFlow, LivePair};

/// A second's samples of a flow: these RTTs, in microseconds.
fn flow(local: &str, remote: &str, name: &str, kind: SampleKind, us: impl IntoIterator<Item = u64>) -> LiveFlow {
    let (local, remote): (SocketAddr, SocketAddr) = (local.parse().unwrap(), remote.parse().unwrap());
    let end = |address: SocketAddr| Endpoint { addr: Addr::from(address.ip()), port: address.port() };
    let key = FlowKey { local: end(local), remote: end(remote), ifindex: 2, side: Side::Remote };
    let mut summary = PairSummary::default();
    let limits = SummaryLimits { keeps_choice: false, ..SummaryLimits::default() };
    for us in us {
        let (acked_at, ack, class) = (Nanos(1), SeqNum(1), Class::Exact);
        let (rtt, label, place) = (Rtt(us * 1000), Label::NONE, Place::default());
        let sample = Sample { flow: key, acked_at, ack, rtt, kind, class, delayed: false, label, place };
        summary.add(&sample, &limits);
    }
    let (name, iface) = (name.to_owned(), "eth0".to_owned());
    LiveFlow { local, remote, name, group: None, service: None, iface, to_local: false, summary }
}

/// A minute of four peers, two of whose flows are parallel.
fn example() -> App {
    let mut app = App::new("capturing".to_owned(), false, Columns::Times);
    for second in 0..60_u64 {
        let wave = |base: u64, swing: u64| (0..20).map(move |k| base + (second * 37 + k * 13) % swing * ((k % 5) + 1));
        let mut flows = vec![
            flow("10.0.0.5:40001", "192.0.2.10:5432", "db.example.org", SampleKind::Data, wave(420, 90)),
            flow("10.0.0.5:40002", "192.0.2.10:5432", "db.example.org", SampleKind::Data, wave(430, 80)),
            flow("10.0.0.5:40003", "198.51.100.7:443", "198.51.100.7", SampleKind::Data, wave(24_800, 900)),
            flow(
                "[2001:db8::5]:40004",
                "[2001:db8:9:8:7:6:5:4321]:443",
                "2001:db8:9:8:7:6:5:4321",
                SampleKind::Data,
                wave(181_000, 6_000).take(3),
            ),
        ];
        if second == 3 {
            flows.push(flow("10.0.0.5:40009", "203.0.113.9:22", "203.0.113.9", SampleKind::Connect, [1_234_567]));
        }
        let samples = (second + 1) * 63;
        let counters = Counters {
            packets: samples * 7,
            records: samples * 3,
            samples,
            flows: 5,
            rejected: second / 4,
            retransmissions: second / 9,
            lost: if second > 50 { 12 } else { 0 },
            ..Counters::default()
        };
        app.add(&Live {
            program: "0.1.0".to_owned(),
            at_ns: second * 1_000_000_000,
            interval_s: 1.0,
            backend: "ebpf".to_owned(),
            interfaces: vec!["eth0".to_owned()],
            counters,
            flows,
            pairs: vec![
                pair("192.0.2.10", "db.example.org", |health| {
                    health.segments = 4_000;
                    health.connects[Role::Client as usize][Connect::Established as usize] = u64::from(second < 2);
                }),
                pair("198.51.100.7", "198.51.100.7", |health| {
                    health.segments = 120;
                    health.retransmits[Cause::Fast as usize] = second % 3;
                    health.retransmits[Cause::Timeout as usize] = u64::from(second % 20 == 0);
                    health.spurious = u64::from(second == 9);
                }),
                pair("2001:db8:9:8:7:6:5:4321", "2001:db8:9:8:7:6:5:4321", |health| {
                    health.segments = 300;
                    health.retransmits[Cause::TailProbe as usize] = u64::from(second % 20 == 0);
                    health.resets[By::Remote as usize] = u64::from(second == 30);
                }),
                // No round trip is known of it.
                pair("203.0.113.77", "203.0.113.77", |health| {
                    health.connects[Role::Client as usize][Connect::Refused as usize] = 1;
                }),
            ],
            ..Live::default()
        });
    }
    app
}

/// What a second counted of a pair.
fn pair(remote: &str, name: &str, count: impl FnOnce(&mut PeerHealth)) -> LivePair {
    let remote: std::net::IpAddr = remote.parse().unwrap();
    let local = if remote.is_ipv6() { "2001:db8::5" } else { "10.0.0.5" };
    let mut health = PeerHealth::default();
    count(&mut health);
    let (local, name, iface) = (local.parse().unwrap(), name.to_owned(), "eth0".to_owned());
    LivePair { local, remote, name, group: None, service: None, iface, to_local: false, health }
}

fn press(app: &mut App, keys: &str) -> Option<Wish> {
    let mut wish = None;
    for key in keys.split(' ') {
        let code = match key {
            "Tab" => KeyCode::Tab,
            "Enter" => KeyCode::Enter,
            "Esc" => KeyCode::Esc,
            "Down" => KeyCode::Down,
            "Up" => KeyCode::Up,
            "End" => KeyCode::End,
            "Left" => KeyCode::Left,
            "Right" => KeyCode::Right,
            "space" => KeyCode::Char(' '),
            "" => continue,
            other => KeyCode::Char(other.chars().next().unwrap()),
        };
        wish = app.key(KeyEvent::new(code, KeyModifiers::NONE));
    }
    wish
}

fn drawn(app: &mut App, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, app)).unwrap();
    let buffer = terminal.backend().buffer();
    let line = |y: u16| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    (0..height).map(|y| line(y).trim_end().to_owned() + "\n").collect()
}

fn is_as_before(name: &str, screen: &str) {
    crate::output::examples::is_as_before("top/screens", name, screen);
}

#[test]
fn screens_are_as_they_were_looked_at() {
    let mut app = example();
    for (width, height) in [(40, 24), (60, 24), (80, 24), (120, 40), (200, 30)] {
        is_as_before(&format!("pairs-{width}x{height}"), &drawn(&mut app, width, height));
    }
    press(&mut app, "Tab Down");
    for (width, height) in [(40, 24), (80, 24), (120, 40)] {
        is_as_before(&format!("flows-{width}x{height}"), &drawn(&mut app, width, height));
    }
    press(&mut app, "m");
    is_as_before("health-flows-80x24", &drawn(&mut app, 80, 24));
    press(&mut app, "Tab Down");
    for (width, height) in [(40, 24), (60, 24), (80, 24), (120, 40)] {
        is_as_before(&format!("health-{width}x{height}"), &drawn(&mut app, width, height));
    }
    press(&mut app, "h");
    is_as_before("help-health-80x24", &drawn(&mut app, 80, 24));
    press(&mut app, "h");
    press(&mut app, "m");
    press(&mut app, "h");
    is_as_before("help-80x24", &drawn(&mut app, 80, 24));
    is_as_before("help-40x24", &drawn(&mut app, 40, 24));
    is_as_before("waiting-80x24", &drawn(&mut App::new("capturing".to_owned(), false, Columns::Times), 80, 24));
}

/// The colour of a cell of the table's row of `name`: that of the first of its characters.
fn color(app: &mut App, name: &str, cell: &str) -> Color {
    let mut terminal = Terminal::new(TestBackend::new(120, 40)).unwrap();
    terminal.draw(|frame| draw(frame, app)).unwrap();
    let buffer = terminal.backend().buffer();
    let line = |y: u16| (0..120).map(|x| buffer[(x, y)].symbol()).collect::<Vec<_>>();
    let y = (3..20).find(|y| line(*y).concat().contains(name)).unwrap();
    let place = (0..120).find(|x| line(y)[usize::from(*x)..].concat().starts_with(&format!(" {cell}"))).unwrap();
    buffer[(place + 1, y)].fg
}

#[test]
fn what_was_lost_and_what_failed_has_a_color_and_pairs_without_a_round_trip_a_row() {
    let mut app = example();
    press(&mut app, "m");
    // 63 of 7,200 segments; 3 of 18,000; none.
    assert_eq!(color(&mut app, "198.51.100.7", "0.88 %"), Color::Yellow);
    assert_eq!(color(&mut app, "2001:db8:9:8:7:6:5:4321", "0.02 %"), Color::Reset);
    assert_eq!(color(&mut app, "2001:db8:9:8:7:6:5:4321", "1 "), Color::Red, "a reset");
    assert_eq!(color(&mut app, "db.example.org", "0 %"), Color::Reset);
    assert_eq!(color(&mut app, "203.0.113.77", "60 "), Color::Red, "refused");
    // By what was retransmitted, most first.
    press(&mut app, "Right Right Right Right Right");
    let screen = drawn(&mut app, 120, 40);
    assert!(screen.contains("▼retrans") && screen.lines().nth(3).unwrap().contains("198.51.100.7"), "{screen}");
    // Of times it has none, and those have a place of their own to be sorted by.
    press(&mut app, "m");
    let screen = drawn(&mut app, 120, 40);
    assert!(screen.contains("▼samples") && !screen.contains("203.0.113.77"), "{screen}");
}

#[test]
fn the_base_is_the_lowest_of_ten_minutes_and_goes_with_the_name() {
    let mut app = App::new("capturing".to_owned(), false, Columns::Health);
    let mut second = |name: &str, us: u64| {
        let flows = vec![flow("10.0.0.5:1", "192.0.2.1:443", name, SampleKind::Data, [us])];
        let pairs = vec![pair("192.0.2.1", name, |health| health.segments = 1)];
        app.add(&Live { interval_s: 1.0, flows, pairs, ..Live::default() });
        let rows = app.rows();
        assert_eq!(rows.len(), 1, "it is one row");
        let row = rows[0].1;
        (rows[0].0.dst.clone(), row.base.unwrap().0 / 1000, row.summary.health.as_ref().unwrap().segments)
    };
    assert_eq!(second("192.0.2.1", 100), ("192.0.2.1".to_owned(), 100, 1));
    assert_eq!(second("db.example.org", 300), ("db.example.org".to_owned(), 100, 2));
    for _ in 0..597 {
        assert_eq!(second("db.example.org", 300).1, 100);
    }
    // The minute of the first is over.
    assert_eq!(second("db.example.org", 300), ("db.example.org".to_owned(), 300, 600));
}

/// Long addresses and names, and numbers of many digits.
fn long() -> App {
    let mut app = App::new("capturing".to_owned(), false, Columns::Times);
    let v6 = "2001:db8:1234:5678:9abc:def0:1:2";
    let flows = vec![
        flow("10.0.0.5:40001", "192.0.2.10:5432", "db-1.eu-west-1.internal.example.org", SampleKind::Data, [1_501_000]),
        flow("[2001:db8:85a3:1234:5678:8a2e:370:7334]:1", &format!("[{v6}]:443"), v6, SampleKind::Data, [12_345_678]),
        flow("10.0.0.5:9", "203.0.113.9:22", "bastion.example.org", SampleKind::Connect, vec![999_999_000; 3]),
    ];
    app.add(&Live { interval_s: 1.0, flows, ..Live::default() });
    app
}

#[test]
fn no_number_header_or_name_is_cut_without_a_sign() {
    let mut app = long();
    for width in [40, 60, 80, 120, 200] {
        is_as_before(&format!("long-{width}x24"), &drawn(&mut app, width, 24));
    }
    // At every width, what is in the columns is what is in them where there is room for all.
    let numbers = |screen: &str, row: usize| -> Vec<String> {
        let line = screen.lines().nth(row).unwrap();
        line.split_whitespace().filter(|word| word.parse::<f64>().is_ok()).map(str::to_owned).collect()
    };
    for keys in ["r", "Right", "Right", "Tab", "Left"] {
        press(&mut app, keys);
        let whole = drawn(&mut app, 250, 24);
        let titles: Vec<&str> = whole.lines().nth(2).unwrap().split_whitespace().collect();
        for width in 20..250 {
            let screen = drawn(&mut app, width, 24);
            if screen.contains("too small") {
                continue;
            }
            let header = screen.lines().nth(2).unwrap();
            assert!(header.split_whitespace().all(|title| titles.contains(&title)), "{width}:\n{screen}");
            for row in 3..6 {
                let all = [numbers(&whole, row), vec!["40001".into(), "1".into(), "9".into()]].concat();
                let cut = numbers(&screen, row).into_iter().find(|number| !all.contains(number));
                assert!(cut.is_none(), "{cut:?} at {width}:\n{screen}");
            }
        }
    }
    assert!(drawn(&mut app, 15, 24).contains("too small"));
    for (width, height, wanted) in [
        (80, 5, "terminal too small: 6 lines needed"),
        (20, 5, "terminal too small"),
        (10, 3, "too small"),
        (6, 1, "too sm"),
    ] {
        assert_eq!(drawn(&mut app, width, height).lines().next(), Some(wanted));
    }
}

#[test]
fn the_chosen_rows_names_are_there_whole() {
    let mut app = long();
    for _ in 0..3 {
        for width in [40, 60, 80, 120] {
            let screen = drawn(&mut app, width, 24);
            let chosen = app.chosen.clone().unwrap();
            let joined: String = screen.lines().skip(10).map(str::trim_end).collect();
            assert!(joined.contains(&chosen.src) && joined.contains(&chosen.dst), "{width}:\n{screen}");
        }
        press(&mut app, "Down");
    }
}

#[test]
fn a_table_longer_than_the_screen_says_so_and_follows_the_chosen_row() {
    let mut app = App::new("capturing".to_owned(), false, Columns::Times);
    let pairs = (0..280).map(|k| {
        let remote = format!("10.1.{}.{}:443", k / 250, k % 250 + 1);
        let name = remote.split(':').next().unwrap().to_owned();
        flow("10.0.0.5:1", &remote, &name, SampleKind::Data, vec![1000; 300 - k])
    });
    app.add(&Live { interval_s: 1.0, flows: pairs.collect(), ..Live::default() });
    assert!(drawn(&mut app, 80, 24).contains("9 of 280 pairs, times in ms"), "{}", drawn(&mut app, 80, 24));
    press(&mut app, "End");
    let screen = drawn(&mut app, 80, 24);
    assert!(screen.contains("10.1.1.30 ") && !screen.contains("10.1.0.1 "), "{screen}");
}

#[test]
fn a_row_stays_one_and_stays_chosen_when_its_name_arrives() {
    let mut app = App::new("capturing".to_owned(), false, Columns::Times);
    let add = |app: &mut App, name: &str| {
        let flows = vec![
            flow("10.0.0.5:1", "192.0.2.1:443", name, SampleKind::Data, [1000]),
            flow("10.0.0.5:2", "192.0.2.9:443", "192.0.2.9", SampleKind::Data, [1000, 2000]),
        ];
        app.add(&Live { interval_s: 1.0, flows, ..Live::default() });
    };
    add(&mut app, "192.0.2.1");
    drawn(&mut app, 80, 24);
    press(&mut app, "Down");
    assert_eq!(app.chosen.as_ref().unwrap().dst, "192.0.2.1");
    add(&mut app, "db.example.org");
    // A name server that is away for a while takes no name back.
    add(&mut app, "192.0.2.1");
    for keys in ["", "Tab"] {
        press(&mut app, keys);
        assert_eq!(app.rows().len(), 2);
    }
    press(&mut app, "Tab");
    drawn(&mut app, 80, 24);
    let chosen = app.chosen.clone().unwrap();
    assert_eq!(chosen.dst, "192.0.2.9", "another kind of rows begins at its first");
    let count = |row: &Row| row.stats().map(Stats::count);
    assert!(app.rows().iter().any(|(key, row)| key.dst == "db.example.org" && count(row) == Some(3)));
}

#[test]
fn nothing_is_drawn_out_of_bounds_however_small_the_terminal_is() {
    let mut app = example();
    press(&mut app, "h");
    for (width, height) in [(1, 1), (10, 3), (40, 10), (79, 18), (300, 90)] {
        drawn(&mut app, width, height);
    }
}

#[test]
fn what_is_not_known_yet_is_not_said_to_be_nothing_and_nothing_is_older_than_the_view() {
    let mut app = App::new("capturing".to_owned(), false, Columns::Times);
    let second = |app: &mut App, samples: u64| {
        let flows = vec![flow("10.0.0.5:1", "192.0.2.1:443", "192.0.2.1", SampleKind::Data, [1000, 1010])];
        let counters = Counters { samples, packets: samples * 3, flows: 1, ..Counters::default() };
        app.add(&Live { interval_s: 1.0, flows, counters, ..Live::default() });
    };
    second(&mut app, 500);
    let screen = drawn(&mut app, 120, 24);
    assert!(screen.contains("- packets/s  - samples/s") && screen.contains("last 1 s: "), "{screen}");
    second(&mut app, 520);
    second(&mut app, 540);
    let screen = drawn(&mut app, 120, 24);
    assert!(screen.contains("60 packets/s  20 samples/s") && screen.contains("last 3 s: "), "{screen}");
    // A pause holds the rates with the rows.
    press(&mut app, "space");
    second(&mut app, 940);
    assert!(drawn(&mut app, 120, 24).contains("60 packets/s  20 samples/s"), "{}", drawn(&mut app, 120, 24));
    press(&mut app, "space");
    assert!(drawn(&mut app, 120, 24).contains("1200 packets/s  400 samples/s"));
}

#[test]
fn a_single_sample_has_no_jitter_and_a_small_one_is_not_zero() {
    let mut app = App::new("capturing".to_owned(), false, Columns::Times);
    let mut flow = flow("10.0.0.5:1", "192.0.2.1:443", "192.0.2.1", SampleKind::Data, [1]);
    flow.summary = crate::output::examples::summary_ns(&[476]);
    app.add(&Live { interval_s: 1.0, flows: vec![flow], ..Live::default() });
    let screen = drawn(&mut app, 120, 24);
    let row = screen.lines().find(|line| line.starts_with("10.0.0.5")).unwrap();
    assert_eq!(row.split_whitespace().filter(|cell| *cell == "<0.001").count(), 7, "{screen}");
    assert_eq!(row.split_whitespace().nth(11), Some("-"), "{screen}");
    assert!(screen.contains("last 1 s: <0.001 to <0.001 ms") && screen.contains("0.000476–0.000476"), "{screen}");
}

#[test]
fn no_two_bins_of_a_narrow_distribution_are_alike() {
    let mut app = App::new("capturing".to_owned(), false, Columns::Times);
    let mut flow = flow("10.0.0.5:1", "192.0.2.1:443", "192.0.2.1", SampleKind::Data, [1]);
    let ns: Vec<u64> = (0..200).map(|k| 5_100 + k * 7).collect();
    flow.summary = crate::output::examples::summary_ns(&ns);
    app.add(&Live { interval_s: 1.0, flows: vec![flow], ..Live::default() });
    for (width, height) in [(80, 24), (120, 40)] {
        let screen = drawn(&mut app, width, height);
        let bins: Vec<(f64, f64)> = screen
            .lines()
            .filter_map(|line| line.split_whitespace().find_map(|word| word.split_once('–')))
            .map(|(from, to)| (from.parse().unwrap(), to.parse().unwrap()))
            .collect();
        assert!(bins.len() > 3 && bins.iter().all(|(from, to)| from < to), "{bins:?} in\n{screen}");
        assert!(bins.windows(2).all(|pair| pair[0].1 == pair[1].0), "{bins:?}");
    }
}

#[test]
fn one_address_is_shortened_alike_in_both_of_its_rows() {
    let mut app = App::new("capturing".to_owned(), false, Columns::Times);
    let v6 = "fd15:1111:2222:3333:4444:5555:6666:7777";
    let there = flow("[fd15::1]:40001", &format!("[{v6}]:5432"), v6, SampleKind::Data, [1000, 1500]);
    let back = LiveFlow { to_local: true, ..there.clone() };
    app.add(&Live { interval_s: 1.0, flows: vec![there, back], ..Live::default() });
    for keys in ["", "Tab"] {
        press(&mut app, keys);
        for width in 40..160 {
            let screen = drawn(&mut app, width, 12);
            // The rows' names: behind this end's, or alone.
            let names: Vec<&str> = screen
                .lines()
                .skip(3)
                .take(2)
                .map(|line| {
                    line.split_whitespace().find(|word| word.contains("7777")).unwrap_or_else(|| panic!("{screen}"))
                })
                .collect();
            let bare: Vec<&str> = names.iter().map(|name| name.trim_start_matches('←')).collect();
            assert!(bare[0] == bare[1] && names[0] != names[1], "{names:?} at {width}:\n{screen}");
            assert_eq!(bare[0].starts_with('['), keys == "Tab", "{names:?}");
        }
    }
    press(&mut app, "h");
    assert!(drawn(&mut app, 80, 24).contains("←ADDRESS"), "what the arrow is, is in the help");
}

#[test]
fn without_utf_8_a_screen_is_ascii_and_as_wide() {
    let mut app = example();
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
    let draw_ascii = |frame: &mut Frame<'_>| {
        draw(frame, &mut app);
        to_ascii(frame.buffer_mut());
    };
    terminal.draw(draw_ascii).unwrap();
    let text: String = terminal.backend().buffer().content.iter().map(ratatui::buffer::Cell::symbol).collect();
    assert!(text.is_ascii() && text.len() == 80 * 24 && text.contains("vsamples") && text.contains('#'), "{text}");
}

/// The first column of the table's rows.
fn names(app: &mut App) -> Vec<String> {
    let screen = drawn(app, 80, 10);
    let rows = screen.lines().skip(3).take_while(|line| !line.contains("times in ms") && !line.is_empty());
    rows.map(|line| line.split_whitespace().next().unwrap().to_owned()).collect()
}

#[test]
fn rows_are_sorted_by_any_column_and_either_way_round() {
    let mut app = example();
    assert_eq!(names(&mut app)[..2], ["db.example.org", "198.51.100.7"]);
    press(&mut app, "Right");
    assert_eq!(names(&mut app)[0], "203.0.113.9", "the largest last one");
    press(&mut app, "r");
    assert_eq!(names(&mut app)[0], "db.example.org", "the smallest last one");
    press(&mut app, "Left Left");
    assert_eq!(names(&mut app)[0], "198.51.100.7", "by name, from the beginning");
}

#[test]
fn a_filter_is_typed_and_the_chosen_row_stays_chosen() {
    let mut app = example();
    press(&mut app, "Down");
    drawn(&mut app, 80, 24);
    assert_eq!(app.chosen.as_ref().unwrap().dst, "198.51.100.7");
    press(&mut app, "Right");
    drawn(&mut app, 80, 24);
    assert_eq!(app.chosen.as_ref().unwrap().dst, "198.51.100.7", "another order chooses no other row");
    // While it is typed, q is a letter.
    assert_eq!(press(&mut app, "/ q"), None);
    assert!(drawn(&mut app, 80, 24).contains("no row matches the filter"));
    press(&mut app, "Esc / D B . Enter");
    assert_eq!(names(&mut app), ["db.example.org"]);
    assert_eq!(press(&mut app, "Esc"), None, "the first clears the filter");
    assert_eq!(names(&mut app).len(), 4);
    assert_eq!(press(&mut app, "Esc"), Some(Wish::Quit));
}

#[test]
fn a_pause_holds_the_table_and_never_the_drops() {
    let mut app = example();
    press(&mut app, "space");
    let before = names(&mut app);
    let samples = app.shown().pairs.len();
    let counters = Counters { lost: 99, ..Counters::default() };
    let newcomer = flow("10.0.0.5:1", "203.0.113.200:2", "203.0.113.200", SampleKind::Data, [1]);
    app.add(&Live { counters, interval_s: 1.0, flows: vec![newcomer], ..Live::default() });
    assert_eq!((names(&mut app), app.shown().pairs.len()), (before, samples));
    let screen = drawn(&mut app, 80, 24);
    assert!(screen.contains("PAUSED") && screen.contains("lost 99"), "{screen}");
    press(&mut app, "space");
    assert_eq!(app.shown().pairs.len(), samples + 1, "what came meanwhile is there");
}

#[test]
fn the_figures_are_those_of_the_sorted_samples_over_the_socket_too() {
    for count in [1_u64, 2, 3, 27, 1024, 5000] {
        // Each a different one, in no order, over three seconds.
        let us: Vec<u64> = (0..count).map(|k| 300 + (k * 7919) % count * 37).collect();
        let mut app = App::new("following".to_owned(), false, Columns::Times);
        for part in us.chunks(us.len().div_ceil(3)) {
            let flows = vec![flow("10.0.0.5:1", "192.0.2.1:2", "192.0.2.1", SampleKind::Data, part.iter().copied())];
            let told = serde_json::to_string(&Live { interval_s: 1.0, flows, ..Live::default() }).unwrap();
            app.add(&serde_json::from_str(&told).unwrap());
        }
        let screen = drawn(&mut app, 200, 12);
        let row = screen.lines().find(|line| line.starts_with("10.0.0.5")).unwrap();
        let words: Vec<&str> = row.split_whitespace().collect();
        let mut sorted = us.clone();
        sorted.sort_unstable();
        let rank = |per_cent: u64| sorted[((count * per_cent).div_ceil(100) - 1) as usize] as f64 / 1000.0;
        let wanted = [sorted[0] as f64 / 1000.0, rank(50), rank(95), rank(99), sorted[us.len() - 1] as f64 / 1000.0];
        for (shown, wanted) in words[6..11].iter().zip(wanted) {
            let decimals = shown.split_once('.').map_or(0, |(_, decimals)| decimals.len());
            let allowed = 0.501 * 10_f64.powi(-(decimals as i32)) + if count > 1024 { wanted * 0.01 } else { 0.0 };
            assert!((shown.parse::<f64>().unwrap() - wanted).abs() <= allowed, "{wanted} of {count} in {row}");
        }
    }
}

#[test]
fn names_are_left_out_where_addresses_are_wanted() {
    let mut app = App::new("following".to_owned(), true, Columns::Times);
    let flows = vec![flow("10.0.0.5:1", "192.0.2.1:443", "db.example.org", SampleKind::Data, [1000])];
    app.add(&Live { interval_s: 1.0, flows, ..Live::default() });
    assert_eq!(names(&mut app), ["192.0.2.1"]);
}
