//! rust-src from Debian: some suite has the package of exactly the compiler's version, seldom the machine's own.

use std::path::Path;

use anyhow::{Result, bail};

use super::place;
use crate::apt::{self, Apt};

/// Looked in after the machine's own suites. Those that a mirror does not have are passed over.
const OTHER_SUITES: [&str; 5] = ["trixie", "trixie-backports", "forky", "forky-backports", "sid"];

/// Fetches rust-src of `release` and puts its library at `destination`.
///
/// Returns the package's version.
pub(super) fn fetch(release: &str, destination: &Path) -> Result<String> {
    let apt = Apt::new()?;
    let mirror = apt::mirror();
    let others = OTHER_SUITES.iter().map(|suite| (*suite).to_owned());
    let mut suites: Vec<String> = Vec::new();
    for suite in mirror.suites.iter().cloned().chain(others) {
        if !suites.contains(&suite) {
            suites.push(suite);
        }
    }
    for suite in &suites {
        eprintln!("looking for rust-src {release} in {} {suite}", mirror.uri);
        if apt.read_suite(&mirror, suite).is_err() {
            continue;
        }
        let Some(version) = version_of(&apt.ask(&["madison", "rust-src"]), release) else { continue };
        let tree = tempfile::tempdir()?;
        apt.unpack(&format!("rust-src={version}"), tree.path())?;
        place(&tree.path().join(format!("usr/src/rustc-{release}/library")), destination)?;
        return Ok(version);
    }
    bail!("{} has no rust-src {release} in {}", mirror.uri, suites.join(", "));
}

/// The package version that is of `release`, of what `apt-cache madison` lists.
fn version_of(madison: &str, release: &str) -> Option<String> {
    madison
        .lines()
        .filter_map(|line| line.split('|').nth(1).map(str::trim))
        .find(|version| version.strip_prefix(release).is_some_and(|rest| rest.starts_with(['+', '-', '~'])))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_of_exactly_the_compilers_version_is_chosen() {
        let madison = " rust-src | 1.96.1+dfsg1-1 | http://m/debian sid/main amd64 Packages\n \
                       rust-src | 1.95.0+dfsg1-2~bpo13+1 | http://m/debian trixie-backports/main amd64 Packages\n";
        assert_eq!(version_of(madison, "1.95.0").as_deref(), Some("1.95.0+dfsg1-2~bpo13+1"));
        assert_eq!(version_of(madison, "1.9"), None);
        assert_eq!(version_of(madison, "1.63.0"), None);
    }
}
