//! Whatever a capture file's bytes: reading it ends, does not panic, and accounts for every packet.
#![no_main]

use std::fs;

use go_metro::capture::file::{FileFilter, FileSource};
use go_metro_common::counters::Unparsable;
use go_metro_common::segment::Sides;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let path = std::env::temp_dir().join(format!("go-metro-fuzz-{}", std::process::id()));
    fs::write(&path, data).expect("room for the file");
    let Ok(mut source) = FileSource::open(&path) else { return };
    let mut records = 0_u64;
    source.for_each(&FileFilter { sides: Sides::BOTH, ..FileFilter::default() }, &mut |_| records += 1);
    let counters = source.counters();
    assert_eq!(counters.records, records);
    // A segment with a malformed option is a segment all the same.
    let unparsable: u64 = counters.unparsable.iter().sum::<u64>() - counters.unparsable[Unparsable::TcpOption as usize];
    let apart = counters.fragments + counters.copies + counters.encapsulated + counters.unread.iter().sum::<u64>();
    let accounted = counters.passed_over + counters.matched + apart + unparsable;
    assert_eq!(accounted, counters.seen, "{counters:?}");
});
