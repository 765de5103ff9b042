//! What the capture threads report between intervals: interfaces, clocks, and directions that are hidden.

use std::time::{Duration, Instant};

use super::Daemon;
use super::one_direction::Change;
use crate::capture::{InterfaceEvent, Jump};

/// A direction of an interface of which nothing was seen.
pub(super) struct Hidden {
    pub(super) since: Instant,
    /// Whether moving to the head of the hook was of no help.
    pub(super) moved: bool,
}

/// Longer than it takes to move.
const MOVE: Duration = Duration::from_secs(2);

impl Daemon {
    pub(super) fn interface(&mut self, event: InterfaceEvent) {
        match event {
            InterfaceEvent::Attached { name, ifindex } => {
                tracing::info!("capturing on {name}");
                self.queues.watch(ifindex, &name);
                self.directory.interface_attached(ifindex, name);
                // It runs as long as the daemon.
                let _ = self.lookups.machines.send(ifindex);
            }
            InterfaceEvent::Turned { .. } => {}
            InterfaceEvent::Lost { name, ifindex } => {
                let is_named = self.directory.is_named(&name);
                self.hidden.retain(|(index, _), _| *index != ifindex);
                self.queues.forget(ifindex);
                self.directory.interface_lost(ifindex);
                if nix::net::if_::if_nametoindex(&*name) == Ok(ifindex) {
                    tracing::info!("no longer capturing on {name}");
                } else if !is_named {
                    // On a host of containers that is everyday.
                    tracing::info!("interface {name} is gone");
                } else {
                    self.happened.interfaces_lost += 1;
                    tracing::warn!("interface {name} went away; waiting for it");
                }
            }
        }
    }

    /// Has the classifier move where it can see both directions, and remembers where it cannot.
    pub(super) fn view(&mut self, Change { ifindex, way, blind }: Change) {
        if !blind {
            self.hidden.remove(&(ifindex, way));
            return;
        }
        match self.hidden.get_mut(&(ifindex, way)) {
            None => {
                self.capture.move_to_head(ifindex, way);
                self.hidden.insert((ifindex, way), Hidden { since: Instant::now(), moved: false });
            }
            // Another thread may report the same.
            Some(known) if known.since.elapsed() > MOVE => known.moved = true,
            Some(_) => {}
        }
    }

    pub(super) fn clock(&mut self, jump: Jump) {
        self.happened.clock_jumps += 1;
        match jump {
            Jump::Suspended(time) => {
                tracing::warn!("the host was suspended for {} s; nothing is timed across it", time.as_secs_f64());
            }
            Jump::Set(ns) => tracing::warn!("the wall clock was set by {} s", ns as f64 / 1e9),
        }
    }
}
