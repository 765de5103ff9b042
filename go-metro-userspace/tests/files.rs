//! What `go-metro read` says of a capture that it cannot measure in full.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use go_metro::capture::file::FileFilter;
use go_metro::groups::Groups;
use go_metro::read::{self, Explain, Format, ReadError, ReadOptions};

/// A capture of raw IPv4 in nanoseconds: requests and their answers, at these times.
fn capture(link_type: u32, times_us: &[(u64, u64)]) -> Vec<u8> {
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let mut file = words(&[0xa1b2_3c4d, 0x0004_0002, 0, 0, 65535, link_type]);
    let mut packet = |us: u64, from: u8, to: u8, ports: [u8; 4], seq: u32, ack: u32, payload: &[u8]| {
        let mut bytes =
            vec![0x45, 0, 0, 40 + payload.len() as u8, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, from, 10, 0, 0, to];
        bytes.extend(ports);
        bytes.extend([seq.to_be_bytes(), ack.to_be_bytes()].concat());
        bytes.extend([0x50, 0x10, 1, 0, 0, 0, 0, 0]);
        bytes.extend(payload);
        let len = bytes.len() as u32;
        file.extend(words(&[(us / 1_000_000) as u32, (us % 1_000_000 * 1000) as u32, len, len]));
        file.extend(bytes);
    };
    for (k, (sent, answered)) in times_us.iter().enumerate() {
        let seq = 7 + k as u32;
        packet(*sent, 1, 2, [3, 232, 0, 80], seq, 100, b"x");
        packet(*answered, 2, 1, [0, 80, 3, 232], 100, seq + 1, b"");
    }
    file
}

fn read(file: &Path, explain: Option<Explain>) -> (String, Result<(), ReadError>) {
    let filter = FileFilter { local: vec!["10.0.0.1/32".parse().unwrap()], ..FileFilter::default() };
    read_as(file, filter, false, explain)
}

fn read_as(
    file: &Path,
    filter: FileFilter,
    samples: bool,
    explain: Option<Explain>,
) -> (String, Result<(), ReadError>) {
    let file = file.to_owned();
    let (format, max_pairs) = (Format::Table, 10_000);
    let (plot, plot_pairs, ports) = (None, 1, go_metro_rtt::Ports::ALL);
    let (threads, width) = (1, None);
    let health = false;
    let options = ReadOptions {
        file,
        filter,
        samples,
        format,
        ports,
        plot,
        plot_pairs,
        explain,
        health,
        groups: Groups::default(),
        max_pairs,
        threads,
        width,
    };
    let mut out = Vec::new();
    let done = read::run(&options, &mut out);
    (String::from_utf8(out).unwrap(), done)
}

fn written(bytes: &[u8]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    file
}

#[test]
fn a_clock_too_coarse_for_round_trips_is_said_with_its_tick_and_their_number() {
    // 0.4 ms, by a clock of 1 ms: most are 0, some a tick.
    let times: Vec<(u64, u64)> = (0..50).map(|k| (k * 10_300, k * 10_300 + 400)).collect();
    let coarse: Vec<(u64, u64)> = times.iter().map(|(sent, got)| (sent / 1000 * 1000, got / 1000 * 1000)).collect();
    let zero = coarse.iter().filter(|(sent, got)| sent == got).count();
    let (out, done) = read(written(&capture(101, &coarse)).path(), None);
    done.unwrap();
    assert!(out.contains(&format!("clock of 1 ms: {zero} of 50 round trips are shorter than a tick")), "{out}");
    let (out, _) = read(written(&capture(101, &times)).path(), None);
    assert!(out.contains("50 samples") && !out.contains("clock of"), "{out}");
}

#[test]
fn a_capture_of_which_nothing_can_be_read_is_an_error_and_one_without_packets_is_none() {
    let (out, done) = read(written(&capture(147, &[(0, 400), (1000, 1400)])).path(), None);
    let error = done.unwrap_err().to_string();
    assert!(error.contains("4 of 4 frames could not be measured: 4 of link type 147"), "{error}");
    assert_eq!(out, "");
    let (out, done) = read(written(&capture(101, &[])).path(), Some(Explain::Counts));
    done.unwrap();
    assert!(out.contains("\n0 packets"), "{out}");
    let cut = &capture(101, &[(0, 400)])[..30];
    let (_, done) = read(written(cut).path(), None);
    assert!(done.unwrap_err().to_string().contains("it ends inside a packet"));
}

