//! What a file of records says to `read` beside its headers: options of pcapng for local use
//! (draft-ietf-opsawg-pcapng-03 section 3.5), of which other programs take no notice.
//!
//! A section with [`Section`] holds records that one meter has measured, in its order; each of its packets has
//! [`Views`], as the engine takes a packet once for each end and side that it tells something to.

use std::time::Duration;

use bytes::{Buf as _, BufMut as _};
use go_metro_common::segment::{Bits, Payload, Sides};
use go_metro_rtt::{EngineConfig, Segment, Side};

/// The options' code: `gm` below the bit of local use.
pub(crate) const OPTION: u16 = 0x8000 | 0x676d;
/// What the section's option begins with; its last byte is the version of all that follows from it.
const MAGIC: [u8; 9] = *b"go-metro\x01";

/// What is said of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Section {
    /// As the meter's engine had it.
    pub(crate) idle_ttl: Duration,
    /// As the meter's engine had it.
    pub(crate) exp_ttl: Duration,
    /// As the meter's engine had it.
    pub(crate) outstanding_per_flow: u16,
    /// As the meter's engine had it: the classifier leaves out what repeats an acknowledgement.
    pub(crate) peers_complete: bool,
    /// Which round trips were measured.
    pub(crate) sides: Sides,
}

impl Section {
    /// Of what an engine with this configuration has measured.
    pub(crate) fn of(config: &EngineConfig, sides: Sides) -> Self {
        let EngineConfig { idle_ttl, exp_ttl, outstanding_per_flow, peers_complete, .. } = *config;
        Self { idle_ttl, exp_ttl, outstanding_per_flow, peers_complete, sides }
    }

    /// The configuration of an engine that measures it again, for so many flows. It times what a flow sends that begins
    /// in the middle: which of that the meter did not time is marked.
    pub(crate) fn engine(&self, max_flows: u32) -> EngineConfig {
        let Self { idle_ttl, exp_ttl, outstanding_per_flow, peers_complete, .. } = *self;
        let settles_after = Duration::ZERO;
        EngineConfig { idle_ttl, exp_ttl, max_flows, outstanding_per_flow, peers_complete, settles_after }
    }

    /// The option's value.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut value = MAGIC.to_vec();
        value.put_u8(self.sides.0);
        value.put_u8(u8::from(self.peers_complete));
        value.put_u16_le(self.outstanding_per_flow);
        for time in [self.idle_ttl, self.exp_ttl] {
            value.put_u64_le(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        }
        value
    }

    /// From an option's value; none if that is another program's, or of another version.
    pub(crate) fn decode(value: &[u8]) -> Option<Self> {
        let mut rest = value.strip_prefix(&MAGIC)?;
        let (sides, peers_complete) = (Sides(rest.try_get_u8().ok()?), rest.try_get_u8().ok()? != 0);
        let outstanding_per_flow = rest.try_get_u16_le().ok()?;
        let mut time = || rest.try_get_u64_le().map(Duration::from_nanos).ok();
        Some(Self { sides, peers_complete, outstanding_per_flow, idle_ttl: time()?, exp_ttl: time()? })
    }
}

/// A packet as one end sees it, for one side: what its headers do not say. 32 bits, of which the highest is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct View(u32);

impl View {
    /// The end that sends what is timed has sent it ([`Bits::EGRESS`]).
    const EGRESS: u32 = 1 << 0;
    /// It is of the local side.
    const LOCAL: u32 = 1 << 1;
    /// [`Bits::RESYNC`].
    const RESYNC: u32 = 1 << 2;
    /// [`Bits::UNTIMED`].
    const UNTIMED: u32 = 1 << 3;
    /// What was outstanding of its flow was forgotten before it.
    pub(crate) const INTERRUPTED: u32 = 1 << 4;
    /// Records of its flow may be missing before it.
    pub(crate) const GAP: u32 = 1 << 5;
    /// It was no sample, for a reason that the file does not show.
    pub(crate) const UNTOLD: u32 = 1 << 6;
    /// Its sample was a delayed acknowledgement's and would be no such by the file, or the other way round.
    pub(crate) const FLIPPED: u32 = 1 << 7;
    /// Lowest bit of the number of segments.
    const SEGMENTS: u32 = 8;
    /// There is one.
    const PRESENT: u32 = 1 << 31;

    /// Of a record; `marks` are of those above.
    pub(crate) fn of(segment: &Segment, marks: u32) -> Self {
        let bits = segment.header.bits;
        let flag = |is_set: bool, flag: u32| if is_set { flag } else { 0 };
        Self(
            Self::PRESENT
                | marks
                | flag(bits.any(Bits::EGRESS), Self::EGRESS)
                | flag(segment.flow.side == Side::Local, Self::LOCAL)
                | flag(bits.any(Bits::RESYNC), Self::RESYNC)
                | flag(bits.any(Bits::UNTIMED), Self::UNTIMED)
                | segment.header.payload.segments() << Self::SEGMENTS,
        )
    }

