//! Loss, reordering and duplication, and how TCP recovers; what the receiver's delays and closed windows do.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use socket2::{SockRef, TcpKeepalive};

use super::stage::{DELAY, FULL, Pair, both, lab, order, record, record_on, talk};
use super::{Scenario, Truth};
use testing_lab::traffic::connect;
use testing_lab::{INTERFACE, Impairment, Lab, Order, Way, What};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "clean",
        shows: "requests and responses and transfers both ways over 20 ms, IPv4 and IPv6, with timestamps and SACK",
        must: &[("tcp.options.timestamp.tsval", 200), ("ipv6 && tcp.len > 0", 50), ("ip && tcp.len > 0", 50)],
        trusted: 150,
        truth: Truth::Judges,
        make: |into| clean(into, true),
    },
    Scenario {
        name: "clean-no-timestamps",
        shows: "the same without timestamps",
        must: &[("tcp && !tcp.options.timestamp.tsval", 200)],
        trusted: 150,
        truth: Truth::Judges,
        make: |into| clean(into, false),
    },
    Scenario {
        name: "loss-sack-timestamps",
        shows: "loss both ways, recovered with SACK, with timestamps",
        must: &[("tcp.analysis.retransmission", 6), ("tcp.options.sack_le", 6), ("tcp.options.timestamp.tsval", 200)],
        trusted: 80,
        truth: Truth::Judges,
        make: |into| loss(into, true, true),
    },
    Scenario {
        name: "loss-sack",
        shows: "loss both ways, recovered with SACK, without timestamps",
        must: &[
            ("tcp.analysis.retransmission", 6),
            ("tcp.options.sack_le", 6),
            ("tcp && !tcp.options.timestamp.tsval", 200),
        ],
        trusted: 80,
        truth: Truth::Judges,
        make: |into| loss(into, true, false),
    },
    Scenario {
        name: "loss-timestamps",
        shows: "loss both ways, recovered by duplicate ACKs and timers, with timestamps",
        must: &[("tcp.analysis.retransmission", 6), ("tcp.analysis.duplicate_ack", 6), ("!tcp.options.sack_perm", 200)],
        trusted: 80,
        truth: Truth::Judges,
        make: |into| loss(into, false, true),
    },
    Scenario {
        name: "loss-plain",
        shows: "loss both ways, with neither SACK nor timestamps",
        must: &[
            ("tcp.analysis.retransmission", 6),
            ("tcp.analysis.duplicate_ack", 6),
            ("tcp && !tcp.options.sack_perm && !tcp.options.timestamp.tsval", 200),
        ],
        trusted: 80,
        truth: Truth::Judges,
        make: |into| loss(into, false, false),
    },
    Scenario {
        name: "loss-microseconds",
        shows: "loss on a path of some 100 µs, where a retransmission has the TSval of what it repeats; IPv4 and IPv6",
        must: &[
            ("tcp.analysis.retransmission || tcp.analysis.out_of_order", 8),
            ("tcp.options.sack_le", 8),
            ("tcp.analysis.ack_rtt < 0.001", 100),
            ("ipv6", 100),
        ],
        trusted: 80,
        truth: Truth::Judges,
        make: |into| loss_on_a_short_path(into, true),
    },
    Scenario {
        name: "loss-microseconds-plain",
        shows: "the same without timestamps",
        must: &[
            ("tcp.analysis.retransmission || tcp.analysis.out_of_order", 8),
            ("tcp.analysis.ack_rtt < 0.001", 100),
            ("ipv6", 100),
        ],
        trusted: 80,
        truth: Truth::Judges,
        make: |into| loss_on_a_short_path(into, false),
    },
    Scenario {
        name: "reordering",
        shows: "segments of both directions overtaken by later ones",
        must: &[("tcp.analysis.out_of_order || tcp.analysis.retransmission", 3), ("tcp.options.sack_le", 5)],
        trusted: 80,
        truth: Truth::Judges,
        make: reordering,
    },
    Scenario {
        name: "duplication",
        shows: "segments that arrive twice; the receivers tell with D-SACK",
        must: &[("tcp.options.sack.dsack", 3), ("tcp.analysis.retransmission || tcp.analysis.out_of_order", 3)],
        trusted: 80,
        truth: Truth::Judges,
        make: duplication,
    },
    Scenario {
        name: "fast-retransmission",
        shows: "single and double losses within a flight, sent again after SACKs within a round trip",
        must: &[("tcp.analysis.fast_retransmission", 3)],
        trusted: 50,
        truth: Truth::Judges,
        make: fast_retransmission,
    },
    Scenario {
        name: "spurious-retransmission",
        shows: "acknowledgements lost: the receiver sees again what it has (captured at the receiver)",
        must: &[("tcp.analysis.spurious_retransmission", 1), ("tcp.options.sack.dsack", 1)],
        trusted: 30,
        truth: Truth::Judges,
        make: spurious_retransmission,
    },
    Scenario {
        name: "spurious-timeout",
        shows: "the path becomes 400 ms slower at a stroke: the timer fires though nothing was lost",
        must: &[("tcp.analysis.retransmission", 1), ("tcp.options.sack.dsack", 1)],
        trusted: 30,
        truth: Truth::Judges,
        make: spurious_timeout,
    },
    Scenario {
        name: "tail-loss-probe",
        shows: "the last segments of a flight lost, and told by a probe (RFC 8985) well before the timer",
        must: &[("tcp.analysis.rto < 0.15", 2)],
        trusted: 30,
        truth: Truth::Judges,
        make: tail_loss_probe,
    },
    Scenario {
        name: "delayed-acks",
        shows: "single segments whose acknowledgement the receiver keeps back for 40 ms",
        must: &[("tcp.analysis.ack_rtt > 0.055", 8)],
        trusted: 50,
        truth: Truth::Judges,
        make: delayed_acks,
    },
    Scenario {
        name: "zero-window",
        shows: "a receiver that does not read: window closed, probed, opened",
        must: &[
            ("tcp.analysis.zero_window", 2),
            // As tshark calls a probe without payload, which is Linux's.
            ("tcp.analysis.keep_alive || tcp.analysis.zero_window_probe", 2),
            ("tcp.window_size_value > 0 && tcp.analysis.window_update", 1),
        ],
        trusted: 10,
        truth: Truth::Judges,
        make: zero_window,
    },
    Scenario {
        name: "keep-alive",
        shows: "silence with keep-alives, then more data",
        must: &[("tcp.analysis.keep_alive", 2), ("tcp.analysis.keep_alive_ack", 2)],
        trusted: 20,
        truth: Truth::Judges,
        make: keep_alive,
    },
];

