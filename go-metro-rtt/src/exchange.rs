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
//! This costs a flow sixteen bytes, and only while it is wanted.

use std::time::Duration;

use bitflags::bitflags;
use go_metro_common::segment::TcpFlags;

use crate::flow::Flow;
use crate::segment::Continuity;
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

/// A flow's last request.
#[derive(Clone, Copy, Debug, Default)]
struct Exchange {
    /// When the last of it was sent.
    asked: Nanos,
    /// What was expected next of the other end then.
    expected: SeqNum,
    state: State,
}

const _: () = assert!(size_of::<Exchange>() == 16);

/// The requests of all flows, by their numbers.
pub(crate) struct Responses(Vec<Exchange>);

impl Responses {
    /// Room for so many flows.
    pub(crate) fn new(max_flows: usize) -> Self {
        Self(Vec::with_capacity(max_flows))
    }

    /// Reads what is known of a flow, so that it is in the cache.
    #[inline]
    pub(crate) fn touch(&self, index: u32) -> u64 {
        self.0.get(index as usize).map_or(0, |exchange| exchange.asked.0)
    }

    /// The end that asks has opened the connection of the flow of this number.
    #[cold]
    fn begin(&mut self, index: u32) {
        let index = index as usize;
        if index >= self.0.len() {
            self.0.resize(index + 1, Exchange::default());
        }
        self.0[index] = Exchange::default();
    }

    /// The end that asks has sent this; `is_again`: it had before.
    #[inline]
    pub(crate) fn sent(&mut self, index: u32, segment: &Segment, is_again: bool) {
        let Some(exchange) = self.0.get_mut(index as usize) else { return };
        let is_written = segment.has(TcpFlags::PSH);
        let is_whole = !is_again && segment.continuity() == Continuity::Whole;
        // Within a write, of which only the end is of interest.
        let goes_on = exchange.state | State::UNCLEAR == State::ASKED | State::UNCLEAR && !is_written && is_whole;
        if goes_on || segment.header.payload.is_empty() {
            return;
        }
        let is_late = exchange.state.contains(State::WRITTEN) && segment.time() > exchange.asked.plus(PAUSE);
        let mut state = exchange.state | State::ASKED;
        state.set(State::WRITTEN, is_written);
        if is_late || !is_whole {
            state |= State::UNCLEAR;
        }
        *exchange = Exchange { asked: segment.time(), expected: SeqNum(segment.header.ack), state };
    }

    /// Whether what the other end has sent may be a response, open a connection or reset it: most does none of these.
    #[inline]
    pub(crate) fn is_of_interest(segment: &Segment, flow: &Flow) -> bool {
        flow.asks() && !segment.header.payload.is_empty() || segment.has(TcpFlags::SYN | TcpFlags::RST)
    }

    /// What the other end has sent, of which `outcome` came and by which the flow is now as it is: how long it took for
    /// that, if it is a response.
    pub(crate) fn received(
        &mut self,
        index: u32,
        segment: &Segment,
        outcome: &Outcome,
        flow: &mut Flow,
    ) -> Option<Rtt> {
        if segment.has(TcpFlags::SYN) {
            if matches!(outcome, Outcome::Sample(Sample { kind: Kind::Connect, .. })) {
                flow.note_asks();
                self.begin(index);
            }
            return None;
        }
        let exchange = self.0.get_mut(index as usize)?;
        if !exchange.state.contains(State::ASKED) {
            return None;
        }
        if segment.ack() != Some(flow.snd_nxt()) || segment.has(TcpFlags::RST) {
            exchange.state |= State::UNCLEAR;
            return None;
        }
        let state = std::mem::take(&mut exchange.state);
        let is_first = segment.start() == exchange.expected && segment.continuity() == Continuity::Whole;
        if state != State::ASKED | State::WRITTEN || !is_first {
            return None;
        }
        let took = segment.time().since(exchange.asked)?;
        Some(Rtt(took.0.saturating_sub(flow.shortest()?.0).max(1)))
    }

    /// Records of a flow may be missing: what it is sent next may be of anything.
    #[cold]
    pub(crate) fn interrupt(&mut self, index: u32) {
        if let Some(exchange) = self.0.get_mut(index as usize) {
            exchange.state |= State::UNCLEAR;
        }
    }
}
