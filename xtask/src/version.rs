//! `cargo xtask version`: the workspace's version, in every place that has it.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::dist::version;
use testing_support::workspace::{capture, root};

/// Arguments of `version`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The next version, such as 0.2.0
    version: String,
}

/// Files and what stands there around the version, `{}`.
const PLACES: [(&str, &[&str]); 6] = [
    (
        "Cargo.toml",
        &[
            "[workspace.package]\nversion = \"{}\"\n",
            "path = \"go-metro-common\", version = \"{}\"",
            "path = \"go-metro-rtt\", version = \"{}\"",
            "path = \"go-metro-userspace\", version = \"{}\"",
        ],
    ),
    (
        "Cargo.lock",
        &[
            "name = \"go-metro\"\nversion = \"{}\"\n",
            "name = \"go-metro-common\"\nversion = \"{}\"\n",
            "name = \"go-metro-ebpf\"\nversion = \"{}\"\n",
            "name = \"go-metro-rtt\"\nversion = \"{}\"\n",
            "name = \"go-metro-userspace\"\nversion = \"{}\"\n",
            "name = \"xtask\"\nversion = \"{}\"\n",
        ],
    ),
    (
        "fuzz/Cargo.lock",
        &[
            "name = \"go-metro-common\"\nversion = \"{}\"\n",
            "name = \"go-metro-rtt\"\nversion = \"{}\"\n",
            "name = \"go-metro-userspace\"\nversion = \"{}\"\n",
        ],
    ),
    ("packaging/helm/go-metro/Chart.yaml", &["\nversion: {}\n", "\nappVersion: {}\n"]),
    (
        "packaging/kubernetes/daemonset.yaml",
        &["app.kubernetes.io/version: \"{}\"", "tags.datadoghq.com/version: \"{}\"", "image: \"go-metro:{}\""],
    ),
    ("packaging/man/go-metro-conf.5", &["\"go-metro {}\""]),
];

/// Where a release is described, under a heading with its date.
const CHANGES: &str = "CHANGELOG.md";
const INTEGRATION_CHANGES: &str = "packaging/datadog/CHANGELOG.md";

/// Sets the version.
///
/// # Errors
///
/// It is no version, or not above the present one; the present one is released already; a place does not have the
/// present one. Nothing is written then.
pub fn main(args: &Args) -> Result<()> {
    let today = capture(Command::new("date").arg("+%F"))?;
    for path in set(&root(), &version(), &args.version, &today)? {
        println!("{path}");
    }
    println!("look at `git diff`, then commit");
    Ok(())
}

/// Writes the files of the tree at `root` that have the version, and returns their names.
fn set(root: &Path, old: &str, new: &str, today: &str) -> Result<Vec<&'static str>> {
    let numbers = parts(new).with_context(|| format!("{new} is not a version; use three numbers such as 0.2.0"))?;
    let present = parts(old).context("the present version")?;
    let read = |path: &str| fs::read_to_string(root.join(path)).with_context(|| format!("cannot read {path}"));
    let changes = read(CHANGES)?;
    // The first release has the version that is there.
    let is_unreleased = new == old && !changes.contains(&format!("## [{old}]"));
    ensure!(
        numbers > present || is_unreleased,
        "{new} is not above {old}{}",
        if new == old { ", which CHANGELOG.md has as released" } else { "" }
    );
    let mut written = Vec::new();
    for (path, patterns) in PLACES {
        let mut text = read(path)?;
        for pattern in patterns {
            let (from, to) = (pattern.replace("{}", old), pattern.replace("{}", new));
            ensure!(text.contains(&from), "{path} does not have {from:?}");
            text = text.replace(&from, &to);
        }
        written.push((path, text));
    }
    let (before, after) =
        changes.split_once("## [Unreleased]\n").with_context(|| format!("{CHANGES}: no Unreleased"))?;
    written.push((CHANGES, format!("{before}## [{new}] - {today}\n{after}")));
    let changes = read(INTEGRATION_CHANGES)?;
    let heading = format!("## {new} / {today}\n");
    let unreleased = format!("## {old} / Unreleased\n");
    let changes = match changes.find("\n## ") {
        Some(_) if changes.contains(&unreleased) => changes.replace(&unreleased, &heading),
        Some(first) => format!("{}\n{heading}\n{}", &changes[..first], &changes[first + 1..]),
        None => bail!("{INTEGRATION_CHANGES}: no heading of a version"),
    };
    written.push((INTEGRATION_CHANGES, changes));
    for (path, text) in &written {
        fs::write(root.join(path), text).with_context(|| format!("cannot write {path}"))?;
    }
    Ok(written.into_iter().map(|(path, _)| path).collect())
}

