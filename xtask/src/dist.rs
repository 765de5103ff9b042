//! `cargo xtask dist`: what is shipped, in `target/dist`, each made from the one before it.
//!
//! A stripped binary that needs no library but the C library's and the compiler's; from it a .deb and a .rpm
//! (`packaging/nfpm.yaml`), the files of an image (`packaging/Containerfile`) and the packed Helm chart.

mod alone;
pub mod archive;
pub mod binary;
pub mod chart;
pub(crate) mod links;
pub mod musl;
mod notices;
mod packages;
mod rootfs;
mod source;
mod stage;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use testing_support::workspace::root;
use testing_support::{daemon, setup};

/// Arguments of `dist`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Pack this binary instead of building one for release
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Version of the packages, instead of Cargo.toml's
    #[arg(long)]
    version: Option<String>,
    /// Output directory
    #[arg(long, value_name = "DIR", default_value = "target/dist")]
    out: PathBuf,
    /// Build static binaries (musl) for x86_64 and aarch64, and from them packages and archives for both
    #[arg(long, conflicts_with = "binary")]
    r#static: bool,
    /// Do not pack a Helm chart, for which Helm is downloaded once
    #[arg(long)]
    no_chart: bool,
    /// Image repository that the packed chart uses, such as ghcr.io/me/go-metro
    #[arg(long, value_name = "NAME", conflicts_with = "no_chart")]
    image_repository: Option<String>,
}

impl Args {
    /// Packs this build, in this version or Cargo.toml's, without the chart.
    #[must_use]
    pub fn of(binary: &Path, version: Option<&str>, out: &Path) -> Self {
        let version = version.map(str::to_owned);
        Self {
            binary: Some(binary.to_path_buf()),
            version,
            out: out.to_path_buf(),
            r#static: false,
            no_chart: true,
            image_repository: None,
        }
    }
}

/// Makes all of it.
///
/// # Errors
///
/// Something that is missing cannot be installed, a build fails, or the binary needs a library that may be missing
/// elsewhere.
pub fn main(args: &Args) -> Result<()> {
    if args.binary.is_none() {
        setup::for_dist()?;
    }
    let nfpm = setup::for_packages()?;
    if args.r#static {
        return all_static(args, &nfpm);
    }
    let built = match &args.binary {
        Some(binary) => binary.clone(),
        None => daemon::release_binary()?,
    };
    let out = empty(&args.out)?;

    let binary = out.join("go-metro");
    let glibc = binary::strip(&built, &binary)?;
    let release = Release {
        version: args.version.clone().unwrap_or_else(version),
        glibc: Some(glibc.clone()),
        architecture: std::env::consts::ARCH,
    };
    let stage = stage::lay(&out.join("stage"), &binary, &binary, &release)?;
    let mut made = vec![binary.clone()];
    made.extend(packages::make(&nfpm, &release, &stage, &out)?);
    fs::remove_dir_all(&stage)?;
    rootfs::lay(&out.join("rootfs"), &binary, &release)?;
    if !args.no_chart {
        made.push(chart::pack(&out, args.image_repository.as_deref())?);
    }
    print(&made)?;
    println!("           {} (an image's files)", short(&out.join("rootfs")));
    println!("runs with glibc {glibc} and later");
    Ok(())
}

