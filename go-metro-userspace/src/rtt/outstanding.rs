//! Outstanding segments: what was sent and not yet acknowledged (DESIGN rules 1, 2, 5 and 9).
//!
//! All flows share one [`Pool`] of fixed-size nodes, reserved once, so that the packet path never allocates and
//! memory stays bounded however the flows behave. A flow holds a [`Queue`], a singly linked list through
//! the pool in the order of sending. As long as nothing was retransmitted that is also the order of sequence numbers, and
//! an acknowledgement only ever looks at the front.

use super::{Nanos, SeqNum};

/// No node.
const NIL: u32 = u32::MAX;

/// What may still be concluded from a transmission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// Sent once; its acknowledgement is a sample.
    Clean,
    /// Sent more than once, or something before it was (Karn): only TSecr can decide.
    Ambiguous,
    /// Behind a hole: received long before the acknowledgement that will cover it.
    Hole,
}

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
    /// What may be concluded from it.
    pub(super) trust: Trust,
    /// Whether it carried SYN.
    pub(super) syn: bool,
}

#[derive(Clone, Copy)]
struct Node {
    transmission: Transmission,
    next: u32,
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

    fn take(&mut self, transmission: Transmission) -> Option<u32> {
        let node = Node { transmission, next: NIL };
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
    /// The newest transmission that contains it, sent once and with nothing before it in doubt.
    Clean {
        /// The transmission.
        found: Transmission,
        /// TSecr names it, and no doubtful transmission that is covered as well.
        echoed: bool,
    },
    /// Retransmitted, but TSecr names this transmission alone.
    ByTimestamp(Transmission),
    /// Retransmitted, and TSecr decides nothing.
    Ambiguous,
    /// Behind a hole.
    Hole,
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
    len: u16,
    /// Holds a retransmission, so sequence numbers do not ascend.
    unordered: bool,
    /// Holds nothing but [`Trust::Hole`].
    all_holes: bool,
    /// Transmissions were dropped from it: another of the same bytes could look like the only one.
    thinned: bool,
}

impl Queue {
    /// Nothing outstanding.
    pub(super) const EMPTY: Self =
        Self { head: NIL, tail: NIL, len: 0, unordered: false, all_holes: true, thinned: false };

    /// Whether nothing is on record.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many transmissions are on record.
    pub(super) fn len(&self) -> u16 {
        self.len
    }

    /// Adds a transmission that advances `snd_nxt` (rule 1), thinning when there are `bound` already (rule 9).
    pub(super) fn push(&mut self, pool: &mut Pool, mut transmission: Transmission, bound: u16) -> Pushed {
        let mut pushed = Pushed::Kept;
        if self.len >= bound {
            self.thin(pool);
            pushed = Pushed::Thinned;
        }
        if self.thinned && transmission.trust == Trust::Ambiguous {
            transmission.trust = Trust::Hole;
        }
        let Some(index) = pool.take(transmission) else { return Pushed::PoolFull };
        if self.len == 0 {
            self.head = index;
        } else {
            pool.nodes[self.tail as usize].next = index;
        }
        self.tail = index;
        self.len += 1;
        self.all_holes &= transmission.trust == Trust::Hole;
        pushed
    }

    /// Adds a transmission of sequence space that was sent before (rule 2).
    pub(super) fn push_again(&mut self, pool: &mut Pool, transmission: Transmission, bound: u16) -> Pushed {
        self.unordered = true;
        self.push(pool, transmission, bound)
    }

    /// A retransmission puts everything outstanding in doubt (rule 2).
    pub(super) fn doubt(&mut self, pool: &mut Pool) {
        if self.thinned {
            self.spoil(pool);
        }
        self.for_each_mut(pool, |transmission| {
            if transmission.trust == Trust::Clean {
                transmission.trust = Trust::Ambiguous;
            }
        });
    }

    /// A hole puts everything outstanding beyond use (rule 5).
    pub(super) fn spoil(&mut self, pool: &mut Pool) {
        if self.all_holes {
            return;
        }
        self.for_each_mut(pool, |transmission| transmission.trust = Trust::Hole);
        self.all_holes = true;
    }

