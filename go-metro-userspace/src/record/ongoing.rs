//! A recording that is written while it goes on, a part at a time, so that it needs little memory however long it is.
//!
//! Its samples are counted, and what is not to be one is marked, as in a whole one ([`super::choice`]): the engine that
//! measures it again goes on from part to part. As its first block is written before that is known, what `read` will
//! find in it stands in its last.

use go_metro_rtt::Engine;

use super::choice::{Choice, Cursor, in_order, measure, packets};
use super::file::{Described, Writer, about, found};
use super::note::Section;
use super::ring::Snapshot;

/// Most records of a part: some 3 MiB when they are written.
const MOST: usize = 1 << 14;
/// Flows whose records are measured again: those silent for longest make room.
const FLOWS: u32 = 1 << 16;

/// A recording that goes on.
pub(crate) struct Ongoing {
    section: Section,
    engine: Engine,
    cursors: Vec<Cursor>,
    /// Whether rings were looked at before: what one has that was not there passed meanwhile.
    has_looked: bool,
    /// Whether it has a packet.
    has_begun: bool,
    writer: Writer,
    samples: u64,
    missing: u64,
}

/// What is new.
pub(crate) struct Part {
    /// Whole blocks; none if nothing was chosen.
    pub(crate) blocks: Vec<u8>,
    /// Packets in it.
    pub(crate) packets: u64,
    /// Whether the rings have no more now.
    pub(crate) is_all: bool,
}

impl Ongoing {
    /// One of records that are measured as the section says.
    pub(crate) fn new(section: Section) -> Self {
        Self {
            section,
            engine: Engine::new(section.engine(FLOWS)),
            cursors: Vec::new(),
            has_looked: false,
            has_begun: false,
            writer: Writer::default(),
            samples: 0,
            missing: 0,
        }
    }

    /// What rings have that they had not the last time, as far as it is chosen.
    pub(crate) fn next(&mut self, rings: &[Snapshot], choice: &Choice, described: &Described) -> Part {
        let is_late = std::mem::replace(&mut self.has_looked, true);
        let most = (MOST / rings.len().max(1)).max(1);
        self.cursors.retain(|cursor| rings.iter().any(|ring| cursor.is_of(ring)));
        let mut is_all = true;
        let mut taken = Vec::with_capacity(rings.len());
        for ring in rings {
            let known = self.cursors.iter().position(|cursor| cursor.is_of(ring));
            let number = known.unwrap_or_else(|| {
                self.cursors.push(Cursor::new(ring, is_late));
                self.cursors.len() - 1
            });
            let (chosen, is_end) = self.cursors[number].take(ring, choice, most);
            taken.push(chosen);
            is_all &= is_end;
        }
        let mut chosen = in_order(taken);
        let (samples, missing) = measure(&mut self.engine, &mut chosen);
        (self.samples, self.missing) = (self.samples + samples, self.missing + missing);
        let packets = packets(&chosen);
        let mut blocks = Vec::new();
        if !packets.is_empty() && !std::mem::replace(&mut self.has_begun, true) {
            let about = format!("{} What `go-metro read` finds in it is said at its end.", about());
            self.writer.begin(&self.section, &about, &mut blocks);
        }
        for packet in &packets {
            self.writer.packet(packet, None, described, &mut blocks);
        }
        Part { blocks, packets: packets.len() as u64, is_all }
    }

    /// What it ends with, by which a reader knows that nothing is missing; nothing if it has no packet.
    pub(crate) fn end(&self) -> Vec<u8> {
        let mut blocks = Vec::new();
        self.writer.end(&found(self.samples, self.missing), &mut blocks);
        blocks
    }
}
