//! The interface: down, renamed, moved, deleted and recreated, readdressed. Capture follows by itself.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use testing_lab::late::{Late, in_time, timely};
use testing_lab::statsd::Listener;
use testing_lab::traffic::{Rounds, Server, connect};
use testing_lab::{Lab, Namespace, Over};

use super::support::{Backend, Conf, Heard, SOON, USUAL, backend, lab, start, statsd, wait_until};

/// Talks until there are samples; what is heard has true ones only.
fn measured_again(lab: &Lab, server: &Listener, what: &str) -> Heard {
    drop(server.take());
    let rounds = Rounds { count: 5, ..Rounds::default() };
    let mut longest = Duration::ZERO;
    let deadline = Instant::now() + 2 * SOON;
    loop {
        let service = Server::v4(&lab.b, rounds.service()).unwrap();
        let exchange = rounds.drive(&mut connect(&lab.a, service.address()).unwrap()).unwrap();
        longest = longest.max(exchange.times.into_iter().max().unwrap());
        thread::sleep(Duration::from_millis(100));
        let heard = Heard::by(server);
        if !heard.rtts().is_empty() {
            heard.assert_true_rtts(longest, what);
            return heard;
        }
        assert!(Instant::now() < deadline, "{what}: nothing is measured any more");
    }
}

/// Waits until the agent counts one more interface lost, and none attached.
fn lost(server: &Listener, what: &str) {
    drop(server.take());
    wait_until(server, what, |heard| heard.gauge("go_metro.interfaces") == Some(0.0));
}

/// Gives host a's interface back what it loses on the way.
fn readdress(lab: &Lab) {
    let a = &lab.a.namespace;
    // Some of it may still be there.
    for command in [
        format!("address replace {}/24 dev eth0", lab.a.v4),
        format!("address replace {}/64 dev eth0 nodad", lab.a.v6),
        "link set eth0 up".to_owned(),
    ] {
        a.ip(&command).unwrap();
    }
}

#[test]
fn an_interface_that_goes_down_is_renamed_or_moved_away_is_measured_again_when_it_is_back() {
    for which in Backend::BOTH {
        let lab = lab();
        let a = &lab.a.namespace;
        let server = statsd(&lab);
        let conf = Conf::usual(&[&backend(which)]);
        let agent = start(&lab, &conf);
        let what = |fault: &str| format!("{which:?}, {fault}");
        measured_again(&lab, &server, &what("at first"));

        a.ip("link set eth0 down").unwrap();
        thread::sleep(Duration::from_millis(1200));
        readdress(&lab);
        measured_again(&lab, &server, &what("down and up"));

        a.ip("link set eth0 down\nlink set eth0 name eth9\nlink set eth9 up").unwrap();
        lost(&server, &what("renamed"));
        a.ip("link set eth9 down\nlink set eth9 name eth0").unwrap();
        readdress(&lab);
        measured_again(&lab, &server, &what("renamed back"));

        let elsewhere = Namespace::new(99, which.name()).unwrap();
        a.ip(&format!("link set eth0 netns {}", elsewhere.name())).unwrap();
        lost(&server, &what("moved away"));
        elsewhere.ip(&format!("link set eth0 netns {}", a.name())).unwrap();
        readdress(&lab);
        measured_again(&lab, &server, &what("moved back"));

        // Quicker than the agent looks, so that the interface's index is the same before and after.
        a.ip(&format!("link set eth0 netns {}", elsewhere.name())).unwrap();
        elsewhere.ip(&format!("link set eth0 netns {}", a.name())).unwrap();
        readdress(&lab);
        measured_again(&lab, &server, &what("away and back at once"));
        assert_eq!(agent.stop().unwrap().status.code(), Some(0), "{which:?}");
    }
}

/// Both hosts send a little every ten milliseconds and read what the other sends, neither waiting for it, while
/// `during` runs.
fn while_both_send(lab: &Lab, during: impl FnOnce()) {
    let listener = lab.b.enter(|| TcpListener::bind((lab.b.v4, 0)).unwrap());
    let near = connect(&lab.a, listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    far.set_nodelay(true).unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for mut end in [&near, &far] {
            scope.spawn(move || while end.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {});
        }
        for mut end in [&near, &far] {
            let stop = &stop;
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) && end.write_all(&[1; 100]).is_ok() {
                    thread::sleep(Duration::from_millis(10));
                }
                let _ = end.shutdown(Shutdown::Both);
            });
        }
        let _over = Over(&stop);
        during();
    });
}

#[test]
fn nothing_is_timed_across_a_link_that_was_down() {
    for which in Backend::BOTH {
        in_time(which.name(), || try_a_link_that_was_down(which));
    }
}

