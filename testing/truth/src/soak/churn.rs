//! Connections that come and go: short and long, to near and far hosts, a few that are refused and a few that are cut
//! off.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::FAR;
use testing_lab::Lab;
use testing_lab::traffic::{Rounds, Server, Service};

/// How many connections there are at a time.
const AT_ONCE: u64 = 24;
/// Where nobody listens.
const CLOSED: u16 = 9;

/// Makes connections until told to stop; how many there were.
pub(super) fn run(lab: &Lab, seed: u64, stop: &AtomicBool) -> Result<u64> {
    let rounds = Server::start(&lab.b, ([0, 0, 0, 0], 0).into(), Rounds::default().service())?;
    let sink = Server::start(&lab.b, ([0, 0, 0, 0], 0).into(), Service::Sink)?;
    let (rounds, sink) = (rounds.address().port(), sink.address().port());
    let connections = AtomicU64::new(0);
    lab.a.enter(|| {
        thread::scope(|scope| {
            for number in 0..AT_ONCE {
                let connections = &connections;
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(seed << 8 | number);
                    while !stop.load(Ordering::Relaxed) {
                        let (last, _) = FAR[random.usize(..FAR.len())];
                        let port = *random.choice(&[rounds, rounds, rounds, sink, CLOSED]).unwrap_or(&rounds);
                        // What a fault on the path breaks is over; the next one comes.
                        let _ = connection(([10, 77, 0, last], port).into(), port == rounds, &mut random, stop);
                        connections.fetch_add(1, Ordering::Relaxed);
                        thread::sleep(Duration::from_millis(random.u64(10..100)));
                    }
                });
            }
        });
    });
    Ok(connections.into_inner())
}

fn connection(to: SocketAddr, answers: bool, random: &mut fastrand::Rng, stop: &AtomicBool) -> std::io::Result<()> {
    let limit = Duration::from_secs(3);
    let mut stream = TcpStream::connect_timeout(&to, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    stream.set_nodelay(true)?;
    let Rounds { request, response, .. } = Rounds::default();
    let (request, mut response) = (vec![b'q'; request], vec![0; response]);
    // Mostly a few rounds, sometimes many; and a bulk transfer of up to a megabyte.
    let count = if random.u8(..) < 20 { random.u32(100..400) } else { random.u32(1..12) };
    for _ in 0..count {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        if answers {
            stream.write_all(&request)?;
            stream.read_exact(&mut response)?;
        } else {
            stream.write_all(&vec![b'x'; random.usize(1..30_000)])?;
        }
        thread::sleep(Duration::from_millis(random.u64(..5)));
    }
    // One in ten leaves what the server sends unread: its end is a reset.
    if answers && random.u8(..) < 25 {
        stream.write_all(&request)?;
    }
    Ok(())
}
