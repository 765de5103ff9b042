//! The processors' rings, read as one: oldest record first.
//!
//! What counts is when a segment passed the hook. A ring has its own in that order, but no processor knows of another,
//! and one that has read the clock may be held up before its record is in the ring (by a hard interrupt, or by the host
//! of a virtual machine). So a look takes the time first, then the ends of all rings, and hands on what is older than
//! [`HOLD_NS`] before that: an earlier record can be missing only if its processor was held up for longer. One that is
//! seen to come too late is *late*: it is counted, and its flow is interrupted before and after it.
//! While a ring is half full nothing is held back.
//!
//! Where the stack's own time of departure stands in a record ([`Mark::DEPARTURE`]), it passed the hook no later than
//! the next in its ring whose time was read there, and no later than the look that found it.
//!
//! A ring that was full says with the next record that others were lost before it ([`Mark::AFTER_LOSS`]): between this
//! record and the one before it in that ring nothing is certain, in any ring.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use go_metro_common::counters::RingState;
use go_metro_common::segment::{Bits, SegmentV4, SegmentV6};
use go_metro_common::slot::{Mark, slots_of};
use go_metro_rtt::{FlowKey, Segment};

use super::losers::Losers;
use super::mapping::{CpuValues, Slots};
use crate::capture::Continuity;

/// How old a record must be before it is handed on: longer than a processor takes between the clock and the ring, but
/// for one that is held up.
pub(super) const HOLD_NS: u64 = 1_000_000;

/// Slots that are read before they are given back.
const CHUNK: u64 = 256;

/// Where a processor's ring lies among all slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Its first slot.
    pub(super) base: u32,
    /// How many there are, less one; a power of two.
    pub(super) mask: u32,
}

/// One processor's ring.
struct CpuRing {
    place: Place,
    /// Mapped with the first record.
    slots: Option<Slots>,
    /// Position of the next record.
    tail: u64,
    /// Position up to which slots were given back.
    given_back: u64,
    /// Position of the end, at the last look.
    head: u64,
    /// When the last one that was handed on passed the hook.
    passed_ns: u64,
    /// The first record after the next whose time was read at the hook, as far as is known: its position and time.
    clocked: (u64, Option<u64>),
    /// A position of which all before had passed the hook at this time.
    bound: (u64, u64),
    /// Records that were lost, as of the last look.
    lost: u64,
    /// When that changed last.
    lost_ns: u64,
    /// Of those, how many are before all that is still to come.
    closed: u64,
    /// Whether some were lost after all that are in the ring.
    ends_in_loss: bool,
    /// Whether some are missing between the last one and the next.
    is_in_hole: bool,
}

impl CpuRing {
    fn new(place: Place) -> Self {
        Self {
            place,
            slots: None,
            tail: 0,
            given_back: 0,
            head: 0,
            passed_ns: 0,
            clocked: (0, None),
            bound: (0, 0),
            lost: 0,
            lost_ns: 0,
            closed: 0,
            ends_in_loss: false,
            is_in_hole: false,
        }
    }

    /// Whether some are missing before the next.
    fn has_hole_next(&self) -> bool {
        match &self.slots {
            Some(slots) if self.tail != self.head => slots.at(self.tail).mark & Mark::AFTER_LOSS != 0,
            _ => self.ends_in_loss,
        }
    }

    /// When the next record passed the hook; where the stack's time is in it, a time from then to its departure.
    fn next_ns(&mut self, now_ns: u64) -> Option<u64> {
        let slots = self.slots.as_ref().filter(|_| self.tail != self.head)?;
        let slot = slots.at(self.tail);
        let mut ns = slot.header.time_ns;
        if slot.mark & Mark::DEPARTURE != 0 {
            let length = |position| slots_of(slots.at(position).header.bits.any(Bits::IPV6));
            let (mut at, mut clock) = self.clocked;
            if at <= self.tail {
                (at, clock) = (self.tail + length(self.tail), None);
            }
            while clock.is_none() && at < self.head {
                let slot = slots.at(at);
                if slot.mark & Mark::DEPARTURE == 0 {
                    clock = Some(slot.header.time_ns);
                } else {
                    at += length(at);
                }
            }
            self.clocked = (at, clock);
            let seen_ns = if self.tail < self.bound.0 { self.bound.1 } else { now_ns };
            ns = ns.min(clock.unwrap_or(u64::MAX)).min(seen_ns);
        }
        Some(ns.max(self.passed_ns))
    }

