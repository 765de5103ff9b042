//! Which process lives in the network namespace at the other end of a link.
//!
//! The kernel numbers the namespaces that links of this one lead to (ip-netns(8)), and tells the number of a process's
//! namespace. That takes no privilege, unlike a look at `/proc/PID/ns`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;

use netlink_packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};
use netlink_sys::protocols::NETLINK_ROUTE;

use super::{open, send, skipped};

/// The first process, by number, in each of these namespaces, by the numbers that this namespace has for them. Those in
/// which no process lives, or none that `/proc` shows, are missing.
///
/// # Errors
///
/// `/proc` cannot be read, or the kernel does not answer.
pub(crate) fn processes_in(wanted: &BTreeSet<i32>) -> io::Result<BTreeMap<i32, u32>> {
    let mut pids: Vec<u32> =
        fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    let socket = open(NETLINK_ROUTE)?;
    let mut found = BTreeMap::new();
    for pid in pids {
        if found.len() == wanted.len() {
            break;
        }
        let mut question = NsidMessage::default();
        question.attributes.push(NsidAttribute::Pid(pid));
        send(&socket, RouteNetlinkMessage::GetNsId(question), NLM_F_REQUEST)?;
        let (answer, _) = socket.recv_from_full()?;
        let answer = match NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer) {
            Ok(answer) => answer,
            Err(error) => {
                skipped(&error);
                continue;
            }
        };
        // An error is a process that has ended meanwhile.
        if let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNsId(answer)) = answer.payload {
            let id =
                answer.attributes.iter().find_map(|a| if let NsidAttribute::Id(id) = a { Some(*id) } else { None });
            if let Some(id) = id.filter(|id| wanted.contains(id)) {
                found.entry(id).or_insert(pid);
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use nix::sched::{CloneFlags, unshare};

    use super::super::links::links;
    use super::*;

    #[test]
    fn the_process_at_the_other_end_of_a_pair_is_found() {
        let host = std::thread::spawn(|| {
            if unshare(CloneFlags::CLONE_NEWNET).is_err() {
                eprintln!("skipped: no network namespace without root");
                return;
            }
            let mut container = Command::new("unshare").args(["-n", "sleep", "60"]).spawn().unwrap();
            let pid = container.id();
            let mine = fs::read_link("/proc/thread-self/ns/net").unwrap();
            while fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|name| name == mine) {
                std::thread::sleep(Duration::from_millis(2));
            }
            let ip =
                |arguments: &str| assert!(Command::new("ip").args(arguments.split(' ')).status().unwrap().success());
            ip(&format!("link add there type veth peer name eth0 netns {pid}"));
            ip("link add here type veth peer name here0");
            let all = links().unwrap();
            let of = |name: &str| all.iter().find(|link| link.name == name).unwrap().peer_namespace;
            assert_eq!(of("here"), None);
            let id = of("there").unwrap();
            assert_eq!(processes_in(&BTreeSet::from([id])).unwrap(), BTreeMap::from([(id, pid)]));
            container.kill().unwrap();
            container.wait().unwrap();
            assert_eq!(processes_in(&BTreeSet::from([id])).unwrap(), BTreeMap::new(), "it has ended");
        });
        host.join().unwrap();
    }
}
