//! How long the other end takes for its responses, where a flow is plainly request and response.
//!
//! A request is what the end that has opened the connection sends until the other end sends something back. The time
//! from its last byte to the first byte of that, less the flow's shortest round trip, is the other end's. It is
//! reported only where nothing else can be meant:
//!
//! - The handshake was timed: it shows which end asks, and a round trip without anybody's work in it.
//! - The request was sent in one go: its last segment ends a write (PSH), and after a write ended nothing was added
//!   later than [`PAUSE`].
//! - What comes back begins with the byte that the end that asks expected when it sent the last of the request, and
//!   acknowledges all that was sent. So nothing of it is missing, it was not on its way before, and there is no second
//!   request out.
//! - Nothing of the request was sent again, and no records are missing in between, whether lost or left out.
//!
//! This costs a flow twelve bytes of what it has beside its entry, and only while it is wanted.

use std::time::Duration;

use bitflags::bitflags;
use go_metro_common::segment::TcpFlags;

use crate::flow::Flow;
use crate::{Kind, Nanos, Outcome, Rtt, Sample, Segment, SeqNum};

/// What is written within this time of what was written before is of the same request; a response to the first alone
/// would be taken for too short by no more than that.
const PAUSE: Duration = Duration::from_millis(1);

bitflags! {
    /// What is known of a flow's requests.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    struct State: u8 {
        /// The end that asks has sent something since the other end did last.
        const ASKED = 1 << 0;
        /// What it sent last ends a write (RFC 9293 section 3.9.1.2).
        const WRITTEN = 1 << 1;
        /// What comes back next may be of something else.
        const UNCLEAR = 1 << 2;
    }
}

/// So many of the bits of a time are kept; the rest of the 64 say what is known. Two points in time of one flow are
/// less than 2^60 ns, 36 years, apart, so that what lies between them is exact all the same.
const TIME_BITS: u32 = 61;

/// A flow's last request, in twelve bytes.
#[derive(Clone, Copy, Debug, Default)]
#[repr(Rust, packed(4))]
pub(crate) struct Exchange {
    /// When the last of it was sent, in [`TIME_BITS`], and [`State`] above.
    asked: u64,
    /// What was expected next of the other end then.
    expected: SeqNum,
}

const _: () = assert!(size_of::<Exchange>() == 12);

impl Exchange {
    fn new(asked: Nanos, expected: SeqNum, state: State) -> Self {
        let asked = u64::from(state.bits()) << TIME_BITS | asked.0 & ((1 << TIME_BITS) - 1);
        Self { asked, expected }
    }

    #[inline]
    fn state(self) -> State {
        State::from_bits_truncate((self.asked >> TIME_BITS) as u8)
    }

    fn set_state(&mut self, state: State) {
        *self = Self::new(Nanos(self.asked), self.expected, state);
    }

    /// How long after the last of the request this is; nothing if it is not after it.
    fn since_asked(self, now: Nanos) -> Option<Rtt> {
        // The bits above are shifted out.
        let since = now.0.wrapping_sub(self.asked) << (64 - TIME_BITS) >> (64 - TIME_BITS);
        (since > 0 && since < 1 << (TIME_BITS - 1)).then_some(Rtt(since))
    }

    /// The end that asks has sent this; `is_again`: it had before.
    #[inline]
    pub(crate) fn sent(&mut self, segment: &Segment, is_again: bool) {
        let state = self.state();
        let is_written = segment.has(TcpFlags::PSH);
        let is_whole = !is_again && segment.is_whole();
        // Within a write, of which only the end is of interest.
        let goes_on = !is_written && is_whole && state.contains(State::ASKED) && !state.contains(State::WRITTEN);
        if goes_on || segment.header.payload.is_empty() {
            return;
        }
        let is_late = state.contains(State::WRITTEN)
            && self.since_asked(segment.time()).is_some_and(|pause| Duration::from(pause) > PAUSE);
        let mut state = state | State::ASKED;
        state.set(State::WRITTEN, is_written);
        if is_late || !is_whole {
            state |= State::UNCLEAR;
        }
        *self = Self::new(segment.time(), SeqNum(segment.header.ack), state);
    }

    /// Whether what the other end has sent may be a response, open a connection or reset it: most does none of these.
    #[inline]
    pub(crate) fn is_of_interest(segment: &Segment, flow: &Flow) -> bool {
        flow.asks() && !segment.header.payload.is_empty() || segment.has(TcpFlags::SYN | TcpFlags::RST)
    }

    /// What the other end has sent, of which `outcome` came and by which the flow is now as it is: how long it took for
    /// that, if it is a response.
    pub(crate) fn received(&mut self, segment: &Segment, outcome: &Outcome, flow: &mut Flow) -> Option<Rtt> {
        if segment.has(TcpFlags::SYN) {
            if matches!(outcome, Outcome::Sample(Sample { kind: Kind::Connect, .. })) {
                flow.note_asks();
                *self = Self::default();
            }
            return None;
        }
        let state = self.state();
        if !state.contains(State::ASKED) {
            return None;
        }
        if segment.ack() != Some(flow.snd_nxt()) || segment.has(TcpFlags::RST) {
            self.interrupt();
            return None;
        }
        self.set_state(State::empty());
        let is_first = segment.start() == self.expected && segment.is_whole();
        if state != State::ASKED | State::WRITTEN || !is_first {
            return None;
        }
        let took = self.since_asked(segment.time())?;
        Some(Rtt(took.0.saturating_sub(flow.shortest()?.0).max(1)))
    }

    /// Records of the flow may be missing: what it is sent next may be of anything.
    pub(crate) fn interrupt(&mut self) {
        self.set_state(self.state() | State::UNCLEAR);
    }
}
