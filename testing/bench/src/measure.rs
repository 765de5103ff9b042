//! Rounds, and what many of them say.

use std::fmt;

use anyhow::Result;

/// Median and quartiles.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    /// A quarter of the values is below.
    pub low: f64,
    /// Half of the values are below.
    pub median: f64,
    /// A quarter of the values is above.
    pub high: f64,
}

impl Spread {
    /// Of some values; zeros if there are none.
    #[must_use]
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |quarter: usize| values.get((values.len() * quarter / 4).min(values.len().saturating_sub(1))).copied();
        let [low, median, high] = [1, 2, 3].map(|quarter| at(quarter).unwrap_or_default());
        Self { low, median, high }
    }
}

impl fmt::Display for Spread {
    /// `median (low–high)`, with the formatter's precision.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(1);
        write!(f, "{:.digits$} ({:.digits$}–{:.digits$})", self.median, self.low, self.high)
    }
}

/// One case: its value in each round, and the baseline's in the same round.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured {
    pairs: Vec<(f64, f64)>,
}

impl Measured {
    /// Adds a value and the baseline's, measured at the same time.
    pub(crate) fn push(&mut self, value: f64, baseline: f64) {
        self.pairs.push((value, baseline));
    }

    /// The values.
    #[must_use]
    pub(crate) fn value(&self) -> Spread {
        Spread::of(self.pairs.iter().map(|(value, _)| *value))
    }

    /// The baseline's.
    #[must_use]
    pub(crate) fn baseline(&self) -> Spread {
        Spread::of(self.pairs.iter().map(|(_, baseline)| *baseline))
    }

    /// How many times the baseline's value each is.
    #[must_use]
    pub(crate) fn ratio(&self) -> Spread {
        Spread::of(self.pairs.iter().map(|(value, baseline)| value / baseline))
    }

    /// How many times another case's value of the same round each is.
    #[must_use]
    pub(crate) fn over(&self, other: &Self) -> Spread {
        Spread::of(self.pairs.iter().zip(&other.pairs).map(|((value, _), (others, _))| value / others))
    }

    /// How much more than the baseline's value each is.
    #[must_use]
    pub(crate) fn above(&self) -> Spread {
        Spread::of(self.pairs.iter().map(|(value, baseline)| value - baseline))
    }
}

/// Measures `cases` cases, of which the first is the baseline, `rounds` times after one round to warm up. `measure`
/// gets a case's index and says what it cost this time.
///
/// # Errors
///
/// What `measure` fails with.
pub(crate) fn rounds(
    rounds: usize,
    cases: usize,
    mut measure: impl FnMut(usize) -> Result<f64>,
) -> Result<Vec<Measured>> {
    let mut measured = vec![Measured::default(); cases];
    let mut values = vec![0.0; cases];
    for round in 0..=rounds {
        for turn in 0..cases {
            let case = (turn + round) % cases;
            values[case] = measure(case)?;
        }
        if round > 0 {
            measured.iter_mut().zip(&values).for_each(|(case, value)| case.push(*value, values[0]));
        }
    }
    Ok(measured)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_a_quarter_of_the_values_on_either_side() {
        let spread = Spread::of((0..=100).rev().map(f64::from));
        assert_eq!(spread, Spread { low: 25.0, median: 50.0, high: 75.0 });
        assert_eq!(format!("{spread:.0}"), "50 (25–75)");
    }

    #[test]
    fn each_value_is_held_against_the_baseline_of_its_own_round() {
        // A machine that gets ten times slower on the way.
        let mut calls = 0;
        let measured = rounds(10, 2, |case| {
            calls += 1;
            Ok(f64::from((calls + 1) / 2) * [100.0, 300.0][case])
        });
        let measured = measured.unwrap();
        assert_eq!(measured[1].ratio(), Spread { low: 3.0, median: 3.0, high: 3.0 });
        assert_eq!(measured[0].over(&measured[1]), Spread { low: 1.0 / 3.0, median: 1.0 / 3.0, high: 1.0 / 3.0 });
        assert_eq!(measured[0].above(), Spread { low: 0.0, median: 0.0, high: 0.0 });
    }
}
