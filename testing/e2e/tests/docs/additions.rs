//! The example of a matching rule (`docs/adding/rule.patch`) passes what a newcomer would run: the engine's tests, its
//! examples, and the code in its documentation.

use std::fs;
use std::path::Path;
use std::process::Command;

use testing_support::workspace::{root, target};

/// Where the patched tree is, below cargo's target directory: always the same place, so that a second run compiles what
/// differs alone.
const TREE: &str = "additions";

#[test]
fn the_engine_with_the_example_of_a_rule_passes_its_tests() {
    let tree = target().join(TREE);
    let _ = fs::remove_dir_all(&tree);
    copy(&tree);
    // Else it would take the tree for a folder of the repository that it is in, and leave out what is elsewhere.
    let mut apply = Command::new("git");
    apply.args(["apply", "docs/adding/rule.patch"]).env("GIT_CEILING_DIRECTORIES", target());
    assert!(apply.current_dir(&tree).status().unwrap().success());
    assert!(fs::read_to_string(tree.join("go-metro-rtt/RULES.md")).unwrap().contains("is the example of ARCHITECTURE"));
    // What is compiled for the repository itself serves here too.
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["test", "--quiet", "--no-fail-fast", "--package", "go-metro-rtt"]).env("CARGO_TARGET_DIR", target());
    let output = cargo.current_dir(&tree).output().unwrap();
    let [out, error] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(output.status.success(), "{out}{error}");
    fs::remove_dir_all(&tree).unwrap();
}

/// Copies what git has of the tree, as it is now.
fn copy(to: &Path) {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output().unwrap();
    for path in String::from_utf8(listed.stdout).unwrap().split_terminator('\0') {
        let (from, to) = (root().join(path), to.join(path));
        if from.is_file() {
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(from, to).unwrap();
        }
    }
}
