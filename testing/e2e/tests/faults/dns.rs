//! A name server that does as it is told: honest, dead, slow or lying. Speaks RFC 1035, by hand, since its lies are no
//! valid messages.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use testing_lab::Host;

/// What it does with a question.
#[derive(Clone, Debug)]
pub(crate) enum Mood {
    /// Says nothing.
    Dead,
    /// Answers late.
    Slow(Duration, Vec<Ipv4Addr>),
    /// These addresses; none is an empty answer.
    Addresses(Vec<Ipv4Addr>),
    /// Too many for a datagram: as many over TCP.
    Huge(u16),
    /// Two of these addresses, others each time.
    Turns(Vec<Ipv4Addr>),
    /// Bytes that are no answer.
    Garbage,
}

#[derive(Debug)]
struct State {
    mood: Mutex<Mood>,
    /// What every address is called, as one label: any bytes.
    pointer: Mutex<Vec<u8>>,
    /// Whether questions for names of addresses are answered.
    answers_pointers: AtomicBool,
    questions: AtomicU64,
    stop: AtomicBool,
}

/// The server, on 127.0.0.1 of a host; the resolver of processes started with [`Server::command`] asks nobody else.
pub(crate) struct Server {
    state: Arc<State>,
    threads: Vec<JoinHandle<()>>,
    etc: PathBuf,
    namespace: String,
}

const TICK: Duration = Duration::from_millis(50);

impl Server {
    pub(crate) fn start(host: &Host, mood: Mood) -> Self {
        Self::with(host, mood, "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    }

    /// With this resolv.conf.
    pub(crate) fn with(host: &Host, mood: Mood, resolv_conf: &str) -> Self {
        let namespace = host.namespace.name().to_owned();
        let etc = PathBuf::from("/etc/netns").join(&namespace);
        fs::create_dir_all(&etc).unwrap();
        fs::write(etc.join("resolv.conf"), resolv_conf).unwrap();
        let state = Arc::new(State {
            mood: Mutex::new(mood),
            pointer: Mutex::new(b"host".to_vec()),
            answers_pointers: AtomicBool::new(true),
            questions: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let address = SocketAddr::from(([127, 0, 0, 1], 53));
        let (udp, tcp) = host.enter(|| (UdpSocket::bind(address).unwrap(), TcpListener::bind(address).unwrap()));
        udp.set_read_timeout(Some(TICK)).unwrap();
        tcp.set_nonblocking(true).unwrap();
        let threads = {
            let (of_udp, of_tcp) = (Arc::clone(&state), Arc::clone(&state));
            vec![thread::spawn(move || datagrams(&udp, &of_udp)), thread::spawn(move || streams(&tcp, &of_tcp))]
        };
        Self { state, threads, etc, namespace }
    }

    /// From now on the host's processes started with [`Server::command`] read these lines as /etc/hosts.
    pub(crate) fn hosts_file(&self, text: &[u8]) {
        fs::write(self.etc.join("hosts"), text).unwrap();
    }

    pub(crate) fn be(&self, mood: Mood) {
        *self.state.mood.lock().unwrap() = mood;
    }

    /// From now on every address is called this.
    pub(crate) fn call_all(&self, label: &[u8]) {
        *self.state.pointer.lock().unwrap() = label.to_vec();
    }

    /// From now on it says nothing when it is asked what an address is called.
    pub(crate) fn answer_no_pointers(&self) {
        self.state.answers_pointers.store(false, Ordering::Relaxed);
    }

    pub(crate) fn questions(&self) -> u64 {
        self.state.questions.load(Ordering::Relaxed)
    }

    /// A command in the host's namespace that asks this server: `ip netns exec` binds the namespace's resolv.conf over
    /// the system's.
    pub(crate) fn command(&self, program: &std::path::Path) -> std::process::Command {
        let mut command = std::process::Command::new("ip");
        command.args(["netns", "exec", &self.namespace]).arg(program);
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        let _ = fs::remove_dir_all(&self.etc);
    }
}

fn datagrams(socket: &UdpSocket, state: &State) {
    let mut buffer = [0; 2048];
    while !state.stop.load(Ordering::Relaxed) {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        state.questions.fetch_add(1, Ordering::Relaxed);
        if let Some(answer) = answer(&buffer[..length], state, 1200) {
            let _ = socket.send_to(&answer, from);
        }
    }
}

fn streams(listener: &TcpListener, state: &State) {
    while !state.stop.load(Ordering::Relaxed) {
        let Ok((mut stream, _)) = listener.accept() else {
            thread::sleep(TICK);
            continue;
        };
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        // Both questions of a resolver, for either family, come on one connection.
        while let Some(question) = read_question(&mut stream) {
            let Some(answer) = answer(&question, state, usize::from(u16::MAX)) else { break };
            let length = (answer.len() as u16).to_be_bytes();
            if stream.write_all(&[&length[..], &answer].concat()).is_err() {
                break;
            }
        }
    }
}

fn read_question(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut question).ok()?;
    Some(question)
}

/// The answer to a question, cut at `room` bytes with the TC bit set.
fn answer(question: &[u8], state: &State, room: usize) -> Option<Vec<u8>> {
    // Header, name, type and class.
    let name_end = 12 + question.get(12..)?.iter().position(|byte| *byte == 0)? + 1;
    let kind = u16::from_be_bytes([*question.get(name_end)?, *question.get(name_end + 1)?]);
    let asked = question.get(..name_end + 4)?;
    if kind == 12 && !state.answers_pointers.load(Ordering::Relaxed) {
        return None;
    }
    let mood = state.mood.lock().unwrap().clone();
    let addresses = match mood {
        Mood::Dead => return None,
        Mood::Garbage => return Some([&question[..2], &[0xff; 300][..]].concat()),
        Mood::Slow(time, addresses) => {
            thread::sleep(time);
            addresses
        }
        Mood::Addresses(addresses) => addresses,
        Mood::Turns(addresses) => {
            // A resolver asks for both families.
            let turn = state.questions.load(Ordering::Relaxed) as usize / 2;
            (0..2).map(|k| addresses[(turn * 2 + k) % addresses.len()]).collect()
        }
        Mood::Huge(count) => (0..count).map(|k| Ipv4Addr::from(0x0a4d_0100 + u32::from(k))).collect(),
    };
    let data: Vec<Vec<u8>> = match kind {
        1 => addresses.iter().map(|address| address.octets().to_vec()).collect(),
        12 => {
            let label = state.pointer.lock().unwrap().clone();
            vec![[&[label.len() as u8], label.as_slice(), &[0]].concat()]
        }
        // No IPv6, or whatever else was asked for.
        _ => Vec::new(),
    };
    let mut message = asked.to_vec();
    let mut count = 0u16;
    let mut cut = false;
    for data in &data {
        // The name by reference, IN, 0 seconds.
        let record =
            [&[0xc0, 12][..], &kind.to_be_bytes(), &[0, 1, 0, 0, 0, 0], &(data.len() as u16).to_be_bytes(), data];
        let record = record.concat();
        if message.len() + record.len() > room {
            cut = true;
            break;
        }
        message.extend(record);
        count += 1;
    }
    message[2] = 0x84 | u8::from(cut) << 1;
    message[3] = 0x80;
    message[4..12].copy_from_slice(&[0, 1, (count >> 8) as u8, count as u8, 0, 0, 0, 0]);
    Some(message)
}
