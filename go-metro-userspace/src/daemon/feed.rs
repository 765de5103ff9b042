//! Those who watch from second to second: `go-metro top`, here or at the status socket.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use go_metro_common::counters::Unparsable;
use go_metro_rtt::{Label, PairKey, Side};
use tokio::sync::mpsc;
use tokio::time::Interval;

use super::capture_thread::CaptureStatus;
use super::flow_tap::Tapped;
use super::{Daemon, ticks};
use crate::output::naming::Names;
use crate::status::Live;
use crate::status::live::{Counters, LiveFlow, LivePair};

/// How often they are told.
const EVERY: Duration = Duration::from_secs(1);

/// The watchers; while there are none, nothing is noted for them.
#[derive(Default)]
pub(super) struct Feed {
    watchers: Vec<mpsc::Sender<Arc<Live>>>,
    /// When to tell them next.
    pub(super) ticks: Option<Interval>,
    told_at: Option<Instant>,
    left_out: u64,
}

impl Daemon {
    /// Somebody wants to be told.
    pub(super) async fn watched_by(&mut self, watcher: mpsc::Sender<Arc<Live>>) {
        self.feed.watchers.push(watcher);
        if self.feed.ticks.is_none() {
            self.feed.ticks = Some(ticks(EVERY));
            self.feed.told_at = Some(Instant::now());
            // What is noted begins now.
            let _ = self.capture.flows().await;
        }
    }

    /// Tells all watchers.
    pub(super) async fn tell_watchers(&mut self) {
        if let Some((tapped, state)) = self.capture.flows().await {
            let live = Arc::new(self.live(tapped, &state));
            // A watcher that is behind misses a second, and no more.
            self.feed
                .watchers
                .retain(|watcher| !matches!(watcher.try_send(live.clone()), Err(mpsc::error::TrySendError::Closed(_))));
        }
        if self.feed.watchers.is_empty() {
            self.feed.ticks = None;
            self.capture.stop_flows();
        }
        drop(self.look_up_names());
    }

    fn live(&mut self, tapped: Tapped, state: &CaptureStatus) -> Live {
        self.feed.left_out += tapped.left_out;
        let interval = self.feed.told_at.replace(Instant::now()).map(|told| told.elapsed()).unwrap_or_default();
        let directory = &self.directory;
        // There may be any number of hosts in a group: their names are not looked up.
        let name = |remote: IpAddr, group: &Option<String>| match group {
            Some(_) => remote.to_string(),
            None => directory.remote(remote),
        };
        let flows = tapped.flows.into_iter().map(|(key, (place, summary))| {
            let remote = key.remote.addr.ip();
            let group = directory.group_name(&PairKey::of(&key, place, Label::NONE));
            LiveFlow {
                local: (key.local.addr.ip(), key.local.port).into(),
                remote: (remote, key.remote.port).into(),
                name: name(remote, &group),
                group,
                service: place.service(),
                iface: directory.interface(key.ifindex),
                to_local: key.side == Side::Local,
                summary,
            }
        });
        let pairs = tapped.pairs.into_iter().map(|(key, health)| {
            let (remote, group) = (key.remote.ip(), directory.group_name(&key));
            LivePair {
                local: key.local.ip(),
                remote,
                name: name(remote, &group),
                group,
                service: key.place.service(),
                iface: directory.interface(key.ifindex),
                to_local: key.side == Side::Local,
                health,
            }
        });
        Live {
            program: env!("CARGO_PKG_VERSION").to_owned(),
            at_ns: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64),
            interval_s: interval.as_secs_f64(),
            backend: state.backend.to_owned(),
            interfaces: state.attached.iter().map(|attached| attached.name.clone()).collect(),
            counters: Counters {
                packets: state.source.packets.seen,
                records: state.source.packets.records,
                lost: state.source.packets.lost,
                unparsable: Unparsable::REFUSED
                    .iter()
                    .map(|cause| state.source.packets.unparsable[*cause as usize])
                    .sum(),
                samples: state.engine.samples_total(),
                rejected: state.engine.rejected_total(),
                retransmissions: state.engine.retransmissions,
                flows: state.flows as u64,
                evicted: state.engine.flows_evicted,
                left_out: self.feed.left_out,
            },
            flows: flows.collect(),
            pairs: pairs.collect(),
            other: tapped.other,
        }
    }
}
