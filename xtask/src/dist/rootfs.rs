//! The files of an image: the binary, the libraries that it needs, and what the C library asks for.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use super::{Release, notices, source, write};
use testing_support::workspace::{capture, root};

/// Of the shared libraries in it.
const LIBRARIES_LICENCES: [&str; 4] = [
    "/usr/share/doc/libc6/copyright",
    "/usr/share/doc/libgcc-s1/copyright",
    "/usr/share/common-licenses/GPL-3",
    "/usr/share/common-licenses/LGPL-2.1",
];

/// Lays them into a directory of `trees` that is named as registries call the architecture.
pub(super) fn lay(trees: &Path, binary: &Path, release: &Release) -> Result<()> {
    let tree = &trees.join(release.debian_architecture()?);
    let place = |from: &Path, to: &str| -> Result<()> {
        let to = tree.join(to.trim_start_matches('/'));
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::copy(from, to)?;
        Ok(())
    };
    place(binary, "/usr/bin/go-metro")?;
    if release.glibc.is_some() {
        let libraries = libraries(&capture(Command::new("ldd").arg(binary))?);
        if libraries.is_empty() {
            bail!("ldd names no library of {}", binary.display());
        }
        for library in libraries {
            // What the path leads to, under the name that the loader looks for.
            place(&fs::canonicalize(&library)?, &library)?;
        }
    }
    place(&root().join("packaging/conf.yaml"), "/etc/go-metro/conf.yaml")?;
    for licence in ["LICENSE-MIT", "LICENSE-APACHE"] {
        place(&root().join(licence), &format!("/usr/share/licenses/go-metro/{licence}"))?;
    }
    write(&tree.join("usr/share/licenses/go-metro").join(notices::NAME), notices::text(release)?)?;
    if release.glibc.is_some() {
        // The C library's and the compiler's, where the machine has them as Debian does.
        for file in LIBRARIES_LICENCES {
            if Path::new(file).exists() {
                place(&fs::canonicalize(file)?, file)?;
            }
        }
    }
    write(&tree.join("etc/passwd"), "root:x:0:0:root:/:/sbin/nologin\n")?;
    write(&tree.join("etc/group"), "root:x:0:\n")?;
    // Both are built into the C library.
    write(&tree.join("etc/nsswitch.conf"), "hosts: files dns\n")?;
    fs::create_dir_all(tree.join("run/go-metro"))?;
    fs::create_dir_all(tree.join("tmp"))?;
    source::settle(tree)?;
    source::open_up(trees)?;
    fs::set_permissions(tree.join("tmp"), Permissions::from_mode(0o1777))?;
    Ok(())
}

/// The paths in what `ldd` prints.
fn libraries(ldd: &str) -> Vec<String> {
    let words = ldd.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    words.map(str::to_owned).collect()
}
