//! One flow's outstanding transmissions: a singly linked list through its [`Share`] of the pool, in the order of
//! sending.
//!
//! As long as nothing was retransmitted that is also the order of sequence numbers, and an acknowledgement only ever
//! looks at the front.

use bitflags::bitflags;

use super::evidence::{Evidence, is_newer};
use super::pool::{COMMON, NIL, Node, NodeFlags, Share};
use super::{Advance, Match, Transmission};
use crate::{Nanos, SeqNum};

/// What making room for one more transmission has come to (rule 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// There was room.
    Enough,
    /// Others were dropped.
    Thinned,
    /// What could be dropped leaves some that only look as if they had been sent once: the record is of no use.
    Useless,
}

bitflags! {
    /// What is known of the whole queue.
    #[derive(Clone, Copy, Debug)]
    struct QueueFlags: u8 {
        /// The flow's own node is in use.
        const OWN_IN_USE = 1 << 0;
        /// Holds a retransmission, so sequence numbers do not ascend.
        const UNORDERED = 1 << 1;
        /// Transmissions were dropped from it (rule 9).
        const DROPPED = 1 << 2;
        /// One that comes after a gap was not kept: the next one comes after it as well (rule 11).
        const GAP_PENDING = 1 << 3;
    }
}

/// One flow's transmissions, oldest first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Queue {
    head: u32,
    tail: u32,
    /// Retransmissions so far: what was sent before the last of them is ambiguous (rule 2).
    retransmissions: u32,
    len: u16,
    flags: QueueFlags,
    /// As [`Queue::gaps`]; here, because a flow's cache line has no other byte free.
    gaps: u8,
}

const _: () = assert!(size_of::<Queue>() == 16);

impl Queue {
    /// Nothing outstanding.
    pub(crate) const EMPTY: Self =
        Self { head: NIL, tail: NIL, retransmissions: 0, len: 0, flags: QueueFlags::empty(), gaps: 0 };

    /// Nothing outstanding, after this many gaps in the records.
    pub(crate) const fn after_gaps(gaps: u8) -> Self {
        Self { gaps, ..Self::EMPTY }
    }

    /// One transmission outstanding, after this many gaps in the records.
    #[inline]
    pub(crate) fn of_first(pool: &mut Share<'_>, transmission: Transmission, gaps: u8) -> Self {
        let own = pool.own();
        *pool.node_mut(own) = Node::of(transmission, 0, NodeFlags::empty());
        Self { head: own, tail: own, retransmissions: 0, len: 1, flags: QueueFlags::OWN_IN_USE, gaps }
    }

    /// Whether nothing is on record.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many transmissions are on record.
    pub(crate) fn len(&self) -> u16 {
        self.len
    }

    /// Whether it has more than the flow's own node.
    #[inline]
    pub(crate) fn holds_common(&self) -> bool {
        self.len > u16::from(self.is(QueueFlags::OWN_IN_USE))
    }

    /// Gaps in the records that it was last emptied for, modulo 2^8.
    #[inline]
    pub(crate) fn gaps(&self) -> u8 {
        self.gaps
    }

    /// Whether a segment that is seen at this time was sent for the first time then, although what it begins with is
    /// below what was seen: something that was sent at this time or later, for the first time too, begins behind a gap
    /// that the segment is of, or is the same.
    pub(crate) fn overtakes(&self, pool: &Share<'_>, (start, end): (SeqNum, SeqNum), at: Nanos) -> bool {
        // In the order of sending: where the last was sent before, all were.
        if self.len == 0 || pool.node(self.tail).sent_at < at {
            return false;
        }
        let mut index = self.head;
        (0..self.len).any(|_| {
            let node = pool.node(index);
            index = node.next;
            let is_above = node.is(NodeFlags::AFTER_GAP) && !node.start.before(end);
            let is_same = node.start == start && node.end == end;
            node.sent_at >= at && !node.is(NodeFlags::AGAIN) && (is_above || is_same)
        })
    }

    /// Retransmissions since nothing was outstanding.
    pub(crate) fn retransmissions(&self) -> u32 {
        self.retransmissions
    }

    fn is(&self, flag: QueueFlags) -> bool {
        self.flags.intersects(flag)
    }
}