    /// Has the record after the next be fetched: by the time that it is looked at, many of other rings have been handed
    /// on, and it would be waited for. Of more rings than a few the processor does not see by itself what comes next.
    #[inline]
    fn fetch_ahead(&self) {
        if let Some(slots) = &self.slots {
            slots.fetch(self.tail + 1);
            slots.fetch(self.tail + 2);
        }
    }

    /// The next record, and how many slots it takes.
    #[inline]
    fn next(&self) -> Option<(Segment, u64)> {
        let slots = self.slots.as_ref()?;
        let slot = slots.at(self.tail);
        let header = slot.header;
        let is_v6 = header.bits.any(Bits::IPV6);
        let segment = if is_v6 {
            let local = slots.second_half(self.tail + 1);
            Segment::from(&SegmentV6 { header, local, remote: slot.addresses })
        } else {
            let [a, b, c, d, e, f, g, h, ..] = slot.addresses;
            Segment::from(&SegmentV4 { header, local: [a, b, c, d], remote: [e, f, g, h] })
        };
        Some((segment, slots_of(is_v6)))
    }
}

/// How far a record that is late is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Late {
    /// None is.
    No,
    /// The next is, and is handed on alone.
    Next,
}

/// All processors' rings.
pub(super) struct Merge {
    cpus: Arc<CpuValues>,
    slots: OwnedFd,
    rings: Vec<CpuRing>,
    /// When the next record of each ring passed the hook.
    next: Losers,
    /// When the last look began, and up to when it hands on; all where nothing is held back.
    now_ns: u64,
    until_ns: u64,
    /// Whether there may be more of the last look.
    is_looking: bool,
    /// When the latest that was handed on passed the hook.
    passed_ns: u64,
    /// Rings of which records are missing at this point.
    holes: usize,
    is_doubtful: bool,
    is_gap: bool,
    late: Late,
    interrupt: Option<FlowKey>,
    /// Records that came late.
    pub(super) late_records: u64,
}

/// What a read has come to.
pub(super) struct Drained {
    /// Records handed on.
    pub(super) records: usize,
    /// Whether there are more that need not be held back.
    pub(super) has_more: bool,
    /// Whether there are some that are held back.
    pub(super) holds_back: bool,
}

impl Merge {
    /// Of what the classifier keeps for each processor, and the array with all slots.
    ///
    /// # Errors
    ///
    /// The kernel does not let them be mapped.
    pub(super) fn new(cpus: Arc<CpuValues>, slots: OwnedFd, places: &[Place]) -> io::Result<Self> {
        // Whether it can be is to be known now.
        if let Some(place) = places.first() {
            Slots::map(slots.as_fd(), place.base, place.mask)?;
        }
        Ok(Self {
            cpus,
            slots,
            rings: places.iter().copied().map(CpuRing::new).collect(),
            next: Losers::new(places.len()),
            now_ns: 0,
            until_ns: 0,
            is_looking: false,
            passed_ns: 0,
            holes: 0,
            is_doubtful: false,
            is_gap: false,
            late: Late::No,
            interrupt: None,
            late_records: 0,
        })
    }

    /// What is known of the records that the next [`Self::drain`] hands on.
    pub(super) fn continuity(&mut self) -> Continuity {
        Continuity {
            is_gap: std::mem::take(&mut self.is_gap),
            is_doubtful: self.is_doubtful,
            late: self.interrupt.take(),
        }
    }

