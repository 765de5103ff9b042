//! The flow table: bounded, and cheap to expire.
//!
//! Entries live in a slab, reserved once; a hash table holds their indices. Each entry is in one of two
//! lists, of open and of closing flows, in the order in which they will end, so that expiry looks only at what it removes.
//! An open flow is moved to the back of its list at most once per [`TOUCH_EVERY`], not for each record:
//! its neighbours' cache lines are the dearest part of a record.

use std::hash::BuildHasher;
use std::time::Duration;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry as HashEntry;

use super::flow::{Flow, Life};
use super::outstanding::Pool;
use super::{FlowKey, Nanos};

/// No entry.
const NIL: u32 = u32::MAX;

/// How stale the order of the list of open flows may be.
const TOUCH_EVERY: Duration = Duration::from_secs(1);

/// How long flows live.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lifetimes {
    /// An open flow without a record for this long ends.
    pub(super) idle: Duration,
    /// A closing flow ends this long after it began to close.
    pub(super) closing: Duration,
}

/// Why a flow was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Silent for `idle`.
    Idle,
    /// Closed `closing` ago.
    Closed,
}

struct Entry {
    key: FlowKey,
    flow: Flow,
    last_seen: Nanos,
    /// For an open flow when it was moved to the back of the list, for a closing one when it began to close.
    listed_at: Nanos,
    previous: u32,
    next: u32,
    life: Life,
}

#[derive(Clone, Copy)]
struct List {
    oldest: u32,
    newest: u32,
}

/// All flows.
pub(super) struct FlowTable {
    entries: Vec<Entry>,
    free: u32,
    index: HashTable<u32>,
    hasher: foldhash::fast::RandomState,
    open: List,
    closing: List,
    bound: usize,
    lifetimes: Lifetimes,
}

impl FlowTable {
    /// Room for `bound` flows, reserved now: untouched pages cost nothing.
    pub(super) fn new(bound: usize, lifetimes: Lifetimes) -> Self {
        let empty = List { oldest: NIL, newest: NIL };
        Self {
            entries: Vec::with_capacity(bound),
            free: NIL,
            index: HashTable::with_capacity(bound),
            hasher: foldhash::fast::RandomState::default(),
            open: empty,
            closing: empty,
            bound: bound.max(1),
            lifetimes,
        }
    }

    /// Number of flows.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether another flow needs one to be evicted.
    pub(super) fn is_full(&self) -> bool {
        self.len() >= self.bound
    }

    /// The flow of `key`, if it is there.
    #[inline]
    pub(super) fn find(&self, key: &FlowKey) -> Option<u32> {
        let hash = self.hasher.hash_one(key);
        self.index.find(hash, |index| self.entries[*index as usize].key == *key).copied()
    }

    /// The state of a flow.
    #[inline]
    pub(super) fn flow_mut(&mut self, index: u32) -> &mut Flow {
        &mut self.entries[index as usize].flow
    }

    /// Whether the flow's time was over before `now`, and why.
    #[inline]
    pub(super) fn is_over(&self, index: u32, now: Nanos) -> Option<Ended> {
        let entry = &self.entries[index as usize];
        match entry.life {
            Life::Open if now > entry.last_seen.plus(self.lifetimes.idle) => Some(Ended::Idle),
            Life::Closing if now > entry.listed_at.plus(self.lifetimes.closing) => Some(Ended::Closed),
            _ => None,
        }
    }

    /// Adds a flow. There must be room, and it must not be there.
    pub(super) fn insert(&mut self, key: FlowKey, now: Nanos) -> u32 {
        debug_assert!(!self.is_full() && self.find(&key).is_none());
        let entry =
            Entry { key, flow: Flow::NEW, last_seen: now, listed_at: now, previous: NIL, next: NIL, life: Life::Open };
        let index = if self.free == NIL {
            self.entries.push(entry);
            self.entries.len() as u32 - 1
        } else {
            let index = self.free;
            self.free = self.entries[index as usize].next;
            self.entries[index as usize] = entry;
            index
        };
        let (entries, hasher) = (&self.entries, &self.hasher);
        let hash = hasher.hash_one(key);
        match self.index.entry(hash, |i| *i == index, |i| hasher.hash_one(entries[*i as usize].key)) {
            HashEntry::Vacant(place) => {
                place.insert(index);
            }
            HashEntry::Occupied(_) => debug_assert!(false, "an index is handed out once"),
        }
        self.append(index);
        index
    }

