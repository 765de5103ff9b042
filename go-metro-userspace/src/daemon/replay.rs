//! Instances with `interface: file`: a capture through the engine, reported once.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use go_metro_rtt::{Outcome, PairKey, Sample, Segment, Summaries};

use super::directory::Directory;
use super::settings::Limits;
use crate::capture::CaptureError;
use crate::capture::file::{FileFilter, FileSource};
use crate::capture::recorded::{self, Called, Wanted};
use crate::config::{Config, Instance};
use crate::metrics::Health;
use crate::output::Report;
use crate::output::naming::{Beside, Names, name_pairs};

/// Reads one instance's capture.
///
/// # Errors
///
/// What cannot be opened.
pub(super) fn read(
    config: &Config,
    instance: &Instance,
    directory: &Directory,
    on_sample: &mut impl FnMut(Sample),
) -> Result<Option<Report>, CaptureError> {
    let Some(path) = &instance.pcap else { return Ok(None) };
    let mut source = FileSource::open(path)?;
    let (targets, sides) = (directory.nets_of(instance), config.sides.into());
    let filter = FileFilter { targets, sides, ..FileFilter::default() };
    let limits = Limits::of(config, directory);
    let mut summaries = Summaries::new(limits.summaries);
    let mut sink = |_: &Segment, outcome| match outcome {
        Outcome::Sample(sample) => {
            summaries.add(&sample);
            on_sample(sample);
        }
        Outcome::Response(response) => summaries.add_response(&response),
        _ => {}
    };
    let grouping = limits.grouping.as_ref();
    let wanted = Wanted { filter: &filter, ports: limits.ports, grouping, called: Called::KEYS };
    let how = (limits.engine, limits.health_for(false), limits.responses);
    let mut engine = recorded::measure(&mut source, wanted, 1, how, &mut sink);
    let unanswered = recorded::take_health(&mut engine, limits.health.connect_timeout, &mut summaries);
    let remarks = recorded::remarks(&source, wanted, engine.counters()).into_iter().chain(unanswered);
    for remark in remarks.chain(recorded::coarse_clock(&source, engine.counters())) {
        tracing::warn!("{}: {remark}", path.display());
    }
    let interval = summaries.take();
    let health = Health {
        source: source.counters(),
        engine: *engine.counters(),
        flows: engine.flows() as u64,
        folded_samples: interval.folded_samples,
        samples_dropped: 0,
        memory_bytes: super::intervals::resident_bytes(),
        ..Health::default()
    };
    tracing::info!("{}: {} samples", path.display(), engine.counters().samples_total());
    let pairs = name_pairs(&interval, &FileNames { directory, instance }, &Beside::default());
    Ok(Some(Report { at: SystemTime::now(), interval: Duration::ZERO, backend: "file", pairs, health }))
}

/// Names as on a live interface, but that the interface is the file.
struct FileNames<'a> {
    directory: &'a Directory,
    instance: &'a Instance,
}

impl Names for FileNames<'_> {
    fn interface(&self, _ifindex: u32) -> String {
        self.instance.interface.clone()
    }

    fn remote(&self, address: IpAddr) -> String {
        self.directory.remote(address)
    }

    fn tags(&self, _interface: &str, _address: IpAddr) -> Arc<[String]> {
        self.directory.global_tags().iter().chain(&self.instance.tags).cloned().collect()
    }

    fn global_tags(&self) -> Arc<[String]> {
        self.directory.global_tags()
    }

    fn group(&self, pair: &PairKey, interface: &str) -> Option<(String, Arc<[String]>)> {
        let group = self.directory.groups().name(pair)?;
        let tags = self.tags(interface, pair.remote.ip());
        Some((group.name, tags.iter().chain(&group.tags).cloned().collect()))
    }

    fn tells_side(&self) -> bool {
        self.directory.tells_side()
    }
}