    /// Whether records may be missing near those that come next, as of now.
    pub(super) fn is_gap_near(&self) -> bool {
        let mut rings = self.rings.iter().enumerate();
        self.is_gap || self.is_doubtful || rings.any(|(cpu, ring)| self.cpus.lost(cpu) != ring.closed)
    }

    /// Hands on records in the order in which they passed the hook, at most about so many: those that are old enough at
    /// `now_ns`, which was read before; without it, all. Ends early where [`Self::continuity`] has something to say.
    pub(super) fn drain(&mut self, now_ns: Option<u64>, most: usize, sink: &mut impl FnMut(&Segment)) -> Drained {
        if !self.is_looking {
            self.look(now_ns);
        }
        let mut records = 0;
        let has_more = loop {
            if self.is_doubtful != (self.holes > 0) {
                self.is_doubtful = self.holes > 0;
                self.is_gap = true;
                break true;
            }
            if records >= most {
                break true;
            }
            let Some((passed_ns, cpu)) = self.next.earliest().filter(|(passed_ns, _)| *passed_ns <= self.until_ns)
            else {
                break false;
            };
            let ring = &mut self.rings[cpu];
            let Some((segment, slots)) = ring.next() else { break false };
            let is_late = passed_ns < self.passed_ns;
            if is_late && self.late == Late::No {
                self.late = Late::Next;
                self.interrupt = Some(segment.flow);
                self.late_records += 1;
                break true;
            }
            sink(&segment);
            records += 1;
            self.passed_ns = self.passed_ns.max(passed_ns);
            ring.passed_ns = passed_ns;
            ring.tail += slots;
            ring.fetch_ahead();
            if ring.tail - ring.given_back >= CHUNK {
                ring.given_back = ring.tail;
                self.cpus.set_tail(cpu, ring.tail);
            }
            self.next.replace_earliest(ring.next_ns(self.now_ns));
            let is_in_hole = ring.has_hole_next();
            self.holes = self.holes + usize::from(is_in_hole) - usize::from(ring.is_in_hole);
            ring.is_in_hole = is_in_hole;
            if is_late {
                self.late = Late::No;
                self.interrupt = Some(segment.flow);
                break true;
            }
        };
        self.is_looking = has_more;
        let holds_back = self.next.earliest().is_some();
        for (cpu, ring) in self.rings.iter_mut().enumerate() {
            if ring.tail != ring.given_back {
                ring.given_back = ring.tail;
                self.cpus.set_tail(cpu, ring.tail);
            }
            // What was lost since the last one is not to be seen until all that passed meanwhile was handed on.
            if !has_more && ring.tail == ring.head && ring.lost_ns <= self.until_ns {
                ring.closed = ring.lost;
            }
        }
        Drained { records, has_more, holds_back }
    }

    /// Takes the ends of all rings.
    fn look(&mut self, now_ns: Option<u64>) {
        self.now_ns = now_ns.unwrap_or(u64::MAX);
        let mut is_full = false;
        self.holes = 0;
        for (cpu, ring) in self.rings.iter_mut().enumerate() {
            // In this order: a loss that is not seen now came after all that is.
            ring.head = self.cpus.head(cpu);
            let lost = self.cpus.lost(cpu);
            if lost != ring.lost {
                // Before it was counted, and after the time of this look.
                ring.lost_ns = self.now_ns.saturating_add(HOLD_NS);
                ring.lost = lost;
            }
            ring.ends_in_loss = ring.lost != ring.closed && self.cpus.state(cpu) & RingState::AFTER_LOSS != 0;
            if ring.head != ring.tail && ring.slots.is_none() {
                match Slots::map(self.slots.as_fd(), ring.place.base, ring.place.mask) {
                    Ok(slots) => ring.slots = Some(slots),
                    // They stay there, and what finds no room is counted.
                    Err(error) => tracing::error!(cpu, "cannot map the ring: {error}"),
                }
            }
            if ring.tail >= ring.bound.0 {
                ring.bound = (ring.head, self.now_ns);
            }
            is_full |= ring.head - ring.tail > u64::from(ring.place.mask) / 2;
            ring.is_in_hole = ring.has_hole_next();
            self.holes += usize::from(ring.is_in_hole);
        }
        self.next.begin(self.rings.iter_mut().map(|ring| ring.next_ns(self.now_ns)));
        // Of a ring that is half full nothing is held back, or the rest would not last as long: one that comes late is
        // better than many that are lost.
        let hold_ns = if is_full { 0 } else { HOLD_NS };
        self.until_ns = now_ns.map_or(u64::MAX, |now| now.saturating_sub(hold_ns));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs::File;
    use std::os::fd::OwnedFd;

    use go_metro_common::counters::PerCpu;
    use go_metro_common::segment::SegmentHeader;
    use go_metro_common::slot::Slot;
    use proptest::prelude::*;

    use super::super::mapping::Producer;
    use super::*;

    const CPUS: usize = 3;
    const SLOTS: u32 = 64;

    /// A record as it was made.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Made {
        number: u32,
        cpu: usize,
        /// When it passed the hook.
        passed_ns: u64,
        is_departure: bool,
    }

