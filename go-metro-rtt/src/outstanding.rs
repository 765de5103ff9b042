//! Outstanding segments: what was sent and not yet acknowledged (rules 1 to 4, 9, and 11 to 13 of RULES.md).
//!
//! All flows share one [`Pool`] of 32-byte nodes, reserved once, so that the packet path never allocates and
//! memory stays bounded however the flows behave. Each flow has one node to itself, where it is known before the flow has been looked at;
//! most need no other. A flow holds a [`Queue`], a singly linked list through its [`Share`] of
//! the pool in the order of sending. As long as nothing was retransmitted that is also the order of sequence numbers, and
//! an acknowledgement only ever looks at the front.

use super::sample::Rejection;
use super::{Nanos, SeqNum};

/// No node.
const NIL: u32 = u32::MAX;

/// Numbers from here on are of nodes that any flow may have; those below of nodes that belong to the flow of that number.
const COMMON: u32 = 1 << 31;

/// One transmission of one segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transmission {
    /// Departure.
    pub(super) sent_at: Nanos,
    /// First sequence number.
    pub(super) start: SeqNum,
    /// Sequence number after the last.
    pub(super) end: SeqNum,
    /// TSval, if it carried timestamps.
    pub(super) tsval: Option<u32>,
    /// Whether it carried SYN.
    pub(super) syn: bool,
    /// Whether the sequence space right before it was never seen to be sent (a gap).
    pub(super) after_gap: bool,
    /// Whether some of it had been acknowledged before it was seen.
    pub(super) acked_early: bool,
}

/// A transmission as the pool keeps it.
#[derive(Clone, Copy)]
struct Node {
    sent_at: Nanos,
    start: SeqNum,
    end: SeqNum,
    tsval: u32,
    /// The queue's doubts when it was sent, to tell what was sent before a retransmission from what was sent after.
    doubts: u32,
    next: u32,
    /// Of the constants below.
    flags: u8,
}

const _: () = assert!(size_of::<Node>() == 32);

/// It carried timestamps.
const HAS_TSVAL: u8 = 1 << 0;
/// It carried SYN.
const SYN: u8 = 1 << 1;
/// Sequence space that was sent before.
const AGAIN: u8 = 1 << 2;
/// As [`Transmission::after_gap`].
const AFTER_GAP: u8 = 1 << 3;
/// As [`Transmission::acked_early`].
const ACKED_EARLY: u8 = 1 << 4;
/// What was not seen may have acknowledged it.
const MAYBE_ACKED: u8 = 1 << 5;
/// What speaks against timing it, wherever nothing else does.
const SPEAKS_AGAINST: u8 = AGAIN | AFTER_GAP | ACKED_EARLY | MAYBE_ACKED;

impl Node {
    fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    fn tsval(&self) -> Option<u32> {
        self.is(HAS_TSVAL).then_some(self.tsval)
    }

    /// Whether it contains the byte at `number`.
    fn contains(&self, number: SeqNum) -> bool {
        !self.start.after(number) && self.end.after(number)
    }

    /// Whether it contains the byte before `ack`.
    fn contains_last_of(&self, ack: SeqNum) -> bool {
        self.start.before(ack) && !self.end.before(ack)
    }

    /// `doubts` of the queue so far; `more` of its flags that do not follow from the transmission.
    #[inline]
    fn of(transmission: Transmission, doubts: u32, more: u8) -> Self {
        let Transmission { sent_at, start, end, tsval, syn, after_gap, acked_early } = transmission;
        let flag = |condition: bool, flag: u8| if condition { flag } else { 0 };
        let flags = more
            | flag(tsval.is_some(), HAS_TSVAL)
            | flag(syn, SYN)
            | flag(after_gap, AFTER_GAP)
            | flag(acked_early, ACKED_EARLY);
        Self { sent_at, start, end, tsval: tsval.unwrap_or_default(), doubts, next: NIL, flags }
    }

    fn transmission(&self) -> Transmission {
        let Self { sent_at, start, end, .. } = *self;
        Transmission {
            sent_at,
            start,
            end,
            tsval: self.tsval(),
            syn: self.is(SYN),
            after_gap: self.is(AFTER_GAP),
            acked_early: self.is(ACKED_EARLY),
        }
    }
}

