//! Names of addresses, for tags: a bounded cache that never keeps a report waiting.
//!
//! Asking for a name answers from the cache, and notes what is missing; [`look_up`] then asks the
//! system's resolver, between reports. Until there is an answer the address is its own name.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// How long an answer is believed, also that there is no name.
const LIFETIME: Duration = Duration::from_secs(600);
/// Most addresses remembered.
const MOST_NAMES: usize = 16_384;
/// Look-ups at once: each occupies a thread while the resolver waits.
const CONCURRENT: usize = 16;
/// Longest name (RFC 1035 section 2.3.4).
const LONGEST_NAME: usize = 253;
/// Longest part of one.
const LONGEST_LABEL: usize = 63;

struct Entry {
    name: Option<Arc<str>>,
    expires: Instant,
}

/// The cache.
#[derive(Default)]
pub struct ReverseNames {
    entries: HashMap<IpAddr, Entry>,
    missing: HashSet<IpAddr>,
}

impl ReverseNames {
    /// The address's name, if it is known; otherwise it is noted as missing.
    pub fn name(&mut self, address: IpAddr) -> Option<Arc<str>> {
        let entry = self.entries.get(&address);
        if entry.is_none_or(|entry| entry.expires <= Instant::now()) && self.missing.len() < MOST_NAMES {
            self.missing.insert(address);
        }
        entry.and_then(|entry| entry.name.clone())
    }

    /// The addresses whose names were asked for and not known, to be looked up with [`look_up`].
    pub fn take_missing(&mut self) -> Vec<IpAddr> {
        self.missing.drain().collect()
    }

    /// Remembers answers.
    pub fn learn(&mut self, answers: Vec<(IpAddr, Option<Arc<str>>)>) {
        let now = Instant::now();
        if self.entries.len() + answers.len() > MOST_NAMES {
            self.entries.retain(|_, entry| entry.expires > now);
        }
        if self.entries.len() + answers.len() > MOST_NAMES {
            self.entries.clear();
        }
        let expires = now + LIFETIME;
        self.entries.extend(answers.into_iter().map(|(address, name)| (address, Entry { name, expires })));
    }
}

/// Asks the system's resolver for the names of these addresses.
pub async fn look_up(addresses: Vec<IpAddr>) -> Vec<(IpAddr, Option<Arc<str>>)> {
    let places = Arc::new(Semaphore::new(CONCURRENT));
    let mut lookups = JoinSet::new();
    for address in addresses {
        let places = places.clone();
        lookups.spawn(async move {
            let _place = places.acquire_owned().await;
            let name = tokio::task::spawn_blocking(move || name_of(address)).await.ok().flatten();
            (address, name)
        });
    }
    lookups.join_all().await
}

/// The resolver's answer, if it is a host name and not the address again.
fn name_of(address: IpAddr) -> Option<Arc<str>> {
    let (name, _) = dns_lookup::getnameinfo(&SocketAddr::new(address, 0), 0).ok()?;
    believable(&name).map(Arc::from)
}

/// A host name without the dot at its end (RFC 1123 section 2.1; underscores occur). Whoever runs the peer's reverse zone chooses
/// what comes here; an address, perhaps with its scope (`fe80::1%eth0`), is what the resolver says when there is no name.
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

    #[tokio::test]
    async fn a_name_is_there_after_it_was_looked_up() {
        let mut names = ReverseNames::default();
        let loopback: IpAddr = "127.0.0.1".parse().unwrap();
        assert_eq!(names.name(loopback), None);
        let missing = names.take_missing();
        assert_eq!(missing, [loopback]);
        names.learn(look_up(missing).await);
        assert_eq!(names.name(loopback).as_deref(), Some("localhost"));
        assert!(names.take_missing().is_empty());
    }

    #[tokio::test]
    async fn an_address_without_a_name_is_not_asked_for_again() {
        let mut names = ReverseNames::default();
        let nameless: IpAddr = "192.0.2.77".parse().unwrap();
        names.learn(vec![(nameless, None)]);
        assert_eq!(names.name(nameless), None);
        assert!(names.take_missing().is_empty());
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
            names.learn(vec![(IpAddr::V4(k.into()), None)]);
        }
        assert!(names.entries.len() <= MOST_NAMES);
    }
}
