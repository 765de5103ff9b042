//! The queueing disciplines of interfaces (rtnetlink(7), `RTM_GETQDISC`; tc(8)).
//!
//! The classifier sees a segment before it is queued there, libpcap after: what it waits is in the one's round-trip
//! times alone.

use std::collections::BTreeMap;
use std::io;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage, TcStats2};
use netlink_sys::protocols::NETLINK_ROUTE;

use super::dump;

/// Disciplines that have packets wait by what they are for: a rate, a delay.
const SHAPERS: [&str; 5] = ["tbf", "htb", "hfsc", "cake", "netem"];
/// Has each segment wait until the time of departure that is its own (tc-fq(8), tc-etf(8)): that time is what the
/// classifier takes.
const TIMED: [&str; 2] = ["fq", "etf"];

/// How one interface queues.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Qdisc {
    /// The kinds, the root's first, each once.
    pub kinds: Vec<String>,
    /// Bytes that wait now.
    pub backlog: u64,
}

impl Qdisc {
    /// Whether what passes waits here, and the classifier does not know how long.
    pub(crate) fn queues(&self) -> bool {
        let is_any = |of: &[&str]| self.kinds.iter().any(|kind| of.contains(&&**kind));
        is_any(&SHAPERS) || self.backlog > 0 && !is_any(&TIMED)
    }
}

impl std::fmt::Display for Qdisc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.kinds.join(", "))
    }
}

/// The disciplines of each interface of this network namespace, by index.
///
/// # Errors
///
/// The kernel does not answer.
pub(crate) fn qdiscs() -> io::Result<BTreeMap<u32, Qdisc>> {
    let mut all = BTreeMap::<u32, Qdisc>::new();
    dump(NETLINK_ROUTE, RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default()), &mut |answer| {
        if let RouteNetlinkMessage::NewQueueDiscipline(message) = answer
            // `ingress` and `clsact` queue nothing.
            && message.header.parent != TcHandle::INGRESS
        {
            note(&message, all.entry(message.header.index.cast_unsigned()).or_default());
        }
    })?;
    Ok(all)
}

fn note(message: &TcMessage, qdisc: &mut Qdisc) {
    let is_root = message.header.parent == TcHandle::ROOT;
    for attribute in &message.attributes {
        match attribute {
            TcAttribute::Kind(kind) if qdisc.kinds.contains(kind) => {}
            TcAttribute::Kind(kind) if is_root => qdisc.kinds.insert(0, kind.clone()),
            TcAttribute::Kind(kind) => qdisc.kinds.push(kind.clone()),
            TcAttribute::Stats2(stats) => {
                for stat in stats {
                    if let TcStats2::Queue(queue) = stat {
                        // A root counts what waits below it.
                        qdisc.backlog = qdisc.backlog.max(queue.backlog.into());
                    }
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use nix::sched::{CloneFlags, unshare};

    use super::*;

    #[test]
    fn the_disciplines_of_an_interface_are_known_and_which_of_them_have_packets_wait() {
        let inside = std::thread::spawn(|| {
            if unshare(CloneFlags::CLONE_NEWNET).is_err() {
                eprintln!("skipped: no network namespace without root");
                return;
            }
            let run = |program: &str, words: &str| {
                Command::new(program)
                    .args(words.split(' '))
                    .stderr(std::process::Stdio::null())
                    .status()
                    .unwrap()
                    .success()
            };
            assert!(run("ip", "link add a0 index 70 type veth peer name b0 index 71") && run("ip", "link set a0 up"));
            let of = |index| qdiscs().unwrap().remove(&index).unwrap_or_default();
            assert!(!of(70).queues(), "{:?}", of(70));
            for (words, shown, queues) in [
                ("root handle 1: htb default 1", "htb", true),
                ("parent 1:1 handle 2: fq_codel", "htb, fq_codel", true),
                ("root tbf rate 10mbit burst 10kb latency 50ms", "tbf", true),
                ("root netem delay 1ms", "netem", true),
                ("root fq", "fq", false),
                ("root fq_codel", "fq_codel", false),
            ] {
                if words.starts_with("parent") {
                    run("tc", "class add dev a0 parent 1: classid 1:1 htb rate 10mbit");
                } else if words.starts_with("root") {
                    run("tc", "qdisc del dev a0 root");
                }
                // What a kernel lacks of these is no matter.
                if run("tc", &format!("qdisc add dev a0 {words}")) {
                    let qdisc = of(70);
                    assert_eq!((qdisc.to_string().as_str(), qdisc.queues()), (shown, queues), "{words}");
                } else {
                    eprintln!("skipped: {words}");
                }
            }
            // Only hooks, no queue: whichever discipline the kernel had for the last step is still the one shown.
            let before = of(70);
            assert!(run("tc", "qdisc add dev a0 clsact"));
            assert_eq!((of(70).to_string(), of(70).queues()), (before.to_string(), false), "clsact");
        });
        inside.join().unwrap();
    }

    #[test]
    fn what_waits_counts_unless_it_waits_for_its_own_time() {
        let qdisc = |kind: &str, backlog| Qdisc { kinds: vec![kind.to_owned()], backlog };
        assert!(qdisc("fq_codel", 1500).queues() && qdisc("pfifo_fast", 1500).queues());
        assert!(!qdisc("fq_codel", 0).queues() && !qdisc("fq", 1500).queues() && !qdisc("noqueue", 0).queues());
    }
}