    /// One that waits between the clock and the ring.
    struct Held {
        made: Made,
        header: SegmentHeader,
    }

    struct Model {
        merge: Merge,
        producer: Producer,
        now_ns: u64,
        made: Vec<Made>,
        held: [Option<Held>; CPUS],
        lost_at: Vec<u64>,
        /// What came out, with what was known of it, and whether its flow was interrupted before and after.
        read: Vec<(Made, bool)>,
        /// Stretches without a gap: where each begins among those read.
        gaps: Vec<usize>,
        interrupts: Vec<usize>,
        newest_ns: u64,
        late: u64,
    }

    fn array(bytes: usize) -> File {
        let file = tempfile::tempfile_in("/dev/shm").unwrap();
        file.set_len(bytes as u64).unwrap();
        file
    }

    impl Model {
        fn new() -> Self {
            let cpus = array(CPUS * size_of::<PerCpu>());
            let slots = array(CPUS * SLOTS as usize * size_of::<Slot>());
            let places: Vec<Place> = (0..CPUS as u32).map(|cpu| Place { base: cpu * SLOTS, mask: SLOTS - 1 }).collect();
            let values = Arc::new(CpuValues::map(cpus.as_fd(), CPUS).unwrap());
            let producer = Producer::new(cpus.as_fd(), slots.as_fd(), &places).unwrap();
            Self {
                merge: Merge::new(values, OwnedFd::from(slots), &places).unwrap(),
                producer,
                now_ns: 1_000_000_000,
                made: Vec::new(),
                held: [const { None }; CPUS],
                lost_at: Vec::new(),
                read: Vec::new(),
                gaps: vec![0],
                interrupts: Vec::new(),
                newest_ns: 0,
                late: 0,
            }
        }

        fn begin(&mut self, cpu: usize, is_v6: bool, ahead: Option<u64>) {
            if self.held[cpu].is_some() {
                return;
            }
            let number = self.made.len() as u32;
            let (passed_ns, is_departure) = (self.now_ns, ahead.is_some());
            let made = Made { number, cpu, passed_ns, is_departure };
            let bits = Bits(if is_v6 { Bits::IPV6 } else { 0 });
            let time_ns = self.now_ns + ahead.unwrap_or(0);
            self.held[cpu] =
                Some(Held { made, header: SegmentHeader { time_ns, seq: number, bits, ..Default::default() } });
            self.made.push(made);
        }

        fn publish(&mut self, cpu: usize) {
            let Some(Held { made, header }) = self.held[cpu].take() else { return };
            let mark = if made.is_departure { Mark::DEPARTURE } else { 0 };
            if !self.producer.emit(cpu, header, mark) {
                self.lost_at.push(made.passed_ns);
            }
        }

        fn emit(&mut self, cpu: usize, is_v6: bool, ahead: Option<u64>) {
            self.publish(cpu);
            self.begin(cpu, is_v6, ahead);
            self.publish(cpu);
        }

