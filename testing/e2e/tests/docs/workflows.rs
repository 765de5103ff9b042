//! What GitHub reads: the workflows, by actionlint; and that nothing which others can move is built with.

use std::fs;
use std::process::Command;

use testing_support::workspace::{output, root, which};

#[test]
fn actionlint_finds_nothing_in_the_workflows() {
    let Some(actionlint) = which("actionlint") else {
        println!("skipped: there is no actionlint; .github/workflows/ci.yml shows how it is installed");
        return;
    };
    let said = output(Command::new(actionlint).arg("-no-color").current_dir(root())).unwrap();
    assert!(
        said.status.success(),
        "{}{}",
        String::from_utf8_lossy(&said.stdout),
        String::from_utf8_lossy(&said.stderr)
    );
}

#[test]
fn actions_are_pinned_by_commit_and_images_by_digest() {
    let mut files: Vec<_> =
        fs::read_dir(root().join(".github/workflows")).unwrap().map(|e| e.unwrap().path()).collect();
    files.extend([".devcontainer/devcontainer.json", "packaging/Containerfile"].map(|file| root().join(file)));
    let mut seen = 0;
    for file in files {
        for line in fs::read_to_string(&file).unwrap().lines() {
            let Some((what, digits)) = pinned(line) else { continue };
            seen += 1;
            let digest = line.split_once(what).map_or("", |(_, rest)| rest);
            let length = digest.chars().take_while(char::is_ascii_hexdigit).count();
            assert_eq!(length, digits, "{}: name a commit or digest, not a tag: {line}", file.display());
        }
    }
    assert!(seen >= 4, "only {seen} actions and images are recognised");
}

/// What a line that names an action or an image has before its hash, and the hash's length; `None` for other lines, and
/// for an image that is built from nothing or named in the same file.
fn pinned(line: &str) -> Option<(&'static str, usize)> {
    let line = line.trim().trim_start_matches("- ");
    if line.starts_with("uses: ") {
        return Some(("@", 40));
    }
    let image = ["image: ", "\"image\": ", "FROM "].into_iter().find_map(|start| line.strip_prefix(start))?;
    let is_local = image.starts_with("scratch") || image.starts_with("dist");
    (!is_local).then_some(("@sha256:", 64))
}
