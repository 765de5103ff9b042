//! Which container or pod is at the other end of a link, told from what this host has at hand: the namespace that the
//! link leads to, a process that lives there, and that process's control group.
//!
//! Asked once an interface appears, never on the capture thread. A container's process may come after its link, so
//! those that were not found are asked for again for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Once;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use super::waiting::beside;
use crate::cgroup::Groups;
use crate::netlink::{links, namespaces};

/// Interfaces that appear together are asked for together: one look at all processes serves them all.
const GATHER: Duration = Duration::from_millis(100);
/// Time between two attempts.
const RETRY: Duration = Duration::from_secs(2);
/// Attempts: half a minute, in which a runtime starts its container's process.
const ATTEMPTS: u32 = 15;

/// Tags of the machines at the other ends of interfaces, by index.
pub(super) type Machines = Vec<(u32, Vec<String>)>;

/// Looks up what is asked for until nobody asks any more.
pub(super) async fn look_up(mut asked: UnboundedReceiver<u32>, answer: impl Fn(Machines)) {
    let mut waiting: BTreeMap<u32, u32> = BTreeMap::new();
    loop {
        let next = if waiting.is_empty() {
            asked.recv().await
        } else {
            match tokio::time::timeout(RETRY, asked.recv()).await {
                Ok(next) => next,
                Err(_) => waiting.keys().next().copied(),
            }
        };
        let Some(next) = next else { return };
        waiting.entry(next).or_default();
        tokio::time::sleep(GATHER).await;
        while let Ok(another) = asked.try_recv() {
            waiting.entry(another).or_default();
        }
        let indices: BTreeSet<u32> = waiting.keys().copied().collect();
        let Ok(found) = beside("machines", move || find(&indices)).await else {
            // Later, when there can be a thread.
            tokio::time::sleep(RETRY).await;
            continue;
        };
        let found = found.unwrap_or_else(|error| {
            tracing::debug!(%error, "cannot tell which containers the links lead to");
            Found::default()
        });
        waiting.retain(|index, attempts| {
            *attempts += 1;
            *attempts < ATTEMPTS && found.undecided.contains(index)
        });
        if !found.machines.is_empty() {
            answer(found.machines);
        }
    }
}

/// Starts looking up; who wants to know sends an interface's index.
pub(super) fn start(answer: impl Fn(Machines) + Send + 'static) -> UnboundedSender<u32> {
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(look_up(receiver, answer));
    sender
}

#[derive(Default)]
struct Found {
    machines: Machines,
    /// Lead to a namespace in which no process was found, or none in a container.
    undecided: BTreeSet<u32>,
}

fn find(indices: &BTreeSet<u32>) -> io::Result<Found> {
    let leads: BTreeMap<u32, i32> = links::links()?
        .into_iter()
        .filter(|link| indices.contains(&link.ifindex) && link.is_host_end())
        .filter_map(|link| Some((link.ifindex, link.peer_namespace?)))
        .collect();
    if leads.is_empty() {
        return Ok(Found::default());
    }
    if !Path::new("/proc/1").exists() {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            tracing::warn!(
                "/proc hides other users' processes (hidepid), so links cannot be matched to containers; see \
                 docs/containers.md"
            );
        });
    }
    let processes = namespaces::processes_in(&leads.values().copied().collect())?;
    let mut found = Found::default();
    for (ifindex, namespace) in leads {
        let group = processes.get(&namespace).and_then(|pid| fs::read_to_string(format!("/proc/{pid}/cgroup")).ok());
        match group.as_deref().and_then(|group| Groups(group).tag()) {
            Some(tag) => {
                tracing::debug!(ifindex, tag, "leads to a container");
                found.machines.push((ifindex, vec![tag]));
            }
            None => {
                found.undecided.insert(ifindex);
            }
        }
    }
    Ok(found)
}
