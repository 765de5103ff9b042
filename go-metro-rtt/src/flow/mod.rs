//! One flow: the matching rules of RULES.md.
//!
//! A flow times what its local end sends. Every outbound segment goes through [`Flow::sent`], every inbound one through
//! [`Flow::received`]; both are a page, and hand each question to the file that holds its rule:
//!
//! - [`opening`]: SYN, SYN-ACK and another connection on the same ports (rule 7)
//! - [`hole`]: what waited behind a hole, and a record that is too full (rules 5 and 9)
//! - [`ahead`]: what was acknowledged before it was seen (rule 12)
//! - [`peer`]: what the peer sends, to notice what was not captured of it (rule 15)
//! - [`ack_delay`]: which acknowledgements the receiver kept back
//!
//! What was sent and not yet acknowledged is in [`crate::outstanding`] (rules 1 to 4, 11 and 13).

mod ack_delay;
mod ahead;
mod flags;
mod hole;
mod opening;
mod peer;
mod received;
mod sent;

use ack_delay::AckDelay;
use flags::{FlowFlags, Known};
use hole::Hole;
pub(crate) use sent::{Again, Sent};

use crate::outstanding::{Queue, Share, Transmission, is_newer};
use crate::{Nanos, Rtt, Segment, SeqNum};

/// Duplicate acknowledgements that show a hole where SACK is not in use (RFC 5681 section 3.2).
const DUPLICATE_ACKS: u8 = 3;

/// Bounds that the rules need.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FlowLimits {
    /// Transmissions on record per flow (rule 9).
    pub(crate) outstanding: u16,
    /// Longest believable RTT (rule 10).
    pub(crate) longest: Rtt,
    /// As [`crate::EngineConfig::peers_complete`].
    pub(crate) peers_complete: bool,
    /// As [`crate::EngineConfig::settles_after`], if it is not zero.
    pub(crate) settles_after: Option<Ticks>,
}

/// A point in time or a span in units of 2^20 ns, about a millisecond, modulo 2^32.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticks(u32);

impl Ticks {
    /// No less than this many nanoseconds.
    pub(crate) fn at_least(ns: u64) -> Self {
        Self(u32::try_from(ns.div_ceil(1 << 20)).unwrap_or(u32::MAX) & (u32::MAX >> 1))
    }

    pub(crate) fn of(time: Nanos) -> Self {
        Self((time.0 >> 20) as u32)
    }

    /// The lower half: a span up to a minute, or a point within one.
    pub(crate) const fn low(self) -> u16 {
        self.0 as u16
    }
}

/// How far a flow has got towards its end (rule 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// Segments are expected.
    Open,
    /// Reset, or FIN in both directions: only stragglers.
    Closing,
}

/// The last retransmission (rule 2).
#[derive(Clone, Copy, Debug)]
struct Recovery {
    /// `snd_nxt` when it was sent: the recovery point (RFC 6675 section 2).
    point: SeqNum,
    /// Its TSval.
    tsval: Option<u32>,
}

impl Recovery {
    /// Whether an acknowledgement that covers both the retransmission and a later `transmission` was caused by the
    /// latter.
    ///
    /// What was sent after a retransmission may arrive before it, and then waits for it. TSecr distinguishes the two,
    /// unless both were sent within one tick. What has an older TSval was sent before, and seen after it: others may
    /// have the same.
    fn is_ruled_out_by(self, transmission: &Transmission, ack: &Segment) -> bool {
        let is_later = |tsval| self.tsval.is_none_or(|again| is_newer(tsval, again));
        ack.tsecr() == transmission.tsval && transmission.tsval.is_some_and(is_later)
    }
}

/// The state of one flow, in one cache line. `snd_una` and `snd_nxt` are named as in RFC 9293 section 3.3.1.
///
/// Numbers that may be unknown share their presence bits in [`Known`]: as `Option`s they would not fit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flow {
    /// First sequence number not acknowledged.
    snd_una: SeqNum,
    /// Sequence number after the highest sent.
    snd_nxt: SeqNum,
    outstanding: Queue,
    /// What its round trips have shown of the receiver.
    ack_delay: AckDelay,
    /// Window of the last inbound segment, to tell a duplicate ACK from a window update.
    window: u16,
    /// What [`Flow::recovery`] returns, if known.
    recovery: (SeqNum, u32),
    /// What [`Flow::acked_ahead`] returns, if known.
    ahead: SeqNum,
    /// What [`Flow::local_isn`] returns, if known; where the flow was joined, when that was ([`Ticks`]).
    local_isn: SeqNum,
    /// What [`Flow::remote_isn`] returns, if known.
    remote_isn: SeqNum,
    /// What [`Flow::peer_nxt`] returns, if known.
    peer_nxt: SeqNum,
    hole: Hole,
    known: Known,
    flags: FlowFlags,
}

