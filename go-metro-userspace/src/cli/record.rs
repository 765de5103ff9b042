//! `go-metro record`.

use std::fs::{self, File, OpenOptions};
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
    /// File to write, pcapng, in place of one of this name; `-` for standard output [default: recording-TIME.pcapng]
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
        // Not as the daemon's own begin, which it removes when there are too many.
        None => PathBuf::from(format!("recording-{}Z.pcapng", jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S%.3f"))),
    };
    // What cannot be written is said before half a minute has passed.
    let failed = |error: &io::Error| Failure::running(&format!("cannot write {}: {error}", named.display()));
    let mut place = Place::open(&named).map_err(|error| failed(&error))?;
    let bytes = ask().and_then(|file| place.fill(&file).map(|()| file.len()).map_err(|error| failed(&error)))?;
    terminal::complain(&format!("{}: {bytes} bytes\n", terminal::printable(&named.display().to_string())));
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "it is no text, and no terminal")]
fn print(file: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(file)?;
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

    fn fill(&mut self, file: &[u8]) -> io::Result<()> {
        self.out.write_all(file)?;
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
