//! How connections begin and end.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::sockets::{abort, begin_at, bound, connected};
use super::stage::{DELAY, Pair, at, both, lab, order, record, talk};
use super::{Scenario, Truth};
use testing_lab::traffic::connect;
use testing_lab::{Order, Way, What};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "syn-retransmitted",
        shows: "a SYN lost, a SYN-ACK lost, and sent again after a second; with timestamps",
        must: &[("tcp.analysis.retransmission && tcp.flags.syn == 1", 2), ("tcp.options.timestamp.tsval", 20)],
        trusted: 40,
        truth: Truth::Judges,
        make: |into| syn_retransmitted(into, "1"),
    },
    Scenario {
        name: "syn-retransmitted-plain",
        shows: "the same without timestamps",
        must: &[("tcp.analysis.retransmission && tcp.flags.syn == 1", 2), ("tcp && !tcp.options.timestamp.tsval", 20)],
        trusted: 40,
        truth: Truth::Judges,
        make: |into| syn_retransmitted(into, "0"),
    },
    Scenario {
        name: "reset",
        shows: "a port where nobody listens, a client that aborts, a server that aborts under way",
        must: &[("tcp.flags.reset == 1 && tcp.flags.ack == 1", 1), ("tcp.flags.reset == 1", 3)],
        trusted: 40,
        truth: Truth::Judges,
        make: reset,
    },
    Scenario {
        name: "simultaneous-open",
        shows: "SYNs that cross each other",
        must: &[("tcp.flags.syn == 1 && tcp.flags.ack == 0", 2), ("tcp.flags.syn == 1 && tcp.flags.ack == 1", 2)],
        trusted: 10,
        truth: Truth::Judges,
        make: simultaneous_open,
    },
    Scenario {
        name: "simultaneous-close",
        shows: "FINs that cross each other",
        must: &[("tcp.flags.fin == 1", 2)],
        trusted: 20,
        truth: Truth::Judges,
        make: simultaneous_close,
    },
    Scenario {
        name: "half-close",
        shows: "a client that says no more and goes on receiving",
        must: &[("tcp.flags.fin == 1", 2), ("tcp.len > 0", 60)],
        trusted: 30,
        truth: Truth::Judges,
        make: half_close,
    },
    Scenario {
        name: "port-reuse",
        shows: "the same addresses and ports again at once, after a reset and after an orderly end",
        must: &[("tcp.analysis.reused_ports", 4)],
        trusted: 50,
        truth: Truth::Judges,
        make: port_reuse,
    },
    Scenario {
        name: "sequence-wrap",
        shows: "sequence numbers that pass 2^32, with a loss there (the initial one chosen with TCP_REPAIR)",
        must: &[
            ("tcp.flags.syn == 1 && tcp.flags.ack == 0 && tcp.seq_raw > 4294900000", 2),
            ("tcp.len > 0 && tcp.seq_raw < 100000", 20),
            ("tcp.analysis.retransmission || tcp.analysis.out_of_order", 2),
        ],
        trusted: 60,
        truth: Truth::Judges,
        make: sequence_wrap,
    },
];

fn syn_retransmitted(into: &Path, timestamps: &str) -> Result<()> {
    let lab = lab()?;
    both(&lab, "net/ipv4/tcp_timestamps", timestamps)?;
    record(&lab, into, || {
        order(&lab, Way::AToB, vec![Order::lose(What::Syn, 1)]);
        talk(&lab, lab.b.v4, 10_000)?;
        order(&lab, Way::BToA, vec![Order::lose(What::SynAck, 1)]);
        talk(&lab, lab.b.v6, 10_000)
    })
}

fn reset(into: &Path) -> Result<()> {
    let lab = lab()?;
    record(&lab, into, || {
        assert!(connect(&lab.a, at(lab.b.v4, 9)).is_err(), "nobody listens there");
        let mut aborted = Pair::open(&lab, lab.b.v4)?;
        aborted.rounds(10)?;
        aborted.client.write_all(&[0; 20_000])?;
        abort(aborted.client)?;
        thread::sleep(Duration::from_millis(100));
        let mut aborted = Pair::open(&lab, lab.b.v6)?;
        aborted.rounds(10)?;
        aborted.client.write_all(&[0; 20_000])?;
        abort(aborted.server)?;
        thread::sleep(Duration::from_millis(100));
        // An inbound RST ends one connection, not the next on other ports.
        talk(&lab, lab.b.v4, 10_000)
    })
}

