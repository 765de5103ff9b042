//! Where in the file something stands: a path of keys, the line and column it leads to, and the part of the line to
//! mark.
//!
//! The parser that reads the values says where they stand, so that the two never disagree. One that keeps positions
//! would be a second: saphyr's, for one, refuses lists in brackets that go on at the indentation of their key, which
//! serde_yaml takes.

use std::fmt;
use std::ops::Range;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The way from the file's top to a key or an item: `instances[0].ips[1]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Item(usize),
}

impl Place {
    /// The value of a key in the mapping that stands here.
    pub(super) fn key(&self, key: &str) -> Self {
        self.with(Step::Key(key.to_owned()))
    }

    /// An item of the list that stands here, counted from 0.
    pub(super) fn item(&self, index: usize) -> Self {
        self.with(Step::Item(index))
    }

    /// The last key on the way.
    pub(super) fn name(&self) -> &str {
        let mut keys = self.0.iter().rev().filter_map(|step| match step {
            Step::Key(key) => Some(key.as_str()),
            Step::Item(_) => None,
        });
        keys.next().unwrap_or_default()
    }

    fn with(&self, step: Step) -> Self {
        Self(self.0.iter().cloned().chain([step]).collect())
    }

    /// Where in `text` this key or item begins, or the value of the key; where there is none, what is nearest around
    /// it.
    pub(super) fn spot(&self, text: &str, part: Part) -> Spot {
        let around = (1..=self.0.len()).rev().map(|len| &self.0[..len]);
        let spot = |steps: &[Step]| {
            let is_key = matches!(steps.last(), Some(Step::Key(_)));
            let key = find(text, steps, Part::Key)?;
            let value = find(text, steps, Part::Value).filter(|value| value.0 == key.0);
            let (part, (line, column)) = match value {
                Some(value) if part == Part::Value && steps.len() == self.0.len() || !is_key => (Part::Value, value),
                _ => (Part::Key, key),
            };
            Some(Spot { line, column: Some((column, part)) })
        };
        around.into_iter().find_map(spot).unwrap_or(Spot { line: 1, column: None })
    }
}

/// Where something begins.
#[derive(Clone, Copy)]
pub(super) struct Spot {
    /// Line, counted from 1.
    pub(super) line: usize,
    /// Character of the line, counted from 0, and what begins there.
    pub(super) column: Option<(usize, Part)>,
}

/// Line (from 1) and column (from 0) of the path's last key, or of what stands behind it.
fn find(text: &str, steps: &[Step], part: Part) -> Option<(usize, usize)> {
    // serde_yaml tells lines in errors alone: follow the path and fail there.
    let follow = Follow { steps, part };
    let location = follow.deserialize(serde_yaml::Deserializer::from_str(text)).err()?.location()?;
    // What a file without a document lacks is missed behind its last line.
    (location.line() <= text.lines().count()).then(|| (location.line(), location.column().saturating_sub(1)))
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if index == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Item(item) => write!(f, "[{item}]")?,
            }
        }
        Ok(())
    }
}

/// Fails at the end of the path, and nowhere else.
#[derive(Clone, Copy)]
struct Follow<'a> {
    steps: &'a [Step],
    /// Whether to fail at the last key or at its value; an item has no key.
    part: Part,
}

impl<'a> Follow<'a> {
    fn on(self, steps: &'a [Step]) -> Self {
        Self { steps, ..self }
    }
}

const FOUND: &str = "found";

impl<'de> DeserializeSeed<'de> for Follow<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Follow<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(FOUND)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((step, rest)) = self.steps.split_first() else { return Err(A::Error::custom(FOUND)) };
        let fails = rest.is_empty() && self.part == Part::Key;
        while let Some(is_wanted) = map.next_key_seed(Wanted { step, fails })? {
            if is_wanted {
                map.next_value_seed(self.on(rest))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Some((step, rest)) = self.steps.split_first() else { return Err(A::Error::custom(FOUND)) };
        if let Step::Item(wanted) = step {
            for _ in 0..*wanted {
                list.next_element::<IgnoredAny>()?;
            }
            list.next_element_seed(self.on(rest))?;
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

/// Whether a key is the wanted one; fails at it if it is to.
struct Wanted<'a> {
    step: &'a Step,
    fails: bool,
}

impl<'de> DeserializeSeed<'de> for Wanted<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Wanted<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<bool, E> {
        let is_wanted = matches!(self.step, Step::Key(wanted) if wanted == key);
        if is_wanted && self.fails { Err(E::custom(FOUND)) } else { Ok(is_wanted) }
    }
}

/// What begins there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Key,
    Value,
}

/// The characters of `line`, counted from 0, of the part that begins at `start`; empty where the line has none.
///
/// The parser tells where a token begins, not where it ends. A wrong guess here draws a line too long or too short, no
/// more.
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

    #[test]
    fn a_place_is_written_as_people_write_it() {
        assert_eq!(Place::default().key("instances").item(0).key("ips").item(1).to_string(), "instances[0].ips[1]");
    }

    #[test]
    fn a_place_is_found_in_either_style_of_yaml() {
        let block = "# ips:\ninit_config:\n    tags: [ips]\ninstances:\n- interface: a\n  ips:\n  - 10.0.0.1\n  \
                     - 10.0.0.2\n-\n  interface: b\n";
        let flow = "instances: [{interface: a,\n  ips: [10.0.0.1,\n 10.0.0.2]},\n {interface: b}]\n";
        let instances = Place::default().key("instances");
        let lines = |text| {
            [
                instances.item(0).spot(text, Part::Key).line,
                instances.item(0).key("ips").spot(text, Part::Key).line,
                instances.item(0).key("ips").item(1).spot(text, Part::Key).line,
                instances.item(1).key("interface").spot(text, Part::Key).line,
            ]
        };
        assert_eq!(lines(block), [5, 6, 8, 10]);
        assert_eq!(lines(flow), [1, 2, 3, 4]);
    }

    #[test]
    fn what_is_absent_is_said_to_be_where_it_would_be() {
        let text = "init_config:\n  tags: []\ninstances:\n  - interface: a\n";
        let place = Place::default();
        assert_eq!(place.key("instances").item(0).key("ips").spot(text, Part::Key).line, 4);
        assert_eq!(place.key("instances").item(7).spot(text, Part::Key).line, 3);
        assert_eq!(place.key("nothing").spot(text, Part::Key).line, 1);
    }

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
