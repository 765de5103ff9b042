//! `go-metro record`.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::net::{IpAddr, Shutdown};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Failure;
use crate::config::{self, host_and_port, host_name, parse_time};
use crate::record::Blocks;
use crate::signals::Endings;
use crate::status::client;
use crate::status::record::{LARGEST, RecordOrder};
use crate::targets::hosts::Hosts;
use crate::{terminal, threads};

/// Bytes that are read at once.
const PIECE: usize = 64 << 10;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Remote host: its address or name, perhaps with a port of either end: 10.0.0.2, 10.0.0.2:443, [2001:db8::2]:443,
    /// db.example.org; a name stands for all of its addresses; may be repeated
    #[arg(long, value_name = "HOST[:PORT]", required = true, value_parser = parse_remote)]
    pair: Vec<Remote>,
    /// For how long: seconds, or a time such as 500ms, 30s or 2m; at most 10m. Ctrl-C ends it earlier, with what has
    /// passed; a second Ctrl-C gives it up
    #[arg(long = "for", value_name = "TIME", default_value = "30s", value_parser = parse_time)]
    time: Duration,
    /// File to write, pcapng, in place of one of this name; `-` for standard output [default: recording-TIME.pcapng]
    #[arg(short, long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// The daemon's Unix socket, `status_socket` of its configuration
    #[arg(short, long, value_name = "PATH", default_value = config::STATUS_SOCKET)]
    socket: PathBuf,
}

/// A remote host, and perhaps a port of either end.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Remote {
    host: Host,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Address(IpAddr),
    Name(String),
}

fn parse_remote(text: &str) -> Result<Remote, String> {
    let read = |host: &str| match host.parse::<IpAddr>() {
        Ok(address) => Some(Host::Address(address.to_canonical())),
        Err(_) => host_name(host).map(Host::Name),
    };
    let no_host = "is neither an address nor a host name, perhaps with a port, such as 10.0.0.2:443, \
                   [2001:db8::2]:443 or db.example.org:443";
    host_and_port(text, read, no_host).map(|(host, port)| Remote { host, port })
}

