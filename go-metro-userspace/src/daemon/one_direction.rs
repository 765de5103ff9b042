//! Interfaces on which only one direction is seen, though the other is there.
//!
//! A TC program that ends the chain before ours (`TC_ACT_OK`, as Cilium's do) hides from us what it lets pass. What
//! gives it away are the other direction's acknowledgement numbers: they advance over data that we never saw sent. That
//! alone may be a loss, or what was under way when capture began; where it goes on for seconds, and for most of what
//! comes, it is neither.

use std::collections::BTreeMap;

use go_metro_common::segment::TcpFlags;
use go_metro_rtt::{FlowKey, Outcome, Quiet, Rejection, Segment, SeqNum, Side};

use crate::capture::Way;

/// Looks, of a second each, in a row.
const LOOKS: u8 = 3;
/// Acknowledgements of something unseen in one look.
const ADVANCES: u32 = 3;
/// Flows that are followed at once.
const PROBES: usize = 16;

/// What became of an interface's view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) ifindex: u32,
    pub(super) way: Way,
    /// Whether nothing of what goes this way is seen, though it is acknowledged, or passes the interface.
    pub(super) blind: bool,
}

/// What is seen on each interface.
#[derive(Default)]
pub(super) struct Views {
    views: Vec<View>,
    /// Where each interface's is.
    places: BTreeMap<u32, usize>,
    /// The one that was noted last: the next segment is mostly of the same interface.
    last: usize,
}

/// One interface, since the last look.
#[derive(Default)]
struct View {
    ifindex: u32,
    sent: Half,
    received: Half,
}

/// One direction.
#[derive(Default)]
struct Half {
    seen: u32,
    /// Flows of which nothing is seen the other way, with their last acknowledgement number.
    probes: [Option<Probe>; PROBES],
    /// How often those advanced.
    advances: u32,
    looks: Looks,
}

/// What looks in a row come to: one alone may be a loss, or what was under way when capture began.
#[derive(Default)]
struct Looks {
    /// How many in a row found something hidden.
    hidden: u8,
    /// It was reported, and its end was not.
    told: bool,
}

/// What one look found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Hidden,
    Seen,
    /// Neither, which ends a row.
    Unclear,
    /// Nothing passed that could tell.
    Idle,
}

impl Looks {
    /// Whether something is hidden, if that has changed or is worth another word: once more after as many looks, if
    /// what was done about it is of no help.
    fn note(&mut self, found: Found) -> Option<bool> {
        match found {
            Found::Hidden if self.hidden + 1 == LOOKS => {
                *self = Self { hidden: 0, told: true };
                Some(true)
            }
            Found::Hidden => {
                self.hidden += 1;
                None
            }
            Found::Seen => {
                self.hidden = 0;
                std::mem::take(&mut self.told).then_some(false)
            }
            Found::Unclear => {
                self.hidden = 0;
                None
            }
            Found::Idle => None,
        }
    }
}

#[derive(Clone, Copy)]
struct Probe {
    flow: FlowKey,
    ack: SeqNum,
    /// Whether it was seen since the last look.
    lives: bool,
}

impl Half {
    fn follow(&mut self, segment: &Segment) {
        let (flow, ack) = (segment.flow, SeqNum(segment.header.ack));
        let place = usize::from(flow.local.port ^ flow.remote.port) % PROBES;
        match &mut self.probes[place] {
            Some(probe) if probe.flow == flow => {
                self.advances += u32::from(ack.after(probe.ack));
                *probe = Probe { flow, ack, lives: true };
            }
            Some(_) => {}
            none => *none = Some(Probe { flow, ack, lives: true }),
        }
    }

    /// Whether the other way is hidden, if that has changed or is worth another word.
    fn look(&mut self, seen_the_other_way: u32) -> Option<bool> {
        let hides = self.advances >= ADVANCES && u64::from(seen_the_other_way) * 4 <= u64::from(self.seen);
        let sees_both = self.seen > 0 && seen_the_other_way > 0 && !hides;
        for probe in &mut self.probes {
            *probe = probe.filter(|probe| probe.lives).map(|probe| Probe { lives: false, ..probe });
        }
        (self.seen, self.advances) = (0, 0);
        self.looks.note(match (hides, sees_both) {
            (true, _) => Found::Hidden,
            (_, true) => Found::Seen,
            _ => Found::Unclear,
        })
    }
}

