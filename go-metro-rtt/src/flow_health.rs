//! What is counted and known of one flow's health, and why what it sends again is sent again.
//!
//! The causes of retransmissions are those of a sender that does what Linux does (net/ipv4/tcp_input.c,
//! tcp_timer.c, tcp_recovery.c):
//!
//! - Once the receiver has shown a hole, what was sent before is sent again as its acknowledgements come: `fast`, until
//!   all that had been sent is acknowledged.
//! - Where it has shown none and SACK is in use, the first timer is that of a tail loss probe, which repeats the last
//!   segment: `tail_probe`, once until an acknowledgement advances.
//! - What starts with the first byte that is not acknowledged, with no such sign, or when nothing was heard of the
//!   receiver for a while, or once more where SACK is not in use: `timeout`, and so is all until what was outstanding
//!   then is acknowledged.

use bitflags::bitflags;
use go_metro_common::segment::{Payload, TcpFlags};

use crate::flow::{Again, Flow, Sent, Ticks};
use crate::health::{Cause, Role};
use crate::{Nanos, Segment, SeqNum};

/// Without a word from the receiver for so long, it may be the timer that has something sent again: for the flow's
/// shortest round trip, but within these bounds, in nanoseconds. What answers an acknowledgement comes at once.
const SILENCE_NS: (u64, u64) = (20_000_000, 150_000_000);

/// The least that the timer waits, in nanoseconds: `TCP_RTO_MIN` (include/net/tcp.h, 200 ms) less a tick of the slowest
/// clock of a kernel, by which it may come early. What was reordered is waited for by another timer, for up to a round
/// trip once D-SACKs have come (RFC 8985 section 6.2 step 4): silence alone does not tell the two apart.
const TIMER_NS: u64 = 190_000_000;

/// What answers an acknowledgement is sent within this time, in nanoseconds: a tick of the slowest clock of a kernel.
const AT_ONCE_NS: u64 = 10_000_000;

/// So many bytes are put into the pair's count at once, before the flow's own overflows with the next.
const SPILL: u32 = 1 << 30;

/// The same of segments: no record has more than [`Payload::MOST_SEGMENTS`].
const SPILL_SEGMENTS: u16 = 1 << 15;

/// Of [`FlowHealth::bytes`], beside the number, which stays below: what the flow sends next is to be looked at. As it
/// makes the number larger than [`SPILL`], asking for it costs nothing.
pub(crate) const WATCHED: u32 = 1 << 31;

bitflags! {
    /// What is known of a flow's health in single bits.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub(crate) struct State: u8 {
        /// The end that is timed has sent a SYN; what becomes of it is not known.
        const CLIENT = 1 << 0;
        /// The same of a SYN-ACK.
        const SERVER = 1 << 1;
        /// The receiver has shown a hole; up to `point` it is being filled.
        const RECOVERS = 1 << 2;
        /// The retransmission timer ran out; what was sent up to `point` is sent again.
        const TIMED_OUT = 1 << 3;
        /// A tail loss probe is out.
        const PROBED = 1 << 4;
        /// The connection is over, and that was counted.
        const OVER = 1 << 5;
        /// It is among those that have something for the next report.
        const LISTED = 1 << 6;
        /// What starts with the first byte that is not acknowledged was sent again already.
        const HEAD_AGAIN = 1 << 7;
    }
}

/// What is counted and known of one flow.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FlowHealth {
    /// Payload bytes since they were last put into the pair's count, and [`WATCHED`].
    pub(crate) bytes: u32,
    pub(crate) segments: u16,
    /// When the timer was last set, as far as that matters: when an acknowledgement advanced, or what begins with the
    /// first byte that is not acknowledged was sent again. The lower half of [`Ticks`].
    pub(crate) timer: u16,
    /// `snd_nxt` when the loss was found that is being repaired (`high_seq` of Linux' tcp_sock); until the connection
    /// is established, our initial sequence number.
    pub(crate) point: SeqNum,
    /// `snd_nxt` when something was sent again last: what is acknowledged beyond came after it.
    pub(crate) repaired: SeqNum,
    /// When something was last heard of the receiver, where that matters: the lower half of [`Ticks`].
    pub(crate) heard: u16,
    /// Retransmissions that may prove needless.
    pub(crate) unconfirmed: u8,
    pub(crate) state: State,
}

const _: () = assert!(size_of::<FlowHealth>() == 20);

impl FlowHealth {
    /// Nothing counted and nothing known, as the flow begins; what is listed stays so.
    pub(crate) fn begin(&mut self) {
        *self = Self { state: self.state & State::LISTED, ..Self::default() };
    }

    /// Reads it, so that it is in the cache.
    #[inline]
    pub(crate) fn touch(&self) -> u64 {
        self.bytes.into()
    }

    /// Counts what is sent where that is all there is to do: it is data that is sent for the first time, of a flow that
    /// is listed, and neither too much to be counted by the flow itself nor watched. Whether it was; nothing is changed
    /// otherwise.
    #[inline]
    pub(crate) fn sent_as_usual(&mut self, segment: &Segment, sent: Sent) -> bool {
        let payload = segment.header.payload;
        let is_first_data = sent.again.is_none()
            && !sent.probe
            && !segment.has(TcpFlags::SYN | TcpFlags::FIN | TcpFlags::RST)
            && !payload.is_empty();
        let is_usual = is_first_data && self.state.contains(State::LISTED) && !self.is_to_spill();
        if is_usual {
            self.count(payload);
        }
        is_usual
    }

