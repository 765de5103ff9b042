//! `cargo xtask corpus`: makes the captures of `corpus/` again.
//!
//! Each [`Scenario`] is real TCP of this machine's kernel in the lab, whose path loses, repeats and holds back what the
//! scenario needs, captured by tcpdump or dumpcap. What this kernel does not write (link types of other systems,
//! tunnels, a mirror port's copies, frames that are missing) is made of such a capture by a rule, and its description
//! says so; that capture then says what is true of its samples ([`Truth`]). No capture is taken that does not contain
//! what its name says: every scenario names display filters of tshark and how many frames must match.

mod direct;
mod encapsulate;
mod file;
mod formats;
mod life;
mod recovery;
mod rewrap;
mod sockets;
mod stage;
mod thinned;
mod views;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::NamedTempFile;

use testing_support::setup;
use testing_support::workspace::{capture, output, root};

/// Arguments of `corpus`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Scenarios to make [default: all]
    names: Vec<String>,
    /// Make nothing: check that each capture contains what its name says
    #[arg(long)]
    check: bool,
}

/// A capture of the corpus.
pub struct Scenario {
    /// Its name, which is the file's.
    pub name: &'static str,
    /// What it shows, for the corpus's README.
    pub shows: &'static str,
    /// Display filters of tshark, and how many frames must match at least.
    must: &'static [(&'static str, usize)],
    /// How many trustworthy pairs the judges find in it at least: a filter that came to trust nothing would find all of
    /// it.
    pub trusted: usize,
    /// What says which samples are right.
    pub truth: Truth,
    /// Writes the capture.
    make: fn(&Path) -> Result<()>,
}

