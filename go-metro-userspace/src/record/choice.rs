//! The records of some flows out of what rings hold, in an order in which `read` measures them as the meters did.

use std::collections::HashMap;
use std::iter::Peekable;
use std::vec::IntoIter;

use go_metro_common::segment::Bits;
use go_metro_rtt::{Addr, Engine, FlowKey, Nanos, Outcome, Rtt, Segment, SeqNum, Side};

use super::headers;
use super::note::{Section, View, Views};
use super::ring::{Entry, Mark, Reported, RingPlace, Snapshot};

/// Which records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    /// Remote hosts, and perhaps a port at either end.
    pub(crate) remotes: Vec<(Addr, Option<u16>)>,
    /// This end, if only one is meant.
    pub(crate) local: Option<Addr>,
    /// The interface, if only one is meant.
    pub(crate) ifindex: Option<u32>,
    /// No earlier, on the clock of the records.
    pub(crate) since: Nanos,
    /// No later.
    pub(crate) until: Nanos,
    /// What the file is for, if for one sample.
    pub(crate) focus: Option<Focus>,
    /// Most bytes of a file.
    pub(crate) most_bytes: u64,
}

/// A sample that a recording is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Focus {
    /// The flow.
    pub(crate) flow: FlowKey,
    /// When the acknowledgement came.
    pub(crate) acked_at: Nanos,
    /// Its number.
    pub(crate) ack: SeqNum,
    /// The round trip.
    pub(crate) rtt: Rtt,
    /// The lowest of the pair in ten minutes, if that is known.
    pub(crate) base: Option<Rtt>,
}

impl Choice {
    /// Whether it takes a record.
    fn takes_record(&self, segment: &Segment) -> bool {
        self.takes(&segment.flow) && segment.time() >= self.since && segment.time() <= self.until
    }

    fn takes(&self, flow: &FlowKey) -> bool {
        let is_meant = |(addr, port): &(Addr, Option<u16>)| {
            *addr == flow.remote.addr && port.is_none_or(|port| port == flow.remote.port || port == flow.local.port)
        };
        self.local.is_none_or(|local| local == flow.local.addr)
            && self.ifindex.is_none_or(|ifindex| ifindex == flow.ifindex)
            && self.remotes.iter().any(is_meant)
    }
}

/// A packet of a recording.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet {
    /// One of its records; the others differ in what [`Views`] tells.
    pub(super) segment: Segment,
    pub(super) views: Views,
}

/// What a file is made of.
#[derive(Clone, Debug)]
pub(crate) struct Recording {
    pub(super) section: Section,
    pub(super) packets: Vec<Packet>,
    pub(super) focus: Option<Focus>,
    /// Samples that it gives.
    pub(crate) samples: u64,
    /// Samples that were reported in its time and that it does not give, as their segments were sent before it.
    pub(crate) missing: u64,
    /// Records that were chosen and left out, as the file would be too large.
    pub(crate) left_out: u64,
}

/// A record that was chosen.
#[derive(Clone, Copy)]
pub(super) struct Chosen {
    segment: Segment,
    reported: Option<Reported>,
    marks: u32,
}

impl Recording {
    /// Of what rings hold, each one's own flows.
    pub(crate) fn of(rings: &[Snapshot], choice: &Choice, section: Section) -> Self {
        let mut chosen = in_order(rings.iter().map(|ring| chosen(ring, choice)).collect());
        let before = chosen.len();
        fit(&mut chosen, choice);
        let left_out = (before - chosen.len()) as u64;
        let mut engine = Engine::new(section.engine(flows_of(&chosen)));
        let (samples, missing) = measure(&mut engine, &mut chosen);
        Self { section, packets: packets(&chosen), focus: choice.focus, samples, missing, left_out }
    }

    /// How many packets there are.
    pub(crate) fn len(&self) -> usize {
        self.packets.len()
    }

    /// Where the sample is that it was made for, and where the segment that was timed, by their numbers from 0.
    pub(super) fn focused(&self) -> Option<(usize, Option<usize>)> {
        let focus = self.focus?;
        let is_of = |packet: &&Packet| {
            let flow = FlowKey { side: focus.flow.side, ..packet.segment.flow };
            flow == focus.flow
        };
        let all = || self.packets.iter().enumerate().filter(|(_, packet)| is_of(packet));
        let acks =
            |packet: &Packet| packet.segment.time() == focus.acked_at && packet.segment.header.ack == focus.ack.0;
        let (at, _) = all().find(|(_, packet)| acks(packet))?;
        let sent_at = focus.acked_at.0.checked_sub(focus.rtt.0);
        let sent = all()
            .take_while(|(number, _)| *number < at)
            .find(|(_, packet)| Some(packet.segment.time().0) == sent_at && !packet.segment.is_empty());
        Some((at, sent.map(|(number, _)| number)))
    }
}