    /// Whether any of these marks is set.
    pub(crate) fn has(self, marks: u32) -> bool {
        self.0 & marks != 0
    }

    /// The side whose round trips it is of.
    pub(crate) fn side(self) -> Side {
        if self.has(Self::LOCAL) { Side::Local } else { Side::Remote }
    }

    /// Whether the local end has sent the packet.
    pub(crate) fn is_sent(self) -> bool {
        self.has(Self::EGRESS) != self.has(Self::LOCAL)
    }

    /// The record's bits, where these are those that headers say.
    pub(crate) fn bits(self, headers: Bits) -> Bits {
        let flag = |is: u32, bit: u8| if self.has(is) { bit } else { 0 };
        let own =
            flag(Self::EGRESS, Bits::EGRESS) | flag(Self::RESYNC, Bits::RESYNC) | flag(Self::UNTIMED, Bits::UNTIMED);
        Bits(headers.0 & !(Bits::EGRESS | Bits::RESYNC | Bits::UNTIMED) | own)
    }

    /// A payload of this many bytes, in as many segments as it was.
    pub(crate) fn payload(self, len: u32) -> Payload {
        Payload::in_segments(len, self.0 >> Self::SEGMENTS & Payload::MOST_SEGMENTS)
    }
}

/// All that a packet is to a meter: at most both its ends, for both sides each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Views([View; Self::MOST]);

impl Views {
    const MOST: usize = 4;

    /// Adds one; whether there was room.
    pub(crate) fn add(&mut self, view: View) -> bool {
        let free = self.0.iter_mut().find(|view| view.0 == 0);
        free.map(|free| *free = view).is_some()
    }

    /// Each.
    pub(crate) fn each(&self) -> impl Iterator<Item = View> + '_ {
        self.0.iter().copied().take_while(|view| view.0 != 0)
    }

    /// Whether there is none: the packet is a captured one.
    pub(crate) fn is_empty(&self) -> bool {
        self.0[0].0 == 0
    }

    /// The option's value.
    pub(crate) fn encode(&self) -> Vec<u8> {
        self.each().flat_map(|view| view.0.to_le_bytes()).collect()
    }

    /// From the option's value.
    pub(crate) fn decode(value: &[u8]) -> Self {
        let mut views = Self::default();
        for view in value.as_chunks().0.iter().map(|bytes| View(u32::from_le_bytes(*bytes))) {
            if view.has(View::PRESENT) {
                views.add(view);
            }
        }
        views
    }
}

#[cfg(test)]
mod tests {
    use go_metro_rtt::{Addr, Endpoint, FlowKey, SegmentHeader};

    use super::*;

    #[test]
    fn what_is_written_of_a_section_is_read_and_other_values_are_not() {
        let config = EngineConfig { peers_complete: true, outstanding_per_flow: 77, ..EngineConfig::DEFAULT };
        let section = Section::of(&config, Sides::BOTH);
        let value = section.encode();
        assert_eq!(Section::decode(&value), Some(section));
        assert_eq!(section.engine(9), EngineConfig { max_flows: 9, ..config });
        assert_eq!(Section::decode(&value[..value.len() - 1]), None);
        assert_eq!(Section::decode(b"go-metro\x02xxxxxxxxxxxxxxxxxxxxxxxx"), None);
        assert_eq!(Section::decode(b""), None);
    }

    #[test]
    fn a_view_has_what_headers_do_not_say_and_nothing_that_they_do() {
        let end = |last, port| Endpoint { addr: Addr::v4([10, 0, 0, last]), port };
        let flow = FlowKey { local: end(1, 1), remote: end(2, 2), ifindex: 3, side: Side::Local };
        let header = SegmentHeader {
            payload: Payload::in_segments(5000, 4),
            bits: Bits(Bits::EGRESS | Bits::RESYNC | Bits::TIMESTAMPS),
            ..Default::default()
        };
        let view = View::of(&Segment { flow, header }, View::GAP);
        // To the local side, what is timed is what the remote end sends.
        assert_eq!((view.side(), view.is_sent()), (Side::Local, false));
        assert_eq!(view.bits(Bits(Bits::TIMESTAMPS | Bits::UNTIMED)), header.bits);
        assert_eq!(view.payload(5000), header.payload);
        assert!(view.has(View::GAP) && !view.has(View::INTERRUPTED | View::UNTOLD | View::FLIPPED));
        let mut views = Views::default();
        assert!(views.is_empty());
        assert!((0..4).all(|_| views.add(view)) && !views.add(view));
        assert_eq!(Views::decode(&views.encode()), views);
        assert_eq!(Views::decode(&[1, 0, 0, 0, 9]), Views::default());
    }
}
