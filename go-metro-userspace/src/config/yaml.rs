//! Slips in the YAML itself, in words of a configuration file instead of a scanner's: tabs, quotes that are not closed,
//! values that need quotes.
//!
//! The parser says where it gave up, which may be far below the slip. So the slip is looked for, and believed if the
//! parser gets further once it is mended.

use serde_yaml::{Location, Value};

use super::place::{self, Part, Spot};

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
    let is_small = text.len() <= GUESSED_AT;
    let found = is_small.then(|| {
        tab(text, &location)
            .or_else(|| open_quote(text, &location))
            .or_else(|| unquoted(text, &location))
            .or_else(|| dash(text, &location))
            .or_else(|| twice(text, &location, &plain))
    });
    found.flatten().unwrap_or_else(|| {
        let column = Some((location.column().saturating_sub(1), Part::Value));
        let advice = ADVICE.iter().find(|(said, _)| plain.contains(said)).map_or("", |(_, advice)| advice);
        // The end of the file is behind its last line.
        let line = location.line().min(text.lines().count().max(1));
        (Spot { line, column: column.filter(|_| line == location.line()) }, format!("{plain}{advice}"))
    })
}

/// What to do where only the parser's words say what is wrong.
const ADVICE: [(&str, &str); 4] = [
    ("expected '-' indicator", "; align this line with the `-` of the items above, or indent it below one"),
    ("did not find expected key", "; align this line with the keys above"),
    ("mapping values are not allowed", "; align this key with those above, and quote a value that contains `: `"),
    ("could not find expected ':'", "; each key needs a `: ` after it"),
];

/// A `-` without a blank behind it, at the line of the error or above it; the other items may have the same slip.
fn dash(text: &str, location: &Location) -> Option<(Spot, String)> {
    fn item(line: &str) -> Option<&str> {
        line.trim_start().strip_prefix('-').filter(|item| !item.is_empty() && !item.starts_with([' ', '-']))
    }
    let mut lines = text.lines().take(location.line()).enumerate();
    let (index, line, slip) = lines.find_map(|(index, line)| Some((index, line, item(line)?)))?;
    let separated = |line: &str| {
        item(line).map_or_else(|| line.to_owned(), |item| format!("{}- {item}", &line[..line.len() - item.len() - 1]))
    };
    let mended: String = text.lines().flat_map(|line| [separated(line), "\n".to_owned()]).collect();
    serde_yaml::from_str::<Value>(&mended).is_ok().then(|| {
        let indentation = line.len() - line.trim_start().len();
        (spot(index + 1, indentation), format!("a `-` needs a space after it; write `- {}`", slip.trim_end()))
    })
}

/// A key that stands twice is shown where it stands again: the parser shows the beginning of its mapping.
fn twice(text: &str, location: &Location, plain: &str) -> Option<(Spot, String)> {
    let key = plain.split_once("duplicate entry with key \"")?.1.strip_suffix('"')?;
    let place = |line: &str| {
        let start = line.len() - line.trim_start_matches([' ', '-']).len();
        line[start..].strip_prefix(key)?.trim_start().starts_with(':').then_some(start)
    };
    let below = text.lines().enumerate().skip(location.line().saturating_sub(1));
    let mut at = below.filter_map(|(index, line)| Some((index, place(line)?)));
    let (first, column) = at.next()?;
    let (again, _) = at.find(|(_, other)| *other == column)?;
    let what = format!("`{key}` is set here and on line {}; keep one", first + 1);
    Some((Spot { line: again + 1, column: Some((column, Part::Value)) }, what))
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
        let in_flow = place::open_brackets(&chars[..start]) > 0;
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

/// Whether a value or key may begin at this character: at the line's first word, after a bracket or comma, after `- `
/// or `: `.
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
        let needs = INDICATORS.contains(&chars[at]) || chars[at] == ':' && place::open_brackets(&chars[..at]) > 0;
        if !needs || !begins_value(&chars, at) {
            return None;
        }
        let extent = place::extent(line, at, Part::Value);
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
    fn a_dash_without_a_blank_is_shown_with_one() {
        let text = "instances:\n  - interface: eth0\n    ips:\n      -10.0.0.0/8\n      -10.1.0.0/16\n    tags: [a]\n";
        let spaced = text.replace("      -1", "    -1");
        for text in [spaced.as_str(), "a:\n  - b\n  -c\n  - d: 1\n"] {
            let (_, _, what) = said(text);
            assert!(what.starts_with("a `-` needs a space after it; write `- "), "{text}: {what}");
        }
    }

    #[test]
    fn a_key_that_stands_twice_is_shown_where_it_stands_again() {
        let text = "instances:\n  - interface: eth0\n    ips: [a]\n    tags: [b]\n    ips: [c]\n";
        assert_eq!(said(text), (5, 4, "`ips` is set here and on line 3; keep one".to_owned()));
    }

    #[test]
    fn what_does_not_line_up_is_said_with_what_to_align() {
        assert!(said("a:\n  - b: 1\n c: 2\n").2.contains("; align this line"), "{:?}", said("a:\n  - b: 1\n c: 2\n"));
        assert!(said("a:\n  b: 1\n   c: 2\n").2.contains("; align this key"), "{:?}", said("a:\n  b: 1\n   c: 2\n"));
    }

    #[test]
    fn everything_else_is_said_in_the_parsers_words_once() {
        assert_eq!(said("a: [1, 2\n").2, "did not find expected ',' or ']'");
        assert_eq!(said("a: {\n").2.matches(" at line ").count(), 0);
    }
}