fn try_a_link_that_was_down(which: Backend) -> Result<(), Late> {
    const DOWN: Duration = Duration::from_millis(150);
    let lab = lab();
    let server = statsd(&lab);
    let agent = start(&lab, &Conf::usual(&[&backend(which)]));
    measured_again(&lab, &server, "at first");
    drop(server.take());
    while_both_send(&lab, || {
        for _ in 0..5 {
            thread::sleep(Duration::from_millis(500));
            lab.a.namespace.ip("link set eth0 down").unwrap();
            thread::sleep(DOWN);
            readdress(&lab);
        }
        thread::sleep(Duration::from_millis(500));
    });
    let heard = wait_until(&server, "samples", |heard| heard.rtts().len() > 50);
    let most = heard.rtts().into_iter().fold(0.0, f64::max);
    println!("{which:?}: {} samples, {most} ms at most", heard.rtts().len());
    // An acknowledgement that the link lost comes with what the other end sends when it is up again.
    assert_eq!(agent.stop().unwrap().status.code(), Some(0), "{which:?}");
    timely(most < DOWN.as_secs_f64() * 1e3, || format!("{most} ms"))
}

#[test]
fn an_interface_that_is_deleted_and_made_anew_is_measured_again() {
    for which in Backend::BOTH {
        let lab = lab();
        let a = &lab.a.namespace;
        let server = statsd(&lab);
        // A pair within host a: its other end in a namespace that answers.
        let peer = Namespace::new(98, which.name()).unwrap();
        peer.ip("link set lo up").unwrap();
        let far = testing_lab::Host { namespace: peer, v4: Ipv4Addr::new(10, 88, 0, 2), v6: lab.b.v6 };
        let peer = &far.namespace;
        let make = |index: u32| {
            a.ip(&format!(
                "link add extra0 index {index} type veth peer name far0 netns {}\naddress add 10.88.0.1/24 dev extra0\n\
                 link set extra0 up",
                peer.name()
            ))
            .unwrap();
            peer.ip("address add 10.88.0.2/24 dev far0\nlink set far0 up").unwrap();
        };
        make(700);
        let conf = Conf::new();
        conf.write(&[&backend(which)], "  - interface: extra0\n    ips: [10.88.0.2]\n");
        let agent = start(&lab, &conf);
        let talk = |what: &str| {
            drop(server.take());
            let deadline = Instant::now() + SOON;
            let rounds = Rounds { count: 5, ..Rounds::default() };
            while Heard::by(&server).rtts().is_empty() {
                assert!(Instant::now() < deadline, "{which:?}, {what}: nothing is measured");
                let service = Server::v4(&far, rounds.service()).unwrap();
                rounds.drive(&mut connect(&lab.a, service.address()).unwrap()).unwrap();
                thread::sleep(Duration::from_millis(100));
            }
        };
        talk("at first");
        a.ip("link delete extra0").unwrap();
        lost(&server, "deleted");
        make(701);
        talk("recreated");
        // At once, and under the same index.
        a.ip("link delete extra0").unwrap();
        make(701);
        talk("recreated at once, with the same index");
        // What attaches is beside what reads, and tells it a little later.
        wait_until(&server, "one interface", |heard| heard.gauge("go_metro.interfaces") == Some(1.0));
        assert_eq!(agent.stop().unwrap().status.code(), Some(0), "{which:?}");
    }
}

#[test]
fn an_interface_whose_addresses_change_is_measured_under_the_new_one() {
    for which in Backend::BOTH {
        let lab = lab();
        let server = statsd(&lab);
        let agent = start(&lab, &Conf::usual(&[&backend(which)]));
        measured_again(&lab, &server, "at first");
        lab.a.namespace.ip("address delete 10.77.0.1/24 dev eth0\naddress add 10.77.0.9/24 dev eth0").unwrap();
        let deadline = Instant::now() + 2 * SOON;
        loop {
            let heard = measured_again(&lab, &server, &format!("{which:?}, another address"));
            if heard.0.iter().any(|metric| metric.tag("src") == Some("10.77.0.9")) {
                break;
            }
            assert!(Instant::now() < deadline, "{which:?}: nothing from the new address");
        }
        assert_eq!(agent.stop().unwrap().status.code(), Some(0), "{which:?}");
    }
}

#[test]
fn an_interface_that_was_lost_is_counted_and_the_others_are_measured_meanwhile() {
    for which in Backend::BOTH {
        let lab = lab();
        let server = statsd(&lab);
        lab.a.namespace.ip("link add extra0 type veth peer name extra1\nlink set extra0 up").unwrap();
        let conf = Conf::new();
        conf.write(&[&backend(which)], &format!("{USUAL}  - interface: extra0\n    ips: [10.99.0.0/16]\n"));
        let agent = start(&lab, &conf);
        wait_until(&server, "both", |heard| heard.gauge("go_metro.interfaces") == Some(2.0));
        lab.a.namespace.ip("link delete extra0").unwrap();
        wait_until(&server, "a loss that is counted", |heard| {
            heard.count("go_metro.interfaces.lost") == 1 && heard.gauge("go_metro.interfaces") == Some(1.0)
        });
        measured_again(&lab, &server, &format!("{which:?}, the other interface"));
        assert_eq!(agent.stop().unwrap().status.code(), Some(0), "{which:?}");
    }
}