    /// Notes a record of the flow, after the flow has dealt with it.
    #[inline]
    pub(super) fn touch(&mut self, index: u32, now: Nanos) {
        let entry = &mut self.entries[index as usize];
        entry.last_seen = entry.last_seen.max(now);
        let life = entry.flow.life();
        let stale = life == Life::Open && now > entry.listed_at.plus(TOUCH_EVERY);
        if life != entry.life || stale {
            self.unlink(index);
            let entry = &mut self.entries[index as usize];
            entry.life = life;
            entry.listed_at = entry.listed_at.max(now);
            self.append(index);
        }
    }

    /// Removes a flow.
    pub(super) fn remove(&mut self, index: u32, pool: &mut Pool) {
        self.unlink(index);
        let entry = &mut self.entries[index as usize];
        entry.flow.release(pool);
        let hash = self.hasher.hash_one(entry.key);
        if let Ok(found) = self.index.find_entry(hash, |i| *i == index) {
            found.remove();
        }
        self.entries[index as usize].next = self.free;
        self.free = index;
    }

    /// The flow to evict when there is no more room: the one that has been closing longest, else the one that has
    /// been silent longest.
    pub(super) fn least_recent(&self) -> Option<u32> {
        [self.closing.oldest, self.open.oldest].into_iter().find(|index| *index != NIL)
    }

    /// Removes one flow whose time was over before `now`. The list of open flows is up to [`TOUCH_EVERY`] out of order, so
    /// that a flow may be removed that much late; [`FlowTable::is_over`] is exact.
    pub(super) fn expire_one(&mut self, now: Nanos, pool: &mut Pool) -> Option<Ended> {
        for oldest in [self.closing.oldest, self.open.oldest] {
            if oldest == NIL {
                continue;
            }
            if let Some(ended) = self.is_over(oldest, now) {
                self.remove(oldest, pool);
                return Some(ended);
            }
        }
        None
    }

    /// Every flow that `wanted` names.
    pub(super) fn for_each_mut(&mut self, wanted: impl Fn(&FlowKey) -> bool, mut change: impl FnMut(&mut Flow)) {
        for list in [self.open, self.closing] {
            let mut index = list.oldest;
            while index != NIL {
                let entry = &mut self.entries[index as usize];
                if wanted(&entry.key) {
                    change(&mut entry.flow);
                }
                index = entry.next;
            }
        }
    }

    fn list_of(&mut self, life: Life) -> &mut List {
        match life {
            Life::Open => &mut self.open,
            Life::Closing => &mut self.closing,
        }
    }

    fn append(&mut self, index: u32) {
        let life = self.entries[index as usize].life;
        let newest = std::mem::replace(&mut self.list_of(life).newest, index);
        let entry = &mut self.entries[index as usize];
        entry.previous = newest;
        entry.next = NIL;
        if newest == NIL {
            self.list_of(life).oldest = index;
        } else {
            self.entries[newest as usize].next = index;
        }
    }

    fn unlink(&mut self, index: u32) {
        let Entry { previous, next, life, .. } = self.entries[index as usize];
        if previous == NIL {
            self.list_of(life).oldest = next;
        } else {
            self.entries[previous as usize].next = next;
        }
        if next == NIL {
            self.list_of(life).newest = previous;
        } else {
            self.entries[next as usize].previous = previous;
        }
    }
}

/// What one flow costs, without its share of the pool.
pub(super) const BYTES_PER_FLOW: usize = size_of::<Entry>() + size_of::<u32>() + 1;
const _: () = assert!(BYTES_PER_FLOW <= 176);