/// Makes all of it for both architectures, from static binaries, with a bill of materials and checksums.
fn all_static(args: &Args, nfpm: &Path) -> Result<()> {
    setup::for_sbom()?;
    let binaries = musl::all()?;
    let out = empty(&args.out)?;
    let native = binaries.iter().find(|built| built.architecture == std::env::consts::ARCH);
    let native = native.context("no static binary is known for this machine")?.binary.clone();
    // The binaries by themselves are for the tests; the archives have them too.
    let (mut made, mut shipped) = (Vec::new(), Vec::new());
    for built in &binaries {
        let release = Release {
            version: args.version.clone().unwrap_or_else(version),
            glibc: None,
            architecture: built.architecture,
        };
        let binary = out.join(format!("go-metro-{}", built.architecture));
        binary::without_symbols(&built.binary, &binary)?;
        let stage = stage::lay(&out.join("stage"), &binary, &native, &release)?;
        made.push(archive::make(&release, &stage, &out)?);
        made.extend(packages::make(nfpm, &release, &stage, &out)?);
        fs::remove_dir_all(&stage)?;
        rootfs::lay(&out.join("rootfs"), &binary, &release)?;
        shipped.push(musl::Static { architecture: built.architecture, binary });
    }
    if !args.no_chart {
        made.push(chart::pack(&out, args.image_repository.as_deref())?);
    }
    made.push(archive::bill_of_materials(&out)?);
    made.push(archive::checksums(&made, &out)?);
    print(&made)?;
    println!("           {} (an image's files)", short(&out.join("rootfs")));
    shipped.iter().try_for_each(alone::run)
}

/// In a folder that was made here, and may be removed as a whole.
const MARK: &str = ".made-by-xtask-dist";

/// An empty directory for what is made. One that has anything else in it stays as it is.
fn empty(out: &Path) -> Result<PathBuf> {
    let out = root().join(out);
    if out.exists() {
        let is_ours = out.join(MARK).exists() || out == root().join("target/dist");
        let is_empty = || fs::read_dir(&out).is_ok_and(|mut entries| entries.next().is_none());
        if !is_ours && !is_empty() {
            bail!("{} contains files that this task did not make; name an empty or a new folder", out.display());
        }
        fs::remove_dir_all(&out).with_context(|| format!("cannot remove {}", out.display()))?;
    }
    fs::create_dir_all(&out)?;
    source::open_up(&out)?;
    fs::write(out.join(MARK), "`cargo xtask dist` removes this folder when it makes its files again.\n")?;
    Ok(out)
}

/// Says what was made. Who may read it does not depend on who made it: apt reads a package as a user of its own.
fn print(made: &[PathBuf]) -> Result<()> {
    for path in made {
        source::open_up(path)?;
        println!("{:6.1} MB  {}", path.metadata()?.len() as f64 / 1e6, short(path));
    }
    Ok(())
}

/// A path from the workspace on.
fn short(path: &Path) -> std::path::Display<'_> {
    let root = root();
    path.strip_prefix(&root).unwrap_or(path).display()
}

/// Who answers for the packages. Debian's form wants an address; this one cannot be anybody's (RFC 2606, section 2):
/// questions go to the repository's issues.
const MAINTAINER: &str = "the go-metro developers <go-metro@developers.invalid>";

/// What the packages say of themselves.
struct Release {
    version: String,
    /// The oldest C library that it runs with, such as `2.34`; none where that is inside.
    glibc: Option<String>,
    /// As the kernel calls it.
    architecture: &'static str,
}

impl Release {
    /// The architecture as Debian and image registries call it.
    ///
    /// # Errors
    ///
    /// Nothing is shipped for it.
    fn debian_architecture(&self) -> Result<&'static str> {
        match self.architecture {
            "x86_64" => Ok("amd64"),
            "aarch64" => Ok("arm64"),
            other => bail!("no package is known for {other}"),
        }
    }
}

/// The workspace's version.
#[must_use]
pub fn version() -> String {
    env!("CARGO_PKG_VERSION").to_owned()
}

/// Writes a file and the directories above it.
fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_was_not_made_here_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let out = empty(&folder.path().join("new")).unwrap();
        fs::write(out.join("made"), "").unwrap();
        assert!(!empty(&out).unwrap().join("made").exists(), "what was made here is made again");
        fs::write(folder.path().join("mine"), "").unwrap();
        let refused = empty(folder.path()).unwrap_err().to_string();
        assert!(refused.contains("did not make") && folder.path().join("mine").exists(), "{refused}");
    }
}
