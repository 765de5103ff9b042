//! What a daemon does on a machine with any number of processors, for `cargo xtask bench many`.

use std::io;

use go_metro_rtt::Segment;

use super::capture_thread::simulated::{Measuring, Meter, Origin, Segments};
use super::settings::{Limits, RecordLimits};
pub use crate::capture::ebpf::simulated::{Producers, Rings, rings};

impl Segments for &mut Rings {
    fn hand_to(self, sink: &mut impl FnMut(&Segment)) {
        self.read(sink);
    }
}

/// The thread that reads, and those that measure.
pub struct Daemon(Measuring);

impl Daemon {
    /// With default limits, and so many threads that measure.
    ///
    /// # Errors
    ///
    /// There can be no more threads.
    pub fn new(workers: u32) -> io::Result<Self> {
        let limits = Limits::default();
        Measuring::by(workers, || Meter::new(&limits, None)).map(Self)
    }

    /// The same on one thread, which keeps records in so much memory, and with `times_base` looks up the pair of each
    /// sample too.
    ///
    /// # Errors
    ///
    /// There can be no more threads.
    pub fn recording(memory: usize, times_base: Option<u32>) -> io::Result<Self> {
        let limits = Limits::default();
        let max_pairs = limits.summaries.max_pairs;
        let record = RecordLimits { memory: Some(memory), times_base, max_pairs, ..RecordLimits::default() };
        let limits = Limits { record, ..limits };
        Measuring::by(1, || Meter::new(&limits, None)).map(Self)
    }

    /// Reads all that is in the rings, and measures it or hands it to those that do.
    pub fn read(&mut self, rings: &mut Rings) {
        self.0.measure(Origin { epoch_offset_ns: 0, may_hide: true }, rings);
    }

    /// Returns when all of it is measured.
    pub fn settle(&mut self) {
        let (give, take) = std::sync::mpsc::channel();
        self.0.ask(|_| (), move |meters| _ = give.send(meters.len()));
        let _ = take.recv();
    }
}
