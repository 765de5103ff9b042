//! Configured host names: looked up together, refreshed in the background, the last good answer kept.
//!
//! A name may be answered with some of its addresses at a time, in turn (RFC 1794). An address therefore stays one of
//! the name's for a while after it was last in an answer or in use, so that a long connection goes on being measured
//! under the same name.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use tokio::time::timeout_at;

use super::resolver::{self, Addresses};

/// More addresses for one name than this are not believed: no honest answer fills more than a few datagrams.
const MOST_ADDRESSES: usize = 256;
/// How long an address is kept once it is neither in an answer nor in use: longer than the lifetime of a balancer's
/// usual answer.
const GRACE: Duration = Duration::from_secs(600);
/// Longest wait for name servers: as long as a resolver takes with three of them (resolv.conf(5)).
const LONGEST_LOOK_UP: Duration = Duration::from_secs(35);
/// Names that a warning lists.
const LISTED: usize = 3;

/// What is known of one name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// Those of the last good answer, and those of earlier ones that are still kept.
    pub addresses: BTreeSet<IpAddr>,
    /// When the last good answer was given.
    pub answered_at: Option<Instant>,
    /// Why the last look-up failed, if it did.
    pub error: Option<String>,
    /// The last good answer.
    answer: BTreeSet<IpAddr>,
    /// How many addresses it had, more than are believed; said once.
    answered: usize,
    since: BTreeMap<IpAddr, Kept>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kept {
    /// First in an answer.
    from: Instant,
    /// Last in an answer or in use.
    until: Instant,
}

/// All configured names.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    hosts: BTreeMap<String, Host>,
    /// Names that could not be looked up, which was not yet logged.
    untold: BTreeSet<String>,
    /// How long an address is kept.
    grace: Duration,
}

