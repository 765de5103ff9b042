//! The lab itself: what it imposes is what happens, whatever go-metro may say of it.
#![allow(clippy::unwrap_used)]

use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use testing_lab::late::{Late, in_time, timely};
use testing_lab::programs::{Hook, Position, Program};
use testing_lab::traffic::{Rounds, Server, Service, bulk, connect};
use testing_lab::{Impairment, Lab, Link, Offload, Order, Way, What};

const RTT: Duration = Duration::from_millis(50);

/// What the machine itself may add. Others compete for its processors: the least of several says what the lab does.
const OVERHEAD: Duration = Duration::from_millis(1);

fn least(times: &[Duration]) -> Duration {
    times.iter().copied().min().unwrap_or_default()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// At least what is expected, and at most so much more.
fn is_near(what: &str, measured: Duration, expected: Duration, tolerance: Duration) -> Result<(), Late> {
    assert!(measured >= expected, "{what}: {measured:?} is less than {expected:?}");
    timely(measured <= expected + tolerance, || {
        format!("{what}: {measured:?}, expected {expected:?} and {tolerance:?}")
    })
}

#[test]
fn request_and_response_take_the_delay_and_little_more_on_either_link() {
    for link in [Link::Veth, Link::Tun] {
        in_time(&format!("{link:?}"), || try_the_delay(link));
    }
}

fn try_the_delay(link: Link) -> Result<(), Late> {
    let lab = Lab::new(link).unwrap();
    lab.path().set_rtt(RTT);
    let rounds = Rounds { count: 40, ..Rounds::default() };
    for server in [Server::v4(&lab.b, rounds.service()).unwrap(), Server::v6(&lab.b, rounds.service()).unwrap()] {
        let start = Instant::now();
        let mut stream = connect(&lab.a, server.address()).unwrap();
        // Address resolution on the first contact takes a round trip of its own.
        timely(start.elapsed() < RTT * 3, || format!("connect took {:?}", start.elapsed()))?;
        let exchange = rounds.drive(&mut stream).unwrap();
        println!("{link:?} {}: median {:?}, {:?}", server.address(), median(exchange.times.clone()), exchange.last());
        is_near("the quickest round", least(&exchange.times), RTT, OVERHEAD)?;
        // Of rounds the least alone: the client may be late to run. The kernel times them all without it.
        is_near("smoothed RTT of the kernel", exchange.last().rtt, RTT, 3 * OVERHEAD)?;
        is_near("least RTT of the kernel", exchange.last().min_rtt, RTT, OVERHEAD)?;
    }
    assert_eq!(lab.path().counters(Way::AToB).overflowed, 0);
    Ok(())
}

#[test]
fn a_delay_changes_while_a_connection_runs_and_by_far_address() {
    in_time("a delay that changes", try_a_delay_that_changes);
}

fn try_a_delay_that_changes() -> Result<(), Late> {
    let lab = Lab::new(Link::Veth).unwrap();
    let near = [10, 77, 0, 3].into();
    lab.b.add_address(near).unwrap();
    let rounds = Rounds { count: 5, ..Rounds::default() };
    let server = Server::start(&lab.b, SocketAddr::from(([0, 0, 0, 0], 7000)), rounds.service()).unwrap();
    let mut far = connect(&lab.a, (lab.b.v4, server.address().port()).into()).unwrap();
    let mut close = connect(&lab.a, (near, server.address().port()).into()).unwrap();
    for (far_delay, near_delay) in [(20, 5), (8, 12)] {
        for way in Way::BOTH {
            let delay_of = vec![(near.into(), Duration::from_millis(near_delay))];
            lab.path().impair(way, Impairment { delay_of, ..Impairment::delay(Duration::from_millis(far_delay)) });
        }
        for (stream, delay) in [(&mut far, far_delay), (&mut close, near_delay)] {
            let times = rounds.drive(stream).unwrap().times;
            is_near("the quickest round", least(&times), Duration::from_millis(2 * delay), OVERHEAD)?;
        }
    }
    Ok(())
}

#[test]
fn what_is_lost_to_one_host_is_not_lost_to_another() {
    let lab = Lab::new(Link::Veth).unwrap();
    let lossy = Ipv4Addr::new(10, 77, 0, 3);
    lab.b.add_address(lossy).unwrap();
    lab.path().impair(Way::AToB, Impairment { loss_of: vec![(lossy.into(), 1.0)], ..Impairment::default() });
    let rounds = Rounds { count: 50, ..Rounds::default() };
    let server = Server::start(&lab.b, SocketAddr::from(([0, 0, 0, 0], 7000)), rounds.service()).unwrap();
    let to = |address: Ipv4Addr| (address, server.address().port()).into();
    rounds.run(&lab.a, to(lab.b.v4)).unwrap();
    assert_eq!(lab.path().counters(Way::AToB).lost, 0);
    let tried = lab.a.enter(|| TcpStream::connect_timeout(&to(lossy), Duration::from_millis(300)));
    assert_eq!(tried.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    assert_eq!(lab.path().counters(Way::AToB).lost, 1);
}

#[test]
fn super_segments_pass_whole_and_fast() {
    for link in [Link::Veth, Link::Tun] {
        in_time(&format!("{link:?}"), || try_super_segments(link));
    }
}

fn try_super_segments(link: Link) -> Result<(), Late> {
    let lab = Lab::new(link).unwrap();
    lab.path().set_rtt(Duration::from_millis(2));
    let server = Server::v4(&lab.b, Service::Sink).unwrap();
    let mut stream = connect(&lab.a, server.address()).unwrap();
    let time = Duration::from_secs(1);
    let (sent, exchange) = bulk(&mut stream, time).unwrap();
    let counters = lab.path().counters(Way::AToB);
    println!("{link:?}: {} Mbit/s, {counters:?}, {:?}", sent * 8 / 1_000_000, exchange.last());
    timely(sent > 50_000_000, || format!("{sent} bytes in {time:?}"))?;
    assert!(counters.super_segments > counters.forwarded / 2, "{link:?}: {counters:?}");
    assert_eq!(counters.overflowed, 0, "{link:?}");
    // The path is clean: what is sent again is the sender's impatience with a stalled machine.
    let info = exchange.last();
    timely(info.total_retrans <= info.data_segs_out / 1000, || format!("{info:?}"))
}

#[test]
fn without_offload_every_frame_is_one_segment() {
    let lab = Lab::with_offload(Link::Veth, Offload::Off).unwrap();
    let server = Server::v4(&lab.b, Service::Sink).unwrap();
    let mut stream = connect(&lab.a, server.address()).unwrap();
    // So many small frames may overrun the kernel's own queues (net.core.netdev_max_backlog) and wait for a
    // retransmission.
    bulk(&mut stream, Duration::from_secs(1)).unwrap();
    let counters = lab.path().counters(Way::AToB);
    assert!(counters.forwarded > 500, "{counters:?}");
    assert_eq!(counters.super_segments, 0, "{counters:?}");
}

/// Sends numbered datagrams and returns the numbers in the order of their arrival.
fn arrivals(impairment: Impairment) -> Vec<u32> {
    let lab = Lab::new(Link::Veth).unwrap();
    let receiver = lab.b.enter(|| UdpSocket::bind((lab.b.v4, 9000))).unwrap();
    let sender = lab.a.enter(|| UdpSocket::bind((lab.a.v4, 0))).unwrap();
    receiver.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut buffer = [0; 4];
    // Address resolution first: datagrams that wait for it may be dropped by the sender itself.
    sender.send_to(&[0; 4], (lab.b.v4, 9000)).unwrap();
    receiver.recv(&mut buffer).unwrap();
    lab.path().impair(Way::AToB, impairment);
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..400_u32 {
                sender.send_to(&number.to_be_bytes(), (lab.b.v4, 9000)).unwrap();
                // A socket's buffer holds only some hundred datagrams.
                thread::sleep(Duration::from_micros(50));
            }
        });
        std::iter::from_fn(|| receiver.recv(&mut buffer).ok().map(|_| u32::from_be_bytes(buffer))).collect()
    })
}