    /// Finds what `ack` acknowledges (rules 3 and 4) and removes all that it covers.
    pub(super) fn acknowledge(&mut self, pool: &mut Pool, ack: SeqNum, tsecr: Option<u32>) -> Match {
        if self.unordered {
            self.acknowledge_any_order(pool, ack, tsecr)
        } else {
            self.acknowledge_front(pool, ack, tsecr)
        }
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

    /// Nothing was retransmitted: sequence numbers ascend and do not overlap, so all that is covered is at the front.
    fn acknowledge_front(&mut self, pool: &mut Pool, ack: SeqNum, tsecr: Option<u32>) -> Match {
        let mut evidence = Evidence { doubtful_named: self.thinned, ..Evidence::default() };
        while self.len > 0 {
            let Node { transmission, next } = pool.nodes[self.head as usize];
            evidence.weigh(&transmission, ack, tsecr);
            if transmission.end.after(ack) {
                break;
            }
            pool.give_back(self.head);
            self.head = next;
            self.len -= 1;
        }
        if self.len == 0 {
            *self = Self::EMPTY;
        }
        evidence.judge()
    }

    /// Something was retransmitted: every transmission is looked at.
    fn acknowledge_any_order(&mut self, pool: &mut Pool, ack: SeqNum, tsecr: Option<u32>) -> Match {
        let mut evidence = Evidence { doubtful_named: self.thinned, ..Evidence::default() };
        let (mut index, mut previous) = (self.head, NIL);
        for _ in 0..self.len {
            let Node { transmission, next } = pool.nodes[index as usize];
            evidence.weigh(&transmission, ack, tsecr);
            if transmission.end.after(ack) {
                previous = index;
            } else {
                if previous == NIL {
                    self.head = next;
                } else {
                    pool.nodes[previous as usize].next = next;
                }
                pool.give_back(index);
                self.len -= 1;
            }
            index = next;
        }
        self.tail = previous;
        if self.len == 0 {
            *self = Self::EMPTY;
        }
        evidence.judge()
    }

    /// Makes room (rule 9): keeps the oldest and every second one after it.
    ///
    /// What is dropped leaves a gap that no acknowledgement matches. Among retransmissions a dropped one could leave
    /// another looking like the only transmission of its bytes, so then all that remains is spoiled.
    fn thin(&mut self, pool: &mut Pool) {
        self.thinned = true;
        if self.unordered {
            self.spoil(pool);
        }
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

    fn for_each_mut(&self, pool: &mut Pool, mut change: impl FnMut(&mut Transmission)) {
        let mut index = self.head;
        for _ in 0..self.len {
            let node = &mut pool.nodes[index as usize];
            change(&mut node.transmission);
            index = node.next;
        }
    }
}

/// What the transmissions that an acknowledgement covers say, oldest to newest.
#[derive(Default)]
struct Evidence {
    /// The newest that contains the acknowledged byte.
    newest: Option<Transmission>,
    /// The newest of those whose TSval the acknowledgement echoes.
    named: Option<Transmission>,
    /// How many of those there are.
    times_named: u32,
    /// A doubtful transmission, wherever it lies, has (or, once thinned, may have had) the echoed TSval.
    doubtful_named: bool,
}

impl Evidence {
    #[inline]
    fn weigh(&mut self, transmission: &Transmission, ack: SeqNum, tsecr: Option<u32>) {
        if !transmission.start.before(ack) {
            return;
        }
        let named = tsecr.is_some() && transmission.tsval == tsecr;
        self.doubtful_named |= named && transmission.trust != Trust::Clean;
        if !transmission.end.before(ack) {
            self.newest = Some(*transmission);
            if named {
                self.named = Some(*transmission);
                self.times_named += 1;
            }
        }
    }

    fn judge(self) -> Match {
        let Some(newest) = self.newest else { return Match::None };
        if newest.trust == Trust::Clean {
            return Match::Clean { found: newest, echoed: self.times_named == 1 && !self.doubtful_named };
        }
        // Rule 4: exactly one transmission of the byte is named.
        match self.named.filter(|_| self.times_named == 1) {
            Some(named) if named.trust == Trust::Hole => Match::Hole,
            Some(named) => Match::ByTimestamp(named),
            None if newest.trust == Trust::Hole => Match::Hole,
            None => Match::Ambiguous,
        }
    }
}
