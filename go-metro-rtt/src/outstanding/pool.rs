//! The nodes of all flows' queues: 32 bytes a transmission, reserved once.
//!
//! Each flow has one node to itself, whose place is known before the flow has been looked at; most flows need no other.
//! The rest are common, and go to whichever flow asks first.

use bitflags::bitflags;

use super::Transmission;
use crate::{Nanos, SeqNum};

/// No node.
pub(super) const NIL: u32 = u32::MAX;

/// Numbers from here on are of common nodes; those below of nodes that belong to the flow of that number.
pub(super) const COMMON: u32 = 1 << 31;

/// Common nodes for each flow that there may be: most flows have one or two transmissions outstanding, a few bulk
/// transfers have their full share.
const COMMON_PER_FLOW: (usize, usize) = (3, 2);

/// Common nodes for so many flows.
pub(crate) const fn common_for(flows: usize) -> usize {
    flows.saturating_mul(COMMON_PER_FLOW.0) / COMMON_PER_FLOW.1
}

/// Bytes of a node.
pub(crate) const BYTES_PER_NODE: usize = size_of::<Node>();

bitflags! {
    /// What a node says beside its numbers.
    #[derive(Clone, Copy)]
    pub(super) struct NodeFlags: u8 {
        /// It carried timestamps.
        const HAS_TSVAL = 1 << 0;
        /// It carried SYN.
        const SYN = 1 << 1;
        /// Sequence space that was sent before (rule 2).
        const AGAIN = 1 << 2;
        /// As [`Transmission::after_gap`] (rule 11).
        const AFTER_GAP = 1 << 3;
        /// As [`Transmission::acked_early`] (rule 12).
        const ACKED_EARLY = 1 << 4;
        /// An acknowledgement that was not seen may have covered it (rule 15).
        const MAYBE_ACKED = 1 << 5;
        /// What speaks against timing it, even where nothing else does.
        const SPEAKS_AGAINST =
            Self::AGAIN.bits() | Self::AFTER_GAP.bits() | Self::ACKED_EARLY.bits() | Self::MAYBE_ACKED.bits();
    }
}

/// A transmission as the pool keeps it.
#[derive(Clone, Copy)]
pub(super) struct Node {
    pub(super) sent_at: Nanos,
    pub(super) start: SeqNum,
    pub(super) end: SeqNum,
    tsval: u32,
    /// The queue's count of retransmissions when it was sent, to tell what was sent before one from what was sent
    /// after.
    pub(super) retransmissions: u32,
    pub(super) next: u32,
    pub(super) flags: NodeFlags,
}

const _: () = assert!(size_of::<Node>() == 32);

impl Node {
    /// One that holds nothing.
    const FREE: Self = Self {
        sent_at: Nanos(0),
        start: SeqNum(0),
        end: SeqNum(0),
        tsval: 0,
        retransmissions: 0,
        next: NIL,
        flags: NodeFlags::empty(),
    };

    /// `retransmissions` of the queue so far; `more` of its flags that do not follow from the transmission.
    #[inline]
    pub(super) fn of(transmission: Transmission, retransmissions: u32, more: NodeFlags) -> Self {
        let Transmission { sent_at, start, end, tsval, syn, after_gap, acked_early } = transmission;
        let mut flags = more;
        flags.set(NodeFlags::HAS_TSVAL, tsval.is_some());
        flags.set(NodeFlags::SYN, syn);
        flags |= if after_gap { NodeFlags::AFTER_GAP } else { NodeFlags::empty() };
        flags.set(NodeFlags::ACKED_EARLY, acked_early);
        Self { sent_at, start, end, tsval: tsval.unwrap_or_default(), retransmissions, next: NIL, flags }
    }

    pub(super) fn is(&self, flag: NodeFlags) -> bool {
        self.flags.intersects(flag)
    }

    pub(super) fn tsval(&self) -> Option<u32> {
        self.is(NodeFlags::HAS_TSVAL).then_some(self.tsval)
    }

    /// Whether it contains the byte at `number`.
    pub(super) fn contains(&self, number: SeqNum) -> bool {
        !self.start.after(number) && self.end.after(number)
    }

    /// Whether it contains the byte before `ack`.
    pub(super) fn contains_last_of(&self, ack: SeqNum) -> bool {
        self.start.before(ack) && !self.end.before(ack)
    }

    pub(super) fn transmission(&self) -> Transmission {
        let Self { sent_at, start, end, .. } = *self;
        Transmission {
            sent_at,
            start,
            end,
            tsval: self.tsval(),
            syn: self.is(NodeFlags::SYN),
            after_gap: self.is(NodeFlags::AFTER_GAP),
            acked_early: self.is(NodeFlags::ACKED_EARLY),
        }
    }
}

/// The nodes of all flows' queues.
pub(crate) struct Pool {
    own: Vec<Node>,
    common: Vec<Node>,
    /// The first of a list of free common nodes.
    free: u32,
    bound: usize,
}

impl Pool {
    /// A node each for `flows`, and `common` for those that need more; reserved now: untouched pages cost nothing.
    pub(crate) fn new(flows: usize, common: usize) -> Self {
        Self { own: Vec::with_capacity(flows), common: Vec::with_capacity(common), free: NIL, bound: common }
    }

    /// What the flow of this number may use.
    #[inline]
    pub(crate) fn share(&mut self, flow: u32) -> Share<'_> {
        debug_assert!(flow < COMMON);
        Share { pool: self, flow }
    }

    /// Makes the nodes that belong to the flows up to this number.
    pub(crate) fn make_room_for(&mut self, flow: u32) {
        while self.own.len() <= flow as usize {
            self.own.push(Node::FREE);
        }
    }

    /// Reads a flow's own node, so that it is in the cache.
    #[inline]
    pub(crate) fn touch(&self, flow: u32) -> u64 {
        self.own.get(flow as usize).map_or(0, |node| node.sent_at.0)
    }
}

/// The pool, from one flow's point of view.
pub(crate) struct Share<'a> {
    pool: &'a mut Pool,
    flow: u32,
}

impl Share<'_> {
    /// The number of the flow's own node.
    #[inline]
    pub(super) fn own(&self) -> u32 {
        self.flow
    }

    #[inline]
    pub(super) fn node(&self, index: u32) -> &Node {
        if index < COMMON { &self.pool.own[index as usize] } else { &self.pool.common[(index - COMMON) as usize] }
    }

    #[inline]
    pub(super) fn node_mut(&mut self, index: u32) -> &mut Node {
        if index < COMMON {
            &mut self.pool.own[index as usize]
        } else {
            &mut self.pool.common[(index - COMMON) as usize]
        }
    }

    /// A common node that is `node` from now on, unless all are in use.
    #[inline]
    pub(super) fn take_common(&mut self, node: Node) -> Option<u32> {
        let pool = &mut *self.pool;
        if pool.free != NIL {
            let index = pool.free;
            let place = &mut pool.common[(index - COMMON) as usize];
            pool.free = place.next;
            *place = node;
            return Some(index);
        }
        let index = u32::try_from(pool.common.len()).ok().filter(|_| pool.common.len() < pool.bound)?;
        pool.common.push(node);
        Some(COMMON + index)
    }

    /// Frees the common nodes from `first` to `last`, which are linked already; what came after the last.
    #[inline]
    pub(super) fn free_common(&mut self, first: u32, last: u32) -> u32 {
        let free = std::mem::replace(&mut self.pool.free, first);
        std::mem::replace(&mut self.node_mut(last).next, free)
    }
}