impl Node {
    /// One that holds nothing.
    const FREE: Self =
        Self { sent_at: Nanos(0), start: SeqNum(0), end: SeqNum(0), tsval: 0, doubts: 0, next: NIL, flags: 0 };
}

/// Common nodes for each flow that there may be: most flows have one or two transmissions outstanding, a few bulk transfers have their
/// full share.
pub(super) const COMMON_PER_FLOW: usize = 2;

/// Bytes of a node.
pub(super) const BYTES_PER_NODE: usize = size_of::<Node>();

/// The nodes of all flows' queues.
pub(super) struct Pool {
    own: Vec<Node>,
    common: Vec<Node>,
    /// The first of a list of free common nodes.
    free: u32,
    bound: usize,
}

impl Pool {
    /// A node each for `flows`, and `common` for whoever needs more; reserved now: untouched pages cost nothing.
    pub(super) fn new(flows: usize, common: usize) -> Self {
        Self { own: Vec::with_capacity(flows), common: Vec::with_capacity(common), free: NIL, bound: common }
    }

    /// What the flow of this number may use.
    #[inline]
    pub(super) fn share(&mut self, flow: u32) -> Share<'_> {
        debug_assert!(flow < COMMON);
        Share { pool: self, flow }
    }

    /// Makes the nodes that belong to the flows up to this number.
    pub(super) fn make_room_for(&mut self, flow: u32) {
        while self.own.len() <= flow as usize {
            self.own.push(Node::FREE);
        }
    }

    /// Reads a flow's own node, so that it is in the cache.
    #[inline]
    pub(super) fn touch(&self, flow: u32) -> u64 {
        self.own.get(flow as usize).map_or(0, |node| node.sent_at.0)
    }
}

/// The pool, from one flow's point of view.
pub(super) struct Share<'a> {
    pool: &'a mut Pool,
    flow: u32,
}

impl Share<'_> {
    #[inline]
    fn node(&self, index: u32) -> &Node {
        if index < COMMON { &self.pool.own[index as usize] } else { &self.pool.common[(index - COMMON) as usize] }
    }

    #[inline]
    fn node_mut(&mut self, index: u32) -> &mut Node {
        if index < COMMON {
            &mut self.pool.own[index as usize]
        } else {
            &mut self.pool.common[(index - COMMON) as usize]
        }
    }

    #[inline]
    fn take_common(&mut self, node: Node) -> Option<u32> {
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
}

/// An acknowledgement that advances `snd_una`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Advance {
    /// First sequence number not acknowledged until now.
    pub(super) una: SeqNum,
    /// The same, by what was acknowledged before it was seen as well.
    pub(super) told: SeqNum,
    /// The acknowledgement number.
    pub(super) ack: SeqNum,
    /// TSecr, if it carries timestamps.
    pub(super) tsecr: Option<u32>,
}

impl Advance {
    /// TSecr, if it is the echo of something: Linux takes 0 for none (`tcp_rcv_synsent_state_process` of net/ipv4/tcp_input.c).
    fn echo(&self) -> Option<u32> {
        self.tsecr.filter(|tsecr| *tsecr != 0)
    }
}

/// What an acknowledgement finds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Match {
    /// No transmission on record contains the byte before the acknowledgement number.
    None,
    /// The same, but transmissions made room for others (rule 9).
    Forgotten,
    /// The newest transmission that contains it; sent once, and nothing was retransmitted since.
    Clean(Transmission),
    /// Retransmitted, or something was since; but TSecr names this transmission alone.
    ByTimestamp(Transmission),
    /// Retransmitted, or something was since, and TSecr decides nothing.
    Ambiguous,
    /// Something that was not seen caused the acknowledgement, or may have.
    Unseen,
    /// The transmission was acknowledged before it was seen; this is a repetition.
    AckedEarly,
}

/// What an acknowledgement times, as far as the record tells.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timed {
    pub(super) transmission: Transmission,
    pub(super) proof: Proof,
}

/// Why an acknowledgement is of one transmission and no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// There was no other.
    Alone,
    /// TSecr names it.
    Timestamp,
}

