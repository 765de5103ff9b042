//! Where it was built, which is nobody's business and would give another machine another binary.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::workspace::{capture, cargo_home, root};

/// How a bill of materials names a package of the workspace, up to its directory.
const PACKAGE: &str = "path+file://";

/// Directories of this machine, and what stands for them in messages and panics; of the toolchain that `rustc` is of.
/// The linker of the classifier goes on finding its source, whose lines it adds for the verifier to print.
fn here(rustc: &mut Command) -> Result<[(PathBuf, &'static str); 3]> {
    let sysroot = capture(rustc.args(["--print", "sysroot"]))?;
    Ok([(sysroot.into(), "/rust"), (cargo_home()?, "/cargo"), (root(), ".")])
}

/// For `CARGO_ENCODED_RUSTFLAGS`, with `flags` in front: has rustc write none of this machine's paths into what it
/// compiles.
///
/// # Errors
///
/// There is no rustc, or no home of cargo.
pub fn remapped(rustc: &mut Command, flags: &[&str]) -> Result<OsString> {
    let mut encoded: Vec<OsString> = flags.iter().map(OsString::from).collect();
    for (from, to) in here(rustc)? {
        let mut flag = OsString::from("--remap-path-prefix=");
        flag.push(from);
        flag.push("=");
        flag.push(to);
        encoded.push(flag);
    }
    Ok(encoded.join(OsStr::new("\x1f")))
}

/// Fails where a file names a directory of this machine.
///
/// # Errors
///
/// It does, or cannot be read.
pub fn ensure_absent(file: &Path) -> Result<()> {
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    for (directory, stand_in) in here(&mut Command::new("rustc"))? {
        if Path::new(stand_in).starts_with(&directory) {
            continue;
        }
        let name = [directory.as_os_str().as_bytes(), b"/"].concat();
        if let Some(at) = bytes.windows(name.len()).position(|window| window == name) {
            let end = (at + 120).min(bytes.len());
            bail!("{} names where it was built: {}", file.display(), String::from_utf8_lossy(&bytes[at..end]));
        }
    }
    Ok(())
}

/// Names the workspace's packages by their own directory alone, wherever that is.
#[must_use]
pub fn without_root(bill: &str) -> String {
    let mut parts = bill.split(PACKAGE);
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let directory = part.split('#').next().unwrap_or_default();
        let name = directory.rsplit('/').next().unwrap_or_default();
        text.push_str(PACKAGE);
        text.push('/');
        text.push_str(name);
        text.push_str(&part[directory.len()..]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bill_of_materials_names_packages_and_not_where_they_were() {
        let bill =
            r#"{"ref": "path+file:///home/me/go%20metro/go-metro-common#0.1.0", "on": ["path+file:///x/a#1 b", "c"]}"#;
        assert_eq!(
            without_root(bill),
            r#"{"ref": "path+file:///go-metro-common#0.1.0", "on": ["path+file:///a#1 b", "c"]}"#
        );
    }

    #[test]
    fn a_file_that_names_the_workspace_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), b"\0/somewhere/else\0").unwrap();
        ensure_absent(file.path()).unwrap();
        fs::write(file.path(), [b"\xff\0", root().as_os_str().as_bytes(), b"/src/main.rs\0"].concat()).unwrap();
        assert!(ensure_absent(file.path()).unwrap_err().to_string().contains("/src/main.rs"));
    }
}