        fn read(&mut self, most: usize, holds: bool) -> Result<bool, TestCaseError> {
            let Continuity { is_gap, is_doubtful, late } = self.merge.continuity();
            if is_gap {
                self.gaps.push(self.read.len());
            }
            if late.is_some() {
                self.interrupts.push(self.read.len());
            }
            let now_ns = holds.then_some(self.now_ns);
            let (made, mut read) = (&self.made, Vec::new());
            let drained = self.merge.drain(now_ns, most, &mut |segment| read.push(made[segment.header.seq as usize]));
            prop_assert_eq!(read.len(), drained.records);
            for record in read {
                if record.passed_ns < self.newest_ns && !record.is_departure {
                    self.late += 1;
                    prop_assert_eq!(self.interrupts.last(), Some(&self.read.len()), "late, and not said so before");
                }
                self.newest_ns = self.newest_ns.max(record.passed_ns);
                self.read.push((record, is_doubtful));
            }
            Ok(drained.has_more)
        }

        fn read_all(&mut self) -> Result<(), TestCaseError> {
            (0..CPUS).for_each(|cpu| self.publish(cpu));
            for _ in 0..2 {
                while self.read(usize::MAX, false)? {}
            }
            Ok(())
        }

        /// Each that was not lost came out once, and those of a processor in their order.
        fn check_all_came(&self) -> Result<(), TestCaseError> {
            prop_assert_eq!(self.read.len() + self.lost_at.len(), self.made.len());
            for cpu in 0..CPUS {
                let numbers: Vec<u32> =
                    self.read.iter().filter(|(made, _)| made.cpu == cpu).map(|(made, _)| made.number).collect();
                prop_assert!(numbers.is_sorted_by(|one, other| one < other), "{:?}", numbers);
            }
            Ok(())
        }

        /// Between two gaps nothing that is certain has a loss between it.
        fn check_gaps(&self) -> Result<(), TestCaseError> {
            let lost_before = |made: &Made| self.lost_at.iter().filter(|lost| **lost < made.passed_ns).count();
            let ends = self.gaps.iter().skip(1).copied().chain([self.read.len()]);
            for (from, to) in self.gaps.iter().zip(ends) {
                let certain = self.read[*from..to].iter().filter(|(_, is_doubtful)| !is_doubtful);
                let mut certain = certain.map(|(made, _)| lost_before(made));
                if let Some(first) = certain.next() {
                    prop_assert!(certain.all(|lost| lost == first), "timed across a loss");
                }
            }
            Ok(())
        }
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Emit {
            cpu: usize,
            count: u8,
            is_v6: bool,
            ahead: Option<u64>,
        },
        /// A producer reads the clock, and is held up until its next record.
        Hold {
            cpu: usize,
        },
        /// Time passes.
        Wait(u64),
        Read {
            most: usize,
        },
    }

    fn steps(with_held: bool, ahead: u64) -> impl Strategy<Value = Vec<Step>> {
        let emit = (0..CPUS, 1..40_u8, any::<bool>(), proptest::option::of(1..=ahead.max(1)));
        let step = prop_oneof![
            4 => emit.prop_map(move |(cpu, count, is_v6, by)| Step::Emit {
                cpu, count, is_v6, ahead: by.filter(|_| ahead > 0)
            }),
            u32::from(with_held) => (0..CPUS).prop_map(|cpu| Step::Hold { cpu }),
            3 => (0..3 * HOLD_NS).prop_map(Step::Wait),
            3 => (1..100_usize).prop_map(|most| Step::Read { most }),
        ];
        proptest::collection::vec(step, 0..80)
    }

