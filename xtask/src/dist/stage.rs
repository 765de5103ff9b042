//! What the packages hold beside the binary: made by the binary itself, or put together from the workspace's files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::{MAINTAINER, Release, links, notices, source, write};
use testing_support::workspace::{capture, output, root};

const SCRIPTS: [&str; 7] =
    ["deb/postinst", "deb/prerm", "deb/postrm", "rpm/pre", "rpm/post", "rpm/preun", "rpm/postun"];

/// As they are in the repository.
const FILES: [&str; 7] = [
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "conf.yaml.example",
    "packaging/conf.yaml",
    "packaging/copyright",
    "packaging/deb/lintian-overrides",
    "packaging/go-metro.service",
];

/// Lays it into `stage`; `native` is the same program for this machine, which writes its pages and completions.
pub(super) fn lay(stage: &Path, binary: &Path, native: &Path, release: &Release) -> Result<PathBuf> {
    fs::create_dir_all(stage)?;
    fs::hard_link(binary, stage.join("go-metro"))?;
    capture(Command::new(native).arg("man").arg(stage.join("man1")))?;
    let format = root().join("packaging/man/go-metro-conf.5");
    write(&stage.join("man5/go-metro-conf.5"), fs::read(format)?)?;
    for section in ["man1", "man5"] {
        for page in fs::read_dir(stage.join(section))? {
            gzip(&page?.path())?;
        }
    }
    // What messages and pages point to.
    for page in fs::read_dir(root().join("docs"))? {
        let page = page?;
        if page.file_type()?.is_file() {
            let name = page.file_name();
            let copy = stage.join("docs").join(&name);
            if page.path().extension().is_some_and(|extension| extension == "md") {
                // The files of the folder itself are there, and none of those in folders in it.
                let ships = |path: &Path| path.parent() == Some(Path::new("docs")) && root().join(path).is_file();
                let name = Path::new("docs").join(name).display().to_string();
                write(&copy, links::outward(&fs::read_to_string(page.path())?, &name, ships))?;
            } else {
                write(&copy, fs::read(page.path())?)?;
            }
        }
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = output(Command::new(native).args(["completions", shell]))?.stdout;
        write(&stage.join("completions").join(shell), script)?;
    }
    let changes = fs::read_to_string(root().join("CHANGELOG.md"))?;
    write(&stage.join("CHANGELOG.md"), links::outward(&changes, "CHANGELOG.md", |_| false))?;
    gzip(&stage.join("CHANGELOG.md"))?;
    let notices = notices::text(release)?;
    write(&stage.join("copy"), &notices)?;
    gzip(&stage.join("copy"))?;
    fs::rename(stage.join("copy.gz"), stage.join(format!("{}.gz", notices::NAME)))?;
    write(&stage.join(notices::NAME), notices)?;
    write(&stage.join("changelog"), debian_changelog(release)?)?;
    gzip(&stage.join("changelog"))?;
    let packaging = root().join("packaging");
    for file in FILES {
        let from = root().join(file);
        write(&stage.join(from.file_name().context("no file")?), fs::read(&from)?)?;
    }
    let parts = [("#CAPABILITIES#", "capabilities.sh"), ("#ORIGINAL#", "original.sh")];
    for script in SCRIPTS {
        let mut text = fs::read_to_string(packaging.join(script))?;
        for (mark, part) in parts {
            text = text.replace(mark, &fs::read_to_string(packaging.join(part))?);
        }
        write(&stage.join(script), text)?;
    }
    source::settle(stage)?;
    Ok(stage.to_path_buf())
}

/// Debian's form, which its tools read.
fn debian_changelog(release: &Release) -> Result<String> {
    let date = capture(Command::new("date").args(["--utc", "--rfc-email", &format!("--date=@{}", source::time()?)]))?;
    Ok(format!(
        "go-metro ({}) unstable; urgency=medium\n\n  * See CHANGELOG.md.gz for the changes.\n\n \
         -- {MAINTAINER}  {date}\n",
        release.version
    ))
}

/// In its place, without name and time, so that the same content gives the same bytes.
fn gzip(path: &Path) -> Result<()> {
    capture(Command::new("gzip").args(["-9", "--no-name"]).arg(path)).map(drop)
}
