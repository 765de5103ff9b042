//! Slips in the YAML itself, in words of a configuration file instead of a scanner's: tabs, quotes that are not closed, values that
//! need quotes.
//!
//! The parser says where it gave up, which may be far below the slip. So the slip is looked for, and believed if the parser gets
//! further once it is mended.

use serde_yaml::{Location, Value};

use super::mark::{self, Part};
use super::place::Spot;

/// With these a plain value cannot begin (YAML 1.2 section 5.3), or means something else: an alias, an anchor, a tag.
const INDICATORS: [char; 8] = ['*', '&', '!', '%', '@', '`', '|', '>'];

/// Largest text in which a slip is looked for.
const GUESSED_AT: usize = 64 << 10;

/// Where a text is no YAML, and what to write instead.
pub(super) fn fault(text: &str, error: &serde_yaml::Error) -> (Spot, String) {
    let message = error.to_string();
    let plain = message.split_once(" at line ").map_or(message.as_str(), |(what, _)| what).to_owned();
    let Some(location) = error.location() else { return (Spot { line: 1, column: None }, plain) };
    // Each guess parses the text once more.
    if text.len() > GUESSED_AT {
        let column = Some((location.column().saturating_sub(1), Part::Value));
        return (Spot { line: location.line(), column }, plain);
    }
    let found = tab(text, &location).or_else(|| open_quote(text, &location)).or_else(|| unquoted(text, &location));
    found.unwrap_or_else(|| {
        let column = Some((location.column().saturating_sub(1), Part::Value));
        (Spot { line: location.line(), column }, plain)
    })
}

fn spot(line: usize, column: usize) -> Spot {
    Spot { line, column: Some((column, Part::Value)) }
}

/// A tab before the first word of the line.
fn tab(text: &str, location: &Location) -> Option<(Spot, String)> {
    let line = text.lines().nth(location.line().checked_sub(1)?)?;
    line.chars().take_while(|char| char.is_whitespace()).position(|char| char == '\t').map(|column| {
        let what = "YAML does not allow tabs for indentation; use spaces".to_owned();
        (spot(location.line(), column), what)
    })
}

/// A quote that is not closed on its line, at the line of the error or above it.
fn open_quote(text: &str, location: &Location) -> Option<(Spot, String)> {
    text.lines().take(location.line()).enumerate().find_map(|(index, line)| {
        let chars: Vec<char> = line.chars().collect();
        let (start, quote) = left_open(&chars)?;
        let rest = &chars[start + 1..];
        let comment = (1..rest.len()).find(|&at| rest[at] == '#' && rest[at - 1].is_whitespace());
        let in_flow = mark::open_brackets(&chars[..start]) > 0;
        let end = |char: &char| in_flow && matches!(char, ',' | ']' | '}');
        let end = rest.iter().position(end).or(comment).unwrap_or(rest.len());
        let value: String = rest[..end].iter().collect();
        let value = value.trim_end();
        let mended = start + 1 + value.chars().count();
        let closed: String =
            chars[..mended].iter().chain([&quote]).chain(&chars[start + 1 + end..]).collect::<String>();
        helps(text, index, &closed, location).then(|| {
            let what = format!("the quote is not closed; write {quote}{value}{quote}");
            (spot(index + 1, start), what)
        })
    })
}

/// Where a quote begins that does not end on this line.
fn left_open(chars: &[char]) -> Option<(usize, char)> {
    let mut at = 0;
    while at < chars.len() {
        match chars[at] {
            '#' if at == 0 || chars[at - 1].is_whitespace() => return None,
            quote @ ('"' | '\'') if begins_value(chars, at) => {
                let mut end = at + 1;
                while end < chars.len() && chars[end] != quote {
                    end += if quote == '"' && chars[end] == '\\' { 2 } else { 1 };
                }
                if end >= chars.len() {
                    return Some((at, quote));
                }
                // `''` within single quotes is a quote; here it opens and closes once more.
                at = end + 1;
            }
            _ => at += 1,
        }
    }
    None
}

/// Whether a value or key may begin at this character: at the line's first word, after a bracket or comma, after `- ` or `: `.
fn begins_value(chars: &[char], at: usize) -> bool {
    let blanks = chars[..at].iter().rev().take_while(|char| char.is_whitespace()).count();
    match chars[..at - blanks].last() {
        None | Some('[' | '{' | ',' | '\'') => true,
        Some('-' | ':') => blanks > 0,
        Some(_) => false,
    }
}

