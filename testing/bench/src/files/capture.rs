//! A capture to read: made up, but of what a host's traffic is made of.
//!
//! Twenty thousand connections at a time, seen from the clients' network: requests and answers, downloads, uploads,
//! from handshake to FIN, each at its own distance, some segments sent again, and some UDP in between. What each packet
//! says is consistent with what was said before.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Connections at a time.
const CONNECTIONS: usize = 20_000;
/// Bytes kept of each packet: all headers with their options.
const SNAPLEN: usize = 96;
/// Full segment with timestamps over Ethernet.
const MSS: u32 = 1448;
/// The capture begins here, in nanoseconds since the epoch.
const EPOCH_NS: u64 = 1_700_000_000_000_000_000;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;

/// Writes `packets` packets in pcap's format with nanoseconds, and to each of `slices` only its first so many.
///
/// # Errors
///
/// A file cannot be written.
pub(super) fn write(path: &Path, packets: u64) -> io::Result<()> {
    let mut random = fastrand::Rng::with_seed(1);
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    for word in [0xa1b2_3c4d, 4 << 16 | 2, 0, 0, SNAPLEN as u32, 1] {
        out.write_all(&u32::to_le_bytes(word))?;
    }
    let mut connections: Vec<Connection> =
        (0..CONNECTIONS).map(|number| Connection::new(number as u32, &mut random)).collect();
    let mut opened = CONNECTIONS as u32;
    let mut due: BinaryHeap<Reverse<(u64, usize)>> =
        (0..CONNECTIONS).map(|number| Reverse((random.u64(..1_000_000_000), number))).collect();
    for number in 0..packets {
        let Some(Reverse((at, index))) = due.pop() else { break };
        if number % 50 == 0 {
            write_frame(&mut out, at, &datagram(&mut random), 300)?;
        } else {
            let connection = &mut connections[index];
            let (frame, payload) = connection.packet(at);
            write_frame(&mut out, at, &frame, payload)?;
            if connection.script.is_empty() && !connection.go_on(&mut random) {
                *connection = Connection::new(opened, &mut random);
                opened += 1;
            }
        }
        let wait = connections[index].script.front().map_or(0, |step| step.wait);
        due.push(Reverse((at + wait, index)));
    }
    out.into_inner()?.sync_all()
}

/// One packet to come.
struct Step {
    wait: u64,
    from_client: bool,
    flags: u8,
    len: u32,
    /// How much of what the other end sent is not acknowledged yet.
    unacknowledged: u32,
    /// Repeats the last segment.
    again: bool,
}

#[derive(Clone, Copy, Default)]
struct End {
    address: [u8; 4],
    port: u16,
    next: u32,
    tsval: u32,
}

struct Connection {
    ends: [End; 2],
    rtt: u64,
    kind: u32,
    rounds: u32,
    script: VecDeque<Step>,
}

impl Connection {
    fn new(number: u32, random: &mut fastrand::Rng) -> Self {
        // Twenty hosts here, two thousand there, some of them much busier than others.
        let client = [10, 0, 0, 1 + random.u8(..20)];
        let there = random.u32(..45) * random.u32(..45);
        let server = [93, 0, (there >> 8) as u8, there as u8];
        let port = 1024 + (number % 64_000) as u16;
        let end = |address, port, next| End { address, port, next, tsval: 0 };
        let mut connection = Self {
            ends: [end(client, port, random.u32(..)), end(server, 443, random.u32(..))],
            rtt: random.u64(500_000..80_000_000),
            kind: random.u32(..10),
            rounds: random.u32(2..60),
            script: VecDeque::new(),
        };
        connection.add(random.u64(..200_000_000), true, SYN, 0);
        connection.add(connection.rtt, false, SYN | ACK, 0);
        connection.add(50_000, true, ACK, 0);
        connection
    }

    fn add(&mut self, wait: u64, from_client: bool, flags: u8, len: u32) {
        self.script.push_back(Step { wait, from_client, flags, len, unacknowledged: 0, again: false });
    }

