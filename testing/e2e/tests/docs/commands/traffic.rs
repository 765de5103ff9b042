//! Who talks to whom in a scene, and over which path: always the same, or what a story of docs/stories.md has.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use testing_lab::control_groups::Groups;
use testing_lab::traffic::{Rounds, Server, Service, connect};
use testing_lab::{Impairment, Lab, Queue, Way};

/// What the far hosts of the stories are called, beside the first.
pub(super) const NAMES: &str = "10.77.0.3 cache.example.org\n10.77.0.4 api.example.org\n10.77.0.5 backup.example.org\n";
/// The far hosts.
const DB: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 77, 0, 2), 5432);
const CACHE: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 77, 0, 3), 6379);
const API: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 77, 0, 4), 8080);
const BACKUP: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 77, 0, 5), 443);
const FAR: [(Ipv4Addr, u16); 4] = [DB, CACHE, API, BACKUP];
/// How far away each of them is, in milliseconds.
const RTTS: [(Ipv4Addr, u64); 4] = [(DB.0, 25), (CACHE.0, 2), (API.0, 6), (BACKUP.0, 84)];

/// How long all is well in a story in which something changes.
const QUIET: Duration = Duration::from_secs(20);
/// What becomes of the round trip to the slow host.
const SLOW_MS: u64 = 66;
/// The share of segments that are lost on the way to a host.
const LOSS: f64 = 0.03;
/// How often something is tried again, and how long it is waited for.
const AGAIN: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a busy host thinks before it answers.
const THINKS: Duration = Duration::from_millis(240);
/// Where the bulk of a container goes.
const BULK: u16 = 9000;
/// The narrowest link of its path, and how long it takes to drain what waits before it.
const NARROW: (u64, Duration) = (8_000_000, Duration::from_millis(60));

/// A page's story, by the name of its scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Story {
    /// One of four hosts becomes slow.
    Slow,
    /// What is sent to one of them is lost now and then.
    Lossy,
    /// One has nobody who listens, and one does not answer at all.
    Refused,
    /// One takes its time to answer.
    Busy,
    /// A container's bulk fills the path that a service needs too.
    Container,
}

impl Story {
    /// The story of this scene, if it is one's.
    pub(super) fn named(scene: &str) -> Option<Self> {
        Some(match scene {
            "slow" => Self::Slow,
            "lossy" => Self::Lossy,
            "refused" => Self::Refused,
            "busy" => Self::Busy,
            "container" => Self::Container,
            _ => return None,
        })
    }

    /// The usual configuration, with what the story's page says is in it.
    pub(super) fn configuration(self, usual: &str) -> String {
        let keys = match self {
            Self::Slow | Self::Lossy => "metrics: [default, health, base]",
            Self::Refused => "metrics: [default, health]\n  group_by: {port: service}\n  connect_timeout: 2",
            Self::Busy => "metrics: [default, base]\n  kernel_rtt: true",
            // The page is what a second run has to leave to the daemon.
            Self::Container => {
                "metrics: [default, health, base]\n  process_tags: container\n  web_listen: 127.0.0.1:9465"
            }
        };
        usual.replace("init_config:\n", &format!("init_config:\n  {keys}\n"))
    }
}

/// Everything that talks; ends when dropped.
pub(super) struct Traffic {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    processes: Vec<Child>,
    // Behind the processes that are in them.
    _groups: Option<Groups>,
}

impl Traffic {
    /// Sets the path, and begins.
    pub(super) fn begin(lab: &Arc<Lab>, story: Option<Story>) -> Self {
        let stop = Arc::default();
        let mut traffic = Self { stop, threads: Vec::new(), processes: Vec::new(), _groups: None };
        let rounds = Rounds { count: 10, pause: Duration::from_millis(20), ..Rounds::default() };
        // So many that ends, which a receiver acknowledges late, are rare.
        let long = Rounds { count: 1000, ..rounds };
        let Some(story) = story else {
            lab.path().set_rtt(Duration::from_millis(25));
            traffic.spawn(lab, move |lab, stop| talk(lab, (lab.b.v4, 0), rounds, stop));
            return traffic;
        };
        for (address, _) in &FAR[1..] {
            lab.b.add_address(*address).unwrap();
        }
        let way = far_away(RTTS);
        Way::BOTH.into_iter().for_each(|both| lab.path().impair(both, way.clone()));
        match story {
            Story::Slow => {
                traffic.talk_to(lab, &FAR, long);
                traffic.spawn(lab, become_slow);
            }
            Story::Lossy => {
                lab.path().cut_super_segments();
                lab.path().impair(Way::AToB, Impairment { loss_of: vec![(API.0.into(), LOSS)], ..way });
                traffic.talk_to(lab, &[DB, CACHE, API], Rounds { request: 20_000, count: 100, ..rounds });
            }
            Story::Refused => {
                lab.path().impair(Way::AToB, Impairment { loss_of: vec![(BACKUP.0.into(), 1.0)], ..way });
                traffic.talk_to(lab, &[DB, CACHE], rounds);
                for to in [API, BACKUP] {
                    traffic.spawn(lab, move |lab, stop| knock(lab, to.into(), stop));
                }
            }
            Story::Busy => {
                traffic.talk_to(lab, &[DB, CACHE], long);
                traffic.spawn(lab, think);
            }
            Story::Container => {
                lab.path().cut_super_segments();
                let queue = Some(Queue::of(NARROW.0, NARROW.1));
                lab.path().impair(Way::AToB, Impairment { queue, ..way });
                traffic.talk_in_groups(lab, rounds);
            }
        }
        traffic
    }