/// What is sent joins at the end.
impl Queue {
    /// Whether one more transmission needs no other to be dropped.
    #[inline]
    pub(crate) fn has_room(&self, bound: u16) -> bool {
        self.len < bound
    }

    /// Makes room for one more transmission among `bound`; `again`: of what was sent before.
    ///
    /// This is all there is of rule 9. A record of transmissions that were sent once is thinned: the oldest stays, and
    /// every second one after it. A retransmission and its twin must not be parted: where one of them may have been
    /// dropped or would be, all of the record is of no use.
    pub(crate) fn make_room(&mut self, pool: &mut Share<'_>, again: bool, bound: u16) -> Room {
        let is_full = !self.has_room(bound);
        let parts_twins =
            if again { is_full || self.is(QueueFlags::DROPPED) } else { is_full && self.is(QueueFlags::UNORDERED) };
        match is_full {
            _ if parts_twins => Room::Useless,
            true => {
                self.thin(pool);
                Room::Thinned
            }
            false => Room::Enough,
        }
    }

    /// Adds a transmission that advances `snd_nxt` (rule 1), where there is room. Whether the pool had a place for it.
    #[inline]
    pub(crate) fn push(&mut self, pool: &mut Share<'_>, transmission: Transmission) -> bool {
        self.link(pool, transmission, NodeFlags::empty())
    }

    /// Adds a transmission of sequence space that was sent before: from now on TSecr must decide (rules 2 and 4).
    pub(crate) fn push_again(&mut self, pool: &mut Share<'_>, transmission: Transmission) -> bool {
        self.flags |= QueueFlags::UNORDERED;
        self.link(pool, transmission, NodeFlags::AGAIN)
    }

    /// A retransmission makes everything outstanding ambiguous (rule 2).
    pub(crate) fn note_retransmission(&mut self) {
        self.retransmissions = self.retransmissions.wrapping_add(1);
    }

    #[inline]
    fn link(&mut self, pool: &mut Share<'_>, transmission: Transmission, mut flags: NodeFlags) -> bool {
        if self.is(QueueFlags::GAP_PENDING) {
            flags |= NodeFlags::AFTER_GAP;
        }
        let node = Node::of(transmission, self.retransmissions, flags);
        let Some(index) = self.take(pool, node) else {
            self.flags |= QueueFlags::DROPPED;
            self.flags.set(QueueFlags::GAP_PENDING, node.is(NodeFlags::AFTER_GAP));
            return false;
        };
        self.flags.remove(QueueFlags::GAP_PENDING);
        if self.len == 0 {
            self.head = index;
        } else {
            pool.node_mut(self.tail).next = index;
        }
        self.tail = index;
        self.len += 1;
        true
    }

    /// A place for a node: the flow's own, or a common one.
    #[inline]
    fn take(&mut self, pool: &mut Share<'_>, node: Node) -> Option<u32> {
        if self.is(QueueFlags::OWN_IN_USE) {
            return pool.take_common(node);
        }
        self.flags |= QueueFlags::OWN_IN_USE;
        let own = pool.own();
        *pool.node_mut(own) = node;
        Some(own)
    }

    /// Keeps the oldest and every second one after it. What is dropped leaves a gap that no acknowledgement matches.
    #[cold]
    fn thin(&mut self, pool: &mut Share<'_>) {
        debug_assert!(!self.is(QueueFlags::UNORDERED), "a retransmission's twin must not be dropped");
        self.flags |= QueueFlags::DROPPED;
        let mut kept = self.head;
        while kept != NIL {
            let dropped = pool.node(kept).next;
            if dropped == NIL {
                break;
            }
            let Node { next, flags, .. } = *pool.node(dropped);
            let gap = flags & NodeFlags::AFTER_GAP;
            pool.node_mut(kept).next = next;
            match next {
                NIL if gap.is_empty() => {}
                NIL => self.flags |= QueueFlags::GAP_PENDING,
                next => pool.node_mut(next).flags |= gap,
            }
            self.give_back(pool, dropped);
            self.len -= 1;
            self.tail = if next == NIL { kept } else { self.tail };
            kept = next;
        }
    }
}