    /// Fills the script with the next round; false when the connection is over.
    fn go_on(&mut self, random: &mut fastrand::Rng) -> bool {
        let (rtt, think) = (self.rtt + random.u64(..1_000_000), random.u64(1_000_000..1_000_000_000));
        match (self.rounds, self.kind) {
            (0, _) => return false,
            (1, _) => {
                self.add(think, true, FIN | ACK, 0);
                self.add(rtt, false, FIN | ACK, 0);
                self.add(20_000, true, ACK, 0);
            }
            // A request, an answer.
            (_, 0..6) => {
                self.add(think, true, PSH | ACK, random.u32(80..1400));
                self.add(rtt, false, ACK, MSS);
                self.add(10_000, false, PSH | ACK, random.u32(1..MSS));
                self.add(40_000, true, ACK, 0);
            }
            // A download.
            (_, 6..8) => {
                for _ in 0..8 {
                    self.add(30_000, false, ACK, MSS);
                    self.add(12_000, false, ACK, MSS);
                    self.add(5_000, true, ACK, 0);
                }
            }
            // An upload, of which now and then the last segment is sent again.
            _ => {
                for _ in 0..10 {
                    self.add(12_000, true, ACK, MSS);
                }
                if random.u32(..20) == 0 {
                    self.add(2 * rtt, true, ACK, MSS);
                    self.script.iter_mut().last().into_iter().for_each(|step| step.again = true);
                }
                for pair in (0..5).rev() {
                    self.add(if pair == 4 { rtt } else { 24_000 }, false, ACK, 0);
                    self.script.iter_mut().last().into_iter().for_each(|step| step.unacknowledged = pair * 2 * MSS);
                }
            }
        }
        self.rounds -= 1;
        true
    }

    /// The next packet, and how much payload follows its headers.
    fn packet(&mut self, at: u64) -> (Vec<u8>, u32) {
        let Some(step) = self.script.pop_front() else { return (Vec::new(), 0) };
        let [from, to] = if step.from_client { [0, 1] } else { [1, 0] };
        let ack = if step.flags & ACK == 0 { 0 } else { self.ends[to].next.wrapping_sub(step.unacknowledged) };
        self.ends[from].tsval = (at / 1_000_000) as u32;
        let seq = self.ends[from].next.wrapping_sub(if step.again { step.len } else { 0 });
        let occupies = step.len + u32::from(step.flags & SYN != 0) + u32::from(step.flags & FIN != 0);
        self.ends[from].next = seq.wrapping_add(occupies);
        (segment(&self.ends[from], &self.ends[to], seq, ack, &step), step.len)
    }
}

fn segment(from: &End, to: &End, seq: u32, ack: u32, step: &Step) -> Vec<u8> {
    let syn = step.flags & SYN != 0;
    let options: &[u8] = if syn { &[2, 4, 5, 180, 4, 2, 1, 1, 1, 1] } else { &[1, 1] };
    let header_len = 20 + options.len() + 10;
    let mut frame = ip_frame(from.address, to.address, 6, header_len as u32 + step.len);
    frame.extend([from.port.to_be_bytes(), to.port.to_be_bytes()].concat());
    frame.extend([seq.to_be_bytes(), ack.to_be_bytes()].concat());
    frame.extend([(header_len as u8 / 4) << 4, step.flags, 1, 245, 0, 0, 0, 0]);
    frame.extend(options);
    frame.extend([8, 10]);
    frame.extend([from.tsval.to_be_bytes(), to.tsval.to_be_bytes()].concat());
    frame
}

fn datagram(random: &mut fastrand::Rng) -> Vec<u8> {
    let mut frame = ip_frame([10, 0, 0, random.u8(..)], [93, 0, 0, random.u8(..)], 17, 308);
    frame.extend([0xc0, 0, 0x01, 0xbb, 0x01, 0x34, 0, 0]);
    frame
}

/// Ethernet and IPv4.
fn ip_frame(from: [u8; 4], to: [u8; 4], protocol: u8, payload_len: u32) -> Vec<u8> {
    let mut frame = Vec::with_capacity(SNAPLEN);
    frame.extend([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0]);
    frame.extend(((20 + payload_len) as u16).to_be_bytes());
    frame.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
    frame.extend(from);
    frame.extend(to);
    frame
}

/// The packet's record: its headers, and of its payload what fits.
fn write_frame(out: &mut impl Write, at: u64, headers: &[u8], payload: u32) -> io::Result<()> {
    let time = EPOCH_NS + at;
    let kept = (headers.len() + payload as usize).min(SNAPLEN).max(headers.len());
    let words =
        [(time / 1_000_000_000) as u32, (time % 1_000_000_000) as u32, kept as u32, headers.len() as u32 + payload];
    for word in words {
        out.write_all(&word.to_le_bytes())?;
    }
    out.write_all(headers)?;
    out.write_all(&[0x55; SNAPLEN][..kept - headers.len()])
}
