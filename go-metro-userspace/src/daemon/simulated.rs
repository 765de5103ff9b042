//! What a daemon does on a machine with any number of processors, for `cargo xtask bench many`.

use std::io;

use go_metro_rtt::{EngineConfig, Ports, Segment, SummaryLimits};

use super::capture_thread::simulated::{Measuring, Meter, Origin, Segments};
use super::settings::Limits;
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
        let (engine, summaries) = (EngineConfig::default(), SummaryLimits::default());
        let limits = Limits { engine, ports: Ports::ALL, summaries, health: None, grouping: None };
        Measuring::by(workers, || Meter::new(&limits, None)).map(Self)
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