impl Match {
    /// What is timed where nothing else speaks against it.
    #[inline]
    pub(super) fn timed(self) -> Result<Timed, Rejection> {
        match self {
            Self::Clean(transmission) => Ok(Timed { transmission, proof: Proof::Alone }),
            Self::ByTimestamp(transmission) => Ok(Timed { transmission, proof: Proof::Timestamp }),
            Self::AckedEarly | Self::Unseen => Err(Rejection::Unseen),
            Self::None | Self::Forgotten => Err(Rejection::NoSegment),
            Self::Ambiguous => Err(Rejection::Retransmitted),
        }
    }
}

/// What became of a new transmission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// Kept.
    Kept,
    /// Kept, after others made room for it.
    Thinned,
    /// Not kept: the pool is exhausted.
    PoolFull,
}

/// One flow's transmissions, oldest first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Queue {
    head: u32,
    tail: u32,
    /// Retransmissions so far: what was sent before the last of them is ambiguous (rule 2).
    doubts: u32,
    len: u16,
    marks: u8,
    /// As [`Queue::gaps`]; here, because a flow's cache line has no other byte free.
    gaps: u8,
}

/// The flow's own node is in use.
const OWN_IN_USE: u8 = 1 << 0;
/// Holds a retransmission, so sequence numbers do not ascend.
const UNORDERED: u8 = 1 << 1;
/// Transmissions were dropped from it (rule 9).
const THINNED: u8 = 1 << 2;
/// One that comes after a gap was not kept: the next one comes after it as well.
const GAP_PENDING: u8 = 1 << 3;

const _: () = assert!(size_of::<Queue>() == 16);

impl Queue {
    /// Nothing outstanding.
    pub(super) const EMPTY: Self = Self { head: NIL, tail: NIL, doubts: 0, len: 0, marks: 0, gaps: 0 };

    /// Nothing outstanding, after this many gaps in the records.
    pub(super) const fn after_gaps(gaps: u8) -> Self {
        Self { gaps, ..Self::EMPTY }
    }

    /// One transmission outstanding, after this many gaps in the records.
    #[inline]
    pub(super) fn of_first(pool: &mut Share<'_>, transmission: Transmission, gaps: u8) -> Self {
        let own = pool.flow;
        *pool.node_mut(own) = Node::of(transmission, 0, 0);
        Self { head: own, tail: own, doubts: 0, len: 1, marks: OWN_IN_USE, gaps }
    }

    /// Whether nothing is on record.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether it has more than the flow's own node.
    #[inline]
    pub(super) fn holds_common(&self) -> bool {
        self.len > u16::from(self.is(OWN_IN_USE))
    }

    /// How many transmissions are on record.
    pub(super) fn len(&self) -> u16 {
        self.len
    }

    /// Whether to record one more transmission would leave (or has left) one that only looks like the sole transmission of
    /// its bytes: its twin was dropped to make room.
    pub(super) fn would_mislead(&self, again: bool, bound: u16) -> bool {
        let full = self.len >= bound;
        if again { full || self.is(THINNED) } else { full && self.is(UNORDERED) }
    }

    /// Adds a transmission that advances `snd_nxt` (rule 1), thinning when there are `bound` already (rule 9).
    pub(super) fn push(&mut self, pool: &mut Share<'_>, transmission: Transmission, bound: u16) -> Pushed {
        self.append(pool, transmission, bound, false)
    }

    /// As [`Self::push`], where there is room ([`Self::has_room`]). Whether it was kept.
    #[inline]
    pub(super) fn push_next(&mut self, pool: &mut Share<'_>, transmission: Transmission) -> bool {
        self.link(pool, transmission, 0)
    }

    /// Adds a transmission of sequence space that was sent before: from now on TSecr must decide (rules 2 and 4).
    pub(super) fn push_again(&mut self, pool: &mut Share<'_>, transmission: Transmission, bound: u16) -> Pushed {
        self.marks |= UNORDERED;
        self.append(pool, transmission, bound, true)
    }

    /// A retransmission makes everything outstanding ambiguous (rule 2).
    pub(super) fn doubt(&mut self) {
        self.doubts = self.doubts.wrapping_add(1);
    }