/// How often something happened, and how much of that a flow has heard of.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Happened {
    gaps: u64,
    interruptions: u64,
}

/// Chooses records of one ring, in their order, and notes what happened to the flow of each before it.
#[derive(Default)]
pub(super) struct Chooser {
    // Interruptions of all, of interfaces, and of flows count together: only whether there was one matters.
    all: Happened,
    of_interfaces: HashMap<u32, u64>,
    of_flows: HashMap<FlowKey, u64>,
    heard: HashMap<FlowKey, Happened>,
    /// Whether something may have happened to flows that are not known.
    is_late: bool,
}

impl Chooser {
    /// Flows that it remembers.
    const MOST: usize = 1 << 16;

    /// One that begins where something may have happened to any flow.
    pub(super) fn late() -> Self {
        Self { is_late: true, ..Self::default() }
    }

    /// Something happened between records.
    pub(super) fn note(&mut self, mark: Mark) {
        match mark {
            Mark::Gap => self.all.gaps += 1,
            // A flow that goes on after a restart is interrupted at least.
            Mark::InterruptAll | Mark::Restart => self.all.interruptions += 1,
            Mark::Interrupt(ifindex) => *self.of_interfaces.entry(ifindex).or_default() += 1,
            Mark::InterruptFlow(flow) => {
                for side in [Side::Remote, Side::Local] {
                    *self.of_flows.entry(FlowKey { side, ..flow }).or_default() += 1;
                }
            }
        }
    }

    /// Chooses a record.
    pub(super) fn choose(&mut self, segment: Segment, reported: Option<Reported>) -> Chosen {
        let flow = segment.flow;
        if self.heard.len() >= Self::MOST && !self.heard.contains_key(&flow) || self.of_flows.len() >= Self::MOST {
            *self = Self { all: self.all, ..Self::late() };
        }
        let interface = self.of_interfaces.get(&flow.ifindex).copied().unwrap_or_default();
        let own = self.of_flows.get(&flow).copied().unwrap_or_default();
        let now = Happened { interruptions: self.all.interruptions + interface + own, ..self.all };
        let (before, is_late) = (self.heard.insert(flow, now), self.is_late);
        let differs = |what: fn(&Happened) -> u64| before.map_or(is_late, |before| what(&before) != what(&now));
        let flag = |differs: bool, mark: u32| if differs { mark } else { 0 };
        let marks = flag(differs(|happened| happened.gaps), View::GAP)
            | flag(differs(|happened| happened.interruptions), View::INTERRUPTED);
        Chosen { segment, reported, marks }
    }
}

/// The records of one ring.
fn chosen(ring: &Snapshot, choice: &Choice) -> Vec<Chosen> {
    let (mut chooser, mut chosen) = (Chooser::default(), Vec::new());
    for entry in ring.each() {
        match entry {
            Entry::Mark(Mark::Restart) => {
                chosen.clear();
                chooser.heard.clear();
            }
            Entry::Mark(mark) => chooser.note(mark),
            Entry::Record(segment, reported) if choice.takes_record(&segment) => {
                chosen.push(chooser.choose(segment, reported));
            }
            Entry::Record(..) => {}
        }
    }
    chosen
}

/// What a recording has taken of a ring that goes on.
pub(super) struct Cursor {
    ring: u64,
    place: RingPlace,
    chooser: Chooser,
}

impl Cursor {
    /// At the beginning of a ring; `is_late` where records may have passed that it does not have. What such a ring has
    /// taken over from another one was there to be taken before.
    pub(super) fn new(ring: &Snapshot, is_late: bool) -> Self {
        let (place, chooser) =
            if is_late { (ring.begin, Chooser::late()) } else { (RingPlace::default(), Chooser::default()) };
        Self { ring: ring.ring, place, chooser }
    }

    /// Whether it is of this ring.
    pub(super) fn is_of(&self, ring: &Snapshot) -> bool {
        self.ring == ring.ring
    }

    /// The next records, at most so many; and whether there are no more now.
    pub(super) fn take(&mut self, ring: &Snapshot, choice: &Choice, most: usize) -> (Vec<Chosen>, bool) {
        if !ring.reaches(self.place) {
            // What is gone may have been anything.
            self.chooser.note(Mark::Gap);
            self.chooser.note(Mark::InterruptAll);
        }
        let mut chosen = Vec::new();
        for (entry, behind) in ring.since(self.place) {
            if chosen.len() >= most {
                return (chosen, false);
            }
            self.place = behind;
            match entry {
                Entry::Mark(mark) => self.chooser.note(mark),
                Entry::Record(segment, reported) if choice.takes_record(&segment) => {
                    chosen.push(self.chooser.choose(segment, reported));
                }
                Entry::Record(..) => {}
            }
        }
        (chosen, true)
    }
}

