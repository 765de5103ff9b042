//! A capture with frames missing, judged exactly: frames are dropped from a complete one, which says what is true of
//! every sample of the rest.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use tempfile::NamedTempFile;

use super::trace::{Disproof, Trace};
use super::{copies, ours, tshark};
use testing_support::workspace::run;

/// How frames go missing, one after the other by seed: probability of a loss at each frame, and frames that go at once
/// at most.
const LOSSES: [(f64, u64); 5] = [(0.01, 1), (0.1, 1), (0.02, 5), (0.3, 1), (0.004, 60)];
/// editcap takes no more than 512 frames and ranges at once.
const SELECTIONS: usize = 500;

/// What the samples of thinned captures came to.
#[derive(Clone, Debug, Default)]
pub struct Thinned {
    /// Captures with frames missing.
    pub captures: usize,
    /// Samples of all of them.
    pub samples: usize,
    /// Those that the complete capture proves.
    pub right: usize,
    /// Those that it does not prove though the frames that are left do: only what is missing told, by reason.
    pub untold: BTreeMap<&'static str, usize>,
    /// Those that the frames that are left do not prove either, and do not refute: tshark takes for a retransmission
    /// what is none.
    pub unproved: usize,
    /// Those that the frames that are left refute.
    pub refuted: usize,
    /// A line for each of these.
    pub details: Vec<String>,
    /// A line for each of the untold.
    pub told_elsewhere: Vec<String>,
}

impl Thinned {
    /// Adds others.
    pub fn add(&mut self, other: Self) {
        self.captures += other.captures;
        self.samples += other.samples;
        self.right += other.right;
        self.unproved += other.unproved;
        self.refuted += other.refuted;
        other.untold.into_iter().for_each(|(why, count)| *self.untold.entry(why).or_default() += count);
        self.details.extend(other.details);
        self.told_elsewhere.extend(other.told_elsewhere);
    }

    /// A line of the table under [`HEADER`].
    #[must_use]
    pub fn row(&self, name: &str) -> String {
        let untold: usize = self.untold.values().sum();
        let Self { captures, samples, right, unproved, refuted, .. } = self;
        format!("{name:<30} {captures:>9} {samples:>9} {right:>9} {untold:>9} {unproved:>9} {refuted:>9}")
    }
}

/// The table's head, over [`Thinned::row`].
pub const HEADER: &str = "\
capture                         captures   samples     right    untold  unproved   refuted";

/// Drops frames of `file` in `seeds` ways, and judges what `binary` makes of each by the complete capture. None where
/// it has every frame twice: which of two copies is timed is then a matter of which is left.
///
/// # Errors
///
/// tshark or editcap cannot read it, or `binary` fails.
pub fn judge(binary: &Path, file: &Path, seeds: u64) -> Result<Option<Thinned>> {
    let readable = crate::corpus::readable(file)?;
    let file = readable.as_ref().map_or(file, |readable| readable.path());
    if copies::without(file)?.is_some() {
        return Ok(None);
    }
    let complete = Trace::new(tshark::frames(file)?);
    let last = complete.last_number();
    let mut total = Thinned::default();
    for seed in 0..seeds {
        let left = without(file, &missing(seed, last))?;
        let rest = Trace::new(tshark::frames(left.path())?);
        let mut thinned = Thinned { captures: 1, ..Thinned::default() };
        for sample in ours::samples(binary, left.path())? {
            thinned.samples += 1;
            let verdict = |trace: &Trace| {
                trace.disprove((sample.local, sample.remote), sample.ack, sample.time_ns, sample.rtt_ns)
            };
            let (Some(by_complete), by_rest) = (verdict(&complete), verdict(&rest)) else {
                thinned.right += 1;
                continue;
            };
            let line = |why| format!("{} seed {seed}: {why}: {sample:?}", super::name_of(file));
            let (Disproof::Refuted(why) | Disproof::Unproved(why)) = by_complete;
            if let Some(by_rest) = by_rest {
                match by_rest {
                    Disproof::Refuted(_) => thinned.refuted += 1,
                    Disproof::Unproved(_) => thinned.unproved += 1,
                }
                thinned.details.push(line(format!("{by_rest:?}, complete: {why}")));
            } else {
                *thinned.untold.entry(why).or_default() += 1;
                thinned.told_elsewhere.push(line(why.to_owned()));
            }
        }
        total.add(thinned);
    }
    Ok(Some(total))
}

/// The frames that go missing, in ranges: first and last.
fn missing(seed: u64, last: u64) -> Vec<(u64, u64)> {
    let mut random = fastrand::Rng::with_seed(seed);
    let (probability, burst) = LOSSES[seed as usize % LOSSES.len()];
    let (mut ranges, mut at) = (Vec::new(), 1);
    while at <= last {
        if random.f64() < probability {
            let end = at + random.u64(0..burst);
            ranges.push((at, end));
            at = end;
        }
        at += 1;
    }
    ranges
}

/// `file` without these frames.
fn without(file: &Path, ranges: &[(u64, u64)]) -> Result<NamedTempFile> {
    let temporary = || NamedTempFile::with_suffix(".pcapng").context("cannot make a temporary file");
    let mut left = temporary()?;
    run(Command::new("editcap").arg(file).arg(left.path()))?;
    // From behind, so that the numbers of the others stay what they are.
    for chunk in ranges.rchunks(SELECTIONS) {
        let next = temporary()?;
        let ranges = chunk.iter().map(|(from, to)| format!("{from}-{to}"));
        run(Command::new("editcap").arg(left.path()).arg(next.path()).args(ranges))?;
        left = next;
    }
    Ok(left)
}
