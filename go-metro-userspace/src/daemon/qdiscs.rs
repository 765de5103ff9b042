//! How interfaces queue, and a word about those whose queue is behind the classifier.
//!
//! The kernel tells it under a lock that it holds while anything is attached to an interface (`rtnl_lock`), so a thread
//! of its own asks, and callers get the last answer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use crate::netlink::qdiscs::{Qdisc, qdiscs};
use crate::{privileges, threads};

type Known = Arc<Mutex<BTreeMap<u32, Qdisc>>>;

/// The interfaces that capture runs on, by index, and how they queue.
pub(super) struct Queues {
    names: BTreeMap<u32, String>,
    known: Known,
    looks: mpsc::SyncSender<Ask>,
    /// What the thread hears, as long as there is no thread.
    unheard: Option<mpsc::Receiver<Ask>>,
}

/// Asks for a look at these interfaces. Whether a word is to be said, as the classifier is on them.
type Ask = (BTreeMap<u32, String>, bool);

impl Queues {
    /// Starts the thread that asks; without one, nothing is known until [`Self::retry`].
    pub(super) fn start() -> Self {
        let (looks, asked) = mpsc::sync_channel(1);
        let mut queues = Self { names: BTreeMap::new(), known: Known::default(), looks, unheard: Some(asked) };
        queues.retry();
        queues
    }

    /// Starts the thread, if that was not possible before.
    pub(super) fn retry(&mut self) {
        let Some(asked) = self.unheard.take() else { return };
        let answers = self.known.clone();
        let thread = threads::spawn_with("queues", asked, move |asked| {
            privileges::give_up_all();
            let mut said = BTreeSet::new();
            for (names, is_behind) in asked {
                let Ok(qdiscs) = qdiscs() else { continue };
                said.retain(|ifindex| names.contains_key(ifindex));
                if is_behind {
                    warn(&names, &qdiscs, &mut said);
                }
                *answers.lock().unwrap_or_else(PoisonError::into_inner) = qdiscs;
            }
        });
        if let Err((_, asked)) = thread {
            self.unheard = Some(asked);
        }
    }

    /// Watches this one from now on.
    pub(super) fn watch(&mut self, ifindex: u32, name: &str) {
        self.names.insert(ifindex, name.to_owned());
        self.look(false);
    }

    /// No longer.
    pub(super) fn forget(&mut self, ifindex: u32) {
        self.names.remove(&ifindex);
    }

    /// Has the thread look at how they queue, and say once of each where what is sent waits behind the classifier.
    pub(super) fn look(&self, is_behind: bool) {
        // One that is under way is as good.
        let _ = self.looks.try_send((self.names.clone(), is_behind));
    }

    /// The last answer.
    pub(super) fn of(&self, ifindex: u32) -> Option<String> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&ifindex).map(ToString::to_string)
    }
}

fn warn(names: &BTreeMap<u32, String>, qdiscs: &BTreeMap<u32, Qdisc>, said: &mut BTreeSet<u32>) {
    for (ifindex, interface) in names {
        if let Some(qdisc) = qdiscs.get(ifindex).filter(|qdisc| qdisc.queues() && said.insert(*ifindex)) {
            tracing::warn!(
                interface,
                %qdisc,
                "round-trip times include the wait in this host's own queue, which is behind the classifier; \
                 `backend: pcap` measures without it (docs/round-trips.md)"
            );
        }
    }
}