fn timestamps(lab: &Lab, wanted: bool) -> Result<()> {
    both(lab, "net/ipv4/tcp_timestamps", if wanted { "1" } else { "0" })
}

fn clean(into: &Path, stamped: bool) -> Result<()> {
    let lab = lab()?;
    timestamps(&lab, stamped)?;
    record(&lab, into, || {
        talk(&lab, lab.b.v4, 100_000)?;
        talk(&lab, lab.b.v6, 100_000)
    })
}

/// Losses by order, and some by chance.
fn losses(delay: Duration, seed: u64) -> Impairment {
    let orders = [21, 45, 46, 80].map(|nth| Order::lose(What::Data, nth)).to_vec();
    Impairment { orders, loss: 0.01, seed, ..Impairment::delay(delay) }
}

fn loss(into: &Path, sack: bool, stamped: bool) -> Result<()> {
    let lab = lab()?;
    timestamps(&lab, stamped)?;
    both(&lab, "net/ipv4/tcp_sack", if sack { "1" } else { "0" })?;
    for (way, seed) in [(Way::AToB, 5), (Way::BToA, 6)] {
        lab.path().impair(way, losses(DELAY, seed));
    }
    record(&lab, into, || {
        talk(&lab, lab.b.v4, 150_000)?;
        talk(&lab, lab.b.v6, 100_000)
    })
}

fn loss_on_a_short_path(into: &Path, stamped: bool) -> Result<()> {
    let lab = lab()?;
    timestamps(&lab, stamped)?;
    both(&lab, "net/ipv4/tcp_early_retrans", "3")?;
    record(&lab, into, || {
        for address in [lab.b.v4.into(), lab.b.v6.into()] {
            for (way, seed) in [(Way::AToB, 7), (Way::BToA, 8)] {
                lab.path().impair(way, losses(Duration::ZERO, seed));
            }
            talk(&lab, std::net::IpAddr::clone(&address), 150_000)?;
        }
        Ok(())
    })
}

fn reordering(into: &Path) -> Result<()> {
    let lab = lab()?;
    let held = [25, 50, 90].map(|nth| Order::hold(What::Data, nth, Duration::from_millis(8))).to_vec();
    for (way, seed) in [(Way::AToB, 1), (Way::BToA, 2)] {
        let delay = Impairment::delay(DELAY);
        lab.path().impair(way, Impairment { orders: held.clone(), reorder: 0.02, seed, ..delay });
    }
    record(&lab, into, || {
        talk(&lab, lab.b.v4, 150_000)?;
        talk(&lab, lab.b.v6, 100_000)
    })
}

