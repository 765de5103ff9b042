//! A connection between two ends that do what RFC 9293, 2018, 2883, 6298, 7323 and 8985 say, over a path that loses and
//! reorders, as a tap somewhere on that path sees it; and of each acknowledgement, which transmission it is the
//! acknowledgement of.
//!
//! Sequence numbers are not wrapped, times are in nanoseconds, and all that is random comes from a seed.

use std::collections::BTreeMap;

/// Pseudo-random numbers (splitmix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    pub fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

/// What the ends and the path are like.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub timestamps: bool,
    pub sack: bool,
    pub handshake: bool,
    /// Acknowledgements are kept back for up to so long, or not at all.
    pub delayed_ack: Option<u64>,
    /// One way.
    pub delay: u64,
    /// The tap is at the first end, or in the middle.
    pub in_the_middle: bool,
    /// Wire segments in a super-segment, at most; of the first end, where the tap is.
    pub super_segments: u64,
    pub rto: u64,
    pub tail_loss_probe: bool,
    /// Per mille of the frames, on each half of the path.
    pub lost: u64,
    pub late: u64,
    pub window: u64,
    pub writes: [u64; 2],
}

impl Settings {
    pub fn random(random: &mut Random) -> Self {
        let delay = random.one_of(&[30_000, 400_000, 5_000_000, 30_000_000]);
        let in_the_middle = random.chance(300);
        Self {
            timestamps: random.chance(500),
            sack: random.chance(600),
            handshake: random.chance(500),
            delayed_ack: random.one_of(&[None, Some(40_000_000), Some(delay), Some(3 * delay)]),
            delay,
            in_the_middle,
            super_segments: if in_the_middle { 1 } else { random.one_of(&[1, 1, 2, 4]) },
            rto: random.one_of(&[200_000_000 + 2 * delay, 6 * delay, 3 * delay]),
            tail_loss_probe: random.chance(500),
            lost: random.one_of(&[0, 0, 10, 40]),
            late: random.one_of(&[0, 0, 10, 40]),
            window: MSS * random.one_of(&[1, 2, 4, 10]),
            writes: [random.one_of(&[0, 5, 15]), random.one_of(&[0, 5, 15])],
        }
    }
}

/// Payload of a wire segment.
pub const MSS: u64 = 1000;
/// Where both ends' numbers begin.
pub const BASE: u64 = 1 << 33;

/// A frame as the tap saw it.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    pub at: u64,
    /// The end that sent it: 0 or 1.
    pub from: usize,
    pub syn: bool,
    pub seq: u64,
    pub len: u64,
    pub ack: Option<u64>,
    pub window: u16,
    /// TSval and TSecr.
    pub timestamps: Option<(u32, u32)>,
    pub sack_permitted: bool,
    pub sack_above: bool,
    pub dsack: bool,
    /// Its number among all transmissions of both ends.
    pub id: usize,
    /// Its identification, which each end counts by one for each wire segment.
    pub ip_id: u16,
    /// The transmission of which this is the first acknowledgement: it made the acknowledgement number what it is, and
    /// its last byte is the last that is acknowledged. `None` where something that fills a hole did.
    pub caused_by: Option<usize>,
}

impl Frame {
    pub fn end(&self) -> u64 {
        self.seq + self.len + u64::from(self.syn)
    }
}

#[derive(Clone, Copy)]
enum Event {
    Write(usize),
    Tap(Frame),
    /// A part of a frame reaches the other end.
    Arrive(Frame),
    DelayedAck(usize),
    Rto(usize, u64),
    Probe(usize, u64),
}

#[derive(Clone, Default)]
struct End {
    una: u64,
    nxt: u64,
    /// All that was written so far ends here.
    limit: u64,
    rcv_nxt: u64,
    out_of_order: Vec<(u64, u64)>,
    ts_recent: u32,
    last_ack_sent: u64,
    held: u64,
    duplicates: u32,
    recovery: u64,
    /// The latest of the timers that were started; others are over.
    timer: u64,
    cause: Option<usize>,
    announced: u64,
    open: bool,
    next_ip_id: u16,
}

struct World {
    settings: Settings,
    random: Random,
    events: BTreeMap<(u64, u64), Event>,
    order: u64,
    ends: [End; 2],
    seen: Vec<Frame>,
    ids: usize,
    now: u64,
    /// When the last frame passed each half of the path in each direction.
    last: [[u64; 2]; 2],
}