#[test]
fn losses_and_duplicates_come_from_the_seed() {
    in_time("losses", try_losses);
}

fn try_losses() -> Result<(), Late> {
    let impairment =
        |seed| Impairment { loss: 0.1, duplicate: 0.1, seed, ..Impairment::delay(Duration::from_millis(1)) };
    let first = arrivals(impairment(7));
    // A machine that holds the receiver up loses others.
    let again = arrivals(impairment(7));
    timely(first == again, || format!("{} arrived, then {}", first.len(), again.len()))?;
    assert_ne!(first, arrivals(impairment(8)));
    let mut distinct = first.clone();
    distinct.dedup();
    assert!((330..390).contains(&distinct.len()), "{} of 400 arrived", distinct.len());
    assert!((10..80).contains(&(first.len() - distinct.len())), "{} arrived twice", first.len() - distinct.len());
    Ok(())
}

#[test]
fn frames_overtake_those_held_back_and_jitter_keeps_their_order() {
    in_time("order", try_order);
}

fn try_order() -> Result<(), Late> {
    let held_back = arrivals(Impairment { reorder: 0.1, seed: 3, ..Impairment::default() });
    timely(held_back.len() == 400, || format!("{} arrived", held_back.len()))?;
    assert!(!held_back.is_sorted());
    let jitter = Duration::from_millis(2);
    let jittered = arrivals(Impairment { jitter, seed: 3, ..Impairment::delay(Duration::from_millis(1)) });
    timely(jittered.len() == 400, || format!("{} arrived", jittered.len()))?;
    assert!(jittered.is_sorted());
    Ok(())
}

