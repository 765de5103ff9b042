//! The slow, obvious reference model: DESIGN section 6 written as plainly as it stands there.
//!
//! It keeps every transmission of a flow for ever, with sequence numbers unwrapped to 64 bits so that no comparison can
//! be wrong, and looks at all of them for every acknowledgement. It knows one flow, no bounds and no lifetimes.

use go_metro::rtt::{Class, Kind};

/// A segment with unwrapped sequence numbers.
#[derive(Clone, Copy, Debug)]
pub struct Seg {
    pub at: u64,
    pub egress: bool,
    pub syn: bool,
    pub fin: bool,
    pub seq: u64,
    pub len: u64,
    pub ack: Option<u64>,
    pub window: u16,
    pub tsval: Option<u32>,
    pub tsecr: Option<u32>,
    pub sack_permitted: bool,
    pub sack_above: bool,
    pub dsack: bool,
}

#[derive(Clone, Copy, Debug)]
struct Tx {
    at: u64,
    start: u64,
    end: u64,
    tsval: Option<u32>,
    syn: bool,
    ambiguous: bool,
}

/// One flow.
#[derive(Default, Debug)]
pub struct Model {
    sent: Vec<Tx>,
    snd_nxt: Option<u64>,
    snd_una: u64,
    recovery: u64,
    recovery_tsval: Option<u32>,
    hole_until: u64,
    suspect_until: u64,
    sack_offered: bool,
    sack: bool,
    duplicates: u32,
    window: u16,
}

impl Model {
    /// Takes a segment; a sample comes out, perhaps.
    pub fn segment(&mut self, s: &Seg) -> Option<(Kind, Class, u64)> {
        if s.egress {
            self.sent(s);
            None
        } else {
            self.received(s)
        }
    }

    fn sent(&mut self, s: &Seg) {
        let end = s.seq + s.len + u64::from(s.syn) + u64::from(s.fin);
        if s.syn {
            self.sack_offered |= s.sack_permitted;
            self.sack |= s.sack_permitted && s.ack.is_some();
        }
        let snd_nxt = *self.snd_nxt.get_or_insert_with(|| {
            self.snd_una = s.seq;
            s.seq
        });
        let mut tx = Tx { at: s.at, start: s.seq, end, tsval: s.tsval, syn: s.syn, ambiguous: false };
        if s.seq < snd_nxt {
            let keep_alive = self.snd_una == snd_nxt && s.seq == snd_nxt - 1 && end == snd_nxt;
            if keep_alive {
                return;
            }
            for old in &mut self.sent {
                old.ambiguous = true;
            }
            self.recovery = snd_nxt;
            self.recovery_tsval = s.tsval;
            tx.ambiguous = true;
            if self.snd_una < end && self.snd_una < self.hole_until && s.seq < self.hole_until {
                self.hole_until = self.hole_until.max(end);
            }
        }
        self.sent.push(tx);
        self.snd_nxt = Some(snd_nxt.max(end));
    }

    fn received(&mut self, s: &Seg) -> Option<(Kind, Class, u64)> {
        if s.syn && s.ack.is_some() {
            self.sack |= s.sack_permitted && self.sack_offered;
        }
        let (ack, snd_nxt) = (s.ack?, self.snd_nxt?);
        if ack > snd_nxt || ack < self.snd_una {
            return None;
        }
        if s.sack_above || s.dsack {
            self.sack = true;
        }
        let mut sample = None;
        if ack > self.snd_una {
            self.duplicates = 0;
            sample = self.matching(ack, s);
            self.snd_una = ack;
        } else if !self.sack && s.len == 0 && !s.syn && !s.fin && s.window == self.window && self.outstanding() {
            self.duplicates += 1;
            self.suspect_until = snd_nxt;
            if self.snd_una < self.hole_until {
                self.hole_until = snd_nxt;
            }
        }
        self.window = s.window;
        if (s.sack_above || self.duplicates >= 3) && self.outstanding() {
            self.hole_until = snd_nxt;
            self.suspect_until = 0;
        }
        sample
    }

    fn outstanding(&self) -> bool {
        self.sent.iter().any(|tx| tx.end > self.snd_una)
    }

    fn matching(&self, ack: u64, s: &Seg) -> Option<(Kind, Class, u64)> {
        let containing: Vec<&Tx> =
            self.sent.iter().filter(|tx| tx.end > self.snd_una && tx.start < ack && ack <= tx.end).collect();
        let newest = *containing.last()?;
        if ack <= self.hole_until {
            return None;
        }
        let (tx, class) = if newest.ambiguous {
            let named = |tx: &&Tx| s.tsecr.is_some() && tx.tsval == s.tsecr;
            let [tx] = containing.iter().copied().filter(named).collect::<Vec<_>>()[..] else { return None };
            let covered = self.sent.iter().filter(|tx| tx.end > self.snd_una && tx.start < ack);
            let alone = s.len == 0 && !s.syn && !s.fin;
            let leaves_hole = self.snd_una < self.hole_until;
            if leaves_hole || covered.filter(named).count() != 1 || (!std::ptr::eq(tx, newest) && !alone) {
                return None;
            }
            (tx, Class::Timestamp)
        } else {
            if self.snd_una < self.suspect_until && newest.start != self.snd_una {
                return None;
            }
            let named = s.tsecr.is_some() && s.tsecr == newest.tsval;
            if self.snd_una < self.hole_until && !named {
                return None;
            }
            let told = named && newest.tsval != self.recovery_tsval;
            if self.snd_una < self.recovery && ack > self.recovery && !told {
                return None;
            }
            (newest, if newest.end == ack { Class::Exact } else { Class::Partial })
        };
        let kind = if tx.syn { Kind::Connect } else { Kind::Data };
        let rtt = s.at.checked_sub(tx.at).filter(|rtt| *rtt > 0)?;
        (!tx.syn || rtt < 1_000_000_000).then_some((kind, class, rtt))
    }
}