#[test]
fn any_number_of_threads_prints_the_same() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus");
    let mut compared = 0;
    for file in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if file.extension().is_some_and(|extension| extension == "md") {
            continue;
        }
        for (format, samples, explain, max_pairs) in [
            (Format::Table, false, Some(Explain::Counts), 10_000),
            (Format::Table, false, Some(Explain::All), 10_000),
            (Format::Csv, true, None, 10_000),
            (Format::Json, false, None, 1),
        ] {
            let printed = |threads| {
                let options = ReadOptions {
                    file: file.clone(),
                    filter: FileFilter::default(),
                    samples,
                    format,
                    ports: go_metro_rtt::Ports::ALL,
                    plot: None,
                    plot_pairs: 1,
                    explain,
                    health: !samples,
                    groups: Groups::default(),
                    max_pairs,
                    threads,
                    width: None,
                };
                let mut out = Vec::new();
                let done = read::run(&options, &mut out).map_err(|error| error.to_string());
                (String::from_utf8(out).unwrap(), done)
            };
            let alone = printed(1);
            compared += alone.0.lines().count();
            for threads in [2, 3, 9] {
                assert!(printed(threads) == alone, "{}: {format:?}, {threads} threads", file.display());
            }
        }
    }
    assert!(compared > 20_000, "{compared} lines");
}

/// A capture of the corpus in nanoseconds, as its header and its records with theirs.
fn corpus(name: &str) -> (Vec<u8>, Vec<Vec<u8>>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus").join(name);
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).unwrap();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(file), &mut bytes).unwrap();
    let mut records = Vec::new();
    let mut rest = &bytes[24..];
    while !rest.is_empty() {
        let len = 16 + u32::from_le_bytes(rest[8..12].try_into().unwrap()) as usize;
        records.push(rest[..len].to_vec());
        rest = &rest[len..];
    }
    (bytes[..24].to_vec(), records)
}

/// The samples of a capture, a line each, sorted.
fn samples(head: &[u8], records: &[Vec<u8>]) -> Vec<String> {
    let file = written(&[head, &records.concat()].concat());
    let filter = FileFilter { sides: go_metro_common::segment::Sides::REMOTE, ..FileFilter::default() };
    let (out, done) = read_as(file.path(), filter, true, None);
    done.unwrap();
    let mut lines: Vec<String> = out.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn a_file_out_of_time_order_gives_the_samples_of_the_same_file_in_order() {
    for name in ["clean.pcap.gz", "loss-sack-timestamps.pcap.gz", "loss-plain.pcap.gz"] {
        let (head, records) = corpus(name);
        let whole = samples(&head, &records);
        assert!(whole.len() > 50, "{name}: {}", whole.len());
        // Whole stretches backwards, as nothing that captures would have it.
        let mut late = records.clone();
        late.chunks_mut(100).for_each(<[Vec<u8>]>::reverse);
        assert_eq!(samples(&head, &late), whole, "{name}");
    }
}

#[test]
fn a_capture_that_cuts_the_options_off_gives_no_sample_that_the_whole_one_refuses() {
    for name in ["loss-sack.pcap.gz", "loss-sack-timestamps.pcap.gz", "reordering.pcap.gz"] {
        let (head, records) = corpus(name);
        let whole = samples(&head, &records);
        for length in [54, 58, 60, 66, 70] {
            let cut: Vec<Vec<u8>> = records
                .iter()
                .map(|record| {
                    let mut record = record[..record.len().min(16 + length)].to_vec();
                    let captured = record.len() as u32 - 16;
                    record[8..12].copy_from_slice(&captured.to_le_bytes());
                    record
                })
                .collect();
            // A segment without its timestamps may be proved in another way, by its number alone.
            let number = |line: &String| line.split(",\"kind\"").next().unwrap().to_owned();
            let known: Vec<String> = whole.iter().map(number).collect();
            let new: Vec<String> =
                samples(&head, &cut).iter().map(number).filter(|line| !known.contains(line)).collect();
            assert!(new.is_empty(), "{name}, {length} bytes: {new:#?}");
        }
    }
}
