//! The flow table: bounded, and cheap to expire.
//!
//! Entries of two cache lines live in a slab, reserved once; an [`Index`] holds their numbers. Each entry is in one of
//! two lists, of open and of closing flows, in the order in which they will end, so that expiry looks only at what it
//! removes. An open flow is moved to the back of its list at most once per [`TOUCH_EVERY`], not for each record: its
//! neighbours' cache lines are the dearest part of a record.

use std::time::Duration;

use crate::Nanos;
use crate::extension;
use crate::flow::{Flow, Life};
use crate::index::{self, Index};
use crate::key::Key;
use crate::outstanding::{BYTES_PER_NODE, Pool, common_for};
use crate::time::nanoseconds;

/// No entry.
pub(super) const NIL: u32 = u32::MAX;

/// How stale the order of the list of open flows may be.
const TOUCH_EVERY: Duration = Duration::from_secs(1);

/// The same in nanoseconds.
const TOUCH_EVERY_NS: u64 = TOUCH_EVERY.as_nanos() as u64;

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

/// A flow, and what the table knows of it.
#[repr(C, align(64))]
pub(super) struct Entry {
    /// [`Key::NONE`] if the entry is free.
    key: Key,
    last_seen: Nanos,
    listed: Listed,
    previous: u32,
    next: u32,
    /// The flow's state.
    pub(super) flow: Flow,
}

const _: () = assert!(size_of::<Entry>() == 128);

impl Entry {
    /// The key of the flow.
    #[inline]
    pub(super) fn key(&self) -> &Key {
        &self.key
    }

    /// Notes a record of the flow, after the flow has dealt with it; the list that it has to be moved to the back of,
    /// if so ([`FlowTable::relist`]).
    #[inline]
    pub(super) fn touch(&mut self, now: Nanos) -> Option<Life> {
        self.last_seen = self.last_seen.max(now);
        let life = self.flow.life();
        let is_stale = life == Life::Open && now > self.listed.at().plus_ns(TOUCH_EVERY_NS);
        (life != self.listed.life() || is_stale).then_some(life)
    }
}

/// In which list an entry is, in the lowest bit, and since when, in the others: for an open flow when it was moved to
/// the back of the list, for a closing one when it began to close.
#[derive(Clone, Copy)]
struct Listed(u64);

impl Listed {
    #[inline]
    fn new(life: Life, at: Nanos) -> Self {
        Self(at.0.min(u64::MAX >> 1) << 1 | u64::from(life == Life::Closing))
    }

    #[inline]
    fn life(self) -> Life {
        if self.0 & 1 == 0 { Life::Open } else { Life::Closing }
    }

    #[inline]
    fn at(self) -> Nanos {
        Nanos(self.0 >> 1)
    }
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
    index: Index,
    hasher: foldhash::fast::RandomState,
    open: List,
    closing: List,
    bound: usize,
    idle_ns: u64,
    closing_ns: u64,
}