    /// Whether one more transmission needs no other to make room for it.
    #[inline]
    pub(super) fn has_room(&self, bound: u16) -> bool {
        self.len < bound
    }

    /// As [`Self::acknowledge`], where all that `ack` covers was sent once and in order, there is no gap, and TSecr is
    /// the echo of something that it covers: then the last of that is what is timed, and there is nothing to weigh.
    /// `None`, and nothing is changed, where that is not so.
    #[inline]
    pub(super) fn acknowledge_in_order(&mut self, pool: &mut Share<'_>, advance: &Advance) -> Option<Transmission> {
        if self.len == 0 || self.is(UNORDERED) {
            return None;
        }
        let Advance { una, ack, .. } = *advance;
        let first = pool.node(self.head);
        if first.end.before(ack) {
            return self.acknowledge_several(pool, advance);
        }
        let is_clean = first.flags & SPEAKS_AGAINST == 0 && first.doubts == self.doubts;
        let is_whole = first.contains(una) || self.is(THINNED);
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
            if self.len == 0 {
                self.empty(self.marks & GAP_PENDING);
            }
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
        let is_clean = flags & SPEAKS_AGAINST == 0 && newest.doubts == self.doubts;
        // Where others made room the oldest may be any of those that are covered.
        let is_thinned = self.is(THINNED);
        let oldest = if is_thinned { newest } else { first };
        if !is_clean || !newest.start.before(ack) || !is_thinned && !first.contains(una) {
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
            self.remove_through(pool, last, covered);
        }
        if self.len == 0 {
            self.empty(self.marks & GAP_PENDING);
        }
        Some(found)
    }

    /// Finds what `ack` acknowledges (rules 3 and 4) and removes all that it covers.
    pub(super) fn acknowledge(&mut self, pool: &mut Share<'_>, advance: Advance) -> Match {
        let mut evidence = Evidence::default();
        if self.is(UNORDERED) {
            self.cover_any_order(pool, advance, &mut evidence);
        } else if self.len > 0 && !pool.node(self.head).start.before(advance.ack) {
            // It is all after what is acknowledged.
            return evidence.judge(advance, self.doubts, self.is(THINNED));
        } else {
            self.cover_front(pool, advance, &mut evidence);
        }
        let found = evidence.judge(advance, self.doubts, self.is(THINNED));
        if self.len == 0 {
            self.empty(self.marks & GAP_PENDING);
        }
        found
    }

    /// Nothing is on record any more. Field by field: a whole queue would be put together elsewhere, and the processor
    /// waits to read at once what was written in parts.
    #[inline]
    fn empty(&mut self, marks: u8) {
        (self.head, self.tail) = (NIL, NIL);
        self.doubts = 0;
        self.len = 0;
        self.marks = marks;
    }

    /// Removes the oldest `count`, which end with `last`, and of which none is the flow's own: they are linked already.
    #[inline]
    fn remove_through(&mut self, pool: &mut Share<'_>, last: u32, count: u16) {
        let free = std::mem::replace(&mut pool.pool.free, self.head);
        self.head = std::mem::replace(&mut pool.node_mut(last).next, free);
        self.len -= count;
    }

    /// Removes the oldest.
    #[inline]
    fn remove_front(&mut self, pool: &mut Share<'_>) {
        let next = pool.node(self.head).next;
        self.give_back(pool, self.head);
        self.head = next;
        self.len -= 1;
    }

    /// Removes everything.
    pub(super) fn clear(&mut self, pool: &mut Share<'_>) {
        self.forget(pool, |_| false);
    }

    /// Gaps in the records that it was last emptied for, modulo 2^8.
    #[inline]
    pub(super) fn gaps(&self) -> u8 {
        self.gaps
    }

    /// Removes everything at a gap in the records: among those that were lost may be others that are outstanding, so
    /// the next comes after them.
    pub(super) fn lose(&mut self, gaps: u8, pool: &mut Share<'_>) {
        self.clear(pool);
        self.gaps = gaps;
        self.marks |= THINNED | GAP_PENDING;
    }

