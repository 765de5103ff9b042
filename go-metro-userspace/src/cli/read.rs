//! `go-metro read`.

use std::io::BufWriter;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

use go_metro_rtt::parse_ports;
use ipnet::IpNet;

use super::Failure;
use super::groups::{self, GroupArgs};
use super::run::ports;
use crate::capture::decode::Tunnels;
use crate::capture::file::FileFilter;
use crate::config::SidesWanted;
use crate::groups::Groups;
use crate::output::plot;
use crate::privileges::{self, Needs, Sandbox};
use crate::read::{self, Explain, Format, ReadOptions};
use crate::terminal::{self, Spelling};

/// Bytes that are written at once.
const OUT: usize = 64 << 10;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Capture file: pcap or pcapng, plain or compressed with gzip, zstd or lz4; `-` for standard input
    file: PathBuf,
    /// Address or prefix of the hosts whose segments are timed [default: both ends of every connection]; may be
    /// repeated
    #[arg(short, long, value_name = "ADDR|PREFIX", value_parser = network)]
    local: Vec<IpNet>,
    /// Remote address or prefix [default: all]; may be repeated
    #[arg(short, long, value_name = "ADDR|PREFIX", value_parser = network)]
    target: Vec<IpNet>,
    /// Which round trips to measure, as seen from where the capture was made [default: remote; for a recording, those
    /// that were measured when it was made]
    #[arg(long, value_enum)]
    sides: Option<SidesWanted>,
    /// Do not look for connections inside tunnels (VXLAN, GENEVE, GRE, ERSPAN, IP in IP, GTP-U, MPLS, AH)
    #[arg(long)]
    no_tunnels: bool,
    /// Print every sample, as one JSON object per line or as --output says
    #[arg(long)]
    samples: bool,
    /// Output format; `--format` and `-F` are older names
    #[arg(short = 'o', long = "output", alias = "format", short_alias = 'F', value_enum, default_value_t)]
    format: Format,
    /// The same as `--output json`
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Show addresses; `read` always does, as the names of a capture's hosts may have changed since
    #[arg(short = 'n', long)]
    no_names: bool,
    /// Measure only connections with this port, or range of ports, at either end; separate several with commas
    #[arg(long, value_name = "PORT", value_delimiter = ',', value_parser = parse_ports)]
    port: Vec<(u16, u16)>,
    #[command(flatten)]
    groups: GroupArgs,
    /// Also draw RTT over time, distribution and outliers of the busiest pairs to this file, .svg or .html
    #[arg(long, value_name = "FILE", value_parser = drawing)]
    plot: Option<PathBuf>,
    /// Also show the share of segments that were retransmitted, how many connections failed, and the median time that
    /// the other end took to respond; as JSON, all counters of health and the figures of responses (docs/health.md)
    #[arg(long, conflicts_with = "samples")]
    health: bool,
    /// Most pairs to report separately, which bounds the memory that a capture can take; samples of all others count as
    /// one pair, `other`, and so do, with --health, failed attempts to connect of hosts that have no pair
    #[arg(long, value_name = "NUMBER", default_value_t = read::MAX_PAIRS, value_parser = positive)]
    max_pairs: usize,
    /// How many pairs to draw, those with the most samples first
    #[arg(long, value_name = "N", requires = "plot", default_value_t = plot::PAIRS, value_parser = positive)]
    plot_pairs: usize,
    /// Most threads to use: one decompresses, one decodes, one looks for duplicate frames, one measures; the output is
    /// the same with any number [default: the number of processors]
    #[arg(long, value_name = "N", value_parser = positive)]
    threads: Option<usize>,
    /// Also print why acknowledgements gave no sample: how many for each reason, or each one as a JSON object per line
    #[arg(long, value_name = "WHAT", num_args = 0..=1, require_equals = true, default_missing_value = "counts")]
    explain: Option<Explain>,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let format = if args.json { Format::Json } else { args.format };
    match (args.explain, format) {
        (Some(Explain::Counts), Format::Json | Format::Csv) => {
            return Err(Failure::usage(&"--explain prints a table; leave out --output"));
        }
        _ if args.health && format == Format::Csv => {
            return Err(Failure::usage(&"--health has no columns in CSV; use `--output json`"));
        }
        (Some(Explain::All), Format::Csv) => {
            return Err(Failure::usage(&"--explain=all prints JSON lines; leave out `--output csv`"));
        }
        _ => {}
    }
    // Nothing but the capture can be read once that is opened.
    let group_by = groups::wanted(&args.groups)?.unwrap_or_default();
    let groups = Groups::open(&group_by, &Groups::default()).map_err(|error| Failure::running(&error))?;
    let options = ReadOptions {
        file: args.file.clone(),
        filter: FileFilter {
            local: args.local.clone(),
            targets: args.target.clone(),
            sides: args.sides.unwrap_or_default().into(),
            sides_as_recorded: args.sides.is_none(),
            tunnels: if args.no_tunnels { Tunnels::Closed } else { Tunnels::Opened },
        },
        samples: args.samples,
        format,
        ports: ports(&args.port)?.unwrap_or_default(),
        plot: args.plot.clone(),
        plot_pairs: args.plot_pairs,
        explain: args.explain,
        health: args.health,
        groups,
        max_pairs: args.max_pairs,
        threads: args.threads.unwrap_or_else(stages),
        width: terminal::stdout_columns(),
    };
    // A capture may come from anyone: nothing but it can be read, from before it is opened.
    let drawing: Vec<PathBuf> = args.plot.iter().map(|file| writable_for(file)).collect();
    privileges::confine(Sandbox {
        wanted: true,
        writable: &drawing,
        readable: Some(std::slice::from_ref(&args.file)),
        may_use_bpf: false,
        may_use_sockets: false,
    });
    privileges::keep(Needs::Files);
    let is_json = options.format == Format::Json || format != Format::Csv && options.writes_lines();
    let spelling = if is_json { Spelling::Json } else { Spelling::Text };
    let mut out = BufWriter::with_capacity(OUT, terminal::stdout(spelling));
    read::run(&options, &mut out).map_err(|error| Failure::running(&error))
}

/// As many threads as there are processors: more stages than that only pass each other's batches on.
fn stages() -> usize {
    available_parallelism().map_or(1, NonZero::get)
}

/// What must be let written for this file to be: itself if it is there, else its folder.
fn writable_for(file: &Path) -> PathBuf {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if file.exists() { file.to_owned() } else { folder.to_owned() }
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err(format!("`{text}` is not a number of 1 or more")),
        Ok(number) => Ok(number),
    }
}

/// A file to draw into.
fn drawing(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
    if extension == "svg" || extension == "html" {
        Ok(path)
    } else {
        Err("name a file that ends in .svg or .html".to_owned())
    }
}

/// An address or a prefix.
fn network(text: &str) -> Result<IpNet, String> {
    crate::config::network(text)
        .ok_or_else(|| format!("`{text}` is neither an address nor a prefix such as 10.0.0.0/8"))
}
