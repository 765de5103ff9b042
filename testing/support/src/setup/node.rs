//! What drives a browser in tests, and checks what it shows for people who use it without a screen or a mouse: packages
//! for Node.js in the versions that were tried, with the hashes of their files, in an environment of their own below
//! `target/tools`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use super::Outcome;
use crate::workspace::{capture, target};

/// What is wanted, and exactly which files that is.
const WANTED: &str = include_str!("../../browser/package.json");
const LOCKED: &str = include_str!("../../browser/package-lock.json");

/// Where they are, below `node_modules`.
#[must_use]
pub fn browser_tools() -> PathBuf {
    target().join("tools/browser")
}

/// Written last, so that an environment that was cut short is made again.
fn mark() -> PathBuf {
    browser_tools().join("installed.json")
}

fn is_current() -> bool {
    fs::read_to_string(mark()).is_ok_and(|there| there == LOCKED)
}

/// What would be installed, unless exactly what is pinned is there.
pub(super) fn missing() -> Option<String> {
    let count = LOCKED.matches("\"integrity\"").count();
    (!is_current()).then(|| format!("{count} from npm, in {}", browser_tools().display()))
}

/// Installs them unless they are there. None runs anything of its own while it is installed.
pub(super) fn ensure() -> Result<Outcome> {
    let directory = browser_tools();
    if is_current() {
        return Ok(Outcome::Present(directory.display().to_string()));
    }
    eprintln!("installing packages for Node.js into {}", directory.display());
    fs::create_dir_all(&directory)?;
    fs::write(directory.join("package.json"), WANTED)?;
    fs::write(directory.join("package-lock.json"), LOCKED)?;
    let mut install = Command::new("npm");
    install.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]);
    // Not into the user's.
    let cache = directory.join("cache");
    capture(install.arg("--cache").arg(&cache).current_dir(&directory))?;
    let _ = fs::remove_dir_all(cache);
    fs::write(mark(), LOCKED)?;
    Ok(Outcome::Installed(directory.display().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_package_is_pinned_by_a_hash_and_named_in_the_version_that_is_wanted() {
        let packages = LOCKED.matches("\"node_modules/").count();
        assert_eq!((packages, LOCKED.matches("\"integrity\": \"sha512-").count()), (packages, packages));
        assert!(packages >= 2 && !LOCKED.contains("\"resolved\""), "the registry is the machine's choice");
        let (_, wanted) = WANTED.split_once("\"dependencies\": {").unwrap();
        for line in wanted.lines().filter(|line| line.contains("\": \"")) {
            let version = line.split('"').nth(3).unwrap();
            assert!(LOCKED.contains(&format!("\"version\": \"{version}\"")), "{line}");
        }
    }
}
