//! Every output of every verb shows the quantiles that the sorted samples have.
//!
//! The quantile q of n samples is the one of rank ceil(q n), exactly up to 1,024 samples and within 1 % beyond them;
//! minimum and maximum are always exact. `top` is held to the same in its own tests, which draw its screen.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "../../go-metro-rtt/tests/support/property.rs"]
mod property;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use go_metro::metrics::Health;
use go_metro::output::printer::Print as _;
use go_metro::output::prometheus::page::Format;
use go_metro::output::table::{self, Columns, Style};
use go_metro::output::{Json, NamedPair, Prometheus, Report, Table, csv, json};
use go_metro::terminal::{Printable, Spelling};
use go_metro_rtt::{
    Addr, Buckets, Class, Endpoint, FlowKey, Kind, Label, Nanos, PairSummary, Place, Rtt, Sample, SeqNum, Side,
    Summaries, SummaryLimits,
};
use proptest::prelude::*;

/// Up to so many samples quantiles are exact.
const EXACT: usize = 1024;

/// What the samples say, in nanoseconds: min, p50, p95, p99, max.
fn truth(samples: &[u64]) -> [u64; 5] {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    let rank = |per_cent: usize| sorted[(sorted.len() * per_cent).div_ceil(100) - 1];
    [sorted[0], rank(50), rank(95), rank(99), sorted[sorted.len() - 1]]
}

/// Holds min, p50, p95, p99 and max as they are written, in milliseconds, to the samples.
fn holds(output: &str, shown: [&str; 5], samples: &[u64]) {
    let all = truth(samples);
    for (which, (text, truth)) in ["min", "p50", "p95", "p99", "max"].iter().zip(shown.iter().zip(all)) {
        let truth = truth as f64 / 1e6;
        // What is too small for three decimals is said to be less than the last.
        if let Some(bound) = text.strip_prefix("<").or_else(|| text.strip_prefix("&lt;")) {
            assert!(bound == "0.001" && truth < 0.000_51, "{output}: {which} {text} is {truth}");
            continue;
        }
        let value = text.parse::<f64>().unwrap_or_else(|_| panic!("{output}: {text}"));
        assert!(value > 0.0, "{output}: {which} {text} is {truth}");
        let decimals = text.split_once('.').map_or(0, |(_, decimals)| decimals.len());
        let last_digit = 0.501 * 10_f64.powi(-(decimals as i32));
        let is_end = *which == "min" || *which == "max";
        let at_an_end =
            (value - all[0] as f64 / 1e6).abs() < last_digit || (value - all[4] as f64 / 1e6).abs() < last_digit;
        let allowed = match samples.len() <= EXACT || is_end {
            true => last_digit,
            // An estimate that is written with as many digits as it has is not rounded once more.
            false => truth * 0.01 + if decimals == 3 && truth < 0.2 { last_digit } else { 1e-9 },
        };
        assert!((value - truth).abs() <= allowed, "{output}: {which} {text} of {} samples is {truth}", samples.len());
        if samples.len() > EXACT && !is_end && !at_an_end {
            let digits = text.replace('.', "").trim_start_matches('0').trim_end_matches('0').len();
            assert!(digits <= 3, "{output}: {which} {text} is an estimate");
        }
    }
}

fn flow() -> FlowKey {
    let end = |last, port| Endpoint { addr: Addr::v4([10, 0, 0, last]), port };
    FlowKey { local: end(1, 40_000), remote: end(2, 443), ifindex: 0, side: Side::Remote }
}

fn summary(samples: &[u64], limits: SummaryLimits) -> PairSummary {
    let mut summaries = Summaries::new(limits);
    for ns in samples {
        let (acked_at, ack, rtt) = (Nanos(1), SeqNum(1), Rtt(*ns));
        let (kind, class) = (Kind::Data, Class::Exact);
        let (label, place) = (Label::NONE, Place::default());
        summaries.add(&Sample { flow: flow(), acked_at, ack, rtt, kind, class, delayed: false, label, place });
    }
    summaries.take().pairs.remove(0).1
}

fn pair(summary: PairSummary) -> NamedPair {
    let (src, dst, iface) = ("10.0.0.1".to_owned(), "10.0.0.2".to_owned(), "0".to_owned());
    NamedPair {
        src,
        dst,
        remotes: Vec::new(),
        iface,
        side: None,
        process: String::new(),
        port: None,
        tags: Arc::from([]),
        summary,
        kernel: None,
        base: None,
    }
}

