//! `cargo xtask oracle FILE...`: is the number right? Every sample of `go-metro read`, one by one, against two judges.
//!
//! The judges are tshark ([`tshark`]) and tcptrace ([`tcptrace`]), independent of each other and of us. What either
//! calls an RTT is a *pair*: a segment and the acknowledgement of its end. [`trace`] says from the frames alone which
//! pairs are to be trusted, and whether each of our samples is proved; [`compare`] counts.

mod compare;
mod copies;
pub mod health;
mod history;
pub mod live;
mod ours;
mod tcptrace;
pub mod thinned;
mod trace;
mod tshark;

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result, bail};

pub use compare::{Court, Judged, MIN_RECALL};
pub use ours::{Outcome, account, outcomes, samples};
pub use trace::{Acknowledged, Advance};

use testing_support::setup;

/// Arguments of `oracle`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Capture files, or directories of them [default: the corpus]
    files: Vec<PathBuf>,
    /// Show every pair that was missed and every sample that is wrong
    #[arg(long)]
    verbose: bool,
    /// Drop frames of each capture in so many ways, and judge the samples of what is left by the complete capture
    #[arg(long, value_name = "TIMES")]
    thin: Option<u64>,
    /// Compare what was sent again instead, as `go-metro read --health` counts it
    #[arg(long, conflicts_with = "thin")]
    health: bool,
}

/// Compares each file and prints a table with a total.
///
/// # Errors
///
/// A file cannot be read, a sample is wrong, or fewer trustworthy pairs were found than [`MIN_RECALL`].
pub fn main(args: &Args) -> Result<()> {
    setup::for_oracle()?;
    let binary = testing_support::daemon::debug_binary()?;
    let given = if args.files.is_empty() { vec![crate::corpus::directory()] } else { args.files.clone() };
    if args.health {
        return health::main(&binary, &given);
    }
    if let Some(seeds) = args.thin {
        // What was made of other captures tells no more than those.
        let whole = crate::corpus::scenarios().filter(|scenario| scenario.truth == crate::corpus::Truth::Judges);
        let files =
            if args.files.is_empty() { whole.map(crate::corpus::Scenario::file).collect() } else { captures(&given)? };
        return judge_thinned(&binary, files, seeds, args.verbose);
    }
    println!("{HEADER}");
    let (mut total, mut reasons) = (Judged::default(), BTreeMap::<String, (usize, usize)>::new());
    for (file, court) in courts(captures(&given)?) {
        let judged = court
            .and_then(|court| Ok(court.judge(&samples(&binary, &file)?)))
            .with_context(|| format!("{}", file.display()))?;
        println!("{}", judged.row(&name_of(&file)));
        judged.notes.iter().for_each(|note| println!("    ({note})"));
        if args.verbose {
            judged.details.iter().for_each(|line| println!("    {line}"));
        }
        for (advance, outcome) in outcomes(&binary, &file)? {
            let Outcome::Rejected(reason) = outcome else { continue };
            let (all, trusted) = reasons.entry(reason).or_default();
            *all += 1;
            *trusted += usize::from(judged.missed.contains(&advance));
        }
        total.add(&judged);
    }
    println!("{}", total.row("total"));
    println!("\nno sample, and why   acknowledgements  of trusted pairs");
    for (reason, (all, trusted)) in reasons {
        println!("{reason:<20} {all:>16}  {trusted:>16}");
    }
    if total.wrong > 0 || total.refuted > 0 || total.recall() < MIN_RECALL {
        let Judged { wrong, refuted, trusted, found, .. } = total;
        bail!("{wrong} wrong, {refuted} refuted, {} of {trusted} trustworthy pairs missed", trusted - found);
    }
    Ok(())
}

/// As `cargo xtask oracle --thin`.
fn judge_thinned(binary: &Path, files: Vec<PathBuf>, seeds: u64, verbose: bool) -> Result<()> {
    println!("{}", thinned::HEADER);
    let mut total = thinned::Thinned::default();
    for (file, judged) in all_thinned(binary, files, seeds) {
        let Some(judged) = judged.with_context(|| format!("{}", file.display()))? else { continue };
        println!("{}", judged.row(&name_of(&file)));
        if verbose {
            judged.details.iter().chain(&judged.told_elsewhere).for_each(|line| println!("    {line}"));
        }
        total.add(judged);
    }
    println!("{}", total.row("total"));
    total.untold.iter().for_each(|(why, count)| println!("untold {count:>6}: {why}"));
    if total.refuted > 0 {
        bail!("{} of {} samples are refuted; --verbose shows them", total.refuted, total.samples);
    }
    Ok(())
}

/// [`thinned::judge`] of all of `files`, several at once, in the same order.
pub fn all_thinned(
    binary: &Path,
    files: Vec<PathBuf>,
    seeds: u64,
) -> impl Iterator<Item = (PathBuf, Result<Option<thinned::Thinned>>)> {
    let binary = binary.to_owned();
    at_once(files, move |file| thinned::judge(&binary, file, seeds))
}

/// Has the judges read all of `files`, several at once, and hands them out in the same order.
pub fn courts(files: Vec<PathBuf>) -> impl Iterator<Item = (PathBuf, Result<Court>)> {
    at_once(files, Court::of)
}

fn at_once<T: Send + 'static>(
    files: Vec<PathBuf>,
    read: impl Fn(&Path) -> Result<T> + Clone + Send + 'static,
) -> impl Iterator<Item = (PathBuf, Result<T>)> {
    let at_once = thread::available_parallelism().map_or(1, usize::from);
    let mut files = files.into_iter();
    let mut ready: VecDeque<(PathBuf, JoinHandle<Result<T>>)> = VecDeque::new();
    std::iter::from_fn(move || {
        let more = files.by_ref().take(at_once + 1 - ready.len());
        ready.extend(more.map(|file| {
            let read = read.clone();
            (file.clone(), thread::spawn(move || read(&file)))
        }));
        let (file, done) = ready.pop_front()?;
        Some((file, done.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))))
    })
}

/// The table's head, over [`Judged::row`].
pub const HEADER: &str = "\
capture                          samples   tshark tcptrace doubtful |  trusted    found   recall    wrong  refuted  \
largest error";

/// The captures among `given`, and those in its directories, by name.
///
/// # Errors
///
/// There is nothing of that name.
pub fn captures(given: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in given {
        if path.is_dir() {
            let entries = path.read_dir().with_context(|| format!("cannot read {}", path.display()))?;
            files.extend(entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|file| is_capture(file)));
        } else if path.is_file() {
            files.push(path.clone());
        } else {
            bail!("{}: no such file or directory", path.display());
        }
    }
    files.sort();
    Ok(files)
}

fn is_capture(file: &Path) -> bool {
    let name = file.to_string_lossy();
    let name = [".gz", ".zst", ".lz4"].iter().find_map(|packed| name.strip_suffix(packed)).unwrap_or(&name);
    [".pcap", ".pcapng", ".cap"].iter().any(|ending| name.ends_with(ending))
}

/// A capture's name without its endings.
#[must_use]
pub fn name_of(file: &Path) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    name.split(".pcap").next().unwrap_or(&name).to_owned()
}
