//! What GitHub reads: the workflows, by actionlint; and that nothing which others can move is built with.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_yaml::Value;

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
    let mut files: Vec<_> = workflows().collect();
    files.extend([".devcontainer/Dockerfile", "packaging/Containerfile"].map(|file| root().join(file)));
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
    let image = ["image: ", "FROM "].into_iter().find_map(|start| line.strip_prefix(start))?;
    let is_local = image.starts_with("scratch") || image.starts_with("dist");
    (!is_local).then_some(("@sha256:", 64))
}

fn workflows() -> impl Iterator<Item = PathBuf> {
    fs::read_dir(root().join(".github/workflows")).unwrap().map(|entry| entry.unwrap().path())
}

fn read(path: &Path) -> Value {
    serde_yaml::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The jobs of a workflow, by name.
fn jobs(workflow: &Value) -> impl Iterator<Item = (&str, &Value)> {
    workflow["jobs"].as_mapping().unwrap().iter().map(|(name, job)| (name.as_str().unwrap(), job))
}

fn steps(job: &Value) -> &[Value] {
    job["steps"].as_sequence().unwrap()
}

#[test]
fn a_job_may_read_and_one_that_may_write_builds_nothing() {
    let mut writing = 0;
    for path in workflows() {
        let workflow = read(&path);
        assert!(workflow["permissions"].as_mapping().is_some_and(serde_yaml::Mapping::is_empty), "{}", path.display());
        for (name, job) in jobs(&workflow) {
            let place = format!("{}, {name}", path.display());
            let permissions = job["permissions"].as_mapping().expect(&place);
            if permissions.values().any(|value| value.as_str() == Some("write")) {
                writing += 1;
                let scripts = steps(job).iter().filter_map(|step| step["run"].as_str());
                scripts.for_each(|script| {
                    assert!(
                        !["cargo ", "pip ", ".ci/run"].iter().any(|word| script.contains(word)),
                        "{place}: {script}"
                    );
                });
            } else {
                assert_eq!(permissions.iter().count(), 1, "{place}");
                assert_eq!(job["permissions"]["contents"], "read", "{place}");
            }
            for step in steps(job)
                .iter()
                .filter(|step| step["uses"].as_str().is_some_and(|action| action.starts_with("actions/checkout@")))
            {
                assert_eq!(step["with"]["persist-credentials"], false, "{place}");
            }
        }
    }
    assert_eq!(writing, 2, "the image's and the release's");
}

#[test]
fn the_workflows_build_with_the_rust_that_the_workspace_names() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let (_, rest) = manifest.split_once("rust-version = \"").unwrap();
    let version = rest.split('"').next().unwrap();
    for path in workflows() {
        assert_eq!(read(&path)["env"]["RUSTUP_TOOLCHAIN"], version, "{}", path.display());
    }
    let image = fs::read_to_string(root().join(".devcontainer/Dockerfile")).unwrap();
    let image = image.lines().find_map(|line| line.strip_prefix("FROM ")).unwrap();
    assert!(image.contains(&format!("/rust:{version}-")), "{image}");
    let scheduled = read(&root().join(".github/workflows/scheduled.yml"));
    assert_eq!(scheduled["jobs"]["kernels"]["container"]["image"], image);
}

#[test]
fn dependabot_looks_at_what_is_pinned_by_hash_and_digest() {
    let updates = read(&root().join(".github/dependabot.yml"));
    let updates = updates["updates"].as_sequence().unwrap();
    for (ecosystem, directory) in
        [("pip", "/testing/support/python"), ("npm", "/testing/support/browser"), ("docker", "/.devcontainer")]
    {
        assert!(
            updates.iter().any(|u| u["package-ecosystem"] == ecosystem && u["directory"] == directory),
            "{ecosystem}"
        );
        assert!(root().join(&directory[1..]).is_dir());
    }
}
