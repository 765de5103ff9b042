//! `cargo xtask corpus`: makes the captures of `corpus/` again.
//!
//! Each [`Scenario`] is real TCP of this machine's kernel in the lab, whose path loses, repeats and holds back what the scenario needs, captured
//! by tcpdump or dumpcap. What the kernel cannot be had to write (link types of other systems, a mirror port's copies) is made of such a
//! capture, and its description says so. No capture is taken that does not contain what its name says: every scenario names display
//! filters of tshark and how many frames must match.

mod direct;
mod file;
mod life;
mod recovery;
mod rewrap;
mod sockets;
mod stage;
mod views;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::setup;
use crate::workspace::{capture, root, run};

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
    /// How many trustworthy pairs the judges find in it at least: a filter that came to trust nothing would find all of it.
    pub trusted: usize,
    /// Writes the capture.
    make: fn(&Path) -> Result<()>,
}

/// All scenarios, by theme.
pub fn scenarios() -> impl Iterator<Item = &'static Scenario> {
    [recovery::SCENARIOS, life::SCENARIOS, views::SCENARIOS].into_iter().flatten()
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

impl Scenario {
    /// Its file.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        let kind = if self.name.starts_with("pcapng") { "pcapng" } else { "pcap" };
        directory().join(format!("{}.{kind}.gz", self.name))
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
        // Without name and time, so that the same capture is the same file.
        run(Command::new("gzip").args(["--best", "--no-name", "--force"]).arg(&plain))?;
        fs::copy(plain.with_extension("gz"), self.file())?;
        Ok(())
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

Real TCP in the lab (`xtask/src/lab`), captured there, snapped to headers; `cargo xtask corpus` makes them again, `cargo xtask corpus --check` looks
whether each contains what its name says, and `cargo xtask oracle` judges the samples that go-metro finds in them.

| capture | shows |
|---|---|
"
    .to_owned();
    for Scenario { name, shows, .. } in scenarios() {
        let _ = writeln!(text, "| {name} | {shows} |");
    }
    text
}