fn duplication(into: &Path) -> Result<()> {
    let lab = lab()?;
    for (way, seed) in [(Way::AToB, 1), (Way::BToA, 2)] {
        lab.path().impair(way, Impairment { duplicate: 0.05, seed, ..Impairment::delay(DELAY) });
    }
    record(&lab, into, || {
        talk(&lab, lab.b.v4, 100_000)?;
        talk(&lab, lab.b.v6, 50_000)
    })
}

fn fast_retransmission(into: &Path) -> Result<()> {
    let lab = lab()?;
    record(&lab, into, || {
        let mut pair = Pair::open(&lab, lab.b.v4)?;
        pair.upload(60_000)?;
        for lost in [&[5][..], &[9], &[4, 5], &[3, 12]] {
            order(&lab, Way::AToB, lost.iter().map(|nth| Order::lose(What::Data, *nth)).collect());
            pair.upload(40_000)?;
            thread::sleep(5 * DELAY);
        }
        pair.close()
    })
}

fn spurious_retransmission(into: &Path) -> Result<()> {
    let lab = lab()?;
    record_on(&lab.b, INTERFACE, &["tcp"], into, || {
        let mut pair = Pair::open(&lab, lab.b.v4)?;
        pair.rounds(20)?;
        for _ in 0..3 {
            order(&lab, Way::BToA, (1..=4).map(|nth| Order::lose(What::Ack, nth)).collect());
            pair.upload(4 * FULL)?;
            thread::sleep(Duration::from_millis(900));
        }
        pair.rounds(20)?;
        pair.close()
    })
}

fn spurious_timeout(into: &Path) -> Result<()> {
    let lab = lab()?;
    record(&lab, into, || {
        let mut pair = Pair::open(&lab, lab.b.v4)?;
        pair.rounds(30)?;
        for way in [Way::BToA, Way::AToB] {
            lab.path().impair(way, Impairment::delay(DELAY + Duration::from_millis(400)));
            pair.upload(3 * FULL)?;
            thread::sleep(Duration::from_millis(900));
            lab.path().set_rtt(2 * DELAY);
            pair.rounds(10)?;
        }
        pair.close()
    })
}

fn tail_loss_probe(into: &Path) -> Result<()> {
    let lab = lab()?;
    both(&lab, "net/ipv4/tcp_early_retrans", "3")?;
    record(&lab, into, || {
        let mut pair = Pair::open(&lab, lab.b.v4)?;
        pair.rounds(20)?;
        // Of a single segment the probe waits for a delayed acknowledgement too, which is longer than the timer.
        for segments in [6, 8, 4] {
            order(&lab, Way::AToB, [segments - 1, segments].map(|nth| Order::lose(What::Data, nth)).to_vec());
            pair.upload(segments as usize * FULL)?;
            thread::sleep(Duration::from_millis(100));
            pair.rounds(3)?;
        }
        pair.close()
    })
}

fn delayed_acks(into: &Path) -> Result<()> {
    let lab = lab()?;
    record(&lab, into, || {
        let mut pair = Pair::open(&lab, lab.b.v4)?;
        // A receiver that mostly answers keeps its acknowledgements back for the answer.
        pair.rounds(30)?;
        for _ in 0..15 {
            pair.client.write_all(&[0; 100])?;
            thread::sleep(Duration::from_millis(100));
            pair.server.read_exact(&mut [0; 100])?;
            pair.rounds(3)?;
        }
        pair.rounds(5)?;
        pair.close()
    })
}

fn zero_window(into: &Path) -> Result<()> {
    let lab = lab()?;
    record(&lab, into, || {
        let listener = lab.b.enter(|| TcpListener::bind((lab.b.v4, 0)))?;
        SockRef::from(&listener).set_recv_buffer_size(8192)?;
        let mut pair = Pair::accepted(connect(&lab.a, listener.local_addr()?)?, &listener)?;
        pair.rounds(5)?;
        thread::scope(|scope| {
            let (client, server) = (&mut pair.client, &mut pair.server);
            let sender = scope.spawn(move || client.write_all(&[0; 60_000]));
            thread::sleep(Duration::from_millis(2500));
            server.read_exact(&mut [0; 60_000])?;
            sender.join().ok().transpose()?;
            Ok::<_, anyhow::Error>(())
        })?;
        pair.rounds(5)?;
        pair.close()
    })
}

fn keep_alive(into: &Path) -> Result<()> {
    let lab = lab()?;
    record(&lab, into, || {
        let mut pair = Pair::open(&lab, lab.b.v4)?;
        pair.rounds(10)?;
        let second = Duration::from_secs(1);
        SockRef::from(&pair.client).set_tcp_keepalive(&TcpKeepalive::new().with_time(second).with_interval(second))?;
        thread::sleep(Duration::from_millis(3500));
        pair.rounds(10)?;
        pair.close()
    })
}
