//! Once per report interval: take what was measured, name it, report it.

use std::future::Future;
use std::process;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::oneshot;

use super::bases::Lowests;
use super::capture_thread::Snapshot;
use super::{Daemon, kernel};
use crate::config::MetricName;
use crate::logging::OnceInAWhile;
use crate::metrics::{Events, Health};
use crate::output::Report;
use crate::output::naming::{self, Bases, Beside, KernelTimes};

/// How long the capture thread may take for an interval before it is said: longer than an interval may be short.
const LATE: Duration = Duration::from_secs(1);
/// Longest that a report waits for the names of addresses that are new in it, so that a pair has one name from its
/// first report on.
const NAMES: Duration = Duration::from_millis(500);

/// The interval that is being taken.
pub(super) struct Intervals {
    /// The interval that was asked for and has not come yet.
    pub(super) asked: Option<oneshot::Receiver<Snapshot>>,
    /// When it was asked for, unless its delay was logged.
    asked_at: Option<Instant>,
    said_late: OnceInAWhile,
    /// The interval that came, while the kernel is asked about its sockets and name servers about its addresses.
    pub(super) taken: Option<oneshot::Receiver<Taken>>,
    /// When the last one came.
    taken_at: Instant,
    pub(super) folded_samples: u64,
    lowests: Lowests,
    /// What was lost, left out or forgotten up to the interval before.
    left_out: u64,
}

impl Intervals {
    pub(super) fn start() -> Self {
        Self {
            asked: None,
            asked_at: None,
            said_late: OnceInAWhile::default(),
            taken: None,
            taken_at: Instant::now(),
            folded_samples: 0,
            lowests: Lowests::new(),
            left_out: 0,
        }
    }

    /// Whether something of an interval was lost, left out by sampling, or forgotten for want of room.
    fn note_left_out(&mut self, Snapshot { source, engine, .. }: &Snapshot) -> bool {
        let left_out = source.packets.lost + source.packets.thinned + source.late + engine.flows_evicted;
        std::mem::replace(&mut self.left_out, left_out) < left_out
    }
}

/// An interval and what a report says beside it.
pub(super) struct Taken {
    snapshot: Snapshot,
    beside: Beside,
    at: SystemTime,
    /// How long it was.
    interval: Duration,
}

impl Daemon {
    /// Asks for the interval, which may take a while to come: nothing else waits for a capture thread that is busy or
    /// hangs.
    pub(super) fn ask_for_interval(&mut self) {
        if self.intervals.asked.is_none() && self.intervals.taken.is_none() {
            self.intervals.asked = Some(self.capture.interval());
            self.intervals.asked_at = Some(Instant::now());
        } else if self.intervals.asked.is_some()
            && self.intervals.asked_at.take_if(|at| at.elapsed() >= LATE).is_some()
            && self.intervals.said_late.may_say()
        {
            tracing::warn!("the capture thread has not answered since the last report; reports are delayed");
        }
    }

    /// Adds to an interval what a report also wants, as far as it comes in time: the kernel's own times of its sockets
    /// if those are wanted, and the names of addresses that are new.
    pub(super) fn take(&mut self, snapshot: Snapshot, time: Duration) -> impl Future<Output = Taken> + use<> {
        let interval = std::mem::replace(&mut self.intervals.taken_at, Instant::now()).elapsed();
        let at = SystemTime::now();
        self.directory.want_names(snapshot.interval.pairs.iter().filter_map(|(key, _)| naming::host_of(key)));
        let names = self.look_up_names();
        let config = &self.options.config;
        let (kernel_rtt, grouping) = (config.kernel_rtt, self.directory.grouping());
        let bases = if config.wants(MetricName::Base) {
            self.intervals.lowests.note(&snapshot.interval, config.max_pairs, Instant::now())
        } else {
            self.intervals.lowests.clear();
            Bases::new()
        };
        let owners = self.owners.named(snapshot.interval.pairs.iter().map(|(key, _)| key.label));
        async move {
            let kernel = async {
                if kernel_rtt {
                    kernel::times(&snapshot.interval, interval, grouping).await
                } else {
                    KernelTimes::new()
                }
            };
            let (kernel, _) = tokio::join!(
                tokio::time::timeout(time, kernel),
                // The next report is not to wait for this one.
                tokio::time::timeout(NAMES.min(time / 2), names.answered()),
            );
            let beside = Beside { kernel: kernel.unwrap_or_default(), bases, owners };
            Taken { snapshot, beside, at, interval }
        }
    }