fn report(pair: NamedPair) -> Report {
    let (at, interval) = (SystemTime::UNIX_EPOCH, Duration::from_secs(1));
    Report { at, interval, backend: "file", pairs: vec![pair], health: Health::default() }
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Shared {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The row of the pair in a table.
fn row(output: &str, text: &str, samples: &[u64]) {
    let line = text.lines().find(|line| line.contains("10.0.0.2")).unwrap_or_else(|| panic!("{output}: {text}"));
    let words: Vec<&str> = line.trim_end_matches("\x1b[K").split_whitespace().collect();
    let [.., _last, _avg, min, p50, p95, p99, max, _jitter] = words[..] else { panic!("{output}: {line}") };
    holds(output, [min, p50, p95, p99, max], samples);
}

/// The line of the pair in JSON lines.
fn object(output: &str, text: &str, samples: &[u64]) {
    let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let of = |key: &str| line["data"][key].to_string().trim_end_matches(".0").to_owned();
    let all = ["min_ms", "p50_ms", "p95_ms", "p99_ms", "max_ms"].map(of);
    holds(output, all.each_ref().map(String::as_str), samples);
}

/// The row of the pair in comma-separated values.
fn record(output: &str, text: &str, samples: &[u64]) {
    let fields: Vec<&str> = text.lines().nth(1).unwrap().split(',').collect();
    holds(output, [fields[8], fields[9], fields[10], fields[11], fields[12]], samples);
}

/// The quantile of a Prometheus histogram, as Prometheus tells it: even within a bucket.
fn histogram_quantile(page: &str, q: f64) -> f64 {
    let bucket = |line: &str| {
        let le = line.split("le=\"").nth(1)?.split('"').next()?.replace("+Inf", "inf").parse::<f64>().ok()?;
        Some((le, line.rsplit(' ').next()?.parse::<f64>().ok()?))
    };
    let lines = page.lines().filter(|line| line.starts_with("go_metro_tcp_rtt_seconds_bucket"));
    let buckets: Vec<(f64, f64)> = lines.filter_map(bucket).collect();
    let rank = q * buckets.last().unwrap().1;
    let place = buckets.partition_point(|(_, count)| *count < rank);
    let (low, below) = if place == 0 { (0.0, 0.0) } else { buckets[place - 1] };
    let (high, within) = buckets[place];
    (low + (high - low) * (rank - below) / (within - below)) * 1e3
}

/// A Prometheus page: the gauges exactly, the histogram within 10 %.
fn page(samples: &[u64], summary: &PairSummary) {
    let sink = Prometheus::new(2, Buckets::Fine);
    sink.report(&report(pair(summary.clone())));
    let mut text = Arc::new(sink.exposition().encode(Format::Classic).unwrap()).plain();
    let pieces: Vec<_> = std::iter::from_fn(|| text.next_piece().unwrap()).collect();
    let page = String::from_utf8(pieces.concat()).unwrap();
    let gauge = |name: &str, quantile: &str| {
        let is_it = |line: &&str| line.starts_with(name) && line.contains(quantile);
        let line = page.lines().find(is_it).unwrap_or_else(|| panic!("{name} in {page}"));
        let seconds: f64 = line.rsplit(' ').next().unwrap().parse().unwrap();
        format!("{:.6}", seconds * 1e3).trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    let quantile = |q| gauge("go_metro_tcp_rtt_quantile_seconds{", q);
    let (min, max) = (gauge("go_metro_tcp_rtt_min_seconds{", ""), gauge("go_metro_tcp_rtt_max_seconds{", ""));
    let [p50, p95, p99] = ["\"0.5\"", "\"0.95\"", "\"0.99\""].map(quantile);
    holds("Prometheus", [&min, &p50, &p95, &p99, &max], samples);
    let all = truth(samples);
    for (q, truth) in [(0.5, all[1]), (0.95, all[2]), (0.99, all[3])] {
        if (100_000..=2_000_000_000).contains(&truth) {
            let (truth, told) = (truth as f64 / 1e6, histogram_quantile(&page, q));
            assert!((told / truth - 1.0).abs() <= 0.1, "p{q} is {truth}, histogram_quantile gives {told}");
        }
    }
}

/// Every output that is made from summaries.
fn all_outputs(samples: &[u64]) {
    // As `run` keeps them, and as `read` and `top` do.
    for keeps_choice in [true, false] {
        let summary = summary(samples, SummaryLimits { keeps_choice, ..SummaryLimits::default() });
        let one = pair(summary.clone());
        row("a table", &table::render(std::slice::from_ref(&one), Columns::default()), samples);
        for style in [(|| Style::Plain) as fn() -> Style, || Style::Live { width: 160, height: 40 }] {
            let out = Shared::default();
            Table::new(Printable::new(Box::new(out.clone()), Spelling::Text), Columns::default(), style)
                .report(&report(one.clone()))
                .unwrap();
            row("a table of run", &out.text(), samples);
        }
        let (mut lines, mut rows) = (Vec::new(), Vec::new());
        json::write_pairs(&mut lines, std::slice::from_ref(&one)).unwrap();
        object("JSON lines", &String::from_utf8(lines).unwrap(), samples);
        let out = Shared::default();
        Json::new(Box::new(out.clone())).report(&report(one.clone())).unwrap();
        object("JSON lines of run", &out.text(), samples);
        csv::write_pairs(&mut rows, &[one]).unwrap();
        record("CSV", &String::from_utf8(rows).unwrap(), samples);
        page(samples, &summary);
    }
}

/// RTTs from a hundred nanoseconds to some seconds: anywhere, close together, or steady with outliers.
fn series(lengths: impl Strategy<Value = usize>) -> impl Strategy<Value = Vec<u64>> {
    let one = (100_f64.ln()..4e9_f64.ln(), 0..3_u8, 0..100_u8);
    (lengths, 10_000_u64..200_000_000, 0..3_u8).prop_flat_map(move |(length, base, kind)| {
        let rtt = one.clone().prop_map(move |(log, wobble, chance)| match kind {
            0 => log.exp() as u64,
            1 => base + u64::from(wobble) * base / 50,
            _ => base + if chance == 0 { log.exp() as u64 } else { u64::from(chance) },
        });
        prop::collection::vec(rtt, length)
    })
}

proptest! {
    #![proptest_config(property::cases(60))]

    #[test]
    fn every_output_shows_the_quantiles_of_the_sorted_samples(
        samples in series(prop_oneof![Just(1_usize), Just(2), Just(3), Just(27), Just(1024), 1..3000_usize]),
    ) {
        all_outputs(&samples);
    }
}

/// Random numbers that are the same each time (xorshift64, Marsaglia 2003).
fn random(count: usize) -> Vec<u64> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // From 20 µs to 1.1 s, evenly by their logarithm.
        (20_000.0 * (state as f64 / u64::MAX as f64 * 55_000_f64.ln()).exp()) as u64
    };
    std::iter::repeat_with(next).take(count).collect()
}

#[test]
fn a_million_samples_too() {
    all_outputs(&random(1_000_000));
}

#[test]
fn a_steady_path_reads_right_in_prometheus() {
    // The worst place for p95 is just above a bound.
    for ns in [100_001, 10_700_000, 14_100_001, 1_830_000_001] {
        let samples = vec![ns; 500];
        page(&samples, &summary(&samples, SummaryLimits::default()));
    }
}

/// A capture of one connection with these round trips, one after another: nanosecond pcap, raw IPv4.
fn capture(path: &Path, samples: &[u64]) {
    let mut out = std::io::BufWriter::new(fs::File::create(path).unwrap());
    let header: [u32; 6] = [0xa1b2_3c4d, 2 | 4 << 16, 0, 0, 65_535, 101];
    header.iter().for_each(|word| out.write_all(&word.to_le_bytes()).unwrap());
    let mut frame = |at: u64, local: bool, seq: u32, ack: u32, payload: u16| {
        let length = 40 + payload;
        let words = [(at / 1_000_000_000) as u32, (at % 1_000_000_000) as u32, 40, u32::from(length)];
        words.iter().for_each(|word| out.write_all(&word.to_le_bytes()).unwrap());
        let ends = if local { ([10, 0, 0, 1], [10, 0, 0, 2]) } else { ([10, 0, 0, 2], [10, 0, 0, 1]) };
        let ports = if local { (40_000_u16, 443_u16) } else { (443, 40_000) };
        let mut ip = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 6, 0, 0];
        ip[2..4].copy_from_slice(&length.to_be_bytes());
        ip.extend(ends.0.iter().chain(&ends.1));
        ip.extend(ports.0.to_be_bytes().into_iter().chain(ports.1.to_be_bytes()));
        ip.extend(seq.to_be_bytes().into_iter().chain(ack.to_be_bytes()));
        ip.extend([0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0]);
        out.write_all(&ip).unwrap();
    };
    let (mut at, mut seq) = (1_700_000_000_000_000_000_u64, 1_u32);
    for rtt in samples {
        frame(at, true, seq, 1, 100);
        seq = seq.wrapping_add(100);
        frame(at + rtt, false, 1, seq, 0);
        at += rtt + 1000;
    }
    out.flush().unwrap();
}