/// All that the tap sees.
pub fn simulate(settings: Settings, seed: u64) -> Vec<Frame> {
    let end = End {
        una: BASE,
        nxt: BASE,
        limit: BASE,
        rcv_nxt: BASE,
        last_ack_sent: BASE,
        announced: BASE,
        ..End::default()
    };
    let mut world = World {
        settings,
        random: Random(seed),
        events: BTreeMap::new(),
        order: 0,
        ends: [end.clone(), end],
        seen: Vec::new(),
        ids: 0,
        now: 1_000_000_000 + seed % 1_000_000,
        last: [[0; 2]; 2],
    };
    let begins = world.now + 5 * settings.delay;
    for end in 0..2 {
        world.ends[end].open = !settings.handshake;
        for _ in 0..settings.writes[end] {
            let at = begins + world.random.below(60 * settings.delay);
            world.add(at, Event::Write(end));
        }
    }
    if settings.handshake {
        world.transmit(0, BASE, 0, true);
    }
    while let Some(((at, _), event)) = world.events.pop_first() {
        world.now = at;
        world.take(event);
        if world.seen.len() > 300 || world.ids > 1000 {
            break;
        }
    }
    world.seen
}

impl World {
    fn add(&mut self, at: u64, event: Event) {
        self.order += 1;
        self.events.insert((at, self.order), event);
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Write(end) => {
                let bytes = self.random.one_of(&[100, MSS, 2 * MSS, 3 * MSS + 300, 8 * MSS]);
                self.ends[end].limit += bytes;
                self.send_new(end);
            }
            Event::Tap(frame) => self.seen.push(frame),
            Event::Arrive(frame) => self.arrive(1 - frame.from, frame),
            Event::DelayedAck(end) => {
                if self.ends[end].held > 0 {
                    self.acknowledge(end, false);
                }
            }
            Event::Rto(end, timer) => {
                let state = &mut self.ends[end];
                if state.timer == timer && state.una < state.nxt {
                    state.recovery = state.nxt;
                    self.retransmit(end);
                }
            }
            Event::Probe(end, timer) => {
                let state = &self.ends[end];
                if state.timer == timer && state.una < state.nxt && state.recovery <= state.una && state.open {
                    let seq = state.una.max(state.nxt.saturating_sub(MSS));
                    let len = state.nxt - seq;
                    self.transmit(end, seq, len, false);
                }
            }
        }
    }

    fn send_new(&mut self, end: usize) {
        loop {
            let state = &self.ends[end];
            let syn_len = u64::from(self.settings.handshake);
            let limit = state.limit + syn_len;
            let room = (state.una + self.settings.window).saturating_sub(state.nxt);
            let most = if end == 0 { self.settings.super_segments * MSS } else { MSS };
            let len = (limit.saturating_sub(state.nxt)).min(room).min(most);
            if len == 0 || !state.open {
                return;
            }
            let seq = state.nxt;
            self.transmit(end, seq, len, false);
        }
    }

    /// Sends again what is missing first: a wire segment, or at times as much as was written at once.
    fn retransmit(&mut self, end: usize) {
        let state = &self.ends[end];
        let (seq, left) = (state.una, state.nxt - state.una);
        let syn = self.settings.handshake && seq == BASE;
        let most = if end == 0 && self.random.chance(200) { self.settings.super_segments * MSS } else { MSS };
        self.transmit(end, seq, if syn { 0 } else { left.min(most) }, syn);
    }

    fn start_timer(&mut self, end: usize) {
        let state = &mut self.ends[end];
        state.timer += 1;
        let timer = state.timer;
        if state.una < state.nxt {
            let rto = self.settings.rto + self.random.below(self.settings.delay / 4);
            self.add(self.now + rto, Event::Rto(end, timer));
            if self.settings.tail_loss_probe {
                self.add(self.now + 4 * self.settings.delay + 2_000_000, Event::Probe(end, timer));
            }
        }
    }

    fn tick(&self) -> u32 {
        (self.now / 1_000_000) as u32
    }

    /// A frame with the current acknowledgement; `len` 0 without `syn` is one that only acknowledges.
    fn transmit(&mut self, end: usize, seq: u64, len: u64, syn: bool) {
        self.put(end, seq, len, syn, false);
        let state = &mut self.ends[end];
        state.nxt = state.nxt.max(seq + len + u64::from(syn));
        self.start_timer(end);
    }

    fn acknowledge(&mut self, end: usize, dsack: bool) {
        let seq = self.ends[end].nxt;
        self.put(end, seq, 0, false, dsack);
    }

    fn put(&mut self, from: usize, seq: u64, len: u64, syn: bool, dsack: bool) {
        let settings = self.settings;
        let tick = self.tick();
        let id = self.ids;
        self.ids += 1;
        let state = &mut self.ends[from];
        let acks = !syn || from == 1;
        let is_first = acks && state.announced < state.rcv_nxt;
        let frame = Frame {
            at: self.now,
            from,
            syn,
            seq,
            len,
            ack: acks.then_some(state.rcv_nxt),
            window: 500,
            timestamps: settings.timestamps.then_some((tick, if acks { state.ts_recent } else { 0 })),
            sack_permitted: syn && settings.sack,
            sack_above: settings.sack && !state.out_of_order.is_empty() && acks,
            dsack: settings.sack && dsack,
            id,
            ip_id: state.next_ip_id,
            caused_by: state.cause.filter(|_| is_first),
        };
        state.next_ip_id = state.next_ip_id.wrapping_add(len.div_ceil(MSS).max(1) as u16);
        if acks {
            state.announced = state.rcv_nxt;
            state.last_ack_sent = state.rcv_nxt;
            state.held = 0;
        }
        // The first half of the path: for the end at the tap there is none.
        let first = if settings.in_the_middle { 500 } else { 1000 * from as u64 };
        let Some(tapped) = self.pass(from, 0, self.now, first) else { return };
        self.add(tapped, Event::Tap(Frame { at: tapped, ..frame }));
        // A super-segment is cut behind the tap.
        let parts = frame.len.div_ceil(MSS).max(1);
        for part in 0..parts {
            if let Some(at) = self.pass(from, 1, tapped, 1000 - first) {
                let begins = part * MSS;
                let len = (frame.len - begins).min(MSS);
                self.add(at, Event::Arrive(Frame { seq: frame.seq + begins, len, ..frame }));
            }
        }
    }

    /// When a frame that enters this part of the path (per mille of all) leaves it.
    fn pass(&mut self, from: usize, half: usize, at: u64, share: u64) -> Option<u64> {
        if share == 0 {
            return Some(at);
        }
        let Settings { lost, late, delay, .. } = self.settings;
        if self.random.chance(lost) {
            return None;
        }
        let leaves = at + delay * share / 1000;
        if self.random.chance(late) {
            return Some(leaves + self.random.below(2 * delay));
        }
        let leaves = leaves.max(self.last[from][half] + 1000 + self.random.below(2000));
        self.last[from][half] = leaves;
        Some(leaves)
    }

    fn arrive(&mut self, to: usize, frame: Frame) {
        if let Some(ack) = frame.ack {
            self.acknowledged(to, ack, &frame);
        }
        if frame.end() > frame.seq {
            self.received(to, &frame);
        }
    }

    fn acknowledged(&mut self, end: usize, ack: u64, frame: &Frame) {
        let state = &mut self.ends[end];
        if ack > state.una {
            state.una = ack;
            state.duplicates = 0;
            state.open = true;
            self.start_timer(end);
            if self.ends[end].una < self.ends[end].recovery {
                self.retransmit(end);
            }
        } else if ack == state.una && state.una < state.nxt && frame.len == 0 && !frame.syn {
            state.duplicates += 1;
            if state.duplicates == 3 && state.recovery <= state.una {
                state.recovery = state.nxt;
                self.retransmit(end);
            }
        }
        self.send_new(end);
    }

    fn received(&mut self, end: usize, frame: &Frame) {
        let (seq, mut next) = (frame.seq, frame.end());
        let state = &mut self.ends[end];
        if let Some((tsval, _)) = frame.timestamps
            && tsval >= state.ts_recent
            && seq <= state.last_ack_sent
        {
            // RFC 7323 section 4.3.
            state.ts_recent = tsval;
        }
        if next <= state.rcv_nxt || state.out_of_order.iter().any(|(from, to)| *from <= seq && next <= *to) {
            if frame.syn && end == 1 {
                return self.transmit(1, BASE, 0, true);
            }
            return self.acknowledge(end, true);
        }
        if seq > state.rcv_nxt {
            state.out_of_order.push((seq, next));
            return self.acknowledge(end, false);
        }
        let had_hole = !state.out_of_order.is_empty();
        while let Some(place) = state.out_of_order.iter().position(|(from, _)| *from <= next) {
            next = next.max(state.out_of_order.swap_remove(place).1);
        }
        state.cause = (next == frame.end()).then_some(frame.id);
        state.rcv_nxt = next;
        state.held += 1;
        if frame.syn {
            if end == 1 {
                return self.transmit(1, BASE, 0, true);
            }
            return self.acknowledge(0, false);
        }
        match self.settings.delayed_ack {
            Some(delay) if !had_hole && state.held < 2 => self.add(self.now + delay, Event::DelayedAck(end)),
            _ => self.acknowledge(end, false),
        }
    }
}
