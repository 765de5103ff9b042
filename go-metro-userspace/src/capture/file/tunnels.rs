//! The two directions of a connection inside tunnels that differ: another number each way (VXLAN, GENEVE, GRE keys, a
//! mirror session for what is sent and one for what is received), or other ends (several equal routes, an address that
//! several gateways share).
//!
//! A tunnel's number and ends also tell apart what is not the same: networks of several tenants with the same
//! addresses, or the same connection captured on both sides of a gateway. So a tunnel that is seen to carry a
//! connection in one direction only meets the one that carries it in the other: if both are made with the same kinds of
//! tunnel, neither carries both directions, what one acknowledges fits what the other sends, and there is exactly one
//! such, or one that has the same ends or the same number. If one of the two turns out to carry both directions, they
//! part.

use std::collections::HashMap;

use go_metro_common::segment::TcpFlags;
use go_metro_rtt::{Endpoint, SeqNum};

use super::places::Numbers;
use crate::capture::decode::{Decoded, Tunnel};

/// Connections that are remembered at least; at most twice as many.
const CONNECTIONS: usize = 1 << 16;
/// Tunnels of a connection that are told apart; in others than these it has each tunnel's own number.
const WAYS_MAX: usize = 16;
/// An acknowledgement number is no further from the other direction's sequence number. What belongs to another
/// connection is, but for one in 128, and both of its numbers but for one in 16,384.
const NEAR: u32 = 1 << 24;

/// What a connection is known by, whatever tunnels it is in: its ends, the lower first, the kinds of the tunnels, and
/// the place.
type Connection = (Endpoint, Endpoint, u32, u32);

/// Connections inside tunnels, and what each is in.
#[derive(Default)]
pub(super) struct Tunnelled {
    recent: HashMap<Connection, Vec<Way>, foldhash::fast::RandomState>,
    /// Those not seen since they were moved here.
    earlier: HashMap<Connection, Vec<Way>, foldhash::fast::RandomState>,
    /// Numbers by which tunnels go that were found to carry another tunnel's other direction.
    met: HashMap<(u64, u32), u32>,
    /// Of those forgotten, those whose directions did not meet.
    forgotten_apart: u64,
}

/// A tunnel that a connection is in.
#[derive(Clone, Copy)]
struct Way {
    /// The tunnel's digest.
    digest: u64,
    tunnel: Tunnel,
    /// What tells the flow apart.
    number: u32,
    /// Directions that were seen, a bit each.
    directions: u8,
    /// Whether it shares its number with the other direction's tunnel.
    has_met: bool,
    /// The last segment's end, and its acknowledgement number.
    end: SeqNum,
    ack: Option<SeqNum>,
}

impl Tunnelled {
    /// What tells the flow of this segment apart, which is in this tunnel and was captured at this place.
    pub(super) fn number(&mut self, decoded: &Decoded, tunnel: &Tunnel, place: u32, numbers: &mut Numbers) -> u32 {
        let digest = tunnel.digest();
        let (source, destination) = (decoded.source, decoded.destination);
        let is_from_lower = source <= destination;
        let (lower, upper) = if is_from_lower { (source, destination) } else { (destination, source) };
        let direction = if is_from_lower { 1 } else { 2 };
        let seen = Way::of(decoded, tunnel, digest, direction);
        let met = self.met.get(&(digest, place)).copied();
        let ways = self.ways((lower, upper, tunnel.kinds, place));
        let Some(at) = ways.iter().position(|way| way.digest == digest) else {
            if ways.len() == WAYS_MAX {
                return numbers.of(Some(tunnel), place);
            }
            let usual = met.filter(|number| ways.iter().all(|way| way.number != *number));
            let number = usual.unwrap_or_else(|| numbers.of(Some(tunnel), place));
            ways.push(Way { number, ..seen });
            let at = ways.len() - 1;
            return self.meet((lower, upper, tunnel.kinds, place), at).unwrap_or(number);
        };
        let way = &mut ways[at];
        let was_both = way.directions == 3;
        way.directions |= direction;
        (way.end, way.ack) = (seen.end, seen.ack.or(way.ack));
        let (has_met, number) = (way.has_met, way.number);
        if way.directions == 3 && !was_both && has_met {
            part(ways, number, place, numbers);
            return ways[at].number;
        }
        if way.directions != 3 && !has_met && ways.len() > 1 {
            return self.meet((lower, upper, tunnel.kinds, place), at).unwrap_or(number);
        }
        number
    }

