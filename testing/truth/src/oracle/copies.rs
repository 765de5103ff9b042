//! Captures from a mirror port or of several interfaces have every frame twice. To the judges that is a retransmission
//! each time.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use tempfile::NamedTempFile;

use testing_support::workspace::output;

/// How far apart a frame and its copy may be, in seconds.
const WITHIN: &str = "0.001";
/// Fewer equal frames than one in this many are what TCP sends: duplicate acknowledgements need not differ.
const ONE_IN: u64 = 3;

/// The capture without copies; None if it has none to speak of, or is of a kind that editcap does not read.
pub(super) fn without(file: &Path) -> Result<Option<NamedTempFile>> {
    let single = NamedTempFile::with_suffix(".pcapng").context("cannot make a temporary file")?;
    let done = output(Command::new("editcap").args(["-w", WITHIN]).arg(file).arg(single.path()))?;
    let told = [done.stdout, done.stderr].concat();
    let counts = counts(&String::from_utf8_lossy(&told));
    Ok(counts.is_some_and(|(seen, copies)| copies * ONE_IN > seen).then_some(single))
}

/// Of `20 packets seen, 10 packets skipped with duplicate time window ...`.
fn counts(told: &str) -> Option<(u64, u64)> {
    let line = told.lines().find(|line| line.contains("packets seen"))?;
    let mut numbers = line.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}

#[cfg(test)]
mod tests {
    use super::counts;

    #[test]
    fn editcap_says_how_many_it_removed() {
        let told = "20 packets seen, 10 packets skipped with duplicate time window equal to or less than 0.001000000 \
                    seconds.\n";
        assert_eq!(counts(told), Some((20, 10)));
        assert_eq!(counts("editcap: no such file\n"), None);
    }
}