    fn run(steps: Vec<Step>) -> Result<Model, TestCaseError> {
        let mut model = Model::new();
        for step in steps {
            match step {
                Step::Emit { cpu, count, is_v6, ahead } => {
                    for _ in 0..count {
                        model.now_ns += 100;
                        model.emit(cpu, is_v6, ahead);
                    }
                }
                Step::Hold { cpu } => {
                    model.now_ns += 100;
                    model.begin(cpu, false, None);
                }
                Step::Wait(ns) => model.now_ns += ns,
                Step::Read { most } => {
                    model.read(most, true)?;
                }
            }
        }
        model.read_all()?;
        Ok(model)
    }

    proptest! {
        #[test]
        fn records_come_in_the_order_of_their_times_and_a_loss_is_between_two_gaps(steps in steps(false, 0)) {
            let model = run(steps)?;
            model.check_all_came()?;
            model.check_gaps()?;
            prop_assert_eq!((model.late, model.merge.late_records, model.interrupts.len()), (0, 0, 0));
        }

        #[test]
        fn one_whose_departure_is_ahead_holds_no_other_up(steps in steps(false, 5 * HOLD_NS)) {
            let model = run(steps)?;
            model.check_all_came()?;
            let clocked: Vec<u64> = model.read.iter().map(|(made, _)| *made).filter(|made| !made.is_departure)
                .map(|made| made.passed_ns).collect();
            prop_assert!(clocked.is_sorted(), "{:?}", clocked);
            prop_assert_eq!(model.merge.late_records, 0);
        }

        #[test]
        fn what_a_held_producer_hands_over_late_is_counted_and_its_flow_interrupted_around_it(steps in steps(true, 0)) {
            let model = run(steps)?;
            model.check_all_came()?;
            prop_assert_eq!(model.late, model.merge.late_records);
            // Before and after each.
            prop_assert_eq!(model.interrupts.len() as u64, 2 * model.late);
        }
    }

    #[test]
    fn one_that_leaves_far_in_the_future_is_handed_on_and_what_comes_after_it_too() {
        let mut model = Model::new();
        model.emit(0, false, Some(1000 * HOLD_NS));
        model.now_ns += 10;
        model.emit(0, true, Some(1));
        model.now_ns += 10;
        model.emit(1, false, None);
        // Found by a look that hands nothing on yet, and handed on as soon as what that look found is old enough.
        for (after, come) in [(HOLD_NS / 2, 0), (HOLD_NS, 3)] {
            model.now_ns += after;
            while model.read(usize::MAX, true).unwrap() {}
            assert_eq!(model.read.len(), come);
        }
        assert_eq!(model.merge.late_records, 0);
    }

    #[test]
    fn what_is_too_young_is_said_to_be_held_back_and_a_ring_that_is_half_full_is_emptied_at_once() {
        let mut model = Model::new();
        let drained = |model: &mut Model| {
            let mut records = 0;
            let drained = model.merge.drain(Some(model.now_ns), usize::MAX, &mut |_| records += 1);
            (records, drained.holds_back)
        };
        assert_eq!(drained(&mut model), (0, false));
        for k in 0..SLOTS / 2 {
            model.emit(0, false, None);
            model.now_ns += 1;
            if k == SLOTS / 4 {
                assert_eq!(drained(&mut model), (0, true));
            }
        }
        assert_eq!(drained(&mut model), (SLOTS / 2, false));
    }

    #[test]
    fn a_producer_that_is_held_up_for_longer_than_records_are_held_back_is_late() {
        let mut model = Model::new();
        for late_by in [HOLD_NS / 2, 3 * HOLD_NS] {
            model.begin(0, false, None);
            model.now_ns += 10;
            model.emit(1, false, None);
            model.now_ns += late_by;
            while model.read(usize::MAX, true).unwrap() {}
            model.publish(0);
            model.now_ns += 2 * HOLD_NS;
            for _ in 0..2 {
                while model.read(usize::MAX, true).unwrap() {}
            }
        }
        let order: Vec<u32> = model.read.iter().map(|(made, _)| made.number).collect();
        assert_eq!((order, model.late), (vec![0, 1, 3, 2], 1));
        assert_eq!(model.interrupts, [3, 4]);
    }
}