/// A value that needs quotes, on the line of the error.
fn unquoted(text: &str, location: &Location) -> Option<(Spot, String)> {
    let index = location.line().checked_sub(1)?;
    let line = text.lines().nth(index)?;
    let chars: Vec<char> = line.chars().collect();
    (0..chars.len()).find_map(|at| {
        let needs = INDICATORS.contains(&chars[at]) || chars[at] == ':' && mark::open_brackets(&chars[..at]) > 0;
        if !needs || !begins_value(&chars, at) {
            return None;
        }
        let extent = mark::extent(line, at, Part::Value);
        let value: String = chars.get(extent.clone())?.iter().collect();
        let (before, after): (String, String) = (chars[..at].iter().collect(), chars[extent.end..].iter().collect());
        let is_it = !value.is_empty()
            && !value.contains('"')
            && helps(text, index, &format!("{before}\"{value}\"{after}"), location);
        is_it.then(|| {
            let what =
                format!("`{value}` begins with a character that means something else in YAML; quote it: \"{value}\"");
            (spot(location.line(), at), what)
        })
    })
}

/// Whether the parser gets further with another text for this line, counted from 0.
fn helps(text: &str, index: usize, instead: &str, location: &Location) -> bool {
    let lines = text.lines().enumerate().map(|(number, line)| if number == index { instead } else { line });
    let mended: String = lines.flat_map(|line| [line, "\n"]).collect();
    match serde_yaml::from_str::<Value>(&mended) {
        Ok(_) => true,
        Err(error) => error.location().is_some_and(|further| {
            // The mended line is longer by its quotes.
            let added = if further.line() == index + 1 { 2 } else { 0 };
            (further.line(), further.column()) > (location.line(), location.column() + added)
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Line, first character that is marked, and message.
    fn said(text: &str) -> (usize, usize, String) {
        let error = serde_yaml::from_str::<Value>(text).expect_err(text);
        let (Spot { line, column }, what) = fault(text, &error);
        (line, column.map_or(0, |(column, _)| column), what)
    }

    #[test]
    fn a_tab_in_the_indentation_is_named() {
        for text in ["a:\n\t- b: c\n", "a:\n  b: 1\n\tc: 3\n", "a:\n  b: x\n  \tc: 3\n"] {
            assert_eq!(said(text).2, "YAML does not allow tabs for indentation; use spaces", "{text:?}");
        }
        assert_eq!(said("a:\n  - b: 1\n\t  c: 3\nd: 4\n").0, 3);
    }

    #[test]
    fn a_quote_that_is_not_closed_is_shown_where_it_is_opened() {
        let what = |value: &str| format!("the quote is not closed; write {value}");
        for (text, line, column, value) in [
            ("a: 1\nips: [\"::/0]\ntags: [a]\n", 2, 6, "\"::/0\""),
            ("a: \"lo\nips: [\"::/0\"]\n", 1, 3, "\"lo\""),
            ("a: 'lo  # the first\nb: it's\n", 1, 3, "'lo'"),
            ("a: lo'\nips: ['::/0, b]\ntags: ['a']\n", 2, 6, "'::/0'"),
            ("a:\n  - \"x\n  - y\n", 2, 4, "\"x\""),
        ] {
            assert_eq!(said(text), (line, column, what(value)), "{text:?}");
        }
        // A text that goes on below is none of it.
        let (line, _, what) = said("a: \"x\n  y\"\nb: @c\n");
        assert!(line == 3 && what.contains("quote it: \"@c\""), "{line}: {what}");
    }

    #[test]
    fn a_value_that_needs_quotes_is_named() {
        for (text, line, column, value) in [
            ("ips: [0.0.0.0/0, ::/0]\n", 1, 17, "::/0"),
            ("ips: [::/0]\n", 1, 6, "::/0"),
            ("ips: [::1, ::2] # both\n", 1, 6, "::1"),
            ("a: 1\ninterface: *\n", 2, 11, "*"),
            ("list:\n  - *\n", 2, 4, "*"),
            ("ips: [*]\n", 1, 6, "*"),
            ("interface: *0\n", 1, 11, "*0"),
            ("tags: [@a, b]\n", 1, 7, "@a"),
            ("tags:\n  - %a\n", 2, 4, "%a"),
        ] {
            let (at, from, what) = said(text);
            assert_eq!((at, from), (line, column), "{text:?}: {what}");
            assert!(what.ends_with(&format!("quote it: \"{value}\"")), "{text:?}: {what}");
        }
    }

    #[test]
    fn everything_else_is_said_in_the_parsers_words_once() {
        assert_eq!(said("a: [1, 2\n").2, "did not find expected ',' or ']'");
        assert_eq!(said("a: {\n").2.matches(" at line ").count(), 0);
    }
}
