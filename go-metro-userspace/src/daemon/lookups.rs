//! Questions that take their time: configured names to addresses, addresses to names, interfaces to the machines behind
//! them. Each is asked beside the daemon's loop, which hears the answer when there is one.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::IpAddr;

use tokio::sync::mpsc;

use super::Daemon;
use super::containers::{self, Machines};
use crate::targets::hosts;
use crate::targets::resolver::{self, Addresses, Name};

/// Answers on their way to the loop, which never waits for one.
pub(super) struct Lookups {
    sender: mpsc::UnboundedSender<Answer>,
    pub(super) receiver: mpsc::UnboundedReceiver<Answer>,
    /// Configured names that are being looked up.
    pending: BTreeSet<String>,
    /// Those of them whose answers one warning waits for.
    round: BTreeSet<String>,
    /// Configured names that could not be asked for.
    unasked: BTreeSet<String>,
    /// For an interface's index sent here, what is at its other end comes back.
    pub(super) machines: mpsc::UnboundedSender<u32>,
}

/// One of them.
pub(super) enum Answer {
    /// Of a configured name; none if it was not asked for after all.
    Host(String, Option<Addresses>),
    /// Of an address; as above.
    Name(IpAddr, Option<Name>),
    Machines(Machines),
}

/// Names that are being looked up: each look-up holds a sender, and drops it once its answer is on its way.
pub(super) struct Names(mpsc::Receiver<Infallible>);

impl Names {
    /// Waits until all of them were answered.
    pub(super) async fn answered(mut self) {
        while self.0.recv().await.is_some() {}
    }
}

impl Lookups {
    pub(super) fn start() -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        let answers = sender.clone();
        let machines = containers::start(move |machines| drop(answers.send(Answer::Machines(machines))));
        Self { sender, receiver, pending: BTreeSet::new(), round: BTreeSet::new(), unasked: BTreeSet::new(), machines }
    }
}

impl Daemon {
    /// Starts looking up names that tags wanted and that are not known.
    pub(super) fn look_up_names(&mut self) -> Names {
        let (asked, names) = mpsc::channel(1);
        for (address, turn) in self.directory.take_missing_names() {
            let (answer, answers, asked) = (resolver::name(address, turn), self.lookups.sender.clone(), asked.clone());
            tokio::spawn(async move {
                let answer = match answer {
                    Some(answer) => answer.await.ok(),
                    None => None,
                };
                // Nobody listens any more once the daemon stops.
                let _ = answers.send(Answer::Name(address, answer));
                drop(asked);
            });
        }
        Names(names)
    }

    /// Starts looking up the configured names again that are not being looked up.
    pub(super) fn look_up_hosts(&mut self) {
        let names = self.directory.hosts().iter().map(|(name, _)| name.to_owned()).collect();
        self.look_up(names);
    }

    /// Looks up those configured names that could not be asked for the last time.
    pub(super) fn look_up_unasked(&mut self) {
        let unasked = std::mem::take(&mut self.lookups.unasked);
        let hosts = self.directory.hosts();
        let names: Vec<String> =
            hosts.iter().map(|(name, _)| name.to_owned()).filter(|name| unasked.contains(name)).collect();
        if !names.is_empty() {
            self.look_up(names);
        }
    }

    fn look_up(&mut self, names: Vec<String>) {
        if self.lookups.round.is_empty() {
            self.lookups.round.extend(names.iter().cloned());
        }
        for name in names {
            if !self.lookups.pending.insert(name.clone()) {
                continue;
            }
            let (answer, answers) = (resolver::addresses(&name), self.lookups.sender.clone());
            tokio::spawn(async move {
                let answer = match answer {
                    Some(answer) => answer.await.ok(),
                    None => None,
                };
                let _ = answers.send(Answer::Host(name, answer));
            });
        }
    }

    pub(super) fn learn(&mut self, answer: Answer) {
        let changed = self.learn_one(answer);
        self.learn_all(changed);
    }

    /// Takes the answers that have come.
    pub(super) fn learn_what_came(&mut self) {
        self.learn_all(false);
    }

    /// Takes the answers that have come: those that came together are one change of what is watched.
    fn learn_all(&mut self, mut changed: bool) {
        while let Ok(answer) = self.lookups.receiver.try_recv() {
            changed |= self.learn_one(answer);
        }
        if self.lookups.round.is_empty() {
            self.directory.complain_of_hosts();
        }
        if changed {
            self.capture.watch(self.directory.watch_list());
            if self.directory.refresh_groups() {
                self.capture.group(self.directory.grouping());
            }
        }
    }

    /// Whether what is watched may have changed.
    fn learn_one(&mut self, answer: Answer) -> bool {
        match answer {
            Answer::Name(address, name) => self.directory.learn_name(address, name),
            Answer::Machines(machines) => self.directory.learn_machines(machines),
            Answer::Host(name, answer) => {
                self.lookups.pending.remove(&name);
                self.lookups.round.remove(&name);
                let answer = answer.unwrap_or_else(|| {
                    self.lookups.unasked.insert(name.clone());
                    Err(hosts::UNASKED.to_owned())
                });
                let changed = self.directory.learn_host(&name, answer);
                self.happened.dns_failures += u64::from(self.directory.hosts().is_failing(&name));
                return changed;
            }
        }
        false
    }
}
