//! Logs when flows are thinned because the ring runs full, and when that ends.

use std::time::{Duration, Instant};

use go_metro_common::pressure::Pressure;
use tracing::{info, warn};

use super::classifier::Reader;

/// How often the classifier is asked.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Looks at the classifier's view of the ring now and then, and tells when thinning begins and ends.
pub(super) struct Watch {
    next: Instant,
    /// Segments left out when thinning began, while it goes on.
    since: Option<u64>,
}

impl Watch {
    pub(super) fn new() -> Self {
        Self { next: Instant::now(), since: None }
    }

    pub(super) fn look(&mut self, classifier: &Reader) {
        let now = Instant::now();
        if now < self.next {
            return;
        }
        self.next = now + LOOK_EVERY;
        // The counters are wanted at the two ends alone.
        let thinned = || classifier.counters().map_or(0, |counters| counters.packets.thinned);
        match (classifier.pressure(), self.since) {
            (Ok(Pressure { every_ns: 1.., .. }), None) => {
                warn!("ring under pressure: thinning long flows (`sampling.watermark`); a larger `ring_size` may help");
                self.since = Some(thinned());
            }
            (Ok(Pressure { every_ns: 0, .. }), Some(since)) => {
                let left_out = thinned().saturating_sub(since);
                info!(left_out, "ring pressure over: no longer thinning flows");
                self.since = None;
            }
            _ => {}
        }
    }
}