fn simultaneous_open(into: &Path) -> Result<()> {
    let lab = lab()?;
    lab.path().set_rtt(Duration::from_millis(200));
    record(&lab, into, || {
        let (a, b) = (at(lab.a.v4, 5001), at(lab.b.v4, 5002));
        let (client, server) = (bound(&lab.a, a)?, bound(&lab.b, b)?);
        let (client, server) = thread::scope(|scope| {
            let ends = [scope.spawn(move || connected(client, b)), scope.spawn(move || connected(server, a))];
            let [client, server] = ends.map(|end| end.join().ok().context("a thread panicked").flatten());
            Ok::<_, anyhow::Error>((client?, server?))
        })?;
        let mut pair = Pair { client, server };
        pair.rounds(8)?;
        pair.close()
    })
}

fn simultaneous_close(into: &Path) -> Result<()> {
    let lab = lab()?;
    record(&lab, into, || {
        for address in [lab.b.v4.into(), std::net::IpAddr::from(lab.b.v6)] {
            let mut pair = Pair::open(&lab, address)?;
            pair.rounds(10)?;
            pair.client.shutdown(Shutdown::Write)?;
            pair.server.shutdown(Shutdown::Write)?;
            pair.client.read_to_end(&mut Vec::new())?;
            pair.server.read_to_end(&mut Vec::new())?;
        }
        Ok(())
    })
}

fn half_close(into: &Path) -> Result<()> {
    let lab = lab()?;
    record(&lab, into, || {
        let mut pair = Pair::open(&lab, lab.b.v4)?;
        pair.rounds(10)?;
        pair.client.shutdown(Shutdown::Write)?;
        pair.server.read_to_end(&mut Vec::new())?;
        pair.download(60_000)?;
        drop(pair.server);
        pair.client.read_to_end(&mut Vec::new())?;
        Ok(())
    })
}

fn port_reuse(into: &Path) -> Result<()> {
    let lab = lab()?;
    // Else the client would wait a minute before it takes the port again.
    both(&lab, "net/ipv4/tcp_tw_reuse", "1")?;
    record(&lab, into, || {
        let listener = lab.b.enter(|| TcpListener::bind((lab.b.v4, 0)))?;
        let to = listener.local_addr()?;
        for end in 0..6 {
            let client = connected(bound(&lab.a, at(lab.a.v4, 5003))?, to)?;
            let mut pair = Pair::accepted(client, &listener)?;
            pair.rounds(8)?;
            if end % 2 == 0 {
                abort(pair.client)?;
            } else {
                // The server closes, so that the port is the client's to use again.
                pair.server.shutdown(Shutdown::Write)?;
                pair.client.read_to_end(&mut Vec::new())?;
                drop(pair.client);
                pair.server.read_to_end(&mut Vec::new())?;
            }
            thread::sleep(5 * DELAY);
        }
        Ok(())
    })
}

fn sequence_wrap(into: &Path) -> Result<()> {
    let lab = lab()?;
    record(&lab, into, || {
        for (address, local, isn) in
            [(at(lab.b.v4, 0), at(lab.a.v4, 0), 0xffff_8000_u32), (at(lab.b.v6, 0), at(lab.a.v6, 0), u32::MAX)]
        {
            let listener = lab.b.enter(|| TcpListener::bind(address))?;
            let socket = bound(&lab.a, local)?;
            begin_at(&socket, isn)?;
            // Around the twentieth full segment lies zero.
            order(&lab, Way::AToB, vec![Order::lose(What::Data, 22 + 10)]);
            let mut pair = Pair::accepted(connected(socket, listener.local_addr()?)?, &listener)?;
            pair.rounds(10)?;
            pair.upload(100_000)?;
            pair.download(20_000)?;
            pair.close()?;
        }
        Ok(())
    })
}