impl FlowTable {
    /// Room for `bound` flows, reserved now: untouched pages cost nothing.
    pub(super) fn new(bound: usize, lifetimes: Lifetimes) -> Self {
        let empty = List { oldest: NIL, newest: NIL };
        Self {
            entries: Vec::with_capacity(bound),
            free: NIL,
            index: Index::new(bound),
            hasher: foldhash::fast::RandomState::default(),
            open: empty,
            closing: empty,
            bound: bound.max(1),
            idle_ns: nanoseconds(lifetimes.idle),
            closing_ns: nanoseconds(lifetimes.closing),
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

    /// The hash of a key.
    #[inline]
    pub(super) fn hash(&self, key: &Key) -> u32 {
        key.hash(&self.hasher)
    }

    /// The flow of `key`, whose hash this is, if it is there.
    #[inline(never)]
    pub(super) fn find(&self, key: &Key, hash: u32) -> Option<u32> {
        self.index.find(hash, |index| self.entries[index as usize].key == *key)
    }

    /// Reads what [`FlowTable::find`] will read of the index, so that it is in the cache.
    #[inline]
    pub(super) fn touch_index(&self, hash: u32) -> u64 {
        self.index.touch(hash)
    }

    /// Which entry most likely is that of a key with this hash, [`NIL`] if none. Reads it and the node that belongs to
    /// it, so that they are in the cache; what it has read is added to `warm`.
    #[inline]
    pub(super) fn touch_entry(&self, hash: u32, pool: &Pool, warm: &mut u64) -> u32 {
        let Some(index) = self.index.find(hash, |_| true) else { return NIL };
        let entry = &self.entries[index as usize];
        // One word of either cache line.
        *warm ^= entry.last_seen.0 ^ entry.flow.warm() ^ pool.touch(index);
        index
    }

    /// Whether the entry of this number is that of `key`.
    #[inline]
    pub(super) fn is_at(&self, index: u32, key: &Key) -> bool {
        self.entries.get(index as usize).is_some_and(|entry| entry.key == *key)
    }

    /// An entry.
    #[inline]
    pub(super) fn entry_mut(&mut self, index: u32) -> &mut Entry {
        &mut self.entries[index as usize]
    }

    /// Whether the flow's time was over before `now`, and why.
    #[inline]
    pub(super) fn is_over(&self, index: u32, now: Nanos) -> Option<Ended> {
        let entry = &self.entries[index as usize];
        match entry.listed.life() {
            Life::Open if now > entry.last_seen.plus_ns(self.idle_ns) => Some(Ended::Idle),
            Life::Closing if now > entry.listed.at().plus_ns(self.closing_ns) => Some(Ended::Closed),
            _ => None,
        }
    }

    /// The number that the next flow will have. There must be room.
    #[inline]
    pub(super) fn next_index(&self) -> u32 {
        debug_assert!(!self.is_full());
        if self.free == NIL { self.entries.len() as u32 } else { self.free }
    }

    /// Adds a flow of this key and hash under [`FlowTable::next_index`]. There must be room, and it must not be there.
    pub(super) fn insert(&mut self, key: Key, hash: u32, now: Nanos, flow: Flow) {
        debug_assert!(!self.is_full() && self.find(&key, hash).is_none());
        let index = self.next_index();
        let life = flow.life();
        let previous = std::mem::replace(&mut self.list_of(life).newest, index);
        match self.entries.get_mut(previous as usize) {
            Some(previous) => previous.next = index,
            None => self.list_of(life).oldest = index,
        }
        let entry = Entry { key, last_seen: now, listed: Listed::new(life, now), previous, next: NIL, flow };
        match self.entries.get_mut(index as usize) {
            Some(free) => self.free = std::mem::replace(free, entry).next,
            None => self.entries.push(entry),
        }
        self.index.insert(hash, index);
    }

    /// Moves an entry to the back of the list of its life.
    #[cold]
    pub(super) fn relist(&mut self, index: u32, life: Life, now: Nanos) {
        self.unlink(index);
        let entry = &mut self.entries[index as usize];
        entry.listed = Listed::new(life, entry.listed.at().max(now));
        self.append(index);
    }

    /// Removes a flow.
    pub(super) fn remove(&mut self, index: u32, pool: &mut Pool) {
        self.unlink(index);
        let entry = &mut self.entries[index as usize];
        entry.flow.release(&mut pool.share(index));
        let key = std::mem::replace(&mut entry.key, Key::NONE);
        entry.next = std::mem::replace(&mut self.free, index);
        self.index.remove(key.hash(&self.hasher), index);
    }

    /// The flow to evict when there is no more room: the one that has been closing longest, else the one that has
    /// been silent longest.
    pub(super) fn least_recent(&self) -> Option<u32> {
        [self.closing.oldest, self.open.oldest].into_iter().find(|index| *index != NIL)
    }

    /// A flow whose time was over before `now`, and why. The list of open flows is up to [`TOUCH_EVERY`] out of order,
    /// so that a flow may be found that much late; [`FlowTable::is_over`] is exact.
    pub(super) fn next_over(&self, now: Nanos) -> Option<(u32, Ended)> {
        let oldest = [self.closing.oldest, self.open.oldest].into_iter().filter(|index| *index != NIL);
        oldest.into_iter().find_map(|index| Some((index, self.is_over(index, now)?)))
    }

    /// The key of the flow of this number, if there is one.
    pub(super) fn key(&self, index: u32) -> Option<Key> {
        self.entries.get(index as usize).map(|entry| entry.key).filter(|key| *key != Key::NONE)
    }

    /// Every flow.
    pub(super) fn for_each(&self, mut visit: impl FnMut(u32, &Key, &Flow)) {
        for (index, entry) in (0..).zip(&self.entries) {
            if entry.key != Key::NONE {
                visit(index, &entry.key, &entry.flow);
            }
        }
    }

    /// Every flow that `wanted` names.
    pub(super) fn for_each_mut(&mut self, wanted: impl Fn(&Key) -> bool, mut change: impl FnMut(u32, &mut Flow)) {
        for list in [self.open, self.closing] {
            let mut index = list.oldest;
            while index != NIL {
                let entry = &mut self.entries[index as usize];
                if wanted(&entry.key) {
                    change(index, &mut entry.flow);
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
        let life = self.entries[index as usize].listed.life();
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
        let Entry { previous, next, listed, .. } = self.entries[index as usize];
        let life = listed.life();
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

/// What room for one flow costs: its entry, its share of the index, its own node, and its extension.
const BYTES_PER_FLOW: usize = size_of::<Entry>() + index::BYTES_PER_ENTRY + BYTES_PER_NODE + extension::BYTES_PER_FLOW;
const _: () = assert!(BYTES_PER_FLOW + common_for(2) * BYTES_PER_NODE / 2 <= 256);
