//! The slow, obvious reference model: `RULES.md` written as plainly as it stands there.
//!
//! It keeps every transmission of a flow for ever, with sequence numbers unwrapped to 64 bits so that no comparison can
//! be wrong, and looks at all of them for every acknowledgement. It knows one flow, no bounds and no lifetimes.

use go_metro_rtt::{Class, Kind};

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
    /// Sent before.
    again: bool,
    /// Something right before it was never seen to be sent.
    after_gap: bool,
    /// It was acknowledged before it was seen.
    acked_early: bool,
    /// What was not seen may have acknowledged it.
    maybe_acked: bool,
    /// A hole showed since: it proves nothing any more.
    void: bool,
}

/// One flow.
#[derive(Default, Debug)]
pub struct Model {
    sent: Vec<Tx>,
    snd_nxt: Option<u64>,
    snd_una: u64,
    /// Nobody has said so yet.
    una_assumed: bool,
    recovery: u64,
    recovery_tsval: Option<u32>,
    hole_until: u64,
    /// The last number of the hole stands for what was not seen to be sent yet.
    hole_beyond: bool,
    /// A SACK block showed it, and nothing is void because of it.
    hole_kept: bool,
    suspect_until: u64,
    /// The receiver has said that it holds nothing above what it acknowledges.
    hole_closed: bool,
    /// There was a gap in what a hole made void.
    gap_in_hole: bool,
    /// Acknowledged, and not seen to be sent yet.
    ahead: Option<u64>,
    sack_offered: bool,
    sack: bool,
    duplicates: u32,
    window: u16,
    /// The same before anything was seen to be sent.
    early_duplicates: u32,
    early_window: u16,
    /// After the highest that the peer sent, and whether something right before its last segment was not seen.
    peer_nxt: Option<u64>,
    peer_missed: bool,
}

