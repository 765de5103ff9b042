//! Outstanding segments: what was sent and not yet acknowledged (DESIGN rules 1 to 4 and 9).
//!
//! All flows share one [`Pool`] of 32-byte nodes, reserved once, so that the packet path never allocates and
//! memory stays bounded however the flows behave. A flow holds a [`Queue`], a singly linked list through
//! the pool in the order of sending. As long as nothing was retransmitted that is also the order of sequence numbers, and
//! an acknowledgement only ever looks at the front.

use super::{Nanos, SeqNum};

/// No node.
const NIL: u32 = u32::MAX;

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
}

/// A transmission as the pool keeps it.
#[derive(Clone, Copy)]
struct Node {
    sent_at: Nanos,
    start: SeqNum,
    end: SeqNum,
    tsval: u32,
    /// Counts the queue's transmissions, to tell those before a retransmission from those after.
    ordinal: u32,
    next: u32,
    has_tsval: bool,
    syn: bool,
    /// Sequence space that was sent before.
    again: bool,
}

const _: () = assert!(size_of::<Node>() == 32);

impl Node {
    fn tsval(&self) -> Option<u32> {
        self.has_tsval.then_some(self.tsval)
    }

    /// Whether it contains the byte before `ack`.
    fn contains_last_of(&self, ack: SeqNum) -> bool {
        self.start.before(ack) && !self.end.before(ack)
    }

    fn transmission(&self) -> Transmission {
        let Self { sent_at, start, end, syn, .. } = *self;
        Transmission { sent_at, start, end, tsval: self.tsval(), syn }
    }
}

/// The nodes of all flows' queues.
pub(super) struct Pool {
    nodes: Vec<Node>,
    free: u32,
    bound: usize,
}

impl Pool {
    /// Room for `bound` transmissions, reserved now: untouched pages cost nothing.
    pub(super) fn new(bound: usize) -> Self {
        Self { nodes: Vec::with_capacity(bound), free: NIL, bound }
    }

    fn take(&mut self, node: Node) -> Option<u32> {
        if self.free != NIL {
            let index = self.free;
            self.free = self.nodes[index as usize].next;
            self.nodes[index as usize] = node;
            return Some(index);
        }
        let index = u32::try_from(self.nodes.len()).ok().filter(|_| self.nodes.len() < self.bound)?;
        self.nodes.push(node);
        Some(index)
    }

    fn give_back(&mut self, index: u32) {
        self.nodes[index as usize].next = self.free;
        self.free = index;
    }
}

/// What an acknowledgement finds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Match {
    /// No transmission on record contains the byte before the acknowledgement number.
    None,
    /// The newest transmission that contains it; sent once, and nothing was retransmitted since.
    Clean(Transmission),
    /// Retransmitted, or something was since; but TSecr names this transmission alone.
    ByTimestamp(Transmission),
    /// Retransmitted, or something was since, and TSecr decides nothing.
    Ambiguous,
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
    next_ordinal: u32,
    /// Transmissions with a lower ordinal are ambiguous (rule 2).
    clean_from: u32,
    len: u16,
    /// Holds a retransmission, so sequence numbers do not ascend.
    unordered: bool,
    /// Transmissions were dropped from it (rule 9).
    thinned: bool,
}

impl Queue {
    /// Nothing outstanding.
    pub(super) const EMPTY: Self =
        Self { head: NIL, tail: NIL, next_ordinal: 0, clean_from: 0, len: 0, unordered: false, thinned: false };

    /// Whether nothing is on record.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many transmissions are on record.
    pub(super) fn len(&self) -> u16 {
        self.len
    }

    /// Whether to record one more transmission would leave (or has left) one that only looks like the sole transmission of
    /// its bytes: its twin was dropped to make room.
    pub(super) fn would_mislead(&self, again: bool, bound: u16) -> bool {
        let full = self.len >= bound;
        if again { full || self.thinned } else { full && self.unordered }
    }

    /// Adds a transmission that advances `snd_nxt` (rule 1), thinning when there are `bound` already (rule 9).
    pub(super) fn push(&mut self, pool: &mut Pool, transmission: Transmission, bound: u16) -> Pushed {
        self.append(pool, transmission, bound, false)
    }

    /// Adds a transmission of sequence space that was sent before: from now on TSecr must decide (rules 2 and 4).
    pub(super) fn push_again(&mut self, pool: &mut Pool, transmission: Transmission, bound: u16) -> Pushed {
        self.unordered = true;
        self.append(pool, transmission, bound, true)
    }

    /// A retransmission makes everything outstanding ambiguous (rule 2).
    pub(super) fn doubt(&mut self) {
        self.clean_from = self.next_ordinal;
    }

