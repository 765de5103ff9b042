//! In which order the end-to-end modules begin: those that took longest last time first, so that no lane is left alone
//! with a long one at the end.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use testing_support::workspace::target;

/// How long each module took when it last ran.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Order(BTreeMap<String, Duration>);

impl Order {
    /// As the last run has left it; nothing is known after the first build.
    pub(super) fn last() -> Self {
        Self::parse(&fs::read_to_string(file()).unwrap_or_default())
    }

    fn parse(text: &str) -> Self {
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        let times = lines.filter_map(|(ms, module)| Some((module.to_owned(), Duration::from_millis(ms.parse().ok()?))));
        Self(times.collect())
    }

    /// Notes how long a module took.
    pub(super) fn note(&mut self, module: &str, took: Duration) {
        self.0.insert(module.to_owned(), took);
    }

    /// Leaves it to the next run, which only takes longer without it.
    pub(super) fn keep(&self) {
        let lines = self.0.iter().map(|(module, took)| format!("{} {module}\n", took.as_millis()));
        let _ = fs::write(file(), lines.collect::<String>());
    }

    /// Sorts by it; what is not known comes first, in the order that it has.
    pub(super) fn sort<T>(&self, modules: &mut [T], name: impl Fn(&T) -> &str) {
        modules.sort_by_key(|module| Reverse(self.0.get(name(module)).copied().unwrap_or(Duration::MAX)));
    }
}

fn file() -> PathBuf {
    target().join("test-times")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_took_longest_comes_first_and_what_is_new_before_it() {
        let order = Order::parse("1500 e2e::short\nnonsense\n60000 faults::long\n");
        let mut modules = ["e2e::short", "e2e::new", "faults::long", "e2e::other"];
        order.sort(&mut modules, |module| module);
        assert_eq!(modules, ["e2e::new", "e2e::other", "faults::long", "e2e::short"]);
    }
}
