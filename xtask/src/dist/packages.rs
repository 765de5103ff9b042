//! The .deb and the .rpm, by nfpm.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::{MAINTAINER, Release, source};
use testing_support::workspace::{capture, root};

/// Makes both, in `out`.
pub(super) fn make(nfpm: &Path, release: &Release, stage: &Path, out: &Path) -> Result<Vec<PathBuf>> {
    let (deb, rpm) = (release.debian_architecture()?, release.architecture);
    let libraries = |deb: bool| match (&release.glibc, deb) {
        (None, _) => String::new(),
        (Some(glibc), true) => format!("\"libc6 (>= {glibc})\", libgcc-s1, "),
        (Some(glibc), false) => format!("\"libc.so.6(GLIBC_{glibc})(64bit)\", \"libgcc_s.so.1()(64bit)\", "),
    };
    let mut definition = fs::read_to_string(root().join("packaging/nfpm.yaml"))?;
    for (name, value) in [
        ("ARCH", deb),
        ("VERSION", &release.version),
        ("DEB_LIBRARIES", &libraries(true)),
        ("RPM_LIBRARIES", &libraries(false)),
        ("MAINTAINER", MAINTAINER),
        ("HOMEPAGE", env!("CARGO_PKG_REPOSITORY")),
        ("STAGE", &stage.display().to_string()),
    ] {
        definition = definition.replace(&format!("${{{name}}}"), value);
    }
    let file = stage.join("nfpm.yaml");
    fs::write(&file, definition)?;

    let version = &release.version;
    let packages =
        [("deb", format!("go-metro_{version}_{deb}.deb")), ("rpm", format!("go-metro-{version}-1.{rpm}.rpm"))];
    packages
        .into_iter()
        .map(|(packager, name)| {
            let target = out.join(name);
            let mut command = Command::new(nfpm);
            command.arg("package").arg("--config").arg(&file).args(["--packager", packager]).arg("--target");
            capture(command.arg(&target).env(source::TIME_VARIABLE, source::time()?.to_string()))?;
            Ok(target)
        })
        .collect()
}