    /// Finds what `ack` acknowledges (rules 3 and 4) and removes all that it covers.
    pub(super) fn acknowledge(&mut self, pool: &mut Pool, ack: SeqNum, tsecr: Option<u32>) -> Match {
        let mut evidence = Evidence::default();
        if self.unordered {
            self.cover_any_order(pool, ack, tsecr, &mut evidence);
        } else {
            self.cover_front(pool, ack, tsecr, &mut evidence);
        }
        let found = evidence.judge(self.clean_from);
        if self.len == 0 {
            *self = Self::EMPTY;
        }
        found
    }

    /// Removes everything.
    pub(super) fn clear(&mut self, pool: &mut Pool) {
        let mut index = self.head;
        for _ in 0..self.len {
            let next = pool.nodes[index as usize].next;
            pool.give_back(index);
            index = next;
        }
        *self = Self::EMPTY;
    }

    fn append(&mut self, pool: &mut Pool, transmission: Transmission, bound: u16, again: bool) -> Pushed {
        let mut pushed = Pushed::Kept;
        if self.len >= bound {
            self.thin(pool);
            pushed = Pushed::Thinned;
        }
        let Transmission { sent_at, start, end, tsval, syn } = transmission;
        let node = Node {
            sent_at,
            start,
            end,
            tsval: tsval.unwrap_or_default(),
            ordinal: self.next_ordinal,
            next: NIL,
            has_tsval: tsval.is_some(),
            syn,
            again,
        };
        self.next_ordinal = self.next_ordinal.wrapping_add(1);
        let Some(index) = pool.take(node) else { return Pushed::PoolFull };
        if self.len == 0 {
            self.head = index;
        } else {
            pool.nodes[self.tail as usize].next = index;
        }
        self.tail = index;
        self.len += 1;
        pushed
    }

    /// Nothing was retransmitted: sequence numbers ascend and do not overlap, so all that is covered is at the front.
    fn cover_front(&mut self, pool: &mut Pool, ack: SeqNum, tsecr: Option<u32>, evidence: &mut Evidence) {
        while self.len > 0 {
            let node = pool.nodes[self.head as usize];
            evidence.weigh(&node, ack, tsecr);
            if node.end.after(ack) {
                return;
            }
            pool.give_back(self.head);
            self.head = node.next;
            self.len -= 1;
        }
    }

    /// Something was retransmitted: every transmission is looked at.
    fn cover_any_order(&mut self, pool: &mut Pool, ack: SeqNum, tsecr: Option<u32>, evidence: &mut Evidence) {
        let (mut index, mut previous) = (self.head, NIL);
        for _ in 0..self.len {
            let node = pool.nodes[index as usize];
            evidence.weigh(&node, ack, tsecr);
            if node.end.after(ack) {
                previous = index;
            } else {
                if previous == NIL {
                    self.head = node.next;
                } else {
                    pool.nodes[previous as usize].next = node.next;
                }
                pool.give_back(index);
                self.len -= 1;
            }
            index = node.next;
        }
        self.tail = previous;
    }

    /// Makes room (rule 9): keeps the oldest and every second one after it. What is dropped leaves a gap that no
    /// acknowledgement matches.
    fn thin(&mut self, pool: &mut Pool) {
        debug_assert!(!self.unordered, "a retransmission's twin must not be dropped");
        self.thinned = true;
        let mut kept = self.head;
        while kept != NIL {
            let dropped = pool.nodes[kept as usize].next;
            if dropped == NIL {
                break;
            }
            let next = pool.nodes[dropped as usize].next;
            pool.nodes[kept as usize].next = next;
            pool.give_back(dropped);
            self.len -= 1;
            self.tail = if next == NIL { kept } else { self.tail };
            kept = next;
        }
    }
}

/// What the transmissions that contain the acknowledged byte say, oldest to newest.
#[derive(Default)]
struct Evidence {
    /// The newest.
    newest: Option<Node>,
    /// The newest whose TSval the acknowledgement echoes.
    named: Option<Node>,
    /// How many of those there are.
    times_named: u32,
}

impl Evidence {
    #[inline]
    fn weigh(&mut self, node: &Node, ack: SeqNum, tsecr: Option<u32>) {
        if node.contains_last_of(ack) {
            self.newest = Some(*node);
            if tsecr.is_some() && node.tsval() == tsecr {
                self.named = Some(*node);
                self.times_named += 1;
            }
        }
    }

    fn judge(self, clean_from: u32) -> Match {
        let Some(newest) = self.newest else { return Match::None };
        let ambiguous = newest.again || (newest.ordinal.wrapping_sub(clean_from) as i32) < 0;
        match self.named {
            _ if !ambiguous => Match::Clean(newest.transmission()),
            // Rule 4: exactly one transmission of the byte.
            Some(named) if self.times_named == 1 => Match::ByTimestamp(named.transmission()),
            _ => Match::Ambiguous,
        }
    }
}