    /// Something that acknowledges some of it may have passed unseen: another that says the same is not the first.
    #[cold]
    pub(super) fn suspect(&mut self, pool: &mut Share<'_>) {
        let mut index = self.head;
        for _ in 0..self.len {
            let node = pool.node_mut(index);
            node.flags |= MAYBE_ACKED;
            index = node.next;
        }
    }

    /// All that was sent again has arrived, unless it is still on record: else what is on record is as if nothing had
    /// been.
    pub(super) fn absolve(&mut self, pool: &mut Share<'_>) {
        let mut index = self.head;
        for _ in 0..self.len {
            let node = pool.node(index);
            if node.is(AGAIN) {
                return;
            }
            index = node.next;
        }
        let mut index = self.head;
        for _ in 0..self.len {
            let node = pool.node_mut(index);
            node.doubts = self.doubts;
            index = node.next;
        }
        self.marks &= !UNORDERED;
    }

    /// Removes everything, of which all below `una` was acknowledged, and remembers whether there was a gap above that.
    pub(super) fn void(&mut self, pool: &mut Share<'_>, una: SeqNum) {
        let pending = self.is(GAP_PENDING);
        self.forget(pool, |node| pending || node.is(AFTER_GAP) && una.before(node.start));
        self.marks |= if pending { GAP_PENDING } else { 0 };
    }

    fn forget(&mut self, pool: &mut Share<'_>, is_behind_gap: impl Fn(&Node) -> bool) {
        let (mut index, mut gap) = (self.head, false);
        for _ in 0..self.len {
            let node = *pool.node(index);
            gap |= is_behind_gap(&node);
            self.give_back(pool, index);
            index = node.next;
        }
        self.empty(if gap { GAP_PENDING } else { 0 });
    }

    fn is(&self, mark: u8) -> bool {
        self.marks & mark != 0
    }

    /// A place for a node: the flow's own, or a common one.
    #[inline]
    fn take(&mut self, pool: &mut Share<'_>, node: Node) -> Option<u32> {
        if self.is(OWN_IN_USE) {
            return pool.take_common(node);
        }
        self.marks |= OWN_IN_USE;
        *pool.node_mut(pool.flow) = node;
        Some(pool.flow)
    }

    fn give_back(&mut self, pool: &mut Share<'_>, index: u32) {
        if index < COMMON {
            self.marks &= !OWN_IN_USE;
        } else {
            pool.node_mut(index).next = std::mem::replace(&mut pool.pool.free, index);
        }
    }

    fn append(&mut self, pool: &mut Share<'_>, transmission: Transmission, bound: u16, again: bool) -> Pushed {
        let is_full = self.len >= bound;
        if is_full {
            self.thin(pool);
        }
        match self.link(pool, transmission, if again { AGAIN } else { 0 }) {
            true if is_full => Pushed::Thinned,
            true => Pushed::Kept,
            false => Pushed::PoolFull,
        }
    }

