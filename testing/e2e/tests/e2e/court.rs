//! The live court: samples of live traffic, each against what the path itself knows.

use std::collections::BTreeMap;
use std::time::Duration;

use testing_lab::agent::Sample;
use testing_truth::oracle::live::{Live, Proof, Untold};

/// Between the clocks of the forwarder and of the kernel's hooks.
const CLOCKS: Duration = Duration::from_micros(20);

/// What became of the samples.
pub(crate) struct Verdicts<'a> {
    /// Those that nothing speaks against.
    pub(crate) proofs: Vec<(&'a Sample, Proof)>,
    /// Of the others why, and what passed around them.
    pub(crate) wrong: Vec<String>,
}

impl<'a> Verdicts<'a> {
    pub(crate) fn of(live: &Live, samples: &'a [Sample]) -> Self {
        let mut verdicts = Self { proofs: Vec::new(), wrong: Vec::new() };
        for sample in samples {
            match live.prove(sample) {
                Ok(proof) => verdicts.proofs.push((sample, proof)),
                Err(why) => verdicts.wrong.push(format!("{why}: {sample:?}\n{}", live.around(sample).join("\n"))),
            }
        }
        verdicts
    }

    /// How many are longer than the path because of what no near end can know.
    pub(crate) fn untold(&self) -> BTreeMap<Untold, usize> {
        let mut untold = BTreeMap::new();
        self.proofs.iter().filter_map(|(_, proof)| proof.untold).for_each(|why| *untold.entry(why).or_default() += 1);
        untold
    }

    /// Fails if a sample is wrong, or shorter than its path's delay.
    pub(crate) fn assert_true(&self, floor: impl Fn(&Sample) -> Duration) {
        let shown = self.wrong[..self.wrong.len().min(10)].join("\n");
        assert!(self.wrong.is_empty(), "{} wrong:\n{shown}", self.wrong.len());
        for (sample, proof) in &self.proofs {
            assert!(sample.rtt() + CLOCKS >= floor(sample), "less than the path's delay: {sample:?}, {proof:?}");
        }
    }
}
