//! Questions that take their time: configured names to addresses, addresses to names, interfaces to the machines behind them. Each is asked
//! beside the agent's loop, which hears the answer when there is one.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::Agent;
use super::machines::{self, Machines};
use crate::targets::hosts::Hosts;
use crate::targets::reverse;

/// Answers on their way to the loop, which never waits for one.
pub(super) struct Lookups {
    sender: mpsc::UnboundedSender<Answer>,
    pub(super) receiver: mpsc::UnboundedReceiver<Answer>,
    hosts_pending: bool,
    /// Whoever sends an interface's index here is told what is at its other end.
    pub(super) machines: mpsc::UnboundedSender<u32>,
}

/// One of them.
pub(super) enum Answer {
    Hosts(Hosts),
    Names(Vec<(IpAddr, Option<Arc<str>>)>),
    Machines(Machines),
}

impl Lookups {
    pub(super) fn start() -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        let answers = sender.clone();
        let machines = machines::start(move |machines| drop(answers.send(Answer::Machines(machines))));
        Self { sender, receiver, hosts_pending: false, machines }
    }
}

impl Agent {
    /// Starts looking up names that tags wanted and that are not known.
    pub(super) fn look_up_names(&mut self) {
        let missing = self.directory.take_missing_names();
        if !missing.is_empty() {
            let answers = self.lookups.sender.clone();
            tokio::spawn(async move {
                // Nobody listens any more once the agent stops.
                let _ = answers.send(Answer::Names(reverse::look_up(missing).await));
            });
        }
    }

    /// Starts looking up the configured names again, unless that still goes on.
    pub(super) fn look_up_hosts(&mut self) {
        if std::mem::replace(&mut self.lookups.hosts_pending, true) {
            return;
        }
        let (mut hosts, answers) = (self.directory.hosts().clone(), self.lookups.sender.clone());
        tokio::spawn(async move {
            hosts.refresh().await;
            let _ = answers.send(Answer::Hosts(hosts));
        });
    }

    pub(super) fn learn(&mut self, answer: Answer) {
        match answer {
            Answer::Names(names) => self.directory.learn_names(names),
            Answer::Machines(machines) => self.directory.learn_machines(machines),
            Answer::Hosts(hosts) => {
                self.lookups.hosts_pending = false;
                self.happened.dns_failures += hosts.failing();
                if self.directory.learn_hosts(&hosts) {
                    self.worker.watch(self.directory.watch_list());
                }
            }
        }
    }
}