    /// Puts it at the end, if the pool has a place for it.
    #[inline]
    fn link(&mut self, pool: &mut Share<'_>, transmission: Transmission, flags: u8) -> bool {
        let behind_gap = if self.is(GAP_PENDING) { AFTER_GAP } else { 0 };
        let node = Node::of(transmission, self.doubts, flags | behind_gap);
        let Some(index) = self.take(pool, node) else {
            self.marks |= THINNED | if node.is(AFTER_GAP) { GAP_PENDING } else { 0 };
            return false;
        };
        self.marks &= !GAP_PENDING;
        if self.len == 0 {
            self.head = index;
        } else {
            pool.node_mut(self.tail).next = index;
        }
        self.tail = index;
        self.len += 1;
        true
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

    /// Makes room (rule 9): keeps the oldest and every second one after it. What is dropped leaves a gap that no
    /// acknowledgement matches.
    #[cold]
    fn thin(&mut self, pool: &mut Share<'_>) {
        debug_assert!(!self.is(UNORDERED), "a retransmission's twin must not be dropped");
        self.marks |= THINNED;
        let mut kept = self.head;
        while kept != NIL {
            let dropped = pool.node(kept).next;
            if dropped == NIL {
                break;
            }
            let Node { next, flags, .. } = *pool.node(dropped);
            pool.node_mut(kept).next = next;
            match next {
                NIL => self.marks |= if flags & AFTER_GAP == 0 { 0 } else { GAP_PENDING },
                next => pool.node_mut(next).flags |= flags & AFTER_GAP,
            }
            self.give_back(pool, dropped);
            self.len -= 1;
            self.tail = if next == NIL { kept } else { self.tail };
            kept = next;
        }
    }
}

/// What the transmissions that an acknowledgement covers say, oldest to newest.
#[derive(Default)]
struct Evidence {
    /// The newest that contains the acknowledged byte.
    newest: Option<Node>,
    /// Whether something that it covers was sent again after the newest.
    repeated_since: bool,
    /// How many TSecr may be the echo of, whether or not they contain the byte: a receiver that keeps acknowledgements back echoes the first
    /// segment that it has not acknowledged (RFC 7323 section 4.3).
    times_named: u32,
    /// The oldest TSval of the transmissions that contain the first byte not acknowledged so far.
    first_tsval: Option<u32>,
    /// Whether there is a gap between what was acknowledged so far and the end of what is now.
    gap: bool,
}

impl Evidence {
    #[inline]
    fn weigh(&mut self, node: &Node, advance: &Advance) {
        let Advance { una, told, ack, tsecr } = *advance;
        if !node.start.before(ack) || !node.end.after(una) {
            return;
        }
        self.times_named += u32::from(tsecr.is_some() && node.tsval() == tsecr);
        self.gap |= node.is(AFTER_GAP) && una.before(node.start);
        if node.contains(told)
            && let Some(tsval) = node.tsval()
            && self.first_tsval.is_none_or(|first| is_newer(first, tsval))
        {
            self.first_tsval = Some(tsval);
        }
        if node.contains_last_of(ack) {
            self.newest = Some(*node);
            self.repeated_since = false;
        } else if let Some(newest) = &self.newest {
            self.repeated_since |= node.end.after(una) && node.end.after(newest.start);
        }
    }

    fn judge(self, advance: Advance, doubts: u32, thinned: bool) -> Match {
        let Some(newest) = self.newest else { return if thinned { Match::Forgotten } else { Match::None } };
        if newest.is(ACKED_EARLY) {
            return Match::AckedEarly;
        }
        if newest.is(MAYBE_ACKED) {
            return Match::Unseen;
        }
        let is_named = advance.tsecr.is_some() && newest.tsval() == advance.tsecr;
        let ambiguous = newest.is(AGAIN) || newest.doubts != doubts;
        if ambiguous {
            // Rule 4: exactly one transmission, it contains the byte, and nothing of it was sent again later: a receiver that held the head of a
            // super-segment back echoes that head even if what it acknowledges is the later transmission of its tail (RFC 7323 section
            // 4.3). Of those that made room nobody knows.
            let is_sure = is_named && self.times_named == 1 && !self.repeated_since && !thinned;
            // What is echoed was sent before the first of them that was seen, in the same tick as this.
            let too_old = self.first_tsval.zip(advance.echo()).is_some_and(|(first, echo)| is_newer(first, echo));
            return match is_sure {
                true if too_old => Match::Unseen,
                true => Match::ByTimestamp(newest.transmission()),
                false => Match::Ambiguous,
            };
        }
        if let (Some(echo), Some(tsval)) = (advance.echo(), newest.tsval()) {
            // Rule 13: what is echoed was sent after all that is acknowledged here, or before: a transmission that was
            // not seen.
            let too_new = is_newer(echo, tsval);
            // Where the first of them made room it may have been as late as the newest.
            let first = if thinned { Some(tsval) } else { self.first_tsval };
            let too_old = first.is_some_and(|first| is_newer(first, echo));
            if too_new || too_old {
                return Match::Unseen;
            }
        }
        // Rule 11: the acknowledgement may have waited for what fills the gap. The receiver does not take the timestamp
        // of what arrives above a hole, so that its echo proves that there was none (RFC 7323 section 4.3).
        if self.gap && !is_named {
            return Match::Unseen;
        }
        Match::Clean(newest.transmission())
    }
}

/// Whether one timestamp is newer than another: serial numbers, as sequence numbers are (RFC 7323 section 5.2).
fn is_newer(one: u32, other: u32) -> bool {
    SeqNum(one).after(SeqNum(other))
}
