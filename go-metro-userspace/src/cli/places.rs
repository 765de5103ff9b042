//! Where a configuration is looked for when none was named.

use std::path::{Path, PathBuf};

use super::legacy;

/// Our own place, before the original's.
pub(super) const OURS: &str = "/etc/go-metro/conf.yaml";

/// The first that is there.
pub(super) fn find() -> Option<PathBuf> {
    all().map(Path::new).find(|path| path.exists()).map(Path::to_owned)
}

/// That none is there.
pub(super) fn none_found() -> String {
    let all: Vec<&str> = all().collect();
    format!("no configuration: none of {} exists", all.join(", "))
}

fn all() -> impl Iterator<Item = &'static str> {
    std::iter::once(OURS).chain(legacy::ORIGINAL_CONFIGS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_place_comes_first_and_those_of_the_original_are_named_too() {
        assert_eq!(
            none_found(),
            "no configuration: none of /etc/go-metro/conf.yaml, /etc/dd-agent/conf.d/go-metro.yaml, \
             /etc/dd-agent/checks.d/go-metro.yaml exists"
        );
    }
}