/// All of them by time; what one ring has stays in its order, which its times may not have.
pub(super) fn in_order(rings: Vec<Vec<Chosen>>) -> Vec<Chosen> {
    let mut rings: Vec<Peekable<IntoIter<Chosen>>> =
        rings.into_iter().map(|chosen| chosen.into_iter().peekable()).collect();
    if let [_] = rings.as_slice() {
        return rings.swap_remove(0).collect();
    }
    let mut all = Vec::new();
    loop {
        let time = |ring: &mut Peekable<IntoIter<Chosen>>| ring.peek().map(|next| next.segment.time());
        let earliest = rings.iter_mut().enumerate().filter_map(|(number, ring)| Some((time(ring)?, number))).min();
        let Some((_, number)) = earliest else { return all };
        all.extend(rings[number].next());
    }
}

/// Bytes that a packet's block takes at most: what frames it, headers, options; comments are few.
const BLOCK: u64 = 32 + headers::LONGEST as u64 + 32;

/// Leaves out what there is no room for: first other flows than the one that the recording is made for, then the
/// oldest.
fn fit(chosen: &mut Vec<Chosen>, choice: &Choice) {
    let room = usize::try_from(choice.most_bytes / BLOCK).unwrap_or(usize::MAX);
    if chosen.len() > room
        && let Some(focus) = choice.focus
    {
        chosen.retain(|chosen| FlowKey { side: focus.flow.side, ..chosen.segment.flow } == focus.flow);
    }
    if chosen.len() > room {
        chosen.drain(..chosen.len() - room);
    }
}

/// How many flows there are.
fn flows_of(chosen: &[Chosen]) -> u32 {
    let mut flows: Vec<FlowKey> = chosen.iter().map(|chosen| chosen.segment.flow).collect();
    flows.sort_unstable();
    flows.dedup();
    u32::try_from(flows.len()).unwrap_or(u32::MAX).max(1)
}

/// Measures them as `read` will, and marks what comes out otherwise than it did. Samples that come out as they did, and
/// those that do not come out.
pub(super) fn measure(engine: &mut Engine, chosen: &mut [Chosen]) -> (u64, u64) {
    let (mut samples, mut missing) = (0, 0);
    for Chosen { segment, reported, marks } in chosen {
        if *marks & View::INTERRUPTED != 0 {
            engine.interrupt_flow(&segment.flow);
        }
        if *marks & View::GAP != 0 {
            engine.note_gap_of(&segment.flow);
        }
        let found = match engine.record(segment) {
            Outcome::Sample(sample) => {
                let (rtt, kind) = (sample.rtt, sample.kind);
                Some(Reported { rtt, kind, class: sample.class, delayed: sample.delayed })
            }
            _ => None,
        };
        match (found, *reported) {
            (Some(found), Some(reported)) if Reported { delayed: reported.delayed, ..found } == reported => {
                samples += 1;
                if found.delayed != reported.delayed {
                    *marks |= View::FLIPPED;
                }
            }
            (found, reported) => {
                missing += u64::from(reported.is_some());
                if found.is_some() {
                    *marks |= View::UNTOLD;
                }
            }
        }
    }
    (samples, missing)
}

/// What was one packet becomes one again.
pub(super) fn packets(chosen: &[Chosen]) -> Vec<Packet> {
    let mut packets: Vec<Packet> = Vec::with_capacity(chosen.len());
    let mut seen: Vec<Segment> = Vec::new();
    for Chosen { segment, marks, .. } in chosen {
        let view = View::of(segment, *marks);
        if let Some(packet) = packets.last_mut()
            && is_same_packet(&packet.segment, segment)
            && !seen.iter().any(|seen| seen.flow == segment.flow)
            && packet.views.add(view)
        {
            seen.push(*segment);
            continue;
        }
        let mut views = Views::default();
        views.add(view);
        packets.push(Packet { segment: *segment, views });
        seen.clear();
        seen.push(*segment);
    }
    packets
}

/// Whether these are of one packet, as its two ends see it, or for both sides.
fn is_same_packet(one: &Segment, other: &Segment) -> bool {
    /// What a view tells.
    const OWN: u8 = Bits::EGRESS | Bits::RESYNC | Bits::UNTIMED;
    let whole = |segment: &Segment| {
        let mut header = segment.header;
        (header.local_port, header.remote_port, header.bits.0) = (0, 0, header.bits.0 & !OWN);
        header
    };
    whole(one) == whole(other) && headers::ends(one) == headers::ends(other)
}