const _: () = assert!(size_of::<Flow>() <= 64);

/// Numbers that may be unknown.
impl Flow {
    fn if_known(&self, which: Known, number: SeqNum) -> Option<SeqNum> {
        self.known.contains(which).then_some(number)
    }

    /// Set by the last retransmission, until all that was sent before it is acknowledged (rule 2).
    fn recovery(&self) -> Option<Recovery> {
        let (point, tsval) = self.recovery;
        let tsval = self.known.contains(Known::RECOVERY_TSVAL).then_some(tsval);
        self.known.contains(Known::RECOVERY).then_some(Recovery { point, tsval })
    }

    fn set_recovery(&mut self, recovery: Option<Recovery>) {
        self.known.set(Known::RECOVERY, recovery.is_some());
        if let Some(Recovery { point, tsval }) = recovery {
            self.recovery = (point, tsval.unwrap_or_default());
            self.known.set(Known::RECOVERY_TSVAL, tsval.is_some());
        }
    }

    /// All below was acknowledged before it was seen to be sent, according to the peer (rule 12).
    fn acked_ahead(&self) -> Option<SeqNum> {
        self.if_known(Known::ACKED_AHEAD, self.ahead)
    }

    fn set_acked_ahead(&mut self, ahead: Option<SeqNum>) {
        self.known.set(Known::ACKED_AHEAD, ahead.is_some());
        self.ahead = ahead.unwrap_or_default();
    }

    /// Our initial sequence number, if the SYN was seen.
    fn local_isn(&self) -> Option<SeqNum> {
        self.if_known(Known::LOCAL_ISN, self.local_isn)
    }

    fn set_local_isn(&mut self, isn: SeqNum) {
        self.known.insert(Known::LOCAL_ISN);
        self.flags.remove(FlowFlags::UNSETTLED);
        self.local_isn = isn;
    }

    /// The peer's initial sequence number.
    fn remote_isn(&self) -> Option<SeqNum> {
        self.if_known(Known::REMOTE_ISN, self.remote_isn)
    }

    fn set_remote_isn(&mut self, isn: Option<SeqNum>) {
        self.known.set(Known::REMOTE_ISN, isn.is_some());
        self.remote_isn = isn.unwrap_or_default();
    }

    /// Sequence number after the highest that the peer was seen to send, or that was acknowledged to it (rule 15).
    fn peer_nxt(&self) -> Option<SeqNum> {
        self.if_known(Known::PEER_NXT, self.peer_nxt)
    }

    fn set_peer_nxt(&mut self, nxt: SeqNum) {
        self.known.insert(Known::PEER_NXT);
        self.peer_nxt = nxt;
    }

    fn is_synchronised(&self) -> bool {
        self.flags.contains(FlowFlags::SYNCHRONISED)
    }

    /// Whether the flow is followed, and nothing speaks against timing what is on record.
    #[inline]
    pub(crate) fn is_usual(&self) -> bool {
        const SPEAKS_AGAINST: FlowFlags = FlowFlags::DUPLICATES
            .union(FlowFlags::PEER_MISSED)
            .union(FlowFlags::UNA_ASSUMED)
            .union(FlowFlags::UNSETTLED);
        self.flags & (FlowFlags::SYNCHRONISED | SPEAKS_AGAINST) == FlowFlags::SYNCHRONISED
            && !self.known.intersects(Known::RECOVERY | Known::ACKED_AHEAD | Known::PROBED)
            && self.hole.is_none()
    }

    /// Whether something speaks against timing an acknowledgement that advances, beside what is on record.
    fn is_in_doubt(&self) -> bool {
        !self.hole.is_none()
            || self.known.intersects(Known::RECOVERY | Known::ACKED_AHEAD | Known::PROBED)
            || self.flags.contains(FlowFlags::PEER_MISSED)
    }
}

/// What others are told of it.
impl Flow {
    /// First sequence number not acknowledged.
    pub(crate) fn snd_una(&self) -> SeqNum {
        self.snd_una
    }