/// What these are to the daemon, which knows addresses: each once.
fn addresses(remotes: &[Remote]) -> Result<Vec<(IpAddr, Option<u16>)>, Failure> {
    let names = remotes.iter().filter_map(|remote| match &remote.host {
        Host::Name(name) => Some(name.clone()),
        Host::Address(_) => None,
    });
    let hosts = Hosts::looked_up(names)
        .map_err(|error| Failure::running(&format!("the names of --pair cannot be looked up: {error}")))?;
    for (name, host) in hosts.iter() {
        if let Some(error) = &host.error {
            return Err(Failure::running(&format!(
                "--pair {name}: {error}; fix the name or the name server, or give an address"
            )));
        }
    }
    let all: BTreeSet<(IpAddr, Option<u16>)> = remotes
        .iter()
        .flat_map(|Remote { host, port }| {
            let addresses: Vec<IpAddr> = match host {
                Host::Address(address) => vec![*address],
                Host::Name(name) => hosts.addresses(name).map(|address| address.to_canonical()).collect(),
            };
            addresses.into_iter().map(|address| (address, *port))
        })
        .collect();
    Ok(all.into_iter().collect())
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let order = RecordOrder::new(addresses(&args.pair)?, args.time).map_err(|why| Failure::usage(&why))?;
    // Nobody else's, most likely; it is no secret from those who may ask.
    let id = u64::from(std::process::id()) << 32 | u64::from(jiff::Timestamp::now().subsec_nanosecond().unsigned_abs());
    let order = RecordOrder { id: Some(id), ..order };
    let is_for_stdout = args.write.as_ref().is_some_and(|file| file.as_os_str() == "-");
    if is_for_stdout && terminal::is_stdout() {
        return Err(Failure::usage(&"a recording is no text for a terminal; name a file with --write"));
    }
    // From here on a signal ends the recording, and leaves nothing unfinished behind.
    let endings = Endings::hold().map_err(|error| Failure::running(&error))?;
    if is_for_stdout {
        let taken = take(args, &order, endings, None, print).map_err(|stop| match stop {
            Stop::Failed(failure) => failure,
            Stop::Unwritten(error) => Failure::output(&error),
        })?;
        return match taken.cut_off {
            Some(why) => Err(Failure::running(&cut_off("standard output", &why, &taken.said))),
            None => Ok(()),
        };
    }
    // Not as the daemon's own begin, which it removes when there are too many.
    let usual = || PathBuf::from(format!("recording-{}Z.pcapng", jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S%.3f")));
    let named = args.write.clone().unwrap_or_else(usual);
    let failed = |error: &io::Error| Failure::running(&format!("cannot write {}: {error}", named.display()));
    // What cannot be written is said before half a minute has passed.
    let mut place = Place::open(&named).map_err(|error| failed(&error))?;
    let unfinished = place.unfinished().map(Path::to_owned);
    let taken = take(args, &order, endings, unfinished, |blocks| place.out.write_all(blocks));
    let taken = taken.map_err(|stop| match stop {
        Stop::Failed(failure) => failure,
        Stop::Unwritten(error) => failed(&error),
    })?;
    place.keep().map_err(|error| failed(&error))?;
    let name = terminal::printable(&named.display().to_string()).into_owned();
    match taken.cut_off {
        Some(why) => Err(Failure::running(&cut_off(&name, &why, &taken.said))),
        None => {
            terminal::complain(&format!("{name}: {}\n", taken.said));
            Ok(())
        }
    }
}

fn cut_off(name: &str, why: &str, said: &str) -> String {
    format!("{name}: the recording is cut off: {why}; what had come until then is kept: {said}")
}

/// A recording that has at least one packet.
struct Taken {
    /// What it has, for people.
    said: String,
    /// Why it is not whole, if so.
    cut_off: Option<String>,
}

/// Why there is none.
enum Stop {
    Failed(Failure),
    /// What came could not be written.
    Unwritten(io::Error),
}

/// Has the daemon record, and hands what comes to `write`, whole blocks at a time.
fn take(
    args: &Args,
    order: &RecordOrder,
    endings: Endings,
    unfinished: Option<PathBuf>,
    mut write: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<Taken, Stop> {
    let failed = |error: &dyn std::fmt::Display| Stop::Failed(Failure::running(error));
    let mut stream = client::connect(&args.socket).map_err(|error| failed(&error))?;
    let cut = stream.try_clone().map_err(|error| failed(&error))?;
    let (socket, id) = (args.socket.clone(), order.id.unwrap_or_default());
    threads::spawn("signals", move || end_on_signals(endings, &socket, id, &cut, unfinished.as_deref()))
        .map_err(|error| failed(&error))?;
    let mut recording = client::record((args.socket.as_path(), &mut stream), order).map_err(|error| failed(&error))?;
    let (mut blocks, mut piece) = (Blocks::default(), vec![0; PIECE]);
    let cut_off = loop {
        match recording.read(&mut piece) {
            Ok(0) if blocks.is_whole => break None,
            Ok(0) => break Some("the daemon went away or gave it up".to_owned()),
            Ok(count) => match blocks.add(&piece[..count]) {
                Some(whole) => write(&whole).map_err(Stop::Unwritten)?,
                None => break Some("what comes is no pcapng".to_owned()),
            },
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => break Some(error.to_string()),
        }
    };
    if let (Some(why), 0) = (&cut_off, blocks.packets) {
        let socket = args.socket.display();
        return Err(failed(&format!("nothing was recorded by the daemon at {socket}: {why}")));
    }
    let most = if blocks.bytes >= LARGEST { ", the most of one recording" } else { "" };
    Ok(Taken { said: format!("{} packets, {} bytes{most}", blocks.packets, blocks.bytes), cut_off })
}

/// The first signal ends the recording with what has passed; the second gives it up.
fn end_on_signals(endings: Endings, socket: &Path, id: u64, cut: &UnixStream, unfinished: Option<&Path>) {
    if endings.wait().is_err() {
        return;
    }
    let (of, stream) = (socket.to_owned(), cut.try_clone());
    // A second signal does not wait for a daemon that hangs. Without a thread, it does.
    let end = move || {
        if let Err(error) = client::end_recording(&of, id) {
            terminal::complain(&format!("go-metro: the recording ends with what has come: {error}\n"));
            let _ = stream.map(|stream| stream.shutdown(Shutdown::Both));
        }
    };
    if threads::spawn("end", end).is_err() {
        let _ = cut.shutdown(Shutdown::Both);
    }
    let Ok(signal) = endings.wait() else { return };
    if let Some(unfinished) = unfinished {
        let _ = fs::remove_file(unfinished);
    }
    endings.follow(signal)
}

#[expect(clippy::disallowed_methods, reason = "it is no text, and no terminal")]
fn print(blocks: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(blocks)?;
    out.flush()
}

/// Where a recording is written.
struct Place {
    out: File,
    /// A new file's name until it is whole, and then.
    names: Option<[PathBuf; 2]>,
}

impl Place {
    /// A pipe or a device is written to as it is, and a link's file takes the place of the one it leads to.
    fn open(named: &Path) -> io::Result<Self> {
        if fs::metadata(named).is_ok_and(|there| !there.is_file() && !there.is_dir()) {
            return Ok(Self { out: OpenOptions::new().write(true).open(named)?, names: None });
        }
        let named = fs::canonicalize(named).unwrap_or_else(|_| named.to_owned());
        let mut unfinished = named.as_os_str().to_owned();
        unfinished.push(format!(".{}.part", std::process::id()));
        let unfinished = PathBuf::from(unfinished);
        // Nobody else's, nor a link to something.
        let out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
        Ok(Self { out, names: Some([unfinished, named]) })
    }

    /// What it is called until it is whole, if it is a file.
    fn unfinished(&self) -> Option<&Path> {
        self.names.as_ref().map(|[unfinished, _]| unfinished.as_path())
    }

    /// It has what it is to have.
    fn keep(&mut self) -> io::Result<()> {
        if let Some([unfinished, named]) = &self.names {
            fs::rename(unfinished, named)?;
            self.names = None;
        }
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some([unfinished, _]) = &self.names {
            let _ = fs::remove_file(unfinished);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remote_host_is_an_address_or_a_name_perhaps_with_a_port() {
        let of = |host, port| Ok(Remote { host, port });
        let name = |name: &str| Host::Name(name.to_owned());
        let address = |text: &str| Host::Address(text.parse().unwrap());
        assert_eq!(parse_remote("10.0.0.2:443"), of(address("10.0.0.2"), Some(443)));
        assert_eq!(parse_remote("::ffff:10.0.0.2"), of(address("10.0.0.2"), None));
        assert_eq!(parse_remote("[2001:db8::2]:443"), of(address("2001:db8::2"), Some(443)));
        assert_eq!(parse_remote("db.example.org"), of(name("db.example.org"), None));
        assert_eq!(parse_remote("db.example.org.:5432"), of(name("db.example.org"), Some(5432)));
        for wrong in
            ["10.0.0.300", "10.0.0.0/8", "db example", "2001:db8::g", "[2001:db8::2", "[2001:db8::2]443", ":443", ""]
        {
            let error = parse_remote(wrong).unwrap_err();
            assert!(error.contains(&format!("`{wrong}` is neither an address nor a host name")), "{error}");
        }
        for (wrong, what) in [
            ("10.0.0.2:70000", "has port 70000, which is out of range; use 1 to 65535"),
            ("[2001:db8::2]:65536", "has port 65536, which is out of range; use 1 to 65535"),
            ("db.example.org:0", "has port 0, which is out of range; use 1 to 65535"),
            ("db.example.org:http", "has `http` for a port; use 1 to 65535"),
            ("db.example.org:+443", "has `+443` for a port; use 1 to 65535"),
            ("[2001:db8::2]:", "has no port after its colon; use 1 to 65535"),
            ("2001:db8:1:2:3:4:5:6:443", "needs brackets; write [2001:db8:1:2:3:4:5:6]:443"),
        ] {
            assert_eq!(parse_remote(wrong), Err(format!("`{wrong}` {what}")));
        }
    }

    #[test]
    fn a_name_stands_for_its_addresses_and_one_that_has_none_is_named_in_the_error() {
        let remotes = |texts: &[&str]| texts.iter().map(|text| parse_remote(text).unwrap()).collect::<Vec<_>>();
        let found = addresses(&remotes(&["localhost:443", "127.0.0.1:443", "192.0.2.1"])).unwrap();
        assert!(found.contains(&("127.0.0.1".parse().unwrap(), Some(443))), "{found:?}");
        assert!(found.contains(&("192.0.2.1".parse().unwrap(), None)), "{found:?}");
        assert_eq!(found.iter().filter(|(address, _)| address.is_ipv4()).count(), 2, "each once: {found:?}");
        let failure = addresses(&remotes(&["192.0.2.1", "no-such-host.invalid"])).unwrap_err();
        assert!(failure.message.starts_with("--pair no-such-host.invalid: "), "{}", failure.message);
        assert!(failure.message.contains("or give an address"), "{}", failure.message);
    }
}
