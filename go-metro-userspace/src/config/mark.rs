//! Which part of a line a fault is marked under: the key or value that begins at a column.

use std::ops::Range;

/// What begins there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Key,
    Value,
}

/// The characters of `line`, counted from 0, of the part that begins at `start`; empty where the line has none.
///
/// The parser tells where a token begins, not where it ends. A wrong guess here draws a line too long or too short, no more.
pub(super) fn extent(line: &str, start: usize, part: Part) -> Range<usize> {
    let chars: Vec<char> = line.chars().collect();
    let Some(rest) = chars.get(start..).filter(|rest| !rest.is_empty()) else { return 0..0 };
    let len = match (rest[0], part) {
        (quote @ ('"' | '\''), _) => closing_quote(rest, quote),
        ('[' | '{', Part::Value) => closing_bracket(rest),
        (_, Part::Key) => ends_where(rest, |at, next| at == ':' && next.is_none_or(char::is_whitespace)),
        (_, Part::Value) => {
            let in_flow = open_brackets(&chars[..start]) > 0;
            let ends = |at: char, next: Option<char>| {
                (at.is_whitespace() && next == Some('#')) || (in_flow && matches!(at, ',' | ']' | '}'))
            };
            ends_where(rest, ends)
        }
    };
    let blank = rest[..len].iter().rev().take_while(|char| char.is_whitespace()).count();
    start..start + len - blank
}

fn ends_where(rest: &[char], ends: impl Fn(char, Option<char>) -> bool) -> usize {
    (0..rest.len()).find(|&at| ends(rest[at], rest.get(at + 1).copied())).unwrap_or(rest.len())
}

fn closing_quote(rest: &[char], quote: char) -> usize {
    rest.iter().skip(1).position(|&char| char == quote).map_or(rest.len(), |at| at + 2)
}

fn closing_bracket(rest: &[char]) -> usize {
    let closes = |&end: &usize| open_brackets(&rest[..end]) == 0;
    (1..=rest.len())
        .find(closes)
        .unwrap_or_else(|| ends_where(rest, |at, next| at.is_whitespace() && next == Some('#')))
}

/// How many brackets are open after these characters; those in quotes do not count.
pub(super) fn open_brackets(chars: &[char]) -> i32 {
    let (mut open, mut quoted) = (0, None);
    for &char in chars {
        match (char, quoted) {
            (_, Some(quote)) => quoted = Some(quote).filter(|&quote| quote != char),
            ('"' | '\'', None) => quoted = Some(char),
            ('[' | '{', None) => open += 1,
            (']' | '}', None) => open -= 1,
            _ => {}
        }
    }
    open
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The part of the line that begins where the text before the bar ends.
    fn marked(line: &str, part: Part) -> String {
        let (before, after) = line.split_once('|').unwrap();
        let line = format!("{before}{after}");
        let extent = extent(&line, before.chars().count(), part);
        line.chars().skip(extent.start).take(extent.len()).collect()
    }

    #[test]
    fn a_key_ends_at_its_colon_and_a_value_at_a_comment_or_the_line() {
        assert_eq!(marked("  |idle_tll: 3", Part::Key), "idle_tll");
        assert_eq!(marked("  |'a: b': 3", Part::Key), "'a: b'");
        assert_eq!(marked("  - |interface: eth0  # the first", Part::Value), "interface: eth0");
        assert_eq!(marked("  url: |http://a/b#c, d", Part::Value), "http://a/b#c, d");
        assert_eq!(marked("  é: |ü # x", Part::Value), "ü");
        assert_eq!(marked("a: |", Part::Value), "");
    }

    #[test]
    fn inside_brackets_a_value_ends_at_a_comma_or_bracket() {
        assert_eq!(marked("ips: [10.0.0.1, |10.0.0.300, ::1]", Part::Value), "10.0.0.300");
        assert_eq!(marked("ips: [|a b]", Part::Value), "a b");
        assert_eq!(marked("- {a: '}', |b: [1, 2]}", Part::Key), "b");
        assert_eq!(marked("- |{a: '}', b: [1, 2]} # x", Part::Value), "{a: '}', b: [1, 2]}");
        assert_eq!(marked("ips: |[a, # goes on", Part::Value), "[a,");
        assert_eq!(marked("ips: [|'a, b', c]", Part::Value), "'a, b'");
    }
}