impl Views {
    /// Notes a segment and what became of it.
    #[inline]
    pub(super) fn note(&mut self, segment: &Segment, outcome: &Outcome) {
        let view = self.of(segment.flow.ifindex);
        // What the engine calls sent was received where the way to the local end is timed.
        let timed = matches!(outcome, Outcome::Sent | Outcome::Resent(_));
        let is_sent = timed == (segment.flow.side == Side::Remote);
        let received = view.received.seen;
        let half = if is_sent { &mut view.sent } else { &mut view.received };
        half.seen = half.seen.saturating_add(1);
        // Of a flow of which nothing was sent, or nothing that is acknowledged now; or on an interface on which nothing
        // is received.
        let tells = matches!(outcome, Outcome::Quiet(Quiet::NothingSent) | Outcome::Rejected(Rejection::NeverSent))
            || timed && is_sent && received == 0;
        if tells && segment.has(TcpFlags::ACK) && !segment.has(TcpFlags::RST) {
            half.follow(segment);
        }
    }

    /// What changed since the last look, a second ago.
    pub(super) fn look(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        for View { ifindex, sent, received } in &mut self.views {
            let seen = [sent.seen, received.seen];
            // What is received tells what was sent, and the other way round.
            for (half, other, way) in [(received, seen[0], Way::Sent), (sent, seen[1], Way::Received)] {
                changes.extend(half.look(other).map(|blind| Change { ifindex: *ifindex, way, blind }));
            }
        }
        changes
    }

    fn of(&mut self, ifindex: u32) -> &mut View {
        if self.views.get(self.last).is_none_or(|view| view.ifindex != ifindex) {
            self.last = *self.places.entry(ifindex).or_insert_with(|| {
                self.views.push(View { ifindex, ..View::default() });
                self.views.len() - 1
            });
        }
        &mut self.views[self.last]
    }
}

/// Interfaces that carry packets none of which reaches the classifier: somebody detached it, or a program before it
/// ends the chain on both hooks.
#[derive(Default)]
pub(super) struct Silence {
    /// Packets that the classifier had seen at the last look, and those that the interfaces had carried.
    last: Option<(u64, BTreeMap<String, u64>)>,
    looks: Looks,
}

impl Silence {
    /// Looks once a second: `seen` are the packets at all hooks, `attached` the interfaces with these hooks, by name
    /// and index.
    pub(super) fn look(&mut self, seen: u64, attached: &[(String, u32)]) -> Vec<Change> {
        let carried = carried(&std::fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default());
        self.judge(seen, attached, carried)
    }

    fn judge(&mut self, seen: u64, attached: &[(String, u32)], carried: BTreeMap<String, u64>) -> Vec<Change> {
        let Some((seen_before, before)) = &self.last else {
            self.last = Some((seen, carried));
            return Vec::new();
        };
        let grew =
            |name: &str| carried.get(name).zip(before.get(name)).map_or(0, |(now, then)| now.saturating_sub(*then));
        let is_busy = |(name, _): &&(String, u32)| grew(name) >= u64::from(ADVANCES);
        let busy: Vec<u32> = attached.iter().filter(is_busy).map(|(_, ifindex)| *ifindex).collect();
        let seen_before = *seen_before;
        self.last = Some((seen, carried));
        let both =
            |ifindex: &u32, blind: bool| [Way::Sent, Way::Received].map(|way| Change { ifindex: *ifindex, way, blind });
        let found = if seen != seen_before {
            Found::Seen
        } else if busy.is_empty() {
            Found::Idle
        } else {
            Found::Hidden
        };
        match self.looks.note(found) {
            None => Vec::new(),
            Some(true) => busy.iter().flat_map(|ifindex| both(ifindex, true)).collect(),
            Some(false) => attached.iter().flat_map(|(_, ifindex)| both(ifindex, false)).collect(),
        }
    }
}

