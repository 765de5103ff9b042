//! The classifier's own log, bridged into `tracing`. A process of its own: the level is global.

#![allow(clippy::unwrap_used)]

mod frames;

use std::io;
use std::sync::{Arc, Mutex};

use aya::{TestRun as _, TestRunOptions};
use go_metro::capture::ebpf::Classifier;
use go_metro_common::names;
use go_metro_common::segment::Sides;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_unparsable_packet_is_logged_at_level_debug() {
    let lines = Lines::default();
    let writer = lines.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .init();
    let mut classifier = match Classifier::load(0, Sides::REMOTE) {
        Ok(classifier) => classifier,
        Err(error) => {
            assert!(error.to_string().contains("setcap"), "{error}");
            eprintln!("skipped: {error}");
            return;
        }
    };
    let broken = frames::data().with_data_offset(4).bytes();
    let addresses = (frames::cases::LOCAL4, frames::cases::REMOTE4);
    let frame = frames::ethernet(&[], frames::ETH_P_IP, &frames::ipv4(addresses.0, addresses.1, &[], &broken));
    let options = TestRunOptions { data_in: Some(&frame), ..TestRunOptions::new() };
    classifier.program(names::INGRESS_ETHERNET).unwrap().test_run(options).unwrap();
    classifier.flush_log();
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains("unparsable packet of 154 bytes on interface 1: cause 2"), "{text}");
}
