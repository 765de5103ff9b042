//! `go-metro record`.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Failure;
use crate::config::{self, parse_time};
use crate::status::client;
use crate::status::record::{RecordOrder, parse_pair};
use crate::terminal;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Remote address, perhaps with a port of either end: 10.0.0.2, 10.0.0.2:443, [2001:db8::2]:443; may be repeated
    #[arg(long, value_name = "ADDR[:PORT]", required = true, value_parser = parse_pair)]
    pair: Vec<(IpAddr, Option<u16>)>,
    /// For how long: seconds, or a time such as 500ms, 30s or 2m; at most 10m
    #[arg(long = "for", value_name = "TIME", default_value = "30s", value_parser = parse_time)]
    time: Duration,
    /// File to write, pcapng, in place of one of this name; `-` for standard output [default: go-metro-TIME.pcapng]
    #[arg(short, long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// The daemon's Unix socket, `status_socket` of its configuration
    #[arg(short, long, value_name = "PATH", default_value = config::STATUS_SOCKET)]
    socket: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let order = RecordOrder::new(args.pair.clone(), args.time).map_err(|why| Failure::usage(&why))?;
    let ask = || client::record(&args.socket, &order).map_err(|error| Failure::running(&error));
    let named = match &args.write {
        Some(file) if file.as_os_str() == "-" => {
            if terminal::is_stdout() {
                return Err(Failure::usage(&"a recording is no text for a terminal; name a file with --write"));
            }
            return print(&ask()?).map_err(|error| Failure::output(&error));
        }
        Some(file) => file.clone(),
        None => PathBuf::from(format!("go-metro-{}Z.pcapng", jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S"))),
    };
    // What cannot be written is said before half a minute has passed.
    let unfinished = beside(&named);
    let failed = |error: &io::Error| Failure::running(&format!("cannot write {}: {error}", named.display()));
    let mut out = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&unfinished)
        .map_err(|error| failed(&error))?;
    let done = ask().and_then(|file| {
        let written = out.write_all(&file).and_then(|()| fs::rename(&unfinished, &named));
        written.map(|()| file.len()).map_err(|error| failed(&error))
    });
    let bytes = done.inspect_err(|_| drop(fs::remove_file(&unfinished)))?;
    terminal::complain(&format!("{}: {bytes} bytes\n", terminal::printable(&named.display().to_string())));
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "it is no text, and no terminal")]
fn print(file: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(file)?;
    out.flush()
}

/// The name while it is written.
fn beside(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}