/// Whether one timestamp is newer than another.
fn is_newer(one: u32, other: u32) -> bool {
    one.wrapping_sub(other) as i32 > 0
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
            self.ahead = self.ahead.filter(|ahead| *ahead == s.seq + 1);
        }
        let begins = self.snd_nxt.is_none();
        let is_missed = begins && self.early_duplicates >= 3 && self.ahead == Some(s.seq);
        // Rule 8.
        let mut snd_nxt = *self.snd_nxt.get_or_insert_with(|| {
            let acked = self.ahead.filter(|acked| !s.syn && *acked <= s.seq);
            self.una_assumed = !s.syn && acked.is_none();
            self.snd_una = acked.unwrap_or(s.seq);
            s.seq
        });
        if begins {
            // It was sent what it acknowledges.
            self.peer_nxt = self.peer_nxt.max(s.ack);
        } else if let Some(heard) = s.ack.filter(|ack| self.peer_nxt.is_some_and(|nxt| nxt < *ack)) {
            // Rule 15: it had arrived before this was sent, unseen, and may have acknowledged what is outstanding.
            self.peer_nxt = Some(heard);
            self.sent.iter_mut().filter(|tx| tx.end > self.snd_una).for_each(|tx| tx.maybe_acked = true);
        }
        // Rule 1.
        let keep_alive = self.snd_una == snd_nxt && s.seq + 1 == snd_nxt && end == snd_nxt;
        if keep_alive {
            return;
        }
        if let Some(ahead) = self.ahead.filter(|ahead| snd_nxt < *ahead && *ahead <= s.seq) {
            // Rule 12: sender and receiver agree that all below was sent.
            (self.snd_una, snd_nxt, self.ahead) = (ahead, ahead, None);
            self.una_assumed = false;
        }
        let mut tx = Tx {
            at: s.at,
            start: s.seq,
            end,
            tsval: s.tsval,
            syn: s.syn,
            ambiguous: false,
            again: s.seq < snd_nxt,
            // Rules 8 and 11.
            after_gap: s.seq > snd_nxt || begins && !s.syn,
            // Rule 12.
            acked_early: self.ahead.is_some_and(|ahead| s.seq < ahead),
            maybe_acked: false,
            void: false,
        };
        // Rule 2.
        if s.seq < snd_nxt {
            for old in &mut self.sent {
                old.ambiguous = true;
            }
            self.recovery = snd_nxt;
            self.recovery_tsval = s.tsval;
            tx.ambiguous = true;
            // Rule 5.
            let is_void = self.snd_una < self.hole_until && !self.hole_kept;
            if self.snd_una < end && is_void && s.seq < self.hole_until {
                self.hole_beyond &= end < self.hole_until;
                self.hole_until = self.hole_until.max(end);
                tx.void = true;
            }
            tx.void |= end <= self.snd_una && !self.una_assumed;
        }
        if is_missed && !tx.syn {
            // Rule 5: missed by the receiver, it was sent before.
            tx.void = true;
            self.hole_until = end;
        }
        tx.after_gap |= !tx.void && std::mem::take(&mut self.gap_in_hole);
        self.sent.push(tx);
        self.snd_nxt = Some(snd_nxt.max(end));
    }

    fn received(&mut self, s: &Seg) -> Option<(Kind, Class, u64)> {
        if s.syn && s.ack.is_some() {
            // Rule 7 (RFC 2018 section 2).
            self.sack |= s.sack_permitted && self.sack_offered;
        }
        let end = s.seq + s.len + u64::from(s.syn) + u64::from(s.fin);
        // Rule 15.
        self.peer_missed = !s.syn && self.peer_nxt.is_some_and(|nxt| nxt < s.seq);
        self.peer_nxt = self.peer_nxt.filter(|_| !s.syn).max(Some(end));
        let Some(snd_nxt) = self.snd_nxt else {
            // What fills a hole was sent before.
            let sent = s.ack.map(|ack| ack + u64::from(s.sack_above));
            let is_repeated = sent.is_some() && sent == self.ahead && s.window == self.early_window;
            self.early_duplicates = if is_repeated { self.early_duplicates + u32::from(end == s.seq) } else { 0 };
            self.early_window = s.window;
            self.ahead = sent.max(self.ahead.filter(|_| !s.syn));
            return None;
        };
        let ack = s.ack?;
        // Rules 3 and 12.
        if ack > snd_nxt {
            self.ahead = self.ahead.max(Some(ack + u64::from(s.sack_above)));
        }
        if ack < self.snd_una && !self.una_assumed && s.sack_above && self.outstanding() {
            self.sack = true;
            self.hole_above(snd_nxt);
        }
        if ack > snd_nxt || ack < self.snd_una && !self.una_assumed {
            return None;
        }
        if std::mem::take(&mut self.una_assumed) {
            self.snd_una = self.snd_una.min(ack);
        }
        if s.sack_above || s.dsack {
            self.sack = true;
        }
        let mut sample = None;
        if ack > self.snd_una {
            self.duplicates = 0;
            sample = self.matching(ack, s);
            self.ahead = self.ahead.filter(|ahead| ack < *ahead);
            self.snd_una = ack;
            self.hole_closed |= self.sack && !s.sack_above;
            if self.hole_beyond && !s.sack_above && self.hole_until == ack + 1 {
                self.hole_until = 0;
            }
            if self.hole_kept && ack < self.hole_until && !s.sack_above {
                // It holds nothing above: what is outstanding has not arrived.
                self.hole_until = 0;
                if !self.sent.iter().any(|tx| tx.end > ack && tx.again && !tx.void) {
                    self.sent.iter_mut().filter(|tx| tx.end > ack).for_each(|tx| tx.ambiguous = false);
                }
            }
        } else if !self.sack && s.len == 0 && !s.syn && !s.fin && s.window == self.window && self.outstanding() {
            // Rule 5.
            self.duplicates += 1;
            self.suspect_until = snd_nxt;
            self.hole_closed = false;
            if self.snd_una < self.hole_until {
                self.hole(snd_nxt);
            }
        }
        self.window = s.window;
        if s.sack_above {
            self.hole_above(snd_nxt);
        } else if self.duplicates >= 3 && self.outstanding() {
            self.hole(snd_nxt);
            self.suspect_until = 0;
        }
        sample
    }

    fn hole_above(&mut self, snd_nxt: u64) {
        // What is above a hole need not have been seen to be sent yet.
        if self.snd_una < self.hole_until && !self.hole_kept {
            self.hole(snd_nxt + 1);
        } else {
            self.hole_until = snd_nxt + 1;
            self.hole_kept = true;
            self.hole_closed = false;
        }
        self.hole_beyond = true;
        self.suspect_until = 0;
    }

    fn hole(&mut self, snd_nxt: u64) {
        self.hole_until = snd_nxt;
        self.hole_beyond = false;
        self.hole_kept = false;
        self.hole_closed = false;
        for tx in self.sent.iter_mut().filter(|tx| tx.end > self.snd_una && !tx.void) {
            self.gap_in_hole |= tx.after_gap && tx.start > self.snd_una;
            tx.void = true;
        }
    }

    fn outstanding(&self) -> bool {
        self.sent.iter().any(|tx| tx.end > self.snd_una)
    }

    fn matching(&mut self, ack: u64, s: &Seg) -> Option<(Kind, Class, u64)> {
        let una = self.snd_una;
        let is_overtaken = self.ahead.is_some_and(|ahead| ack < ahead);
        let told = self.ahead.filter(|ahead| *ahead < ack).map_or(una, |ahead| ahead.max(una));
        let covered: Vec<Tx> = self.sent.iter().filter(|tx| tx.end > una && tx.start < ack).copied().collect();
        // Rule 3: the newest that contains the last byte.
        let place = covered.iter().rposition(|tx| ack <= tx.end)?;
        let newest = covered[place];
        let newest_but_void = covered.iter().rfind(|tx| ack <= tx.end && !tx.void);
        if newest_but_void.is_some_and(|tx| tx.acked_early) {
            self.ahead = None;
        }
        // Rules 5, 12 and 15.
        if ack <= self.hole_until || s.sack_above || newest.acked_early || newest.maybe_acked {
            return None;
        }
        // Rules 15, 12 and 14.
        if self.peer_missed || is_overtaken || s.dsack {
            return None;
        }
        let leaves_hole = una < self.hole_until;
        let is_named = |tx: &Tx| s.tsecr.is_some() && tx.tsval == s.tsecr;
        let named = is_named(&newest);
        // Rule 13: something that was sent before all that was seen of the first byte that is acknowledged.
        let first = covered.iter().filter(|tx| tx.start <= told && told < tx.end && !tx.void).filter_map(|tx| tx.tsval);
        let oldest = first.reduce(|oldest, tsval| if is_newer(oldest, tsval) { tsval } else { oldest });
        let echo = s.tsecr.filter(|echo| *echo != 0);
        let too_old = oldest.zip(echo).is_some_and(|(oldest, echo)| is_newer(oldest, echo));
        let class = if newest.ambiguous {
            // Rule 4.
            let repeated = covered[place + 1..].iter().any(|tx| tx.end > newest.start);
            let times_named = covered.iter().filter(|tx| is_named(tx)).count();
            if leaves_hole || !named || times_named != 1 || repeated || too_old {
                return None;
            }
            Class::Timestamp
        } else {
            // Rule 5.
            if una < self.suspect_until && !self.hole_closed && newest.start != una {
                return None;
            }
            if leaves_hole && !named {
                return None;
            }
            // Rule 13.
            if let (Some(echo), Some(tsval)) = (echo, newest.tsval)
                && (is_newer(echo, tsval) || too_old)
            {
                return None;
            }
            // Rule 11.
            if covered.iter().any(|tx| tx.after_gap && una < tx.start && !tx.void) && !named {
                return None;
            }
            // Rule 2: it may have waited for the retransmission.
            let is_later = |tsval| self.recovery_tsval.is_none_or(|again| is_newer(tsval, again));
            let told = named && newest.tsval.is_some_and(is_later);
            if una < self.recovery && ack > self.recovery && !told {
                return None;
            }
            if newest.end == ack { Class::Exact } else { Class::Partial }
        };
        let kind = if newest.syn { Kind::Connect } else { Kind::Data };
        // Rules 10 and 6.
        let rtt = s.at.checked_sub(newest.at).filter(|rtt| *rtt > 0)?;
        (!newest.syn || rtt < 1_000_000_000).then_some((kind, class, rtt))
    }
}