/// What says which samples of a capture are right, apart from the judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// Nothing else.
    Judges,
    /// The samples are those of this capture.
    SameAs(&'static str),
    /// The samples are the first of this capture's, as the file is cut.
    BeginsAs(&'static str),
    /// Frames were taken out of this capture, which proves every sample of the rest.
    LeftOf {
        /// The capture with all frames.
        complete: &'static str,
        /// What speaks against a pair that tshark finds in the frames that are left.
        refutes: Refutes,
    },
    /// The frames of this capture by a coarser clock, so that no sample is further than a tick from one of that.
    ByClockOf {
        /// The capture by a better clock.
        exact: &'static str,
        /// The coarser clock's tick, in microseconds.
        tick_us: u64,
    },
    /// There is nothing to time.
    NoSample,
}

/// What speaks against a pair that tshark finds, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refutes {
    /// The frames that are left.
    Left(&'static str),
    /// The complete capture, and not what is left.
    Complete(&'static str),
    /// Both, the first pair of all.
    First(&'static str),
}

/// All scenarios, by theme.
pub fn scenarios() -> impl Iterator<Item = &'static Scenario> {
    let of_others = [thinned::SCENARIOS, encapsulate::SCENARIOS, formats::SCENARIOS];
    [recovery::SCENARIOS, life::SCENARIOS, views::SCENARIOS].into_iter().chain(of_others).flatten()
}

/// How often a scenario is tried: the kernel's own timing may spoil it.
const TRIES: usize = 2;

/// Makes or checks captures, and writes the corpus's README.
///
/// # Errors
///
/// A capture does not contain what it should, or cannot be made.
pub fn main(args: &Args) -> Result<()> {
    setup::for_lab()?;
    let wanted = |scenario: &&Scenario| args.names.is_empty() || args.names.iter().any(|name| name == scenario.name);
    let (mut count, mut failed) = (0, Vec::new());
    for scenario in scenarios().filter(wanted) {
        count += 1;
        let done = if args.check { scenario.check(&scenario.file()) } else { scenario.remake() };
        match done.and_then(|()| Ok(scenario.file().metadata()?.len())) {
            Ok(bytes) => println!("{:<28} {bytes:>7} bytes  {}", scenario.name, scenario.shows),
            Err(error) => {
                eprintln!("{:<28} FAILED: {error:#}", scenario.name);
                failed.push(scenario.name);
            }
        }
    }
    if count == 0 {
        bail!("no scenario of that name; there are: {}", scenarios().map(|s| s.name).collect::<Vec<_>>().join(", "));
    }
    if !args.check {
        fs::write(directory().join("README.md"), readme())?;
    }
    if !failed.is_empty() {
        bail!("{} of {count} failed: {}", failed.len(), failed.join(" "));
    }
    Ok(())
}

/// Where the corpus is.
#[must_use]
pub fn directory() -> PathBuf {
    root().join("corpus")
}

/// The file of the scenario of this name.
fn packed_file(name: &str) -> PathBuf {
    let kind = if name.starts_with("pcapng") { "pcapng" } else { "pcap" };
    let packing = match name {
        "zstd" => "zst",
        "lz4" => "lz4",
        _ => "gz",
    };
    directory().join(format!("{name}.{kind}.{packing}"))
}

/// What is in the file of the scenario of this name.
fn unpacked(name: &str) -> Result<file::Capture> {
    let unpacked = output(Command::new("gzip").args(["-dc"]).arg(packed_file(name)))?;
    ensure!(unpacked.status.success(), "cannot unpack {name}");
    file::Capture::parse(&unpacked.stdout)
}

/// Where the judges cannot read `file`, one of the corpus, or misread it (tshark takes segments that NFLOG has cut off
/// for short ones), a capture of the same frames.
///
/// # Errors
///
/// It cannot be written.
pub fn readable(file: &Path) -> Result<Option<NamedTempFile>> {
    let is_of = |scenario: &&Scenario| fs::canonicalize(file).is_ok_and(|file| file == scenario.file());
    let Some(scenario) = scenarios().find(is_of) else { return Ok(None) };
    let mut capture = match (scenario.name, scenario.truth) {
        ("appended" | "lz4" | "zstd" | "nflog" | "copies-behind-a-router", Truth::SameAs(same))
        | (_, Truth::BeginsAs(same)) => unpacked(same)?,
        _ => return Ok(None),
    };
    if matches!(scenario.truth, Truth::BeginsAs(_)) {
        let beginning = output(Command::new("gzip").arg("-dc").arg(file))?.stdout;
        capture.frames.truncate(file::Capture::whole_frames(&beginning));
    }
    let readable = NamedTempFile::with_suffix(".pcap").context("cannot make a temporary file")?;
    capture.write(readable.path())?;
    Ok(Some(readable))
}

impl Scenario {
    /// Its file.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        packed_file(self.name)
    }

    fn remake(&self) -> Result<()> {
        fs::create_dir_all(directory())?;
        let made = tempfile::tempdir()?;
        let plain = made.path().join("capture");
        let mut tries = 0;
        loop {
            let done = (self.make)(&plain).and_then(|()| self.check(&plain));
            match done {
                Ok(()) => break,
                Err(error) if tries + 1 < TRIES => eprintln!("{}: {error:#}; again", self.name),
                Err(error) => {
                    let left = std::env::temp_dir().join(self.name);
                    fs::copy(&plain, &left).map_err(|_| anyhow::anyhow!("{error:#}"))?;
                    return Err(error.context(format!("see {}", left.display())));
                }
            }
            tries += 1;
        }
        Ok(fs::write(self.file(), self.packed(&plain)?)?)
    }

    /// What becomes of what was written.
    fn packed(&self, plain: &Path) -> Result<Vec<u8>> {
        let (program, args) = match self.name {
            "zstd" => ("zstd", ["-19", "-q", "-c"]),
            "lz4" => ("lz4", ["-9", "-q", "-c"]),
            // Without name and time, so that the same capture is the same file.
            _ => ("gzip", ["--best", "--no-name", "-c"]),
        };
        let done = output(Command::new(program).args(args).arg(plain))?;
        ensure!(done.status.success(), "{program} failed");
        let mut packed = done.stdout;
        if matches!(self.truth, Truth::BeginsAs(_)) {
            packed.truncate(packed.len() / 2);
        }
        Ok(packed)
    }

    /// Whether `file` contains what the name says.
    fn check(&self, file: &Path) -> Result<()> {
        for (filter, least) in self.must {
            let mut tshark = Command::new("tshark");
            tshark.arg("-r").arg(file).args(["-Y", filter, "-T", "fields", "-e", "frame.number"]);
            let found = capture(&mut tshark)?.lines().count();
            if found < *least {
                bail!("{found} frames match `{filter}`, not {least}");
            }
        }
        Ok(())
    }
}

fn readme() -> String {
    let mut text = "\
# Captures

Real TCP in the lab (`testing/lab`), captured there, snapped to headers. `cargo xtask corpus` makes them again, `cargo
xtask corpus --check` looks whether each contains what its name says, and `cargo xtask oracle` judges the samples that
go-metro finds in them. Those from missing-below on are made of others by a rule, so that it is known which samples are
right.

| capture | shows |
|---|---|
"
    .to_owned();
    for Scenario { name, shows, .. } in scenarios() {
        let _ = writeln!(text, "| {name} | {shows} |");
    }
    text
}
