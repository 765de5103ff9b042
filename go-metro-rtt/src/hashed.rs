//! A segment with where its flow is looked for.

use go_metro_common::segment::SegmentHeader;

use crate::key::Key;
use crate::table::NIL;
use crate::{Addr, Endpoint, FlowKey, Segment, Side};

/// A segment with its flow's key and the key's hash.
pub(super) struct Hashed {
    pub(super) segment: Segment,
    pub(super) key: Key,
    pub(super) hash: u32,
    /// The entry that most likely is the flow's, while a batch is recorded.
    pub(super) likely: u32,
}

impl Hashed {
    /// What stands in a place that holds no segment.
    pub(crate) fn nothing() -> Self {
        let end = Endpoint { addr: Addr::v4([0; 4]), port: 0 };
        let flow = FlowKey { local: end, remote: end, ifindex: 0, side: Side::Remote };
        Self { segment: Segment { flow, header: SegmentHeader::default() }, key: Key::NONE, hash: 0, likely: NIL }
    }
}
