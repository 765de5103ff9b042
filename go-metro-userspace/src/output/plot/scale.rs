//! Axes: from a value to a place, and where to write numbers.

/// An axis of RTTs, in milliseconds: even, or by powers of ten where the values span more than one and a half of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct RttScale {
    low: f64,
    high: f64,
    is_log: bool,
}

impl RttScale {
    /// For values between these.
    pub(super) fn new(least: f64, most: f64) -> Self {
        let most = most.max(least * 1.001).max(1e-6);
        if least > 0.0 && most / least > 30.0 {
            return Self { low: least * 0.9, high: most * 1.1, is_log: true };
        }
        let margin = (most - least).max(most * 0.02) * 0.08;
        Self { low: (least - margin).max(0.0), high: most + margin, is_log: false }
    }

    /// Where a value lies: 0 at the bottom, 1 at the top.
    pub(super) fn share(self, ms: f64) -> f64 {
        let Self { low, high, is_log } = self;
        let share = if is_log { (ms.max(low) / low).ln() / (high / low).ln() } else { (ms - low) / (high - low) };
        share.clamp(0.0, 1.0)
    }

    /// The value at a share.
    pub(super) fn value(self, share: f64) -> f64 {
        let Self { low, high, is_log } = self;
        if is_log { low * (high / low).powf(share) } else { low + (high - low) * share }
    }

    /// Values to write at the axis.
    pub(super) fn ticks(self) -> Vec<f64> {
        let Self { low, high, is_log } = self;
        if !is_log {
            return even_ticks(low, high, 5);
        }
        let decades = (low.log10().floor() as i32)..=(high.log10().ceil() as i32);
        let each = decades.flat_map(|decade| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(decade)));
        let all: Vec<f64> = each.filter(|tick| (low..=high).contains(tick)).collect();
        let only_tens = |tick: &f64| (tick.log10() - tick.log10().round()).abs() < 1e-9;
        if all.len() > 7 { all.into_iter().filter(only_tens).collect() } else { all }
    }
}

/// Round values between two, about so many.
pub(super) fn even_ticks(low: f64, high: f64, about: usize) -> Vec<f64> {
    let rough = (high - low) / about as f64;
    if rough <= 0.0 || !rough.is_finite() {
        return vec![low];
    }
    let power = 10_f64.powf(rough.log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].map(|digit| digit * power).into_iter().find(|step| *step >= rough).unwrap_or(rough);
    let first = (low / step).ceil() as i64;
    (first..).map(|k| k as f64 * step).take_while(|tick| *tick <= high).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(even_ticks(0.0, 10.0, 5), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(RttScale::new(20.0, 21.0).ticks(), [20.0, 20.5, 21.0]);
        assert_eq!(RttScale::new(0.5, 900.0).ticks(), [1.0, 10.0, 100.0]);
        assert_eq!(even_ticks(3.0, 3.0, 5), [3.0]);
    }

    #[test]
    fn a_share_and_its_value_are_each_others_inverse() {
        for scale in [RttScale::new(20.0, 25.0), RttScale::new(0.1, 1000.0), RttScale::new(5.0, 5.0)] {
            for share in [0.0, 0.3, 1.0] {
                assert!((scale.share(scale.value(share)) - share).abs() < 1e-9, "{scale:?}");
            }
        }
    }
}
