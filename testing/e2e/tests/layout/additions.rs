//! What a newcomer has to touch: the patches of `docs/adding`, which ARCHITECTURE explains, still apply, and touch as
//! few files as it says. `docs/adding/README.md` says how they are made again.

use std::fs;
use std::process::Command;

use testing_support::workspace::root;

/// Most files that adding one of a kind touches, without those that `cargo xtask docs` writes.
const MOST_FILES: [(&str, usize); 5] = [("counter", 2), ("key", 2), ("link-type", 3), ("rule", 4), ("sink", 3)];

#[test]
fn each_addition_applies_and_touches_few_files() {
    for (kind, most) in MOST_FILES {
        let patch = root().join(format!("docs/adding/{kind}.patch"));
        let text = fs::read_to_string(&patch).unwrap();
        let files = text.lines().filter(|line| line.starts_with("diff --git ")).count();
        assert!((1..=most).contains(&files), "{}: {files} files, not {most}", patch.display());
        let mut apply = Command::new("git");
        let output = apply.args(["apply", "--check"]).arg(&patch).current_dir(root()).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{} does not apply any more; docs/adding/README.md says how to make it again:\n{error}",
            patch.display()
        );
    }
}
