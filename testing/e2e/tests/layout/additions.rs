//! What a newcomer has to touch: the patches of `docs/adding`, which ARCHITECTURE explains, still apply, and touch as
//! few files as it says. `docs/adding/README.md` says how they are made again.

use std::fs;
use std::process::Command;

use testing_support::workspace::root;

/// Most files that adding one of a kind touches, without those that `cargo xtask docs` writes.
const MOST_FILES: [(&str, usize); 5] = [("counter", 3), ("key", 2), ("link-type", 3), ("rule", 4), ("sink", 3)];

#[test]
fn each_addition_applies_and_touches_few_files() {
    let wrong: Vec<String> = MOST_FILES.iter().filter_map(|(kind, most)| wrong(kind, *most)).collect();
    assert!(wrong.is_empty(), "docs/adding/README.md says how a patch is made again:\n{}", wrong.join("\n"));
}

/// One of a kind, added by these steps, leaves the examples of the other kinds as they are.
#[test]
fn all_additions_apply_together() {
    let patches = MOST_FILES.map(|(kind, _)| format!("docs/adding/{kind}.patch"));
    let output = Command::new("git").args(["apply", "--check"]).args(patches).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What is wrong with the patch that adds one of a kind, if anything is.
fn wrong(kind: &str, most: usize) -> Option<String> {
    let patch = root().join(format!("docs/adding/{kind}.patch"));
    let text = fs::read_to_string(&patch).unwrap();
    let files = text.lines().filter(|line| line.starts_with("diff --git ")).count();
    if !(1..=most).contains(&files) {
        return Some(format!("{kind}.patch: {files} files, not {most}"));
    }
    let mut apply = Command::new("git");
    let output = apply.args(["apply", "--check"]).arg(&patch).current_dir(root()).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    (!output.status.success()).then(|| format!("{kind}.patch does not apply any more:\n{error}"))
}