    /// Counts data, or a FIN without any.
    #[inline]
    pub(crate) fn count(&mut self, payload: Payload) {
        self.bytes = self.bytes.wrapping_add(payload.len());
        self.segments = self.segments.wrapping_add(payload.segments() as u16);
    }

    /// Whether what is counted is to be put into the pair's count, before it overflows, or is watched.
    #[inline]
    pub(crate) fn is_to_spill(&self) -> bool {
        self.bytes >= SPILL || self.segments >= SPILL_SEGMENTS
    }

    /// What part the end that is timed has in a handshake that is not over.
    pub(crate) fn role(&self) -> Option<Role> {
        match self.state {
            state if state.contains(State::CLIENT) => Some(Role::Client),
            state if state.contains(State::SERVER) => Some(Role::Server),
            _ => None,
        }
    }

    /// Whether this flow's SYN waits for its answer, and may yet come in time.
    pub(crate) fn awaits_answer(&self, flow: &Flow) -> bool {
        self.role() == Some(Role::Client) && !flow.snd_una().after(self.point)
    }

    /// Whether what was found to be missing is still being repaired. Without SACK that is so until something above is
    /// acknowledged: duplicates that come before are of what was sent again (RFC 6582 section 4.1).
    pub(crate) fn repairs(&self, flow: &Flow) -> bool {
        let una = flow.snd_una();
        una.before(self.point) || una == self.point && !flow.uses_sack()
    }

    /// What begins with the first byte that is not acknowledged is sent again, and was before if `is_repeated`: whether
    /// the timer may have run out by now. It is set to the smoothed round trip and [`TIMER_NS`] at least; but where it
    /// follows on another timer, from when that byte was sent (`tcp_rearm_rto` of net/ipv4/tcp_input.c), which is a
    /// round trip before an acknowledgement advances.
    fn timer_ran_out(&mut self, at: Nanos, is_repeated: bool, flow: &Flow) -> bool {
        let now = Ticks::of(at).low();
        let (least, most) = SILENCE_NS;
        let shortest = flow.shortest().map(|rtt| rtt.0);
        let silence = shortest.map_or(most, |rtt| rtt.clamp(least, most));
        let least = if is_repeated { TIMER_NS.saturating_add(shortest.unwrap_or(0)) } else { TIMER_NS };
        let waited = now.wrapping_sub(std::mem::replace(&mut self.timer, now));
        self.is_silent(at, silence) && waited >= Ticks::at_least(least).low()
    }

    /// Whether nothing was heard of the receiver for longer than this, in nanoseconds.
    fn is_silent(&self, at: Nanos, ns: u64) -> bool {
        Ticks::of(at).low().wrapping_sub(self.heard) > Ticks::at_least(ns).low()
    }

    /// Why this was sent again.
    pub(crate) fn cause(&mut self, segment: &Segment, again: Again, flow: &Flow) -> Cause {
        if segment.has(TcpFlags::SYN) {
            return Cause::Syn;
        }
        let repairs = self.repairs(flow);
        let is_head = again.contains(Again::HEAD);
        let is_repeated = is_head && self.state.contains(State::HEAD_AGAIN);
        self.state.set(State::HEAD_AGAIN, is_head || self.state.contains(State::HEAD_AGAIN));
        let timer_ran_out = is_head && self.timer_ran_out(segment.time(), is_repeated, flow);
        let shows_hole = again.contains(Again::SHOWN) || repairs && self.state.contains(State::RECOVERS);
        let timed_out = match self.state {
            state if state.contains(State::TIMED_OUT) && repairs => return Cause::Timeout,
            // Without SACK nothing but the timer has the same sent once more.
            _ if shows_hole => is_repeated && !again.contains(Again::SACK) || timer_ran_out,
            // What a SYN carried, and the answer left out, is sent again at once (RFC 7413 section 4.2.1).
            _ if is_head && flow.is_behind_syn(segment) && !self.is_silent(segment.time(), AT_ONCE_NS) => {
                self.point = flow.snd_nxt();
                self.state.insert(State::RECOVERS);
                return Cause::Fast;
            }
            state if again.contains(Again::TAIL | Again::SACK) && !state.contains(State::PROBED) => {
                self.state.insert(State::PROBED);
                return Cause::TailProbe;
            }
            _ => is_head,
        };
        if !timed_out && !shows_hole {
            return Cause::Unknown;
        }
        let (entered, left) =
            if timed_out { (State::TIMED_OUT, State::RECOVERS) } else { (State::RECOVERS, State::TIMED_OUT) };
        if timed_out || !repairs || !self.state.contains(entered) {
            self.point = flow.snd_nxt();
        }
        self.state.remove(left);
        self.state.insert(entered);
        if timed_out { Cause::Timeout } else { Cause::Fast }
    }
}