/// What is acknowledged leaves.
impl Queue {
    /// As [`Self::acknowledge`], where all that `ack` covers was sent once and in order, there is no gap, and TSecr is
    /// the echo of something that it covers: then the last of that is what is timed, and there is nothing to weigh.
    /// `None`, and nothing is changed, where that is not so.
    #[inline]
    pub(crate) fn acknowledge_in_order(&mut self, pool: &mut Share<'_>, advance: &Advance) -> Option<Transmission> {
        if self.len == 0 || self.is(QueueFlags::UNORDERED) {
            return None;
        }
        let Advance { una, ack, .. } = *advance;
        let first = pool.node(self.head);
        if first.end.before(ack) {
            return self.acknowledge_several(pool, advance);
        }
        let is_clean = !first.is(NodeFlags::SPEAKS_AGAINST) && first.retransmissions == self.retransmissions;
        let is_whole = first.contains(una) || self.is(QueueFlags::DROPPED);
        let is_echoed = match (advance.echo(), first.tsval()) {
            (Some(echo), Some(tsval)) => echo == tsval,
            _ => true,
        };
        if !is_clean || !is_whole || !is_echoed || !first.start.before(ack) {
            return None;
        }
        let found = first.transmission();
        if found.end == ack {
            self.remove_front(pool);
            self.settle_if_empty();
        }
        Some(found)
    }

    /// The same where `ack` covers more than the first.
    #[inline(never)]
    fn acknowledge_several(&mut self, pool: &mut Share<'_>, advance: &Advance) -> Option<Transmission> {
        let Advance { una, ack, .. } = *advance;
        let first = pool.node(self.head);
        let (mut newest, mut last, mut passed, mut holds_own) = (first, self.head, 0, self.head < COMMON);
        let mut flags = newest.flags;
        while newest.end.before(ack) {
            passed += 1;
            if passed == self.len {
                return None;
            }
            last = newest.next;
            newest = pool.node(last);
            flags |= newest.flags;
            holds_own |= last < COMMON;
        }
        let is_clean = !flags.intersects(NodeFlags::SPEAKS_AGAINST) && newest.retransmissions == self.retransmissions;
        // Where others were dropped the oldest may be any of those that are covered.
        let dropped = self.is(QueueFlags::DROPPED);
        let oldest = if dropped { newest } else { first };
        if !is_clean || !newest.start.before(ack) || !dropped && !first.contains(una) {
            return None;
        }
        if let (Some(echo), Some(tsval)) = (advance.echo(), newest.tsval())
            && (is_newer(echo, tsval) || oldest.tsval().is_some_and(|oldest| is_newer(oldest, echo)))
        {
            return None;
        }
        let found = newest.transmission();
        let covered = passed + u16::from(found.end == ack);
        if covered == passed || holds_own {
            for _ in 0..covered {
                self.remove_front(pool);
            }
        } else {
            self.head = pool.free_common(self.head, last);
            self.len -= covered;
        }
        self.settle_if_empty();
        Some(found)
    }

    /// Finds what `ack` acknowledges (rules 3 and 4) and removes all that it covers.
    pub(crate) fn acknowledge(&mut self, pool: &mut Share<'_>, advance: Advance) -> Match {
        let mut evidence = Evidence::default();
        if self.is(QueueFlags::UNORDERED) {
            self.cover_any_order(pool, advance, &mut evidence);
        } else if self.len == 0 || pool.node(self.head).start.before(advance.ack) {
            self.cover_front(pool, advance, &mut evidence);
        } else {
            // It is all after what is acknowledged.
            return evidence.judge(advance, self.retransmissions, self.is(QueueFlags::DROPPED));
        }
        let found = evidence.judge(advance, self.retransmissions, self.is(QueueFlags::DROPPED));
        self.settle_if_empty();
        found
    }

    /// Nothing was retransmitted: sequence numbers ascend and do not overlap, so all that is covered is at the front.
    fn cover_front(&mut self, pool: &mut Share<'_>, advance: Advance, evidence: &mut Evidence) {
        while self.len > 0 {
            let node = *pool.node(self.head);
            evidence.weigh(&node, &advance);
            if node.end.after(advance.ack) {
                return;
            }
            self.remove_front(pool);
        }
    }