    /// Sequence number after the highest sent.
    pub(crate) fn snd_nxt(&self) -> SeqNum {
        self.snd_nxt
    }

    /// The window that the peer has announced last, unscaled; 0 if it has announced none.
    #[inline]
    pub(crate) fn window(&self) -> u16 {
        self.window
    }

    /// Whether the end that is timed has opened the connection, and its handshake was timed, as far as somebody wants
    /// to know that ([`Flow::note_asks`]).
    #[inline]
    pub(crate) fn asks(&self) -> bool {
        self.known.contains(Known::ASKS)
    }

    /// Whether the first byte that is not acknowledged was sent only to probe a window that is closed.
    #[inline]
    pub(crate) fn has_probed(&self) -> bool {
        self.known.contains(Known::PROBED)
    }

    /// Notes that it has.
    pub(crate) fn note_asks(&mut self) {
        self.known.insert(Known::ASKS);
    }

    /// Its shortest round trip, if there was any.
    pub(crate) fn shortest(&self) -> Option<Rtt> {
        self.ack_delay.shortest()
    }

    /// Whether the peer uses SACK, as far as that is known.
    pub(crate) fn uses_sack(&self) -> bool {
        // Where the handshake was not seen: all do.
        self.flags.contains(FlowFlags::SACK_IN_USE) || !self.known.intersects(Known::LOCAL_ISN | Known::REMOTE_ISN)
    }

    /// The TSval of the only retransmission that is waited for.
    pub(crate) fn single_retransmission(&self) -> Option<u32> {
        self.recovery().filter(|_| self.outstanding.retransmissions() == 1)?.tsval
    }
}

/// How a flow begins, is interrupted and ends.
impl Flow {
    /// A flow of which nothing was seen yet.
    pub(crate) const NEW: Self = Self {
        snd_una: SeqNum(0),
        snd_nxt: SeqNum(0),
        outstanding: Queue::EMPTY,
        ack_delay: AckDelay::NEW,
        window: 0,
        recovery: (SeqNum(0), 0),
        ahead: SeqNum(0),
        local_isn: SeqNum(0),
        remote_isn: SeqNum(0),
        peer_nxt: SeqNum(0),
        hole: Hole::NONE,
        known: Known::empty(),
        flags: FlowFlags::JOINS,
    };

    /// A flow of which nothing was seen yet, after this many gaps in the records.
    pub(crate) fn after_gaps(gaps: u8) -> Self {
        Self { outstanding: Queue::after_gaps(gaps), ..Self::NEW }
    }

    /// Notes how many gaps there were in the records so far; whether there was one since the flow's last.
    #[inline]
    pub(crate) fn note_gaps(&mut self, gaps: u8, pool: &mut Share<'_>) -> bool {
        let is_gap = self.outstanding.gaps() != gaps;
        if is_gap {
            self.enter_gap(gaps, pool);
        }
        is_gap
    }

    /// Rule 11: records were lost, which makes `gaps` times so far. What is outstanding may have been acknowledged or
    /// sent again in the gap, so it is not timed, and what is sent next is behind it. All else stays known, so that a
    /// retransmission is recognised.
    #[cold]
    pub(crate) fn enter_gap(&mut self, gaps: u8, pool: &mut Share<'_>) {
        self.outstanding.enter_gap(gaps, pool);
        self.flags.insert(FlowFlags::JOINS);
    }

    /// Any word of it, to be read ahead of use.
    #[inline]
    pub(crate) fn warm(&self) -> u64 {
        u64::from(self.snd_una.0)
    }

    /// Rule 7: whether the flow is over but for stragglers.
    pub(crate) fn life(&self) -> Life {
        if self.is_reset() || self.is_closed() { Life::Closing } else { Life::Open }
    }

    /// Whether either end has reset the connection.
    pub(crate) fn is_reset(&self) -> bool {
        self.flags.contains(FlowFlags::RESET)
    }

    /// Whether both ends have closed it.
    pub(crate) fn is_closed(&self) -> bool {
        self.flags.contains(FlowFlags::FIN_SENT | FlowFlags::FIN_RECEIVED)
    }

    /// Whether this is the first data behind our SYN.
    pub(crate) fn is_behind_syn(&self, segment: &Segment) -> bool {
        self.local_isn().map(|isn| isn.plus(1)) == Some(segment.start())
    }

