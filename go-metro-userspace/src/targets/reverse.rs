//! Names of addresses, for tags: a bounded cache that never keeps a report waiting.
//!
//! Asking for a name answers from the cache, and notes what is missing, which is then looked up between reports. Until
//! there is an answer the address is its own name, or has the name that it had before.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::resolver::{Name, Turn};

/// How long an answer is believed, also that there is no name.
const LIFETIME: Duration = Duration::from_secs(600);
/// Most addresses remembered.
const MOST_NAMES: usize = 16_384;
/// How long an address is not asked for again when no server answered.
const UNANSWERED: Duration = Duration::from_secs(60);
/// Longest name (RFC 1035 section 2.3.4).
const LONGEST_NAME: usize = 253;
/// Longest part of one.
const LONGEST_LABEL: usize = 63;

#[derive(Clone)]
struct Entry {
    name: Option<Arc<str>>,
    /// No server answered.
    is_unanswered: bool,
    expires: Instant,
}

/// The cache.
#[derive(Clone, Default)]
pub struct ReverseNames {
    entries: HashMap<IpAddr, Entry>,
    missing: HashSet<IpAddr>,
    /// Asked for, and not answered yet.
    asked: HashSet<IpAddr>,
}

impl ReverseNames {
    /// The address's name, if it is known; otherwise it is noted as missing.
    pub fn name(&mut self, address: IpAddr) -> Option<Arc<str>> {
        let entry = self.entries.get(&address);
        if entry.is_none_or(|entry| entry.expires <= Instant::now())
            && self.missing.len() < MOST_NAMES
            && !self.asked.contains(&address)
        {
            self.missing.insert(address);
        }
        entry.and_then(|entry| entry.name.clone())
    }

    /// The addresses whose names were asked for and not known; each is to be looked up, and then to be
    /// [learned](Self::learn) or [forgotten](Self::forget). Those that have an older name come first.
    pub fn take_missing(&mut self) -> Vec<(IpAddr, Turn)> {
        self.asked.extend(&self.missing);
        let mut missing: Vec<IpAddr> = self.missing.drain().collect();
        let known = |address: &IpAddr| self.entries.get(address);
        missing.sort_by_key(|address| known(address).is_none_or(|entry| entry.name.is_none()));
        let turn = |address: &IpAddr| match known(address) {
            Some(entry) if entry.is_unanswered => Turn::Last,
            _ => Turn::Next,
        };
        missing.into_iter().map(|address| (address, turn(&address))).collect()
    }

    /// An address is not being looked up after all.
    pub fn forget(&mut self, address: IpAddr) {
        self.asked.remove(&address);
    }

    /// Remembers an answer.
    pub fn learn(&mut self, address: IpAddr, answer: &Name) {
        self.asked.remove(&address);
        let now = Instant::now();
        if self.entries.len() >= MOST_NAMES {
            self.entries.retain(|_, entry| entry.expires > now);
        }
        if self.entries.len() >= MOST_NAMES {
            self.entries.clear();
        }
        let (name, lifetime) = match answer {
            Name::Known(name) => (believable(name).map(Arc::from), LIFETIME),
            Name::None => (None, LIFETIME),
            // What was known is not wrong because nobody answers.
            Name::Unanswered => (self.entries.remove(&address).and_then(|entry| entry.name), UNANSWERED),
        };
        let is_unanswered = *answer == Name::Unanswered;
        self.entries.insert(address, Entry { name, is_unanswered, expires: now + lifetime });
    }
}

/// A host name without the dot at its end (RFC 1123 section 2.1; underscores occur). The owner of the peer's reverse
/// zone chooses what comes here; an address, perhaps with its scope (`fe80::1%eth0`), is what the resolver says when
/// there is no name.
fn believable(answer: &str) -> Option<&str> {
    let name = answer.strip_suffix('.').unwrap_or(answer);
    let label = |label: &str| {
        (1..=LONGEST_LABEL).contains(&label.len())
            && label.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_'))
    };
    let is_name = name.len() <= LONGEST_NAME && name.split('.').all(label) && name.parse::<IpAddr>().is_err();
    is_name.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_there_after_it_was_looked_up_and_is_asked_for_once() {
        let mut names = ReverseNames::default();
        let loopback: IpAddr = "127.0.0.1".parse().unwrap();
        assert_eq!(names.name(loopback), None);
        assert_eq!(names.take_missing(), [(loopback, Turn::Next)]);
        assert_eq!(names.name(loopback), None);
        assert!(names.take_missing().is_empty(), "it is in flight");
        names.learn(loopback, &Name::Known("localhost".into()));
        assert_eq!(names.name(loopback).as_deref(), Some("localhost"));
        assert!(names.take_missing().is_empty());
    }

    #[test]
    fn an_address_without_a_name_or_an_answer_is_not_asked_for_again() {
        let mut names = ReverseNames::default();
        let [nameless, unanswered]: [IpAddr; 2] = ["192.0.2.77".parse().unwrap(), "192.0.2.78".parse().unwrap()];
        names.learn(nameless, &Name::None);
        names.learn(unanswered, &Name::Unanswered);
        assert_eq!((names.name(nameless), names.name(unanswered)), (None, None));
        assert!(names.take_missing().is_empty());
    }

    #[test]
    fn an_older_name_stays_while_it_is_looked_up_again_which_comes_first_and_after_a_failure_last() {
        let mut names = ReverseNames::default();
        let [new, named, failed]: [IpAddr; 3] = [1, 2, 3].map(|k| IpAddr::from([192, 0, 2, k]));
        names.learn(named, &Name::Known("db".into()));
        names.learn(failed, &Name::Known("web".into()));
        names.learn(failed, &Name::Unanswered);
        names.entries.values_mut().for_each(|entry| entry.expires = Instant::now());
        let shown = [new, named, failed].map(|address| names.name(address));
        assert_eq!(shown.each_ref().map(Option::as_deref), [None, Some("db"), Some("web")]);
        let turns = names.take_missing();
        assert_eq!(turns.last(), Some(&(new, Turn::Next)), "{turns:?}");
        assert!(turns.contains(&(named, Turn::Next)) && turns.contains(&(failed, Turn::Last)), "{turns:?}");
    }

    #[test]
    fn only_host_names_are_believed() {
        assert_eq!(believable("db-1.example_zone.org."), Some("db-1.example_zone.org"));
        let long = ["a".repeat(64), ["a"; 128].join(".")];
        let hostile = ["", ".", "a..b", "fe80::1%eth0", "192.0.2.1", "a b", "a|#x:y", "a\nb", "zürich.example", "<b>"];
        for answer in hostile.into_iter().chain(long.iter().map(String::as_str)) {
            assert_eq!(believable(answer), None, "{answer:?}");
        }
    }

    #[test]
    fn the_cache_is_bounded() {
        let mut names = ReverseNames::default();
        for k in 0..MOST_NAMES as u32 + 10 {
            names.learn(IpAddr::V4(k.into()), &Name::None);
        }
        assert!(names.entries.len() <= MOST_NAMES);
    }
}
