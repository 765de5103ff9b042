//! From the bytes of a file to decoded segments, in the order of the file.

use go_metro_rtt::Nanos;

use super::reader::{Frame, Reader};
use super::unread::{LinkTypes, Others};
use crate::capture::decode::{Decoded, LinkType, Msdus, Origin, Packet, Tunnels, decode_counted};
use crate::capture::{SourceCounters, Unread};
use crate::record::note::{self, Views};

/// The frames of a file.
pub(super) struct Frames {
    reader: Reader,
    /// What frames are, as far as they alone tell.
    pub(super) counters: SourceCounters,
    pub(super) unknown: LinkTypes,
    pub(super) others: Others,
}

/// What a file says next.
#[derive(Clone, Copy, Debug)]
pub(super) enum Item<D> {
    /// A frame.
    Frame(Decoding<D>),
    /// What comes is made of records, of which this is known; or none of it is any more.
    Turn(Option<note::Section>),
}

impl<D> Item<D> {
    /// The same of what is made of the segment.
    pub(super) fn map<'a, E>(&'a self, of: impl FnOnce(&'a D) -> E) -> Item<E> {
        match self {
            Self::Frame(decoding) => Item::Frame(decoding.map(of)),
            Self::Turn(section) => Item::Turn(*section),
        }
    }
}

/// What there is to say of a frame that has a time: a segment in it, itself or by reference, or that there is none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decoding<D> {
    /// When it was captured.
    pub(super) time: Nanos,
    /// The file's number of the interface.
    pub(super) interface: u32,
    /// Whether this is the first that is said of this frame, which may hold several segments (IEEE 802.11).
    pub(super) is_first: bool,
    /// What it is to a meter, if it is made of a record.
    pub(super) views: Views,
    /// The segment; none if there is no segment in the frame.
    pub(super) segment: Option<D>,
}

impl<D> Decoding<D> {
    /// The same of what is made of the segment.
    pub(super) fn map<'a, E>(&'a self, of: impl FnOnce(&'a D) -> E) -> Decoding<E> {
        let Self { time, interface, is_first, views, ref segment } = *self;
        Decoding { time, interface, is_first, views, segment: segment.as_ref().map(of) }
    }
}

impl Frames {
    pub(super) fn of(reader: Reader) -> Self {
        let counters = SourceCounters::default();
        Self { reader, counters, unknown: LinkTypes::default(), others: Others::default() }
    }

    /// Decodes every frame.
    pub(super) fn read(&mut self, tunnels: Tunnels, sink: &mut impl FnMut(Item<&Decoded>)) {
        let Self { reader, counters, unknown, others } = self;
        while let Some(frame) = reader.next() {
            if let Some(section) = frame.turn {
                sink(Item::Turn(section));
            }
            let (link_type, time) = match described(&frame) {
                Ok(described) => described,
                Err(reason) => {
                    if let Some(LinkType::Other(number)) = frame.link_type {
                        unknown.count(number);
                    }
                    counters.count_unread(reason);
                    continue;
                }
            };
            let Frame { bytes, wire_len, interface, views, .. } = frame;
            let packet = Packet { bytes, wire_len, link_type, origin: Origin::File(tunnels) };
            let mut is_first = true;
            for packet in Msdus::of(packet) {
                let passed_over = counters.passed_over;
                let Some(decoded) = decode_counted(packet, counters) else {
                    if counters.passed_over > passed_over {
                        others.note(packet);
                    }
                    continue;
                };
                sink(Item::Frame(Decoding { time, interface, is_first, views, segment: Some(&decoded) }));
                is_first = false;
            }
            if is_first {
                sink(Item::Frame(Decoding { time, interface, is_first, views, segment: None }));
            }
        }
    }

    /// The name of the interface of a frame that is made of a record.
    pub(super) fn interface(&self, number: u32) -> Option<&str> {
        self.reader.name(number)
    }

    /// Decompresses on a thread of its own; whether it is compressed.
    pub(super) fn decompress_beside(&mut self) -> bool {
        self.reader.decompress_beside()
    }

    /// How the file is broken, if it is; all before that place was used.
    pub(super) fn broken(&self) -> Option<&str> {
        self.reader.broken()
    }
}

/// A frame's link type and time; or why it cannot be measured, whatever it carries.
#[inline]
fn described(frame: &Frame<'_>) -> Result<(LinkType, Nanos), Unread> {
    match frame.link_type.ok_or(Unread::Interface)? {
        LinkType::Other(_) => Err(Unread::LinkType),
        link_type => Ok((link_type, frame.time.ok_or(Unread::NoTime)?)),
    }
}