    /// The tunnels of a connection.
    fn ways(&mut self, connection: Connection) -> &mut Vec<Way> {
        if self.recent.len() >= CONNECTIONS && !self.recent.contains_key(&connection) {
            let earlier = std::mem::replace(&mut self.earlier, std::mem::take(&mut self.recent));
            self.forgotten_apart += earlier.values().filter(|ways| is_apart(ways)).count() as u64;
        }
        let earlier = &mut self.earlier;
        self.recent
            .entry(connection)
            .or_insert_with(|| if earlier.is_empty() { None } else { earlier.remove(&connection) }.unwrap_or_default())
    }

    /// Looks for the tunnel of the other direction; the number that both have from now on.
    fn meet(&mut self, connection: Connection, at: usize) -> Option<u32> {
        let ways = self.recent.get_mut(&connection)?;
        let this = ways[at];
        let fits = |way: &&Way| way.directions == 3 - this.directions && !way.has_met && way.fits(&this);
        let only = |wanted: &dyn Fn(&Way) -> bool| {
            let mut found = ways.iter().filter(fits).filter(|way| wanted(way));
            found.next().filter(|_| found.next().is_none()).map(|way| way.digest)
        };
        let other = only(&|_| true)
            .or_else(|| only(&|way| way.tunnel.ends == this.tunnel.ends))
            .or_else(|| only(&|way| way.tunnel.id == this.tunnel.id))?;
        let other = ways.iter_mut().find(|way| way.digest == other)?;
        other.has_met = true;
        let number = other.number;
        (ways[at].number, ways[at].has_met) = (number, true);
        if self.met.len() < CONNECTIONS {
            self.met.entry((this.digest, connection.3)).or_insert(number);
        }
        Some(number)
    }

    /// Connections that were seen in both directions, in tunnels of which it is not known which belong together; for
    /// people.
    pub(super) fn warning(&self) -> Option<String> {
        let known = self.recent.values().chain(self.earlier.values()).filter(|ways| is_apart(ways)).count() as u64;
        let apart = self.forgotten_apart + known;
        (apart > 0).then(|| {
            format!(
                "{apart} connections inside tunnels have their two directions in different tunnels, and the frames do \
                 not say which belong together; they are not measured there"
            )
        })
    }
}

impl Way {
    fn of(decoded: &Decoded, tunnel: &Tunnel, digest: u64, directions: u8) -> Self {
        let header = &decoded.header;
        let len = header.payload.len().wrapping_add(header.flags.sequence_space());
        let ack = header.flags.any(TcpFlags::ACK).then_some(SeqNum(header.ack));
        Self { digest, tunnel: *tunnel, number: 0, directions, has_met: false, end: SeqNum(header.seq).plus(len), ack }
    }

    /// Whether the numbers of both are of one connection, as far as both have any.
    fn fits(&self, other: &Self) -> bool {
        let near = |ack: Option<SeqNum>, end: SeqNum| ack.map(|ack| ack.distance(end) <= NEAR);
        let (mine, theirs) = (near(self.ack, other.end), near(other.ack, self.end));
        (mine.is_some() || theirs.is_some()) && mine.unwrap_or(true) && theirs.unwrap_or(true)
    }
}

/// Gives both tunnels that share this number their own.
fn part(ways: &mut [Way], number: u32, place: u32, numbers: &mut Numbers) {
    for way in ways.iter_mut().filter(|way| way.number == number) {
        way.number = numbers.of(Some(&way.tunnel), place);
        way.has_met = false;
    }
}

/// Whether a connection has both directions in tunnels that carry one only.
fn is_apart(ways: &[Way]) -> bool {
    let alone = |direction| ways.iter().any(|way| way.directions == direction && !way.has_met);
    alone(1) && alone(2)
}