/// What the program prints.
fn program(arguments: &[&str]) -> String {
    let done = Command::new(env!("CARGO_BIN_EXE_go-metro")).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(done.stdout).unwrap()
}

/// The cells of the only row of a page's table: min, p50, p95, p99 and max.
fn drawn_table(output: &str, page: &str, samples: &[u64]) {
    let body = page.split("<table").nth(1).unwrap().split("</table>").next().unwrap();
    let row = body.lines().find(|line| line.contains("10.0.0.2")).unwrap();
    let cell = |cell: &str| {
        cell.split_once('>').map_or("", |(_, text)| text).split('<').next().unwrap_or("").trim().to_owned()
    };
    let cells: Vec<String> = row.split("<td").skip(1).map(cell).collect();
    let [_, _, _, _, min, _, p50, p95, p99, max, _] = &cells[..] else { panic!("{output}: {row}") };
    holds(output, [min, p50, p95, p99, max], samples);
}

/// The labels of a drawing.
fn labels(output: &str, drawing: &str, samples: &[u64]) {
    let after = |name: &str| {
        let start = drawing.find(name).unwrap_or_else(|| panic!("{output}: no {name}")) + name.len();
        drawing[start..].split([',', '<', ' ']).next().unwrap().to_owned()
    };
    let all = ["min ", ">p50 ", ">p95 ", ">p99 ", "max "].map(after);
    holds(output, all.each_ref().map(String::as_str), samples);
}

