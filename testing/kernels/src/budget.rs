//! How many instructions each kernel's verifier follows, as it was written down (`docs/verifier.json`), and whether it
//! has grown.
//!
//! A verifier gives up after a million, and long before that loading takes seconds. What is near the end on one kernel
//! may be past it on the next.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use testing_support::workspace::root;

/// Instructions by series and program.
type Budget = BTreeMap<String, BTreeMap<String, u64>>;

/// What has grown by half.
pub(super) fn overruns(series: &str, counts: &[(String, u64)]) -> Result<Vec<String>> {
    Ok(grown(&read()?, series, counts))
}

/// Writes down what a kernel's verifier follows now.
pub(super) fn record(series: &str, counts: &[(String, u64)]) -> Result<()> {
    let mut budget = read()?;
    budget.insert(series.to_owned(), counts.iter().cloned().collect());
    let text = serde_json::to_string_pretty(&budget)?;
    fs::write(file(), text + "\n").with_context(|| format!("cannot write {}", file().display()))
}

fn grown(budget: &Budget, series: &str, counts: &[(String, u64)]) -> Vec<String> {
    let Some(known) = budget.get(series) else { return Vec::new() };
    counts
        .iter()
        .filter_map(|(program, now)| {
            let then = *known.get(program)?;
            (2 * now > 3 * then).then(|| {
                format!(
                    "the verifier follows {now} instructions of {program}, no longer {then}; if that must be, record it"
                )
            })
        })
        .collect()
}

fn read() -> Result<Budget> {
    match fs::read(file()) {
        Ok(text) => serde_json::from_slice(&text).with_context(|| file().display().to_string()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Budget::new()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file().display())),
    }
}

fn file() -> PathBuf {
    root().join("docs/verifier.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_by_more_than_half_is_reported_and_less_is_not() {
        let budget = Budget::from([("6.1".to_owned(), BTreeMap::from([("a".to_owned(), 1000)]))]);
        let count = |now| [("a".to_owned(), now)];
        assert!(grown(&budget, "6.1", &count(1500)).is_empty());
        assert_eq!(grown(&budget, "6.1", &count(1501)).len(), 1);
        assert!(grown(&budget, "5.10", &count(9999)).is_empty());
    }
}
