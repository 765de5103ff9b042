//! What is marked as a delayed acknowledgement, against what the path knows: how long the receiver had a segment before
//! it acknowledged it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use socket2::SockRef;
use testing_lab::agent::{Agent, Sample};
use testing_lab::traffic::{Server, Service, bulk, connect};
use testing_lab::{Impairment, Lab, Link, Queue, Way};
use testing_truth::oracle::live::Live;

use super::court::Verdicts;
use super::support::{Backend, watching};

const RTT: Duration = Duration::from_millis(10);
const TRAFFIC: Duration = Duration::from_secs(6);
const CONNECTIONS: usize = 20;
/// Longer than a receiver that is busy takes, shorter than any delayed-ACK timer.
const KEPT_BACK: Duration = Duration::from_millis(30);
const REQUEST: usize = 200;
const RESPONSE: usize = 100;

/// How a server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receiver {
    /// At once, and its kernel acknowledges at once.
    Prompt,
    /// Every other time after longer than its kernel keeps an acknowledgement back.
    Delaying,
}

impl Receiver {
    /// Takes connections on a free port of host b until they end.
    fn listen(self, lab: &Lab) -> SocketAddr {
        let listener = lab.b.enter(|| TcpListener::bind((lab.b.v4, 0))).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming().take(CONNECTIONS) {
                // Ends with its connection.
                let mut stream = stream.unwrap();
                thread::spawn(move || self.serve(&mut stream));
            }
        });
        address
    }

    fn serve(self, stream: &mut TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let mut request = [0; REQUEST];
        for turn in 0.. {
            if self == Self::Prompt {
                // The kernel takes that back by itself, so it is said each time.
                SockRef::from(&*stream).set_tcp_quickack(true)?;
            }
            stream.read_exact(&mut request)?;
            if self == Self::Delaying && turn % 2 == 1 {
                thread::sleep(Duration::from_millis(70 + turn * 7 % 40));
            }
            stream.write_all(&[b'r'; RESPONSE])?;
        }
        Ok(())
    }
}

/// Acknowledgements of single segments, by whether the receiver kept them back, and how many of each were marked.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    prompt: usize,
    false_marks: usize,
    kept_back: usize,
    found: usize,
}

/// Requests with pauses that have nothing to do with anything else.
fn ask(mut stream: TcpStream, mut pause: u64, is_over: &AtomicBool) {
    let mut response = [0; RESPONSE];
    while !is_over.load(Ordering::Relaxed) {
        stream.write_all(&[b'q'; REQUEST]).unwrap();
        stream.read_exact(&mut response).unwrap();
        pause = pause * 7919 % 10_007;
        thread::sleep(Duration::from_micros(pause * 4));
    }
}

/// Connections with either kind of receiver through a queue that drains in `room` and that others fill and leave in
/// turn; by receiver.
fn through(room: Option<Duration>) -> [Counts; 2] {
    let lab = Lab::new(Link::Veth).unwrap();
    lab.path().set_rtt(RTT);
    lab.path().cut_super_segments();
    let queue = room.map(|room| Queue::of(20_000_000, room));
    lab.path().impair(Way::AToB, Impairment { queue, ..Impairment::delay(RTT / 2) });
    lab.path().record();
    let json = ["--output", "json", "--samples", "--interval", "1"].map(str::to_owned);
    let agent = Agent::start(&lab.a, watching(&lab, Backend::Ebpf).into_iter().chain(json)).unwrap();
    let sink = Server::v4(&lab.b, Service::Sink).unwrap();
    let servers = [Receiver::Prompt, Receiver::Delaying].map(|receiver| receiver.listen(&lab));
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for (k, server) in (1..).zip([servers; CONNECTIONS].concat()) {
            let (stream, is_over) = (connect(&lab.a, server).unwrap(), &is_over);
            scope.spawn(move || ask(stream, k, is_over));
        }
        // They fill the queue together, and leave it together.
        for _ in 0..if room.is_some() { 4 } else { 0 } {
            let mut stream = connect(&lab.a, sink.address()).unwrap();
            let is_over = &is_over;
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    bulk(&mut stream, Duration::from_millis(400)).unwrap();
                    thread::sleep(Duration::from_millis(400));
                }
            });
        }
        thread::sleep(TRAFFIC);
        is_over.store(true, Ordering::Relaxed);
    });
    // What is on its way arrives, and another report is due.
    thread::sleep(Duration::from_millis(1200));
    let finished = agent.stop().unwrap();
    let passages = lab.path().passages();
    let samples: Vec<Sample> = finished.samples().unwrap().into_iter().filter(Sample::is_data).collect();
    let live = Live::new(&passages);
    let verdicts = Verdicts::of(&live, &samples);
    verdicts.assert_true(|_| RTT);
    servers.map(|server| {
        let mut counts = Counts::default();
        let mut waited = Vec::new();
        for (sample, proof) in verdicts.proofs.iter().filter(|(sample, _)| sample.remote == server) {
            let kept_back = Duration::from_nanos(proof.held_ns) >= KEPT_BACK;
            let (all, marked) = match kept_back {
                true => (&mut counts.kept_back, &mut counts.found),
                false => (&mut counts.prompt, &mut counts.false_marks),
            };
            *all += 1;
            *marked += usize::from(sample.delayed);
            if !kept_back {
                waited.push(sample.rtt());
            }
        }
        waited.sort();
        let shares = [1, 5, 9].map(|tenth| waited.get(waited.len() * tenth / 10));
        println!("room {room:?}: {counts:?}; what came at once took (1, 5, 9 in ten) {shares:?}");
        counts
    })
}

#[test]
fn what_is_marked_as_delayed_was_kept_back_and_what_a_queue_delays_is_not() {
    let queues = [None, Some(110), Some(42)].map(|room| room.map(Duration::from_millis));
    let all: Vec<Counts> = queues.into_iter().flat_map(through).collect();
    let sum = |of: fn(&Counts) -> usize| all.iter().map(of).sum::<usize>();
    let (false_marks, found) = (sum(|counts| counts.false_marks), sum(|counts| counts.found));
    println!(
        "of {} that came at once {false_marks} are marked, of {} that were kept back {found}",
        sum(|counts| counts.prompt),
        sum(|counts| counts.kept_back)
    );
    assert!(found > 0, "none was found: {all:?}");
    assert!(false_marks * 100 <= false_marks + found, "{false_marks} of {} marks are false", false_marks + found);
}
