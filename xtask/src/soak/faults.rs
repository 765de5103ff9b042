//! What goes wrong in the meantime, for real and at random.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::{CONFIG, EXTRA, impair, reload};
use crate::lab::agent::Agent;
use crate::lab::statsd::Listener;
use crate::lab::{INTERFACE, Lab};

/// Between faults, in milliseconds.
const PAUSE: std::ops::Range<u64> = 2000..6000;

/// One kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    InterfaceDeleted,
    LinkDown,
    ServerDead,
    ReloadGood,
    ReloadBroken,
    LossBurst,
}

impl Fault {
    pub(super) const ALL: [Self; 6] = [
        Self::InterfaceDeleted,
        Self::LinkDown,
        Self::ServerDead,
        Self::ReloadGood,
        Self::ReloadBroken,
        Self::LossBurst,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::InterfaceDeleted => "an interface is deleted and made again",
            Self::LinkDown => "the link with the traffic goes down and up",
            Self::ServerDead => "the DogStatsD server dies and returns",
            Self::ReloadGood => "SIGHUP with another good file",
            Self::ReloadBroken => "SIGHUP with a broken file",
            Self::LossBurst => "a fifth of all frames is lost for two seconds",
        }
    }
}

pub(super) fn make_extra(lab: &Lab) -> Result<()> {
    lab.a.namespace.ip(&format!("link add {EXTRA} type veth peer name {EXTRA}-peer\nlink set {EXTRA} up"))
}

/// Does one after another until told to stop; what happened when.
pub(super) fn run(
    lab: &Lab,
    agent: &Agent,
    config: &Path,
    seed: u64,
    start: Instant,
    stop: &AtomicBool,
) -> Result<Vec<(Duration, Fault)>> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut server = Some(Listener::udp(&lab.a, 8125)?);
    let mut happened = Vec::new();
    let a = &lab.a.namespace;
    while wait(Duration::from_millis(random.u64(PAUSE)), stop) {
        let fault = Fault::ALL[random.usize(..Fault::ALL.len())];
        happened.push((start.elapsed(), fault));
        match fault {
            Fault::InterfaceDeleted => {
                a.ip(&format!("link delete {EXTRA}"))?;
                wait(Duration::from_millis(random.u64(..2000)), stop);
                make_extra(lab)?;
            }
            Fault::LinkDown => {
                a.ip(&format!("link set {INTERFACE} down"))?;
                wait(Duration::from_millis(random.u64(..1000)), stop);
                a.ip(&format!("link set {INTERFACE} up"))?;
            }
            Fault::ServerDead => {
                drop(server.take());
                wait(Duration::from_secs(3), stop);
                server = Some(Listener::udp(&lab.a, 8125)?);
            }
            Fault::ReloadGood => {
                let other = format!("    tags: [\"round:{}\"]\n", happened.len());
                std::fs::write(config, CONFIG.to_owned() + &other)?;
                reload(agent)?;
            }
            Fault::ReloadBroken => {
                std::fs::write(config, CONFIG.replace("10.77.0.0/24", "10.77.0."))?;
                reload(agent)?;
            }
            Fault::LossBurst => {
                impair(lab, 0.2, random.u64(..));
                wait(Duration::from_secs(2), stop);
                impair(lab, 0.002, random.u64(..));
            }
        }
        // Kept, what it hears would be what grows.
        let heard = server.as_ref().map(Listener::take);
        drop(heard);
    }
    Ok(happened)
}

/// Waits so long; false when it is time to stop.
fn wait(time: Duration, stop: &AtomicBool) -> bool {
    let until = Instant::now() + time;
    while Instant::now() < until && !stop.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(20));
    }
    !stop.load(Ordering::Relaxed)
}