impl Hosts {
    /// These names, not looked up yet.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        let hosts = names.into_iter().map(|name| (name, Host::default())).collect();
        Self { hosts, untold: BTreeSet::new(), grace: GRACE }
    }

    /// Keeps addresses as long as flows may be silent, if that is longer than usual.
    #[must_use]
    pub fn kept_for(self, idle_ttl: Duration) -> Self {
        Self { grace: GRACE.max(idle_ttl), ..self }
    }

    /// Takes over what `other` knows of names that both have.
    pub fn adopt(&mut self, other: &Self) {
        for (name, host) in &mut self.hosts {
            if let Some(known) = other.hosts.get(name) {
                host.clone_from(known);
            }
        }
    }

    /// These names, looked up now: waits for answers as long as name servers may take, without a runtime.
    ///
    /// # Errors
    ///
    /// There is no memory, descriptor or thread to look them up with.
    pub fn looked_up(names: impl IntoIterator<Item = String>) -> io::Result<Self> {
        let mut hosts = Self::new(names);
        if !hosts.hosts.is_empty() {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(hosts.refresh(LONGEST_LOOK_UP));
            // A look-up may still wait for a dead server; nobody waits for it.
            runtime.shutdown_background();
        }
        Ok(hosts)
    }

    /// Looks all names up at once, and waits so long for answers; whether any answer changed. What is not answered by
    /// then goes on being looked up.
    pub async fn refresh(&mut self, patience: Duration) -> bool {
        let by = tokio::time::Instant::now() + patience;
        let asked: Vec<_> = self.hosts.keys().map(|name| (name.clone(), resolver::addresses(name))).collect();
        let mut changed = false;
        for (name, answer) in asked {
            let Some(answer) = answer else {
                changed |= self.learn(&name, Err(UNASKED.to_owned()));
                continue;
            };
            match timeout_at(by, answer).await {
                Ok(Ok(answer)) => changed |= self.learn(&name, answer),
                Ok(Err(_)) => {}
                Err(_) => {
                    // Said by who sees that there is no address.
                    let host = self.hosts.get_mut(&name);
                    host.into_iter().for_each(|host| host.error = Some("no answer yet".to_owned()));
                }
            }
        }
        self.complain();
        changed
    }

    /// Takes an answer; whether the addresses of the name changed. A failure keeps those that were known.
    pub fn learn(&mut self, name: &str, answer: Addresses) -> bool {
        let Some(host) = self.hosts.get_mut(name) else { return false };
        let answered = answer.as_ref().map_or(0, BTreeSet::len);
        match answer.and_then(usable) {
            Ok(addresses) => {
                if answered > MOST_ADDRESSES && answered != std::mem::replace(&mut host.answered, answered) {
                    tracing::warn!(
                        "{name} has {answered} addresses, of which {MOST_ADDRESSES} are watched; configure prefixes \
                         instead"
                    );
                }
                self.untold.remove(name);
                host.learn(name, addresses, self.grace)
            }
            Err(error) => {
                if host.error.as_ref() != Some(&error) {
                    host.error = Some(error);
                    self.untold.insert(name.to_owned());
                }
                false
            }
        }
    }

    /// Logs the names that cannot be looked up since this was last called, in one warning.
    pub fn complain(&mut self) {
        let untold = std::mem::take(&mut self.untold);
        let Some(error) = untold.first().and_then(|name| self.hosts.get(name)?.error.clone()) else { return };
        let kept: usize = untold.iter().filter_map(|name| self.hosts.get(name)).map(|host| host.addresses.len()).sum();
        let names: Vec<&str> = untold.iter().map(String::as_str).collect();
        let names = shortened(&names);
        tracing::warn!(kept, "cannot resolve {names}: {error}; keeping the known addresses and trying again");
    }

    /// Notes that these addresses are in use.
    pub fn in_use(&mut self, addresses: impl Iterator<Item = IpAddr>) {
        let now = Instant::now();
        for address in addresses {
            self.hosts.values_mut().filter_map(|host| host.since.get_mut(&address)).for_each(|kept| kept.until = now);
        }
    }

    /// The addresses of a name; none if it was never answered.
    pub fn addresses(&self, name: &str) -> impl Iterator<Item = IpAddr> + '_ {
        self.hosts.get(name).into_iter().flat_map(|host| host.addresses.iter().copied())
    }

    /// The addresses of a name, those first that were in an answer first.
    pub fn by_age(&self, name: &str) -> Vec<IpAddr> {
        let host = self.hosts.get(name).into_iter();
        let mut known: Vec<(Instant, IpAddr)> =
            host.flat_map(|host| &host.since).map(|(address, kept)| (kept.from, *address)).collect();
        known.sort_unstable();
        known.into_iter().map(|(_, address)| address).collect()
    }

    /// The name that an address was configured by; the one that it was first an answer to, if several.
    pub fn name_of(&self, address: IpAddr) -> Option<&str> {
        let known = self.hosts.iter().filter_map(|(name, host)| Some((host.since.get(&address)?.from, name)));
        known.min().map(|(_, name)| name.as_str())
    }

    /// Whether a name could not be looked up the last time.
    pub fn is_failing(&self, name: &str) -> bool {
        self.hosts.get(name).is_some_and(|host| host.error.is_some())
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

/// The error of a name that could not be looked up at all.
pub const UNASKED: &str = "cannot look it up: no thread can be started, or too many look-ups are waiting";

impl Host {
    fn learn(&mut self, name: &str, answer: BTreeSet<IpAddr>, grace: Duration) -> bool {
        let now = Instant::now();
        self.error = None;
        self.answered_at = Some(now);
        if answer != self.answer {
            tracing::info!(host = name, addresses = ?answer, "host resolved");
        }
        for address in &answer {
            self.since.entry(*address).or_insert(Kept { from: now, until: now }).until = now;
        }
        self.since.retain(|_, kept| now.duration_since(kept.until) < grace);
        while self.since.len() > MOST_ADDRESSES {
            let oldest = self.since.iter().filter(|(address, _)| !answer.contains(address));
            let Some(oldest) = oldest.min_by_key(|(_, kept)| kept.until).map(|(address, _)| *address) else { break };
            self.since.remove(&oldest);
        }
        self.answer = answer;
        let addresses: BTreeSet<IpAddr> = self.since.keys().copied().collect();
        let changed = addresses != self.addresses;
        self.addresses = addresses;
        changed
    }
}

/// Addresses that can be the remote end of a connection.
fn usable(answer: BTreeSet<IpAddr>) -> Addresses {
    let addresses: BTreeSet<IpAddr> = answer
        .into_iter()
        .map(|address| address.to_canonical())
        .filter(|address| !address.is_unspecified() && !address.is_multicast())
        .take(MOST_ADDRESSES)
        .collect();
    if addresses.is_empty() { Err("the answer has no usable address".to_owned()) } else { Ok(addresses) }
}

/// The first few of many names.
pub fn shortened(names: &[&str]) -> String {
    let more = names.len().saturating_sub(LISTED);
    let listed = names[..names.len() - more].join(", ");
    if more == 0 { listed } else { format!("{listed} and {more} more") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(40);

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn answer(last: impl IntoIterator<Item = u8>) -> Addresses {
        Ok(last.into_iter().map(address).collect())
    }

    #[tokio::test]
    async fn localhost_resolves_and_names_its_addresses() {
        let mut hosts = Hosts::new(["localhost".to_owned()]);
        assert!(hosts.refresh(PATIENCE).await, "the first answer is a change");
        assert!(!hosts.refresh(PATIENCE).await, "the same answer is none");
        let loopback: IpAddr = "127.0.0.1".parse().unwrap();
        assert!(hosts.addresses("localhost").any(|address| address == loopback));
        assert_eq!(hosts.name_of(loopback), Some("localhost"));
    }

    #[tokio::test]
    async fn a_failure_keeps_the_last_good_answer() {
        let mut hosts = Hosts::new(["no-such-host.invalid".to_owned()]);
        hosts.learn("no-such-host.invalid", answer([1]));
        assert!(!hosts.refresh(PATIENCE).await);
        let (_, host) = hosts.iter().next().unwrap();
        assert!(host.error.is_some());
        assert_eq!(host.addresses.len(), 1);
    }

    #[test]
    fn a_new_configuration_adopts_what_was_known() {
        let mut old = Hosts::new(["a".to_owned()]);
        old.learn("a", answer([1]));
        let mut new = Hosts::new(["a".to_owned(), "b".to_owned()]);
        new.adopt(&old);
        assert_eq!((new.addresses("a").count(), new.addresses("b").count()), (1, 0));
    }

    #[test]
    fn an_address_that_answers_leave_out_in_turn_stays_under_its_name_for_a_while() {
        let mut hosts = Hosts::new(["a".to_owned(), "b".to_owned()]);
        assert!(hosts.learn("b", answer([1, 2])));
        assert!(hosts.learn("b", answer([3, 4])));
        assert!(!hosts.learn("b", answer([2, 3])), "nothing that is new");
        hosts.learn("a", answer([1]));
        assert_eq!(hosts.addresses("b").count(), 4);
        assert_eq!(hosts.name_of(address(1)), Some("b"), "the name that it was first under");
        hosts.grace = Duration::ZERO;
        hosts.learn("b", answer([5]));
        assert_eq!(hosts.addresses("b").count(), 0, "none is kept for no time");
    }

    #[test]
    fn an_address_in_use_is_kept_and_their_number_is_bounded() {
        let mut hosts = Hosts::new(["a".to_owned()]);
        hosts.grace = Duration::from_millis(50);
        hosts.learn("a", answer([1, 2]));
        std::thread::sleep(Duration::from_millis(60));
        hosts.in_use([address(1)].into_iter());
        hosts.learn("a", answer([3]));
        assert_eq!(hosts.addresses("a").collect::<Vec<_>>(), [address(1), address(3)]);
        hosts.grace = GRACE;
        for k in 0..500u16 {
            hosts.learn("a", Ok(BTreeSet::from([IpAddr::from([10, 0, (k >> 8) as u8, k as u8])])));
        }
        assert_eq!(hosts.addresses("a").count(), MOST_ADDRESSES);
    }

    #[test]
    fn long_lists_of_names_are_cut() {
        assert_eq!(shortened(&["a", "b"]), "a, b");
        assert_eq!(shortened(&["a", "b", "c", "d", "e"]), "a, b, c and 2 more");
    }
}