    /// Something was retransmitted: every transmission is looked at.
    fn cover_any_order(&mut self, pool: &mut Share<'_>, advance: Advance, evidence: &mut Evidence) {
        let (mut index, mut previous) = (self.head, NIL);
        for _ in 0..self.len {
            let node = *pool.node(index);
            evidence.weigh(&node, &advance);
            if node.end.after(advance.ack) {
                previous = index;
            } else {
                if previous == NIL {
                    self.head = node.next;
                } else {
                    pool.node_mut(previous).next = node.next;
                }
                self.give_back(pool, index);
                self.len -= 1;
            }
            index = node.next;
        }
        self.tail = previous;
    }

    /// Removes the oldest.
    #[inline]
    fn remove_front(&mut self, pool: &mut Share<'_>) {
        let next = pool.node(self.head).next;
        self.give_back(pool, self.head);
        self.head = next;
        self.len -= 1;
    }

    fn give_back(&mut self, pool: &mut Share<'_>, index: u32) {
        if index < COMMON {
            self.flags.remove(QueueFlags::OWN_IN_USE);
        } else {
            pool.free_common(index, index);
        }
    }

    /// With the last of it goes what was known of it, but for a gap before what comes next.
    #[inline]
    fn settle_if_empty(&mut self) {
        if self.len == 0 {
            self.reset(self.flags & QueueFlags::GAP_PENDING);
        }
    }

    /// Nothing is on record any more. Field by field: a whole queue would be put together elsewhere, and the processor
    /// waits to read at once what was written in parts.
    #[inline]
    fn reset(&mut self, flags: QueueFlags) {
        (self.head, self.tail) = (NIL, NIL);
        self.retransmissions = 0;
        self.len = 0;
        self.flags = flags;
    }
}

/// What is on record turns out to be worth less, or more.
impl Queue {
    /// Removes everything.
    pub(crate) fn clear(&mut self, pool: &mut Share<'_>) {
        self.drop_all(pool, |_| false);
    }

    /// Removes everything at a gap in the records: among those that were lost may be others that are outstanding, so
    /// the next comes after them (rule 11).
    pub(crate) fn enter_gap(&mut self, gaps: u8, pool: &mut Share<'_>) {
        self.clear(pool);
        self.gaps = gaps;
        self.flags |= QueueFlags::DROPPED | QueueFlags::GAP_PENDING;
    }

    /// Removes everything, of which all below `una` was acknowledged, and remembers whether there was a gap above that.
    pub(crate) fn give_up(&mut self, pool: &mut Share<'_>, una: SeqNum) {
        let pending = self.is(QueueFlags::GAP_PENDING);
        self.drop_all(pool, |node| pending || node.is(NodeFlags::AFTER_GAP) && una.before(node.start));
        if pending {
            self.flags |= QueueFlags::GAP_PENDING;
        }
    }

    fn drop_all(&mut self, pool: &mut Share<'_>, is_behind_gap: impl Fn(&Node) -> bool) {
        let (mut index, mut gap) = (self.head, QueueFlags::empty());
        for _ in 0..self.len {
            let node = *pool.node(index);
            if is_behind_gap(&node) {
                gap = QueueFlags::GAP_PENDING;
            }
            self.give_back(pool, index);
            index = node.next;
        }
        self.reset(gap);
    }

    /// Something that acknowledges some of it may have passed unseen: another that says the same is not the first (rule
    /// 15).
    #[cold]
    pub(crate) fn mark_maybe_acked(&mut self, pool: &mut Share<'_>) {
        let mut index = self.head;
        for _ in 0..self.len {
            let node = pool.node_mut(index);
            node.flags |= NodeFlags::MAYBE_ACKED;
            index = node.next;
        }
    }

    /// All that was sent again has arrived, unless it is still on record: else what is on record is as if nothing had
    /// been sent again (rule 5).
    pub(crate) fn clear_retransmissions(&mut self, pool: &mut Share<'_>) {
        let mut index = self.head;
        for _ in 0..self.len {
            let node = pool.node(index);
            if node.is(NodeFlags::AGAIN) {
                return;
            }
            index = node.next;
        }
        let mut index = self.head;
        for _ in 0..self.len {
            let node = pool.node_mut(index);
            node.retransmissions = self.retransmissions;
            index = node.next;
        }
        self.flags.remove(QueueFlags::UNORDERED);
    }
}
