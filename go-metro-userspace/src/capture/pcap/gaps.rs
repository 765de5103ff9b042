//! Where among libpcap's packets some may be missing.
//!
//! The kernel counts the packets that found no room, and does not say where they would have been. But it loses one only
//! while no part of the buffer is free, and only reading frees a part (net/packet/af_packet.c, `tpacket_rcv`). So
//! what was lost while nothing was read comes after all that is in the buffer at that time, and what was lost while
//! something was read is placed by time: after what is stamped before, and before what is stamped after. How long that
//! was is known, as the count is looked at again after every few packets.

use std::collections::VecDeque;
use std::ops::Range;

use go_metro_rtt::Nanos;

/// Longest time between a packet's stamp and its place in the buffer: what a CPU's backlog takes
/// (net/core/dev.c, `netif_rx`). What took longer is seen to have been overtaken.
const BACKLOG_NS: u64 = 2_000_000;

/// Most losses on record; of more, the oldest are taken for one.
const LOSSES: usize = 32;

/// What the packets between two losses have in common: how many losses were before, and whether they are among one.
pub(super) type Side = (u64, bool);

/// Packets lost by one buffer, and between which times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Loss {
    pub(super) count: u64,
    pub(super) during: Range<Nanos>,
}

impl Loss {
    /// Of what was lost before `until`: since `read_since`, if anything was read since then.
    pub(super) fn new(count: u64, read_since: Option<Nanos>, until: Nanos) -> Self {
        let from = read_since.unwrap_or(until);
        Self { count, during: Nanos(from.0.saturating_sub(BACKLOG_NS))..until }
    }
}

/// The losses that packets may still come from before, or from after. Times are those of the records.
pub(super) struct Gaps {
    losses: VecDeque<Range<Nanos>>,
    /// How many were before those.
    before: u64,
    newest: Nanos,
}

impl Gaps {
    pub(super) fn new() -> Self {
        Self { losses: VecDeque::with_capacity(LOSSES), before: 0, newest: Nanos(0) }
    }

    pub(super) fn note(&mut self, during: Range<Nanos>) {
        if self.losses.is_empty() {
            self.newest = Nanos(0);
        }
        if let Some(last) = self.losses.back_mut().filter(|last| during.start <= last.end) {
            *last = last.start.min(during.start)..last.end.max(during.end);
        } else {
            if self.losses.len() == LOSSES
                && let Some(oldest) = self.losses.pop_front()
                && let Some(next) = self.losses.front_mut()
            {
                next.start = next.start.min(oldest.start);
                self.before += 1;
            }
            self.losses.push_back(during);
        }
    }

    /// On which side of the losses a packet is that is stamped so.
    pub(super) fn side(&self, time: Nanos) -> Side {
        if self.losses.is_empty() {
            return (self.before, false);
        }
        let begun = self.losses.iter().take_while(|loss| loss.start <= time).count();
        let is_among = begun.checked_sub(1).is_some_and(|last| time < self.losses[last].end);
        let is_late = time.0.saturating_add(BACKLOG_NS) < self.newest.0;
        (self.before + begun as u64, is_among || is_late)
    }

    /// Takes note of a packet that is handed on.
    pub(super) fn pass(&mut self, time: Nanos) {
        self.newest = self.newest.max(time);
    }

    /// All that came before this moment was handed on.
    pub(super) fn drained(&mut self, moment: Nanos) {
        while self.losses.front().is_some_and(|loss| loss.end <= moment) {
            self.losses.pop_front();
            self.before += 1;
        }
    }

    /// Whether something is missing near the packets that come next.
    pub(super) fn is_near(&self) -> bool {
        !self.losses.is_empty()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The buffer: so many blocks of so many packets, of which one is filled at a time.
    const BLOCKS: usize = 4;
    const PACKETS: usize = 8;
    /// Read before the count is looked at.
    const BATCH: usize = 16;
    const US: u64 = 1_000;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Come(Burst),
        /// The block that is being filled is handed over as it is.
        Retire,
        /// The reader reads, and after every so many packets it is stalled while others come, so many times.
        Read {
            stalled_after: u16,
            times: u16,
            burst: Burst,
        },
    }

    /// So many packets, so far apart in microseconds, each put into the buffer up to so long after its stamp.
    #[derive(Clone, Copy, Debug)]
    struct Burst {
        count: u16,
        apart: u16,
        backlog: u16,
    }

    /// Packets are their stamps, with the number of those that were lost before.
    #[derive(Default)]
    struct Model {
        now: u64,
        blocks: VecDeque<Vec<(Nanos, u64)>>,
        /// The last block is being filled.
        is_open: bool,
        /// Read of the first block.
        read: usize,
        lost: u64,
        certain: u64,
    }

    struct Reader {
        gaps: Gaps,
        known: u64,
        looked_at: Nanos,
        was_read: bool,
        side: Side,
        since_gap: Option<u64>,
    }

    impl Reader {
        fn new() -> Self {
            let (gaps, looked_at) = (Gaps::new(), Nanos(0));
            Self { gaps, known: 0, looked_at, was_read: false, side: Side::default(), since_gap: None }
        }

        fn look(&mut self, now: u64, lost: u64) {
            let looked_at = std::mem::replace(&mut self.looked_at, Nanos(now));
            let read_since = std::mem::take(&mut self.was_read).then_some(looked_at);
            let count = lost - std::mem::replace(&mut self.known, lost);
            if count > 0 {
                self.gaps.note(Loss::new(count, read_since, Nanos(now)).during);
            }
        }
    }