#[test]
fn an_order_meets_the_segment_that_it_names_and_no_other() {
    in_time("an order", try_an_order);
}

fn try_an_order() -> Result<(), Late> {
    let lab = Lab::with_offload(Link::Veth, Offload::Off).unwrap();
    lab.path().set_rtt(Duration::from_millis(10));
    let rounds = Rounds { count: 10, ..Rounds::default() };
    let server = Server::v4(&lab.b, rounds.service()).unwrap();
    let mut stream = connect(&lab.a, server.address()).unwrap();
    let orders = vec![Order::lose(What::Data, 4), Order::hold(What::Data, 9, Duration::from_millis(50))];
    lab.path().impair(Way::AToB, Impairment { orders, ..Impairment::delay(Duration::from_millis(5)) });
    let exchange = rounds.drive(&mut stream).unwrap();
    // The fourth request is sent again, which makes it the fifth segment; the ninth is the eighth request.
    let slow = |time: &Duration| *time > Duration::from_millis(50);
    let late: Vec<usize> = (0..10).filter(|k| slow(&exchange.times[*k])).collect();
    // A round that the machine held up may be sent again, which moves the ninth segment.
    timely(late == [3, 7], || format!("{:?}", exchange.times))?;
    let counters = lab.path().counters(Way::AToB);
    assert_eq!((counters.lost, counters.reordered), (1, 1), "{counters:?}");
    Ok(())
}

#[test]
fn a_dropped_lab_leaves_no_namespace() {
    let lab = Lab::new(Link::Veth).unwrap();
    let paths = [lab.a.namespace.path(), lab.b.namespace.path()];
    assert!(paths.iter().all(|path| path.exists()));
    drop(lab);
    assert!(paths.iter().all(|path| !path.exists()));
}

#[test]
fn tags_pushed_at_a_hook_pass_the_path_with_offloads_intact() {
    let lab = Lab::new(Link::Veth).unwrap();
    lab.path().set_rtt(Duration::from_millis(2));
    let server = Server::v4(&lab.b, Service::Sink).unwrap();
    let mut stream = connect(&lab.a, server.address()).unwrap();
    for (push, pop) in [("lab_vlan_push", "lab_vlan_pop"), ("lab_qinq_push", "lab_qinq_pop")] {
        let _programs: Vec<Program> = [&lab.a, &lab.b]
            .into_iter()
            .flat_map(|host| [(host, pop, Hook::Ingress), (host, push, Hook::Egress)])
            .map(|(host, name, hook)| Program::attach(host, name, hook, Position::First).unwrap())
            .collect();
        let counted = Program::attach(&lab.b, "lab_count", Hook::Ingress, Position::First).unwrap();
        let before = lab.path().counters(Way::AToB);
        let (sent, exchange) = bulk(&mut stream, Duration::from_millis(500)).unwrap();
        let after = lab.path().counters(Way::AToB);
        println!("{push}: {} Mbit/s, {after:?}, {:?}", sent * 16 / 1_000_000, exchange.last());
        assert!(sent > 5_000_000, "{push}: {sent} bytes");
        assert!(after.super_segments > before.super_segments, "{push}: {after:?}");
        let (counted, passed) = (counted.count().unwrap(), after.forwarded - before.forwarded);
        assert!(counted.abs_diff(passed) <= passed / 5, "{push}: the program counted {counted} of {passed}");
    }
    // Nobody takes the tag off: the peer has no such VLAN.
    let _push = Program::attach(&lab.a, "lab_vlan_push", Hook::Egress, Position::First).unwrap();
    stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    assert!(bulk(&mut stream, Duration::from_secs(5)).is_err(), "tagged segments were received");
}
