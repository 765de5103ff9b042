//! Tag values that cannot break a datagram.
//!
//! A name from DNS, or from a configuration file, may hold what separates the fields of a DogStatsD line. Such
//! characters become underscores, as Datadog's intake does with others it does not know.

use std::fmt::Write;

/// Longest tag that Datadog keeps, in characters.
const LONGEST: usize = 200;

/// `value` without anything that DogStatsD gives a meaning: separators, white space, control characters.
pub(super) fn sanitise(value: &str) -> String {
    let harmless = |c: char| !(matches!(c, '|' | ',' | '#' | '@') || c.is_whitespace() || c.is_control());
    let mut clean: String = value.chars().take(LONGEST).map(|c| if harmless(c) { c } else { '_' }).collect();
    if clean.is_empty() {
        clean.push_str("unknown");
    }
    clean
}

/// A tag `key:value`.
pub(super) fn tag(key: &str, value: &str) -> String {
    let mut tag = String::with_capacity(key.len() + 1 + value.len());
    // Writing to a string cannot fail.
    let _ = write!(tag, "{key}:{}", sanitise(value));
    tag
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_and_names_stay_as_they_are() {
        for value in ["10.42.31.222", "2001:db8::1", "db-1.example.org", "münchen.example"] {
            assert_eq!(sanitise(value), value);
        }
    }

    #[test]
    fn what_separates_fields_becomes_an_underscore() {
        assert_eq!(tag("dst", "evil|c\n#a,b:c d"), "dst:evil_c__a_b:c_d");
        assert_eq!(tag("dst", ""), "dst:unknown");
    }

    proptest! {
        #[test]
        fn no_value_breaks_a_line(value in any::<String>()) {
            let clean = sanitise(&value);
            prop_assert!(!clean.is_empty() && clean.chars().count() <= LONGEST);
            prop_assert!(!clean.contains(['|', ',', '#', '\n', '\r', ' ', '\0']));
        }
    }
}
