//! The names of peers that no instance names: what reverse DNS says.

use std::cell::RefCell;
use std::net::IpAddr;

use crate::targets::resolver::{Name, Turn};
use crate::targets::reverse::ReverseNames;

/// Names by address; none where they are not wanted.
pub(super) struct PeerNames(Option<RefCell<ReverseNames>>);

impl PeerNames {
    pub(super) fn new(wanted: bool) -> Self {
        Self(wanted.then(RefCell::default))
    }

    /// Takes over what others know, and what they wait for, as far as names are wanted: where no name server answers,
    /// they would not be known again for a long time.
    pub(super) fn adopt(&mut self, old: &Self) {
        if let (Some(names), Some(old)) = (&mut self.0, &old.0) {
            *names = old.clone();
        }
    }

    /// The name of an address, if it is known; if not, it is looked up.
    pub(super) fn name(&self, address: IpAddr) -> Option<String> {
        self.0.as_ref()?.borrow_mut().name(address).map(|name| name.to_string())
    }

    /// Addresses whose names were wanted and not known.
    pub(super) fn take_missing(&self) -> Vec<(IpAddr, Turn)> {
        self.0.as_ref().map(|names| names.borrow_mut().take_missing()).unwrap_or_default()
    }

    /// Remembers the name of an address; `None` if it was not asked for after all.
    pub(super) fn learn(&self, address: IpAddr, answer: Option<Name>) {
        let Some(names) = &self.0 else { return };
        match answer {
            Some(name) => names.borrow_mut().learn(address, &name),
            None => names.borrow_mut().forget(address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_over_a_reload_and_what_was_asked_is_not_asked_again() {
        let [named, asked]: [IpAddr; 2] = [1, 2].map(|k| IpAddr::from([192, 0, 2, k]));
        let old = PeerNames::new(true);
        old.learn(named, Some(Name::Known("db".into())));
        assert_eq!((old.name(asked), old.take_missing().len()), (None, 1));
        let mut new = PeerNames::new(true);
        new.adopt(&old);
        assert_eq!((new.name(named).as_deref(), new.name(asked)), (Some("db"), None));
        assert!(new.take_missing().is_empty());
        let mut unwanted = PeerNames::new(false);
        unwanted.adopt(&old);
        assert_eq!(unwanted.name(named), None);
    }
}