    fn spawn(&mut self, lab: &Arc<Lab>, work: impl FnOnce(&Lab, &AtomicBool) + Send + 'static) {
        let (lab, stop) = (Arc::clone(lab), Arc::clone(&self.stop));
        self.threads.push(thread::spawn(move || work(&lab, &stop)));
    }

    fn talk_to(&mut self, lab: &Arc<Lab>, far: &[(Ipv4Addr, u16)], rounds: Rounds) {
        for to in far.iter().copied() {
            self.spawn(lab, move |lab, stop| talk(lab, to, rounds, stop));
        }
    }

    /// A service that asks and waits, and a container that sends all that it can, for a while, again and again.
    fn talk_in_groups(&mut self, lab: &Arc<Lab>, rounds: Rounds) {
        for (port, service) in [(DB.1, rounds.service()), (BULK, Service::Sink)] {
            self.spawn(lab, move |lab, stop| {
                let _server = Server::start(&lab.b, (DB.0, port).into(), service).unwrap();
                wait(stop, Duration::MAX);
            });
        }
        let (address, port, request) = (DB.0, DB.1, rounds.request);
        let asks = format!(
            "exec 3<>/dev/tcp/{address}/{port} && for i in 1 2 3 4 5 6 7 8 9 10; do
             printf %{request}s q >&3; head -c {} <&3 >/dev/null; sleep 0.05; done",
            rounds.response
        );
        let sends = format!("sleep 2; head -c 16000000 /dev/zero > /dev/tcp/{address}/{BULK}");
        let mut groups = Groups::new().unwrap();
        for (group, does) in [(groups.unit("web.service").unwrap(), asks), (groups.container().unwrap(), sends)] {
            self.processes.push(again_and_again(lab, &group, &does));
        }
        self._groups = Some(groups);
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for process in &mut self.processes {
            let _ = killpg(Pid::from_raw(process.id().cast_signed()), Signal::SIGKILL);
            let _ = process.wait();
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// A path on which the hosts are so far away, in milliseconds there and back.
fn far_away(rtts: impl IntoIterator<Item = (Ipv4Addr, u64)>) -> Impairment {
    let delays = rtts.into_iter().map(|(address, ms)| (IpAddr::from(address), Duration::from_micros(ms * 500)));
    Impairment { delay_of: delays.collect(), ..Impairment::default() }
}

/// Waits for so long, or until all is over; whether it is not.
fn wait(stop: &AtomicBool, time: Duration) -> bool {
    let start = Instant::now();
    while !stop.load(Ordering::Relaxed) && start.elapsed() < time {
        thread::sleep(Duration::from_millis(20).min(time));
    }
    !stop.load(Ordering::Relaxed)
}

/// Request and answer, again and again, on connections of so many rounds each.
fn talk(lab: &Lab, to: (Ipv4Addr, u16), rounds: Rounds, stop: &AtomicBool) {
    let server = Server::start(&lab.b, to.into(), rounds.service()).unwrap();
    let one = Rounds { count: 1, ..rounds };
    while !stop.load(Ordering::Relaxed) {
        let driven = connect(&lab.a, server.address()).and_then(|mut stream| {
            let mut left = rounds.count;
            while left > 0 && !stop.load(Ordering::Relaxed) {
                one.drive(&mut stream)?;
                left -= 1;
            }
            Ok(())
        });
        if driven.is_err() {
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// The path to one of the hosts becomes longer, by a queue or another way.
fn become_slow(lab: &Lab, stop: &AtomicBool) {
    if wait(stop, QUIET) {
        let rtts = RTTS.map(|(address, ms)| (address, if address == API.0 { SLOW_MS } else { ms }));
        Way::BOTH.into_iter().for_each(|way| lab.path().impair(way, far_away(rtts)));
    }
}

/// Tries to connect, again and again.
fn knock(lab: &Lab, to: SocketAddr, stop: &AtomicBool) {
    while wait(stop, AGAIN) {
        let _ = lab.a.enter(|| TcpStream::connect_timeout(&to, PATIENCE));
    }
}

/// A web server that thinks before it answers, and a client with a connection for each request.
fn think(lab: &Lab, stop: &AtomicBool) {
    let listener = lab.b.enter(|| TcpListener::bind(API).unwrap());
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that goes away is its own affair.
            thread::spawn(move || answer_late(stream));
        }
    });
    while !stop.load(Ordering::Relaxed) {
        let asked = connect(&lab.a, address).and_then(|mut stream| {
            stream.write_all(b"GET / HTTP/1.1\r\nHost: api.example.org\r\nConnection: close\r\n\r\n")?;
            Ok(stream.read_to_end(&mut Vec::new())?)
        });
        if asked.is_err() {
            thread::sleep(Duration::from_millis(50));
        }
    }
}

fn answer_late(mut stream: TcpStream) -> std::io::Result<()> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte)? > 0 {
        head.extend(byte);
    }
    thread::sleep(THINKS);
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n")
}

/// A shell on host a, in this group, that does this without end.
fn again_and_again(lab: &Lab, group: &Path, does: &str) -> Child {
    let script = format!("echo $$ > '{}'/cgroup.procs && while :; do ({does}); sleep 0.1; done", group.display());
    let mut shell = lab.a.namespace.command("bash");
    shell.args(["-c", &script]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    shell.spawn().unwrap()
}
