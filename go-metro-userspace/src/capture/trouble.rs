//! What stands in the way of capturing on interfaces that exist: logged once for as long as it is the same, and told in
//! the status.

use std::collections::BTreeMap;

use super::CaptureError;
use super::interfaces::Wanted;

/// By interface, why nothing is captured on it.
#[derive(Default)]
pub(super) struct Trouble(BTreeMap<String, Cause>);

struct Cause {
    why: String,
    /// Whether it is a fault, and not an interface that is down or of another kind and that a pattern happens to mean.
    counts: bool,
    /// Whether it has been logged as a fault.
    is_warned: bool,
}

impl Trouble {
    /// Notes an error, and logs it if it is news.
    pub(super) fn note(&mut self, interface: &Wanted, error: &CaptureError) {
        let Wanted { name, is_named, is_up, .. } = interface;
        let why = error.to_string();
        let counts = *is_named || (*is_up && !matches!(error, CaptureError::UnknownLink { .. }));
        let before = self.0.get(name).filter(|cause| cause.why == why);
        let (is_news, was_warned) = (before.is_none(), before.is_some_and(|cause| cause.is_warned));
        // An interface that is new is mostly down at first, and becomes a fault when it is set up.
        if counts && !was_warned {
            tracing::warn!(interface = name, error = why, "cannot attach; will keep trying");
        } else if is_news {
            tracing::info!(interface = name, error = why, "cannot attach");
        }
        self.0.insert(name.clone(), Cause { why, counts, is_warned: was_warned || counts });
    }

    /// It is captured on now.
    pub(super) fn is_over(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// Forgets interfaces that are not wanted or not there any more.
    pub(super) fn keep(&mut self, wanted: &[Wanted]) {
        self.0.retain(|name, _| wanted.iter().any(|now| now.name == *name));
    }

    /// Interfaces and why nothing is captured on them, where that is a fault.
    pub(super) fn list(&self) -> Vec<(String, String)> {
        let faults = self.0.iter().filter(|(_, cause)| cause.counts);
        faults.map(|(name, cause)| (name.clone(), cause.why.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_the_way_is_a_fault_once_the_interface_is_up() {
        let mut trouble = Trouble::default();
        let faults = |trouble: &Trouble| trouble.list().len();
        for (is_up, count) in [(false, 0), (true, 1), (false, 0), (true, 1)] {
            let wanted = Wanted { name: "odd0".to_owned(), is_up, ..Wanted::default() };
            trouble.note(&wanted, &CaptureError::WithoutLibpcap);
            assert_eq!(faults(&trouble), count, "is_up: {is_up}");
        }
        trouble.is_over("odd0");
        assert_eq!(faults(&trouble), 0);
    }
}
