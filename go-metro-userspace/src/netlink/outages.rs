//! Links that were down, as the kernel tells it (rtnetlink(7), `RTM_NEWLINK`).
//!
//! What a link loses while it is down is lost for no reason of the path's, and what comes afterwards must not be
//! compared with what went before. A change of the interface's flags is reported at once, one of its carrier within a
//! second (net/core/link_watch.c); how often the carrier was lost is told with either.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::changes::{Change, Changes};

/// Where `struct ifinfomsg` of include/uapi/linux/rtnetlink.h has the flags, and how long it is.
const FLAGS_AT: usize = 8;
const IFINFOMSG: usize = 16;
/// `IFLA_CARRIER_DOWN_COUNT` of include/uapi/linux/if_link.h.
const CARRIER_DOWN_COUNT: u16 = 48;
/// A link carries something with both: set up by an administrator, and with a carrier (netdevice(7)).
const CARRIES: u32 = (libc::IFF_UP | libc::IFF_LOWER_UP) as u32;

/// Listens from its making on.
pub(crate) struct Outages {
    changes: Changes,
    /// Links that are down.
    down: BTreeSet<u32>,
    /// How often each has lost its carrier.
    carrier_losses: BTreeMap<u32, u32>,
}

/// Links on which something may have been lost since the last look.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Interrupted {
    /// Their indices.
    pub indices: BTreeSet<u32>,
    /// The kernel had more to tell than it could: any may be among them.
    pub overrun: bool,
}

/// What a message says of a link.
#[derive(Debug, PartialEq, Eq)]
struct State {
    ifindex: u32,
    carries: bool,
    carrier_losses: Option<u32>,
}

impl Outages {
    /// Listens in this thread's network namespace.
    ///
    /// # Errors
    ///
    /// The kernel has no socket for it.
    pub(crate) fn open() -> io::Result<Self> {
        Ok(Self { changes: Changes::open()?, down: BTreeSet::new(), carrier_losses: BTreeMap::new() })
    }

    /// What went down or came up again since the last call.
    pub(crate) fn take(&mut self) -> Interrupted {
        let mut states = Vec::new();
        let overrun = self.changes.take(|change| states.extend(state(&change)));
        Interrupted { indices: states.iter().filter_map(|state| self.note(state)).collect(), overrun }
    }

    /// The link's index, if it is or was down.
    fn note(&mut self, state: &State) -> Option<u32> {
        let State { ifindex, carries, carrier_losses } = *state;
        let was_down = if carries { self.down.remove(&ifindex) } else { !self.down.insert(ifindex) };
        let lost_carrier = carrier_losses
            .is_some_and(|losses| self.carrier_losses.insert(ifindex, losses).is_some_and(|before| before != losses));
        (!carries || was_down || lost_carrier).then_some(ifindex)
    }
}

/// What a message says of a link that is there; none if it is cut short.
fn state(change: &Change<'_>) -> Option<State> {
    let u16_at = |bytes: &[u8], at: usize| Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let u32_at = |bytes: &[u8], at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let Change { kind, ifindex, payload } = *change;
    let flags = u32_at(payload, FLAGS_AT).filter(|_| kind == libc::RTM_NEWLINK)?;
    let mut carrier_losses = None;
    let mut attributes = payload.get(IFINFOMSG..).unwrap_or_default();
    while let Some(len) = u16_at(attributes, 0).map(usize::from).filter(|len| *len >= 4) {
        if u16_at(attributes, 2) == Some(CARRIER_DOWN_COUNT) {
            carrier_losses = u32_at(attributes, 4);
        }
        attributes = attributes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(State { ifindex, carries: flags & CARRIES == CARRIES, carrier_losses })
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::thread::sleep;
    use std::time::{Duration, Instant};

    use nix::sched::{CloneFlags, unshare};

    use super::super::changes::changes;
    use super::*;

    #[test]
    fn a_link_that_went_down_is_told_even_if_it_is_up_again_and_no_other_change_is() {
        let inside = std::thread::spawn(|| {
            if unshare(CloneFlags::CLONE_NEWNET).is_err() {
                eprintln!("skipped: no network namespace without root");
                return;
            }
            let ip = |words: &str| assert!(Command::new("ip").args(words.split(' ')).status().unwrap().success());
            ip("link add a0 index 70 type veth peer name b0 index 71");
            ip("link set a0 up");
            ip("link set b0 up");
            let mut outages = Outages::open().unwrap();
            // The carrier's own word comes late.
            sleep(Duration::from_millis(1200));
            outages.take();
            ip("link set a0 mtu 1400");
            ip("address add 10.0.0.1/24 dev a0");
            assert_eq!(outages.take(), Interrupted::default());
            ip("link set a0 down");
            ip("link set a0 up");
            assert!(outages.take().indices.contains(&70));
            sleep(Duration::from_millis(1200));
            outages.take();
            // The other end, so that this one has no carrier for a moment.
            ip("link set b0 down");
            ip("link set b0 up");
            let deadline = Instant::now() + Duration::from_secs(3);
            let mut told = false;
            while !told && Instant::now() < deadline {
                told = outages.take().indices.contains(&70);
                sleep(Duration::from_millis(10));
            }
            assert!(told, "a carrier that was lost");
        });
        inside.join().unwrap();
    }

    #[test]
    fn what_is_cut_short_is_passed_over() {
        let mut message = vec![0; 40];
        message[..4].copy_from_slice(&40_u32.to_ne_bytes());
        message[4..6].copy_from_slice(&libc::RTM_NEWLINK.to_ne_bytes());
        message[20..24].copy_from_slice(&7_u32.to_ne_bytes());
        message[32..34].copy_from_slice(&8_u16.to_ne_bytes());
        message[34..36].copy_from_slice(&CARRIER_DOWN_COUNT.to_ne_bytes());
        message[36] = 3;
        let all = |bytes: &[u8]| {
            let mut all = Vec::new();
            changes(bytes, &mut |change| all.extend(state(&change)));
            all
        };
        assert_eq!(all(&message), [State { ifindex: 7, carries: false, carrier_losses: Some(3) }]);
        for len in 0..message.len() {
            assert_eq!(all(&message[..len]), []);
            let mut short = message[..len].to_vec();
            if len >= 4 {
                short[..4].copy_from_slice(&(len as u32).to_ne_bytes());
            }
            assert!(all(&short).len() <= 1);
        }
    }
}
