//! What goes wrong in the meantime, for real and at random.

use std::io::Write as _;
use std::net::{TcpStream, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::{CONFIG, EXTRA, PROMETHEUS, impair, reload};
use testing_lab::agent::Agent;
use testing_lab::statsd::Listener;
use testing_lab::{INTERFACE, Lab};

/// Between faults, in milliseconds.
const PAUSE: std::ops::Range<u64> = 2000..6000;

/// Interfaces that come at once.
const CROWD: u32 = 100;

/// One kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    InterfaceDeleted,
    LinkDown,
    ServerDead,
    ReloadGood,
    ReloadBroken,
    LossBurst,
    LogUnread,
    LogUnwritable,
    ServerSlow,
    ScrapersUnread,
    NamesUnanswered,
    Crowd,
}

impl Fault {
    pub(super) const ALL: [Self; 12] = [
        Self::InterfaceDeleted,
        Self::LinkDown,
        Self::ServerDead,
        Self::ReloadGood,
        Self::ReloadBroken,
        Self::LossBurst,
        Self::LogUnread,
        Self::LogUnwritable,
        Self::ServerSlow,
        Self::ScrapersUnread,
        Self::NamesUnanswered,
        Self::Crowd,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::InterfaceDeleted => "an interface is deleted and made again",
            Self::LinkDown => "the link with the traffic goes down and up",
            Self::ServerDead => "the DogStatsD server dies and returns",
            Self::ReloadGood => "SIGHUP with another good file",
            Self::ReloadBroken => "SIGHUP with a broken file",
            Self::LossBurst => "a fifth of all frames is lost for two seconds",
            Self::LogUnread => "nobody reads standard error for two seconds",
            Self::LogUnwritable => "standard error is a closed pipe for two seconds",
            Self::ServerSlow => "the DogStatsD server takes 100 µs for each datagram",
            Self::ScrapersUnread => "64 clients ask for the Prometheus page and do not read",
            Self::NamesUnanswered => "the name server takes questions and does not answer",
            Self::Crowd => "a hundred interfaces come at once and go",
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
            Fault::LogUnread => {
                std::fs::write(config, CONFIG.replace("10.77.0.0/24", &"1".repeat(10_000)))?;
                agent.without_reading_the_log(|| {
                    for _ in 0..100 {
                        reload(agent)?;
                        wait(Duration::from_millis(20), stop);
                    }
                    anyhow::Ok(())
                })?;
                std::fs::write(config, CONFIG)?;
            }
            Fault::LogUnwritable => {
                std::fs::write(config, CONFIG.replace("10.77.0.0/24", "10.77.0."))?;
                agent.without_a_reader_of_the_log(|| {
                    for _ in 0..20 {
                        reload(agent)?;
                        wait(Duration::from_millis(100), stop);
                    }
                    anyhow::Ok(())
                })??;
                std::fs::write(config, CONFIG)?;
            }
            Fault::ServerSlow => {
                drop(server.take());
                let socket = lab.a.enter(|| UdpSocket::bind(("127.0.0.1", 8125)))?;
                socket.set_read_timeout(Some(Duration::from_millis(20)))?;
                let until = Instant::now() + Duration::from_secs(5);
                while Instant::now() < until && !stop.load(Ordering::Relaxed) {
                    if socket.recv(&mut [0; 65_536]).is_ok() {
                        thread::sleep(Duration::from_micros(100));
                    }
                }
                drop(socket);
                server = Some(Listener::udp(&lab.a, 8125)?);
            }
            Fault::ScrapersUnread => {
                let ask = || -> Result<TcpStream> {
                    let mut stream = lab.a.enter(|| TcpStream::connect(("127.0.0.1", PROMETHEUS)))?;
                    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
                    Ok(stream)
                };
                let clients = (0..64).map(|_| ask()).collect::<Result<Vec<_>>>()?;
                wait(Duration::from_secs(3), stop);
                drop(clients);
            }
            Fault::NamesUnanswered => {
                // Without it questions are refused at once.
                let silent = lab.a.enter(|| UdpSocket::bind(("127.0.0.1", 53)))?;
                wait(Duration::from_secs(5), stop);
                drop(silent);
            }
            Fault::Crowd => {
                let all = |command: &dyn Fn(u32) -> String| (0..CROWD).map(command).collect::<String>();
                a.ip(&all(&|k| format!("link add crowd{k} type veth peer name far{k}\nlink set crowd{k} up\n")))?;
                wait(Duration::from_secs(3), stop);
                a.ip(&all(&|k| format!("link delete crowd{k}\n")))?;
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
