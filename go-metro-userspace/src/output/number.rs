//! Numbers as text: what is not zero never reads as zero, and two marks of one axis, or the two ends of a range, never
//! read alike.

use go_metro_rtt::Figure;

/// Most decimals of a mark or an end of a range, in any unit.
const MOST: usize = 12;

/// A figure with at most so many decimals. What is too small for them is less than the last: `<0.001`.
pub fn fixed(figure: Figure, most: usize) -> String {
    let text = format!("{:.*}", figure.decimals(most), figure.ms);
    if figure.ms > 0.0 && is_zero(&text) { format!("<{:.most$}", 10_f64.powi(-(most as i32))) } else { text }
}

/// The same for programs: what is too small for these decimals has more, up to three digits that are not zero.
pub fn precise(figure: Figure, most: usize) -> String {
    let text = format!("{:.*}", figure.decimals(most), figure.ms);
    if figure.ms > 0.0 && is_zero(&text) { format!("{:.*}", to_three_digits(figure.ms), figure.ms) } else { text }
}

/// A number with the decimals that matter, and no zeros at its end: three below 100, and three digits below 0.1.
pub fn short(ms: f64) -> String {
    let decimals = match ms {
        ms if ms >= 1000.0 => 0,
        ms if ms >= 100.0 => 1,
        ms if ms >= 10.0 => 2,
        ms if ms >= 0.1 || ms <= 0.0 => 3,
        ms => to_three_digits(ms),
    };
    trimmed(format!("{ms:.decimals$}"))
}

/// A share in per cent, with two decimals, but for none.
pub fn per_cent(share: f64) -> String {
    match share * 100.0 {
        none if none <= 0.0 => "0 %".to_owned(),
        little if little < 0.005 => "<0.01 %".to_owned(),
        share => format!("{share:.2} %"),
    }
}

/// The marks of an axis, each with the digits that it takes.
pub fn marks(values: &[f64]) -> Vec<String> {
    let step = values.windows(2).map(|pair| (pair[1] - pair[0]).abs()).fold(f64::INFINITY, f64::min);
    let is_told = |value: f64, decimals: usize| {
        // Marks are round: what differs by much less than a step is the rounding of binary fractions.
        let error = format!("{value:.decimals$}").parse::<f64>().map_or(f64::INFINITY, |told| (told - value).abs());
        error <= step.min(value.abs()) * 1e-3
    };
    let decimals = (0..MOST).find(|decimals| values.iter().all(|value| is_told(*value, *decimals))).unwrap_or(MOST);
    values.iter().map(|value| trimmed(format!("{value:.decimals$}"))).collect()
}

/// The ends of a range, with as many digits as tell its width within a tenth.
pub fn range(from: f64, to: f64) -> [String; 2] {
    let width = to - from;
    if width <= 0.0 {
        return [from, to].map(short);
    }
    let is_enough = |decimals: &usize| {
        10_f64.powi(-(*decimals as i32)) <= width * 0.1 && (from <= 0.0 || !is_zero(&format!("{from:.decimals$}")))
    };
    let decimals = (0..MOST).find(is_enough).unwrap_or(MOST);
    [from, to].map(|end| format!("{end:.decimals$}"))
}

/// Decimals with which a number below 1 has three digits.
fn to_three_digits(ms: f64) -> usize {
    (2 - ms.log10().floor() as i64).clamp(3, 18) as usize
}

fn is_zero(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0' | b'.'))
}

fn trimmed(text: String) -> String {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_zero_never_reads_as_zero() {
        let exact = Figure::exact;
        for (ms, table, program, drawing) in [
            (0.0, "0.000", "0.000000", "0"),
            (0.000_476, "<0.001", "0.000476", "0.000476"),
            (0.000_6, "0.001", "0.000600", "0.0006"),
            (0.000_000_33, "<0.001", "0.000000330", "0.00000033"),
            (20.5, "20.500", "20.500000", "20.5"),
            (1501.0, "1501.000", "1501.000000", "1501"),
        ] {
            assert_eq!(
                (fixed(exact(ms), 3), precise(exact(ms), 6), short(ms)),
                (table.into(), program.into(), drawing.into())
            );
        }
    }

    #[test]
    fn no_two_marks_of_an_axis_read_alike() {
        assert_eq!(marks(&[0.0, 0.2, 0.4, 3.0 * 0.2]), ["0", "0.2", "0.4", "0.6"]);
        assert_eq!(marks(&[0.0321, 0.0322, 0.0323]), ["0.0321", "0.0322", "0.0323"]);
        assert_eq!(marks(&[0.01, 0.1, 1.0, 10.0]), ["0.01", "0.1", "1", "10"]);
        assert_eq!(marks(&[1000.0, 2000.0]), ["1000", "2000"]);
        assert_eq!((marks(&[0.03]), marks(&[0.0])), (vec!["0.03".to_owned()], vec!["0".to_owned()]));
    }

    #[test]
    fn the_ends_of_a_range_differ_however_narrow_it_is() {
        assert_eq!(range(20.031_2, 20.035_6), ["20.0312", "20.0356"]);
        assert_eq!(range(100.0, 200.0), ["100", "200"]);
        assert_eq!(range(0.003, 0.103), ["0.003", "0.103"]);
        assert_eq!(range(5.0, 5.0), ["5", "5"]);
    }
}
