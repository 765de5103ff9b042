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
    let packets = counters.packets;
    assert_eq!(packets.records, records);
    // A segment with a malformed option is a segment all the same.
    let unparsable = packets.unparsable.iter().sum::<u64>() - packets.unparsable[Unparsable::TcpOption as usize];
    let apart = packets.fragments + counters.copies + packets.encapsulated + counters.unread.iter().sum::<u64>();
    assert_eq!(counters.passed_over + packets.matched + apart + unparsable, packets.seen, "{counters:?}");
});
