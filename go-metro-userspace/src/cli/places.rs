//! Where a configuration is looked for when none was named.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::legacy;

/// Our own place, before the original's.
pub(super) const OURS: &str = "/etc/go-metro/conf.yaml";

/// The first that is there, and those that are there as well and are not read.
pub(super) fn find() -> (Option<PathBuf>, Vec<PathBuf>) {
    first_of(all().map(PathBuf::from))
}

/// A symbolic link to nowhere counts as a file, so that the error says that it is broken.
fn first_of(places: impl Iterator<Item = PathBuf>) -> (Option<PathBuf>, Vec<PathBuf>) {
    let is_there = |path: &PathBuf| match path.symlink_metadata() {
        Ok(_) => true,
        Err(error) => !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
    };
    let mut there = places.filter(is_there);
    (there.next(), there.collect())
}

/// A warning that these files are ignored because another one is read.
pub(super) fn passed_over(read: &Path, others: &[PathBuf]) -> Option<String> {
    let others: Vec<String> = others.iter().map(|path| path.display().to_string()).collect();
    let read = read.display();
    (!others.is_empty()).then(|| format!("using {read}; ignoring {}", others.join(", ")))
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
    fn a_link_to_nowhere_is_there_and_a_second_file_is_told_of() {
        let folder = tempfile::tempdir().unwrap();
        let [ours, theirs, third] = ["ours", "theirs", "third"].map(|name| folder.path().join(name));
        let places = || [ours.clone(), theirs.clone(), third.clone()].into_iter();
        assert_eq!(first_of(places()), (None, vec![]));
        std::fs::write(&third, "").unwrap();
        assert_eq!(first_of(places()), (Some(third.clone()), vec![]));
        std::os::unix::fs::symlink("/nowhere", &ours).unwrap();
        let found = first_of(places());
        assert_eq!(found, (Some(ours.clone()), vec![third.clone()]));
        let said = passed_over(&ours, &found.1).unwrap();
        assert!(said.ends_with(&format!("ours; ignoring {}", third.display())), "{said}");
    }

    #[test]
    fn our_place_comes_first_and_those_of_the_original_are_named_too() {
        assert_eq!(
            none_found(),
            "no configuration: none of /etc/go-metro/conf.yaml, /etc/dd-agent/conf.d/go-metro.yaml, \
             /etc/dd-agent/checks.d/go-metro.yaml exists"
        );
    }
}