    /// Forgets everything: a new connection on the same tuple, or one that cannot be followed any further.
    pub(crate) fn restart(&mut self, pool: &mut Share<'_>) {
        self.outstanding.clear(pool);
        // Empty now; the gaps before are known still.
        *self = Self { outstanding: self.outstanding, ..Self::NEW };
    }

    /// Forgets what is outstanding, because segments may have passed unseen (rule 8).
    pub(crate) fn interrupt(&mut self, pool: &mut Share<'_>) {
        self.lose_track(pool);
        self.flags.insert(FlowFlags::JOINS);
    }

    /// Forgets what is outstanding, because per-flow sampling left out what came before the next segment. The source
    /// knows which segments are new, so that nothing is doubted about that one.
    fn gap(&mut self, pool: &mut Share<'_>) {
        self.lose_track(pool);
        self.flags.insert(FlowFlags::SAMPLED);
    }

    /// Whether per-flow sampling has left out what came last.
    fn is_in_sampling_gap(&self) -> bool {
        self.flags.contains(FlowFlags::SAMPLED) && !self.is_synchronised()
    }

    /// Forgets what is outstanding, because what is sent next does not follow on it.
    fn lose_track(&mut self, pool: &mut Share<'_>) {
        self.outstanding.clear(pool);
        self.flags.remove(FlowFlags::SYNCHRONISED | FlowFlags::PEER_MISSED);
        self.known.remove(Known::PEER_NXT | Known::RECOVERY | Known::PROBED);
        self.hole = Hole::NONE;
    }

    /// Gives back what the flow holds of the pool that others may have, as it ends.
    #[inline]
    pub(crate) fn release(&mut self, pool: &mut Share<'_>) {
        if self.outstanding.holds_common() {
            self.outstanding.clear(pool);
        }
    }

    /// All below `ack` is acknowledged: what was known of it alone is not needed any more.
    fn settle(&mut self, ack: SeqNum) {
        self.known.remove(Known::PROBED);
        self.hole.settle(ack);
        if self.recovery().is_some_and(|recovery| !ack.before(recovery.point)) {
            self.set_recovery(None);
        }
        if self.acked_ahead().is_some_and(|ahead| !ack.before(ahead)) {
            self.set_acked_ahead(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use go_metro_common::segment::{Bits, Payload, SegmentHeader, TcpFlags};

    use super::*;
    use crate::outstanding::{Advance, Pool};
    use crate::{Addr, Endpoint, FlowKey, Side};

    const LIMITS: FlowLimits =
        FlowLimits { outstanding: 4, longest: Rtt(u64::MAX), peers_complete: false, settles_after: None };

    #[test]
    fn a_flow_that_a_syn_opens_is_what_the_rules_make_of_it() {
        let end = Endpoint { addr: Addr::v4([10, 0, 0, 1]), port: 80 };
        let flow = FlowKey { local: end, remote: end, ifindex: 1, side: Side::Remote };
        let mut opened = 0;
        for (flags, bits) in (0..=u8::MAX).flat_map(|flags| (0..=u8::MAX).map(move |bits| (flags, bits))) {
            let (flags, bits) = (TcpFlags(flags), Bits(bits));
            let header = SegmentHeader {
                time_ns: 7,
                seq: 5,
                ack: 3,
                payload: Payload::new(2),
                tsval: 9,
                flags,
                bits,
                ..Default::default()
            };
            let segment = Segment { flow, header };
            if !Flow::is_opened_alone(&segment, LIMITS) {
                continue;
            }
            opened += 1;
            let mut pools = [Pool::new(1, 8), Pool::new(1, 8)];
            pools.iter_mut().for_each(|pool| pool.make_room_for(0));
            let [short, long] = &mut pools;
            let (mut short, mut long) = (short.share(0), long.share(0));
            let (at_once, mut weighed) = (Flow::opened_alone(&segment, 3, &mut short), Flow::after_gaps(3));
            assert_eq!(weighed.weigh_sent(&segment, &mut long, LIMITS), Sent::default());
            assert_eq!(format!("{at_once:?}"), format!("{weighed:?}"), "{flags:?} {bits:?}");
            let advance = Advance { una: SeqNum(5), una_claimed: SeqNum(5), ack: segment.end(), tsecr: None };
            let [found, expected] = [(at_once, &mut short), (weighed, &mut long)]
                .map(|(mut flow, pool)| format!("{:?}", flow.outstanding.acknowledge(pool, advance)));
            assert_eq!(found, expected);
        }
        assert!(opened > 1000, "{opened}");
    }
}
