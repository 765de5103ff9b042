//! Which interfaces an instance's `interface` means.

use std::fmt;

use glob::Pattern;

/// Longest alternative name of an interface: `ALTIFNAMSIZ` of include/uapi/linux/if.h, without the NUL. Its first name
/// has at most 15 bytes.
const LONGEST: usize = 127;

/// Which interfaces a value of `interface` means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// The interface of this name; `any` is libpcap's device of all.
    Name(String),
    /// Every interface whose name is like this: `*` any characters, `?` any one, `[a-c]` one of these.
    Like(Pattern),
    /// The interfaces of the default routes.
    Default,
    /// Every interface but loopback.
    All,
}

impl Selector {
    /// Parses a value of `interface`.
    ///
    /// # Errors
    ///
    /// The value can never match an interface.
    pub fn parse(text: &str) -> Result<Self, InvalidSelector> {
        match text {
            "default" => return Ok(Self::Default),
            "all" => return Ok(Self::All),
            _ => {}
        }
        let invalid = |why: String| InvalidSelector { text: text.to_owned(), why };
        if let Some(bad) = text.chars().find(|c| c.is_whitespace() || matches!(c, '/' | ':') || c.is_control()) {
            return Err(invalid(format!("an interface's name cannot contain {bad:?}")));
        }
        if text.contains(',') {
            let why = "it must be one interface or a pattern such as `eth*`; name several one by one";
            return Err(invalid(why.to_owned()));
        }
        let (least, is_pattern) = match length(text) {
            Some(least) => (least, true),
            None => (text.len(), false),
        };
        if least > LONGEST {
            return Err(invalid(format!("an interface's name has at most {LONGEST} bytes")));
        }
        if is_pattern {
            Pattern::new(text)
                .map(Self::Like)
                .map_err(|error| invalid(format!("it is not a valid pattern: {}", error.msg)))
        } else {
            Ok(Self::Name(text.to_owned()))
        }
    }

    /// Whether it matches an interface, by its names (alternative ones too), and by whether it is loopback or on a
    /// default route.
    pub fn chooses<'a>(&self, mut names: impl Iterator<Item = &'a str>, is_loopback: bool, is_default: bool) -> bool {
        match self {
            Self::Name(wanted) => names.any(|name| wanted == name),
            Self::Like(pattern) => names.any(|name| pattern.matches(name)),
            Self::Default => is_default,
            Self::All => !is_loopback,
        }
    }

    /// Whether it names one interface, which ought to be there.
    pub fn is_name(&self) -> bool {
        matches!(self, Self::Name(_))
    }
}

/// The least length of a name that is like the text, if that is a pattern.
fn length(text: &str) -> Option<usize> {
    let mut least = 0;
    let mut is_pattern = false;
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '*' => is_pattern = true,
            '?' | '[' => {
                is_pattern = true;
                least += 1;
                if c == '[' {
                    // One of those up to the bracket, which itself may come first.
                    rest.next();
                    rest.by_ref().find(|c| *c == ']');
                }
            }
            other => least += other.len_utf8(),
        }
    }
    is_pattern.then_some(least)
}

/// A value of `interface` that can never match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidSelector {
    text: String,
    why: String,
}

impl fmt::Display for InvalidSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { text, why } = self;
        write!(f, "`{text}` can never match: {why}; use a name, a pattern such as eth* or veth*, `default` or `all`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen<'a>(selector: &str, names: &[&'a str]) -> Vec<&'a str> {
        let selector = Selector::parse(selector).unwrap();
        names
            .iter()
            .copied()
            .filter(|name| selector.chooses(std::iter::once(*name), *name == "lo", *name == "eth1"))
            .collect()
    }

    #[test]
    fn names_patterns_default_and_all_choose_what_they_say() {
        let names = ["lo", "eth0", "eth1", "veth12ab", "cali0", "eth*"];
        assert_eq!(chosen("eth0", &names), ["eth0"]);
        assert_eq!(chosen("eth*", &names), ["eth0", "eth1", "eth*"]);
        assert_eq!(chosen("eth[01]", &names), ["eth0", "eth1"]);
        assert_eq!(chosen("?eth*", &names), ["veth12ab"]);
        assert_eq!(chosen("default", &names), ["eth1"]);
        assert_eq!(chosen("all", &names), ["eth0", "eth1", "veth12ab", "cali0", "eth*"]);
        assert_eq!(chosen("*", &names), names);
    }

    #[test]
    fn an_alternative_name_is_as_good_as_the_first() {
        let names = ["eth0", "wan0"];
        for selector in ["eth0", "wan0", "wan*", "all"] {
            assert!(Selector::parse(selector).unwrap().chooses(names.into_iter(), false, false), "{selector}");
        }
        assert!(!Selector::parse("wan").unwrap().chooses(names.into_iter(), false, false));
    }

    #[test]
    fn what_can_never_match_says_why() {
        for (text, why) in [
            ("veth with space", "cannot contain ' '"),
            ("a/b*", "cannot contain '/'"),
            ("eth0:1", "cannot contain ':'"),
            (&*"n".repeat(128), "has at most 127 bytes"),
            (&*format!("{}??", "n".repeat(126)), "has at most 127 bytes"),
            ("eth[0", "it is not a valid pattern"),
            ("eth***", "it is not a valid pattern"),
        ] {
            let shown = Selector::parse(text).unwrap_err().to_string();
            assert!(shown.starts_with(&format!("`{text}` can never match: ")) && shown.contains(why), "{shown}");
            assert!(shown.ends_with("use a name, a pattern such as eth* or veth*, `default` or `all`"), "{shown}");
        }
        for text in ["averyverylong*", "averyverylongn[ab]", "docker0", "br-0123456789ab", &*"n".repeat(127)] {
            assert!(Selector::parse(text).is_ok(), "{text}");
        }
    }
}
