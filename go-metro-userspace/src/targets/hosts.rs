//! Configured host names: looked up together, refreshed in the background, the last good answer kept.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use tokio::net::lookup_host;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// A server that has not answered by then is treated as dead.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// More addresses for one name than this are not believed: no honest answer fills more than a few datagrams.
const MOST_ADDRESSES: usize = 256;

/// What is known of one name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// The last good answer.
    pub addresses: BTreeSet<IpAddr>,
    /// When it was given.
    pub answered_at: Option<Instant>,
    /// Why the last look-up failed, if it did.
    pub error: Option<String>,
}

/// All configured names.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    hosts: BTreeMap<String, Host>,
}

impl Hosts {
    /// These names, not looked up yet.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self { hosts: names.into_iter().map(|name| (name, Host::default())).collect() }
    }

    /// Takes over what `other` knows of names that both have.
    pub fn adopt(&mut self, other: &Self) {
        for (name, host) in &mut self.hosts {
            if let Some(known) = other.hosts.get(name) {
                host.clone_from(known);
            }
        }
    }

    /// Looks all names up at once; whether any answer changed.
    ///
    /// A failure keeps the addresses that were known, and is logged once until it changes.
    pub async fn refresh(&mut self) -> bool {
        let mut lookups = JoinSet::new();
        for name in self.hosts.keys().cloned() {
            lookups.spawn(async move {
                let answer = look_up(&name).await;
                (name, answer)
            });
        }
        let mut changed = false;
        while let Some(done) = lookups.join_next().await {
            let Ok((name, answer)) = done else { continue };
            if let Some(host) = self.hosts.get_mut(&name) {
                changed |= host.learn(&name, answer);
            }
        }
        changed
    }

    /// The addresses of a name; none if it was never answered.
    pub fn addresses(&self, name: &str) -> impl Iterator<Item = IpAddr> + '_ {
        self.hosts.get(name).into_iter().flat_map(|host| host.addresses.iter().copied())
    }

    /// The name that an address was configured by.
    pub fn name_of(&self, address: IpAddr) -> Option<&str> {
        self.hosts.iter().find(|(_, host)| host.addresses.contains(&address)).map(|(name, _)| name.as_str())
    }

    /// How many names could not be looked up the last time.
    pub fn failing(&self) -> u64 {
        self.hosts.values().filter(|host| host.error.is_some()).count() as u64
    }

    /// Every name and what is known of it.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Host)> {
        self.hosts.iter().map(|(name, host)| (name.as_str(), host))
    }
}

impl Host {
    fn learn(&mut self, name: &str, answer: Result<BTreeSet<IpAddr>, String>) -> bool {
        match answer {
            Ok(addresses) => {
                self.error = None;
                self.answered_at = Some(Instant::now());
                let changed = addresses != self.addresses;
                if changed {
                    tracing::info!(host = name, ?addresses, "host resolved");
                    self.addresses = addresses;
                }
                changed
            }
            Err(error) => {
                if self.error.as_ref() != Some(&error) {
                    let kept = self.addresses.len();
                    tracing::warn!(
                        host = name,
                        kept,
                        "cannot resolve: {error}; keeping what is known and trying again"
                    );
                    self.error = Some(error);
                }
                false
            }
        }
    }
}

async fn look_up(name: &str) -> Result<BTreeSet<IpAddr>, String> {
    let answer = timeout(LOOKUP_TIMEOUT, lookup_host((name, 0))).await;
    let addresses = answer.map_err(|_| format!("no answer within {} s", LOOKUP_TIMEOUT.as_secs()))?;
    let addresses: BTreeSet<IpAddr> = addresses
        .map_err(|error| error.to_string())?
        .map(|address| address.ip().to_canonical())
        .filter(|address| !address.is_unspecified() && !address.is_multicast())
        .take(MOST_ADDRESSES)
        .collect();
    if addresses.is_empty() { Err("the answer holds no usable address".to_owned()) } else { Ok(addresses) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn localhost_resolves_and_names_its_addresses() {
        let mut hosts = Hosts::new(["localhost".to_owned()]);
        assert!(hosts.refresh().await, "the first answer is a change");
        assert!(!hosts.refresh().await, "the same answer is none");
        let loopback: IpAddr = "127.0.0.1".parse().unwrap();
        assert!(hosts.addresses("localhost").any(|address| address == loopback));
        assert_eq!(hosts.name_of(loopback), Some("localhost"));
    }

    #[tokio::test]
    async fn a_failure_keeps_the_last_good_answer() {
        let mut hosts = Hosts::new(["no-such-host.invalid".to_owned()]);
        let known = Host { addresses: BTreeSet::from(["192.0.2.1".parse().unwrap()]), ..Host::default() };
        hosts.hosts.insert("no-such-host.invalid".to_owned(), known);
        assert!(!hosts.refresh().await);
        let (_, host) = hosts.iter().next().unwrap();
        assert!(host.error.is_some());
        assert_eq!(host.addresses.len(), 1);
    }

    #[test]
    fn a_new_configuration_adopts_what_was_known() {
        let known = Host { addresses: BTreeSet::from(["192.0.2.1".parse().unwrap()]), ..Host::default() };
        let old = Hosts { hosts: BTreeMap::from([("a".to_owned(), known)]) };
        let mut new = Hosts::new(["a".to_owned(), "b".to_owned()]);
        new.adopt(&old);
        assert_eq!((new.addresses("a").count(), new.addresses("b").count()), (1, 0));
    }
}