/// Three numbers.
fn parts(version: &str) -> Option<[u32; 3]> {
    let numbers: Option<Vec<u32>> = version.split('.').map(|part| part.parse().ok()).collect();
    numbers?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> Vec<&'static str> {
        PLACES.iter().map(|(path, _)| *path).chain([CHANGES, INTEGRATION_CHANGES]).collect()
    }

    /// What of this version a tree lacks.
    fn lacking(root: &Path, version: &str) -> Vec<String> {
        let text = |path: &str| fs::read_to_string(root.join(path)).unwrap();
        let mut lacking = Vec::new();
        for (path, pattern) in PLACES.iter().flat_map(|(path, patterns)| patterns.iter().map(move |p| (path, p))) {
            if !text(path).contains(&pattern.replace("{}", version)) {
                lacking.push(format!("{path}: {pattern}"));
            }
        }
        let changes = text(CHANGES);
        if !changes.contains("## [Unreleased]\n") && !changes.contains(&format!("## [{version}] - ")) {
            lacking.push(CHANGES.to_owned());
        }
        if !text(INTEGRATION_CHANGES).contains(&format!("\n## {version} / ")) {
            lacking.push(INTEGRATION_CHANGES.to_owned());
        }
        lacking
    }

    #[test]
    fn every_place_has_the_workspace_s_version_and_the_page_names_it() {
        assert_eq!(lacking(&root(), &version()), Vec::<String>::new());
        let page = fs::read_to_string(root().join("RELEASE.md")).unwrap();
        for path in files() {
            assert!(page.contains(&format!("`{path}`")), "RELEASE.md does not name {path}");
        }
    }

    /// A folder with every file that has the version.
    fn copied() -> tempfile::TempDir {
        let tree = tempfile::tempdir().unwrap();
        for path in files() {
            let copy = tree.path().join(path);
            fs::create_dir_all(copy.parent().unwrap()).unwrap();
            fs::copy(root().join(path), copy).unwrap();
        }
        tree
    }

    #[test]
    fn a_new_version_reaches_every_place_and_a_refused_one_none() {
        let tree = copied();
        let old = version();
        let [major, minor, patch] = parts(&old).unwrap();
        let new = format!("{major}.{minor}.{}", patch + 1);
        assert!(set(tree.path(), &old, "0.0.9", "2026-01-02").is_err());
        assert!(set(tree.path(), &old, "1.2", "2026-01-02").is_err());
        assert_eq!(lacking(tree.path(), &old), Vec::<String>::new(), "a refusal wrote something");
        set(tree.path(), &old, &new, "2026-01-02").unwrap();
        assert_eq!(lacking(tree.path(), &new), Vec::<String>::new());
        let text = |path: &str| fs::read_to_string(tree.path().join(path)).unwrap();
        assert!(text(CHANGES).contains(&format!("## [{new}] - 2026-01-02\n")));
        assert!(text(INTEGRATION_CHANGES).contains(&format!("\n## {new} / 2026-01-02\n")));
        for (path, _) in PLACES.iter().filter(|(path, _)| path.starts_with("packaging")) {
            assert!(!text(path).contains(&old), "{path} still has {old}");
        }
    }

    #[test]
    fn the_version_that_is_there_is_released_once() {
        let tree = copied();
        let old = version();
        let changes = tree.path().join(CHANGES);
        fs::write(&changes, "# Changelog\n\n## [Unreleased]\n\n- all of it\n").unwrap();
        set(tree.path(), &old, &old, "2026-01-02").unwrap();
        let text = fs::read_to_string(&changes).unwrap();
        assert_eq!(text, format!("# Changelog\n\n## [{old}] - 2026-01-02\n\n- all of it\n"));
        assert_eq!(lacking(tree.path(), &old), Vec::<String>::new());
        fs::write(&changes, format!("## [Unreleased]\n\n{text}")).unwrap();
        let refused = set(tree.path(), &old, &old, "2026-01-03").unwrap_err().to_string();
        assert!(refused.contains("has as released"), "{refused}");
    }
}
