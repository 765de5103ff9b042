//! Which group each flow is in: looked up once, when the flow begins.

use std::fmt;
use std::sync::Arc;

use go_metro_common::segment::TcpFlags;

use crate::key::Key;
use crate::place::{Group, Place};
use crate::{Addr, FlowKey, Segment, Side};

/// The group of a remote address, and the flow's [`Place::class`] in it. It is called on the packet path, once a flow:
/// it neither allocates nor waits.
pub type GroupOf = dyn Fn(Addr) -> (Group, u16) + Send + Sync;

/// What flows are put together by.
#[derive(Clone)]
pub struct Grouping {
    /// The group of an address.
    pub group_of: Arc<GroupOf>,
    /// Tell connections to different services apart, by the port of the end that did not begin them
    /// ([`Place::port`]). Of a connection whose handshake was not seen it is the lower port of both.
    pub by_port: bool,
}

impl fmt::Debug for Grouping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grouping").field("by_port", &self.by_port).finish_non_exhaustive()
    }
}

/// What is known of one flow.
#[derive(Clone, Copy, Debug, Default)]
struct Placed {
    place: Place,
    /// With which grouping its group was looked up; 0 for none.
    epoch: u32,
}

/// Bytes of a flow here, which only groups cost.
#[cfg(test)]
pub(crate) const BYTES_PER_FLOW: usize = size_of::<Placed>();

/// The places of all flows.
pub(crate) struct Places {
    grouping: Grouping,
    /// Number of the grouping, from 1.
    epoch: u32,
    flows: Vec<Placed>,
}

impl Places {
    /// None yet; room for so many flows.
    pub(crate) fn new(grouping: Grouping, max_flows: usize) -> Self {
        Self { grouping, epoch: 1, flows: Vec::with_capacity(max_flows) }
    }

    /// Groups otherwise from now on: each flow is looked up again when it next has something to report.
    pub(crate) fn set(&mut self, grouping: Grouping) {
        self.grouping = grouping;
        self.epoch = self.epoch.checked_add(1).unwrap_or_else(|| {
            self.flows.iter_mut().for_each(|flow| flow.epoch = 0);
            1
        });
    }

    /// Room for so many flows, now that there is none.
    pub(crate) fn resize(&mut self, max_flows: usize) {
        self.flows = Vec::with_capacity(max_flows);
    }

    /// A flow begins under this number, with what one of its ends sends.
    pub(crate) fn begin(&mut self, index: u32, segment: &Segment) {
        let index = index as usize;
        if index >= self.flows.len() {
            self.flows.resize(index + 1, Placed::default());
        }
        let port = service(segment).unwrap_or_else(|| lower_port(&segment.flow));
        self.flows[index] = self.look_up(segment.flow.remote.addr, port);
    }

    /// A flow sends this: where it is a SYN, which end began the connection is known.
    pub(crate) fn sent(&mut self, index: u32, segment: &Segment) {
        if segment.has(TcpFlags::SYN)
            && let Some(port) = service(segment).filter(|_| self.grouping.by_port)
            && let Some(flow) = self.flows.get_mut(index as usize)
        {
            flow.place.port = port;
        }
    }

    /// Where a flow belongs.
    pub(crate) fn of(&self, index: u32, key: &Key) -> Place {
        let known = self.flows.get(index as usize).copied().unwrap_or_default();
        self.current(known, key).place
    }

    /// The same, looked up for good.
    pub(crate) fn settle(&mut self, index: u32, key: &Key) -> Place {
        let Some(known) = self.flows.get(index as usize).copied() else { return self.of(index, key) };
        if known.epoch != self.epoch {
            self.flows[index as usize] = self.current(known, key);
        }
        self.flows[index as usize].place
    }

    /// Where a connection belongs that was never seen, and whose beginning the end that is timed has refused.
    pub(crate) fn of_refused(&self, key: &Key) -> Place {
        let flow = key.flow();
        let port = if flow.side == Side::Remote { flow.local.port } else { flow.remote.port };
        self.look_up(flow.remote.addr, port).place
    }

    fn current(&self, known: Placed, key: &Key) -> Placed {
        if known.epoch == self.epoch {
            return known;
        }
        let flow = key.flow();
        let port = if known.place.port == 0 { lower_port(&flow) } else { known.place.port };
        self.look_up(flow.remote.addr, port)
    }

    fn look_up(&self, remote: Addr, port: u16) -> Placed {
        let (group, class) = (self.grouping.group_of)(remote);
        let class = if group == Group::HOST { 0 } else { class };
        let port = if self.grouping.by_port { port } else { 0 };
        Placed { place: Place { group, class, port }, epoch: self.epoch }
    }
}

/// The port of the end that does not begin the connection, as a SYN or SYN-ACK of the end that is timed says.
fn service(segment: &Segment) -> Option<u16> {
    let FlowKey { local, remote, side, .. } = segment.flow;
    let (sender, other) = if side == Side::Remote { (local, remote) } else { (remote, local) };
    segment.has(TcpFlags::SYN).then(|| if segment.has(TcpFlags::ACK) { sender.port } else { other.port })
}

/// Services have lower ports than what is chosen for a connection (RFC 6335 section 6).
fn lower_port(flow: &FlowKey) -> u16 {
    flow.local.port.min(flow.remote.port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_flows_place_takes_is_what_the_documentation_says() {
        assert_eq!(BYTES_PER_FLOW, 12);
    }
}