    /// Reports an interval, with what else belongs to it as far as that comes by then.
    pub(super) async fn report_by(&mut self, by: tokio::time::Instant, snapshot: Snapshot) {
        let time = by.saturating_duration_since(tokio::time::Instant::now());
        let taken = self.take(snapshot, time).await;
        self.report(&taken);
    }

    /// Names the interval's pairs and hands it to the sinks.
    pub(super) fn report(&mut self, taken: &Taken) {
        self.learn_what_came();
        self.directory.before_report();
        let report = Arc::new(self.name(taken));
        self.queues.look(taken.snapshot.backend == "ebpf");
        self.service.status(&status(&report));
        self.outputs.report(&report);
        self.directory.reported();
        self.directory.in_use(taken.snapshot.interval.pairs.iter().filter_map(|(key, _)| naming::host_of(key)));
        self.memory.note(&report, self.options.config.report_interval, self.outputs.send_errors());
    }

    fn name(&mut self, Taken { snapshot, beside, at, interval }: &Taken) -> Report {
        let folded = snapshot.interval.folded_samples;
        if folded > 0 && self.intervals.folded_samples == 0 {
            tracing::warn!(
                "more than {} pairs: {folded} samples of the others are counted as `{}`, and counts of a single pair \
                 may be too low; raise `max_pairs`",
                self.options.config.max_pairs,
                naming::OTHER
            );
        }
        self.intervals.folded_samples += folded;
        let incomplete = self.intervals.note_left_out(snapshot);
        self.happened.intervals_incomplete += u64::from(incomplete);
        let health = self.health(&Health {
            source: snapshot.source,
            engine: snapshot.engine,
            flows: snapshot.flows as u64,
            samples_dropped: snapshot.samples_dropped,
            interfaces: snapshot.interfaces as u64,
            ..Health::default()
        });
        let mut pairs = naming::name_pairs(&snapshot.interval, &self.directory, beside);
        let counted = pairs.iter_mut().filter_map(|pair| pair.summary.health.as_mut());
        counted.for_each(|counted| counted.incomplete = incomplete);
        Report { at: *at, interval: *interval, backend: snapshot.backend, pairs, health }
    }

    /// What the capture threads counted, with what the daemon itself counts.
    pub(super) fn health(&self, counted: &Health) -> Health {
        Health {
            folded_samples: self.intervals.folded_samples,
            process_lookups: self.owners.counts(),
            recordings: self.recorder.counts(),
            recorded: self.recorder.records(),
            memory_bytes: resident_bytes(),
            send_errors: self.outputs.send_errors(),
            otlp_lost: self.outputs.otlp_lost(),
            happened: Events {
                log_lines_lost: crate::logging::lines_lost(),
                notifications_lost: self.service.lost(),
                clients_closed: super::server::closed(),
                ..self.happened
            },
            ..*counted
        }
    }
}

/// How things are, in one line.
fn status(report: &Report) -> String {
    let Health { source, engine, flows, interfaces, .. } = &report.health;
    format!(
        "{} on {interfaces} interfaces: {flows} flows, {} samples, {} lost; {} pairs in the last report",
        report.backend,
        engine.samples_total(),
        source.packets.lost,
        report.pairs.len()
    )
}

/// Resident memory of this process (proc_pid_statm(5)); 0 if it cannot be told.
pub(super) fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{}/statm", process::id())).unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    pages * page.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(4096)
}
