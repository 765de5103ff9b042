//! The names of peers that no instance names: what reverse DNS says.

use std::cell::RefCell;
use std::net::IpAddr;

use crate::targets::resolver::Name;
use crate::targets::reverse::ReverseNames;

/// Names by address; none where they are not wanted.
pub(super) struct PeerNames(Option<RefCell<ReverseNames>>);

impl PeerNames {
    pub(super) fn new(wanted: bool) -> Self {
        Self(wanted.then(RefCell::default))
    }

    /// The name of an address, if it is known; if not, it is looked up.
    pub(super) fn name(&self, address: IpAddr) -> Option<String> {
        self.0.as_ref()?.borrow_mut().name(address).map(|name| name.to_string())
    }

    /// Addresses whose names were wanted and not known.
    pub(super) fn take_missing(&self) -> Vec<IpAddr> {
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