/// Packets that each interface received and sent since it is there (proc_pid_net(5), `dev`).
fn carried(table: &str) -> BTreeMap<String, u64> {
    let line = |line: &str| {
        let (name, counters) = line.split_once(':')?;
        let counters: Vec<u64> = counters.split_whitespace().map_while(|word| word.parse().ok()).collect();
        Some((name.trim_start().to_owned(), counters.get(1)?.saturating_add(*counters.get(9)?)))
    };
    table.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use go_metro_common::segment::SegmentHeader;
    use go_metro_rtt::{Addr, Endpoint};

    use super::*;

    /// A segment with this acknowledgement number, of the flow of this port.
    fn segment(port: u16, ack: u32) -> Segment {
        let end = |last, port| Endpoint { addr: Addr::v4([10, 0, 0, last]), port };
        let flow = FlowKey { local: end(1, port), remote: end(2, 80), ifindex: 3, side: Side::Remote };
        Segment { flow, header: SegmentHeader { ack, flags: TcpFlags(TcpFlags::ACK), ..SegmentHeader::default() } }
    }

    const UNKNOWN: Outcome = Outcome::Quiet(Quiet::NothingSent);

    fn change(way: Way, blind: bool) -> Vec<Change> {
        vec![Change { ifindex: 3, way, blind }]
    }

    #[test]
    fn acknowledgements_of_what_was_never_seen_tell_that_what_is_sent_is_hidden_and_what_comes_tells_that_it_is_not() {
        let mut views = Views::default();
        let second = |views: &mut Views, second: u32| {
            for k in 0..10 {
                views.note(&segment(1000, second * 1000 + k), &UNKNOWN);
            }
            views.look()
        };
        assert_eq!([0, 1].map(|k| second(&mut views, k)), [vec![], vec![]]);
        assert_eq!(second(&mut views, 2), change(Way::Sent, true));
        assert_eq!([3, 4].map(|k| second(&mut views, k)), [vec![], vec![]]);
        assert_eq!(second(&mut views, 5), change(Way::Sent, true), "it is of no help");
        for k in 0..10 {
            views.note(&segment(1000, 1), &Outcome::Sent);
            views.note(&segment(1000, 9000 + k), &Outcome::Quiet(Quiet::Duplicate));
        }
        assert_eq!(views.look(), change(Way::Sent, false));
        assert_eq!(views.look(), []);
    }

    #[test]
    fn acknowledgements_beyond_what_a_known_flow_sent_tell_it_too() {
        let mut views = Views::default();
        let told: Vec<_> = (0..3)
            .flat_map(|second| {
                for k in 0..10 {
                    views.note(&segment(1000, second * 1000 + k), &Outcome::Rejected(Rejection::NeverSent));
                }
                views.look()
            })
            .collect();
        assert_eq!(told, change(Way::Sent, true));
    }

    #[test]
    fn interfaces_that_carry_packets_of_which_none_is_seen_are_told_and_idle_ones_are_not() {
        let table = |packets: u64| {
            format!(
                "Inter-|   Receive  |  Transmit\n face |bytes packets errs drop fifo frame compressed multicast|bytes \
                 packets\n  eth0: 100 {packets} 0 0 0 0 0 0 200 7 0 0 0 0 0 0\n    lo:  1 2 0 0 0 0 0 0 3 4 0 0 0 0 0 \
                 0\n"
            )
        };
        assert_eq!(carried(&table(5)), BTreeMap::from([("eth0".to_owned(), 12), ("lo".to_owned(), 6)]));
        let attached = [("eth0".to_owned(), 3), ("lo".to_owned(), 1)];
        let mut silence = Silence::default();
        let mut look = |seen: u64, packets: u64| silence.judge(seen, &attached, carried(&table(packets)));
        assert!((0..10).all(|_| look(5, 5).is_empty()), "an idle interface");
        let both = |blind| [Way::Sent, Way::Received].map(|way| Change { ifindex: 3, way, blind }).to_vec();
        assert_eq!([1, 2].map(|k| look(5, 5 + 10 * k)), [vec![], vec![]]);
        assert_eq!(look(5, 35), both(true));
        assert_eq!([4, 5].map(|k| look(5, 5 + 10 * k)), [vec![], vec![]]);
        assert_eq!(look(5, 65), both(true), "it is of no help");
        assert_eq!(look(6, 75)[..2], both(false));
        assert_eq!(look(7, 85), []);
    }

    #[test]
    fn a_download_a_start_in_mid_traffic_and_silence_hide_nothing() {
        let mut views = Views::default();
        for second in 0..10 {
            for port in 0..100 {
                // The same number over and over; and a few that advance over what was under way.
                views.note(&segment(port, 7), &UNKNOWN);
                if second == 0 {
                    views.note(&segment(port, 8), &UNKNOWN);
                }
            }
            assert_eq!(views.look(), [], "{second}");
        }
        // Most of what comes is of flows that are known.
        for second in 0..10 {
            for k in 0..10 {
                views.note(&segment(1, second * 10 + k), &UNKNOWN);
                views.note(&segment(2, 1), &Outcome::Sent);
            }
            assert_eq!(views.look(), [], "{second}");
        }
    }

    #[test]
    fn what_is_sent_tells_that_what_is_received_is_hidden_unless_nothing_comes_at_all() {
        let mut views = Views::default();
        for second in 0..6 {
            for k in 0..10 {
                // To a host that is dead: nothing is acknowledged.
                views.note(&segment(1, 5), &Outcome::Sent);
                let _ = k;
            }
            assert_eq!(views.look(), [], "{second}");
        }
        let mut told = Vec::new();
        for second in 0..3 {
            for k in 0..10 {
                views.note(&segment(2, second * 100 + k), &Outcome::Sent);
            }
            told.extend(views.look());
        }
        assert_eq!(told, change(Way::Received, true));
    }
}