#[test]
fn read_and_run_print_the_quantiles_of_the_samples_that_they_print() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    for count in [1, 2, 3, 27, 1024, 20_000] {
        let (pcap, wanted) = (file("a.pcap"), random(count));
        capture(Path::new(&pcap), &wanted);
        let to = |more: &[&str]| program(&[&["read", &pcap, "--local", "10.0.0.1"], more].concat());
        // The samples that it prints are the reference; that they are those of the capture is checked too.
        let of = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["rtt_ns"].as_u64().unwrap();
        let samples: Vec<u64> = to(&["--samples"]).lines().map(of).collect();
        assert_eq!(samples, wanted);
        row("read", &to(&[]), &samples);
        object("read -F json", &to(&["--format", "json"]), &samples);
        record("read -F csv", &to(&["--format", "csv"]), &samples);
        for name in ["a.html", "a.svg"] {
            to(&["--plot", &file(name)]);
            let drawing = fs::read_to_string(file(name)).unwrap();
            labels(name, &drawing, &samples);
            if name == "a.html" {
                drawn_table(name, &drawing, &samples);
            }
        }
        let config = file("conf.yaml");
        let text = format!("instances: [{{interface: file, pcap: '{pcap}', ips: [10.0.0.2]}}]\n");
        fs::write(&config, "init_config: {reverse_dns: false, status_socket: off}\n".to_owned() + &text).unwrap();
        row("run -o table", &program(&["run", "-c", &config, "-o", "table"]), &samples);
        object("run -o json", &program(&["run", "-c", &config, "-o", "json"]), &samples);
    }
}

/// The outputs themselves are held to a million above; this is the way there, through the engine.
#[test]
fn read_holds_for_a_million_samples() {
    let folder = tempfile::tempdir().unwrap();
    let pcap = folder.path().join("a.pcap").to_str().unwrap().to_owned();
    let samples = random(1_000_000);
    capture(Path::new(&pcap), &samples);
    object("read -F json", &program(&["read", &pcap, "--local", "10.0.0.1", "--format", "json"]), &samples);
}
