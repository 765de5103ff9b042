//! What is shipped beside packages: an archive to unpack anywhere, what is inside, and checksums.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::{Release, links, notices, source, version};
use testing_support::paths;
use testing_support::workspace::{capture, cargo, metadata, root, run};

/// From the repository.
const FILES: [&str; 6] =
    ["README.md", "CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT", "conf.yaml.example", "packaging/go-metro.service"];

/// The binary with man pages, completions, an example and the service's unit; the same content gives the same bytes.
pub(super) fn make(release: &Release, stage: &Path, out: &Path) -> Result<PathBuf> {
    let name = format!("go-metro-{}-{}-linux", release.version, release.architecture);
    let tree = out.join(&name);
    fs::create_dir_all(&tree)?;
    fs::copy(stage.join("go-metro"), tree.join("go-metro"))?;
    for directory in ["man1", "man5", "completions"] {
        capture(Command::new("cp").arg("-r").arg(stage.join(directory)).arg(tree.join(directory)))?;
    }
    fs::copy(stage.join(notices::NAME), tree.join(notices::NAME))?;
    for file in FILES {
        let from = root().join(file);
        let to = tree.join(from.file_name().context("no file")?);
        if from.extension().is_some_and(|extension| extension == "md") {
            let ships = |path: &Path| FILES.iter().any(|shipped| path == Path::new(shipped));
            fs::write(to, links::outward(&fs::read_to_string(&from)?, file, ships))?;
        } else {
            fs::copy(&from, to)?;
        }
    }
    let archive = out.join(format!("{name}.tar.gz"));
    pack(&tree, &archive)?;
    fs::remove_dir_all(&tree)?;
    Ok(archive)
}

/// Packs a directory, under its name: the same content gives the same bytes.
pub(super) fn pack(tree: &Path, archive: &Path) -> Result<()> {
    source::settle(tree)?;
    let mut tar = Command::new("tar");
    tar.args(["--format=gnu", "--sort=name", "--owner=0", "--group=0", "--numeric-owner"]);
    tar.arg("--use-compress-program=gzip -9n").arg("-cf").arg(archive);
    tar.arg("-C").arg(tree.parent().context("a root")?).arg(tree.file_name().context("a root")?);
    capture(&mut tar).map(drop)
}

/// Everything that is compiled in, by cargo-cyclonedx.
pub(super) fn bill_of_materials(out: &Path) -> Result<PathBuf> {
    let name = format!("go-metro-{}", version());
    let manifest = root().join("go-metro-userspace/Cargo.toml");
    let mut command = cargo();
    command.args(["cyclonedx", "--quiet", "--format", "json", "--override-filename", &name, "--manifest-path"]);
    run(command.arg(manifest).env(source::TIME_VARIABLE, source::time()?.to_string()))?;
    let to = out.join(format!("{name}.cdx.json"));
    // It writes one beside each manifest of the workspace.
    let metadata = metadata(&mut cargo(), &["--no-deps"])?;
    for package in metadata["packages"].as_array().context("cargo metadata has no packages")? {
        let made = Path::new(package["manifest_path"].as_str().context("a package without a manifest")?);
        let made = made.with_file_name(format!("{name}.json"));
        if package["name"] == "go-metro-userspace" {
            let bill = fs::read_to_string(&made);
            let bill = bill.with_context(|| format!("cargo-cyclonedx did not write {}", made.display()))?;
            fs::write(&to, paths::without_root(&bill))?;
            paths::ensure_absent(&to)?;
        }
        let _ = fs::remove_file(made);
    }
    Ok(to)
}

/// SHA-256 of each file, as `sha256sum --check` reads them. A release is these files and the sums.
///
/// # Errors
///
/// A file is not in `out`.
pub fn checksums(made: &[PathBuf], out: &Path) -> Result<PathBuf> {
    let names = made.iter().filter_map(|path| path.file_name());
    let sums = capture(Command::new("sha256sum").args(names).current_dir(out))?;
    let file = out.join("SHA256SUMS");
    fs::write(&file, sums + "\n")?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn an_archive_is_for_everyone_to_read_and_its_page_leads_somewhere() {
        let place = tempfile::tempdir().unwrap();
        let stage = place.path().join("stage");
        for file in ["go-metro", "man1/go-metro.1.gz", "man5/x.5.gz", "completions/bash", notices::NAME] {
            super::super::write(&stage.join(file), file).unwrap();
        }
        // As umask 077 leaves them.
        for (path, mode) in [("go-metro", 0o700), ("man1", 0o700), ("completions/bash", 0o600)] {
            fs::set_permissions(stage.join(path), fs::Permissions::from_mode(mode)).unwrap();
        }
        let release = Release { version: "1".to_owned(), glibc: None, architecture: "x86_64" };
        let archive = make(&release, &stage, place.path()).unwrap();
        let listed = capture(Command::new("tar").arg("--list").arg("--verbose").arg("--file").arg(&archive)).unwrap();
        for line in listed.lines() {
            let mode = line.split(' ').next().unwrap();
            let expected = if line.ends_with('/') {
                "drwxr-xr-x"
            } else if line.ends_with("/go-metro") {
                "-rwxr-xr-x"
            } else {
                "-rw-r--r--"
            };
            assert_eq!(mode, expected, "{line}");
        }
        assert!(listed.contains("go-metro-1-x86_64-linux/THIRD-PARTY-NOTICES"), "{listed}");
        let mut tar = Command::new("tar");
        tar.arg("-xOf").arg(&archive).arg("go-metro-1-x86_64-linux/README.md");
        let page = capture(&mut tar).unwrap();
        assert!(page.contains("/blob/HEAD/docs/migration.md)") && page.contains("](CHANGELOG.md)"), "{page}");
    }
}