    impl Model {
        fn new() -> Self {
            Self { now: 1_000_000 * US, ..Self::default() }
        }

        fn come(&mut self, Burst { count, apart, backlog }: Burst) {
            for k in 0..u64::from(count) {
                self.now += 1 + u64::from(apart) * US;
                let delay = (k * 7919 % 97) * u64::from(backlog) * US / 97;
                let packet = (Nanos(self.now - delay), self.lost);
                let room = self.blocks.len() < BLOCKS;
                match self.blocks.back_mut().filter(|block| self.is_open && block.len() < PACKETS) {
                    Some(block) => block.push(packet),
                    None if room => {
                        self.blocks.push_back(vec![packet]);
                        self.is_open = true;
                    }
                    None => {
                        self.is_open = false;
                        self.lost += 1;
                    }
                }
            }
        }

        fn take(&mut self) -> Option<(Nanos, u64)> {
            let is_full = self.blocks.back().is_some_and(|block| block.len() == PACKETS);
            self.is_open &= !is_full;
            let ready = self.blocks.len() - usize::from(self.is_open);
            let block = self.blocks.front().filter(|_| ready > 0)?;
            let packet = block[self.read];
            self.read += 1;
            if self.read == block.len() {
                self.blocks.pop_front();
                self.read = 0;
            }
            Some(packet)
        }

        /// As the source does.
        fn read(
            &mut self,
            reader: &mut Reader,
            stalled_after: u16,
            (mut times, burst): (u16, Burst),
        ) -> Result<(), TestCaseError> {
            reader.look(self.now, self.lost);
            let mut count = 0;
            loop {
                let begun = self.now;
                let mut batch = Vec::new();
                let is_drained = loop {
                    if batch.len() == BATCH {
                        break false;
                    }
                    if count == stalled_after && times > 0 {
                        self.come(burst);
                        (count, times) = (0, times - 1);
                    }
                    count += 1;
                    self.now += US;
                    reader.was_read = true;
                    let Some(packet) = self.take() else { break true };
                    batch.push(packet);
                };
                reader.look(self.now, self.lost);
                for (time, lost_before) in batch {
                    let side = reader.gaps.side(time);
                    if side != std::mem::replace(&mut reader.side, side) {
                        reader.since_gap = None;
                    }
                    reader.gaps.pass(time);
                    if !side.1 {
                        let first = *reader.since_gap.get_or_insert(lost_before);
                        prop_assert_eq!(first, lost_before, "timed across a loss");
                        self.certain += 1;
                    }
                }
                if is_drained {
                    // An empty read after all else was handed on.
                    if self.blocks.len() == usize::from(self.is_open) {
                        reader.gaps.drained(Nanos(begun));
                    }
                    return Ok(());
                }
            }
        }
    }

    fn bursts() -> impl Strategy<Value = Burst> {
        (0..60_u16, 0..2_000_u16, 0..2_000_u16).prop_map(|(count, apart, backlog)| Burst { count, apart, backlog })
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            bursts().prop_map(Step::Come),
            Just(Step::Retire),
            (0..40_u16, 0..6_u16, bursts()).prop_map(|(stalled_after, times, burst)| Step::Read {
                stalled_after,
                times,
                burst
            }),
        ];
        proptest::collection::vec(step, 0..60)
    }

    proptest! {
        #[test]
        fn no_two_packets_on_one_side_have_a_loss_between_them(steps in steps()) {
            let (mut model, mut reader) = (Model::new(), Reader::new());
            for step in steps {
                match step {
                    Step::Come(burst) => model.come(burst),
                    Step::Retire => model.is_open = false,
                    Step::Read { stalled_after, times, burst } => {
                        model.read(&mut reader, stalled_after, (times, burst))?;
                    }
                }
            }
        }
    }

    const NONE: Burst = Burst { count: 0, apart: 0, backlog: 0 };

    #[test]
    fn what_waited_in_a_buffer_that_ran_full_is_certain_and_so_is_what_comes_later() {
        let (mut model, mut reader) = (Model::new(), Reader::new());
        model.come(Burst { count: 200, apart: 100, ..NONE });
        model.now += 10_000 * US;
        assert!(model.lost > 0);
        model.read(&mut reader, u16::MAX, (0, NONE)).unwrap();
        assert_eq!(model.certain as usize, BLOCKS * PACKETS);
        model.read(&mut reader, u16::MAX, (0, NONE)).unwrap();
        assert!(!reader.gaps.is_near());
        model.come(Burst { count: PACKETS as u16, apart: 100, ..NONE });
        model.read(&mut reader, u16::MAX, (0, NONE)).unwrap();
        assert_eq!(model.certain as usize, (BLOCKS + 1) * PACKETS);
    }

    #[test]
    fn many_losses_are_remembered_as_few_that_cover_them() {
        let mut gaps = Gaps::new();
        let at = |k: u64| Nanos(k * 100_000_000);
        (1..=100).for_each(|k| gaps.note(at(k)..Nanos(at(k).0 + 1)));
        let sides: Vec<Side> = (0..=100).map(|k| gaps.side(at(k))).collect();
        assert!(sides[1..].iter().all(|(_, is_among)| *is_among) && !sides[0].1, "{sides:?}");
        let between = |k: u64| gaps.side(Nanos(at(k).0 + 50_000_000));
        assert!((1..=100).filter(|k| !between(*k).1).count() >= LOSSES - 1);
        assert_ne!(between(99), between(100));
    }
}
