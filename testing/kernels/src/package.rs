//! Debian's kernels: an image and a few modules, from the machine's own mirror, kept in a cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::machine::Architecture;
use testing_support::apt::{self, Apt};
use testing_support::workspace::shown;

/// Suites, oldest first, with the series that each is known for.
const SUITES: [(&str, &str); 6] = [
    ("bullseye", "5.10"),
    ("bookworm", "6.1"),
    ("trixie", "6.12"),
    ("trixie-backports", NEWEST),
    ("forky", ""),
    ("sid", ""),
];

/// In place of a series: the latest kernel that is built for the stable distribution.
pub(super) const NEWEST: &str = "newest";

/// What tests need of the kernel beyond its image.
const MODULES: [&str; 6] = ["veth", "tun", "sch_ingress", "cls_bpf", "sch_netem", "sch_fq"];

/// A kernel, unpacked.
#[derive(Clone, Debug)]
pub(super) struct Kernel {
    /// Its release, as `uname -r` prints it.
    pub(super) release: String,
    /// What a machine boots.
    pub(super) image: PathBuf,
    /// Directory of its modules, plain.
    pub(super) modules: PathBuf,
}

/// The kernel of `series`, such as `6.1`; `None` where the mirror has none.
///
/// # Errors
///
/// This is no Debian system, or a package cannot be had or read.
pub(super) fn find(series: &str, architecture: Architecture) -> Result<Option<Kernel>> {
    let place = cache().join(match architecture {
        Architecture::Amd64 => series.to_owned(),
        other => format!("{series}-{}", other.debian()),
    });
    if let Some(kernel) = Kernel::at(&place) {
        return Ok(Some(kernel));
    }
    let apt = Apt::of(architecture.debian())?;
    let mirror = apt::mirror();
    let (known, others): (Vec<_>, Vec<_>) = SUITES.iter().partition(|(_, of)| *of == series);
    for (suite, _) in known.into_iter().chain(others) {
        eprintln!("looking for kernel {series} in {} {suite}", mirror.uri);
        if apt.read_suite(&mirror, suite).is_err() {
            continue;
        }
        let offers =
            apt.ask(&["search", "--names-only", &format!("^linux-image-[0-9].*-cloud-{}$", architecture.debian())]);
        if let Some(package) = latest(&offers, series) {
            return unpack(&apt, &package, &place).map(Some);
        }
    }
    Ok(None)
}

impl Kernel {
    fn at(place: &Path) -> Option<Self> {
        let release = fs::read_to_string(place.join("release")).ok()?;
        Some(Self { release, image: place.join("vmlinuz"), modules: place.join("modules") })
    }
}

/// The package with the highest version of a series among lines of `apt-cache search`.
fn latest(offers: &str, series: &str) -> Option<String> {
    let release = |package: &str| package.strip_prefix("linux-image-").map(str::to_owned);
    let of_series = |release: &str| {
        series == NEWEST || release.strip_prefix(series).is_some_and(|rest| rest.starts_with(['.', '-', '+']))
    };
    offers
        .lines()
        .filter_map(|line| line.split(' ').next())
        .filter(|package| release(package).is_some_and(|release| of_series(&release)))
        .max_by_key(|package| numbers(package))
        .map(str::to_owned)
}

/// The numbers in a version, in order.
fn numbers(version: &str) -> Vec<u32> {
    version.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

fn unpack(apt: &Apt, package: &str, place: &Path) -> Result<Kernel> {
    eprintln!("fetching {package}");
    let release = package.strip_prefix("linux-image-").unwrap_or(package).to_owned();
    let work = tempfile::tempdir()?;
    let tree = work.path();
    apt.unpack(package, tree)?;
    // From 7.x on the package only names others of the same release.
    for part in ["linux-binary", "linux-modules"] {
        let part = format!("{part}-{release}");
        if apt.ask(&["depends", package]).contains(&part) {
            apt.unpack(&part, tree)?;
        }
    }
    let libraries = [tree.join("usr/lib/modules").join(&release), tree.join("lib/modules").join(&release)];
    let images = [tree.join(format!("boot/vmlinuz-{release}")), libraries[0].join("vmlinuz")];
    let image = images.iter().find(|image| image.exists()).with_context(|| format!("no image in {package}"))?;

    // Beside its place, then moved there in one step: what is there is whole.
    fs::create_dir_all(cache()).with_context(|| format!("cannot create {}", cache().display()))?;
    let fresh = tempfile::tempdir_in(cache())?;
    fs::create_dir(fresh.path().join("modules"))?;
    fs::copy(image, fresh.path().join("vmlinuz"))?;
    for name in MODULES {
        let directories = ["kernel/drivers/net", "kernel/net/sched"];
        let file = libraries
            .iter()
            .flat_map(|library| directories.map(|directory| library.join(directory)))
            .flat_map(|directory| ["ko", "ko.xz"].map(|ending| directory.join(format!("{name}.{ending}"))))
            .find(|file| file.exists())
            .with_context(|| format!("no module {name} in {package}"))?;
        let plain = fresh.path().join(format!("modules/{name}.ko"));
        if file.extension().is_some_and(|ending| ending == "xz") {
            decompress(&file, &plain)?;
        } else {
            fs::copy(file, plain)?;
        }
    }
    fs::write(fresh.path().join("release"), &release)?;
    let _ = fs::remove_dir_all(place);
    fs::rename(fresh.keep(), place).with_context(|| format!("cannot create {}", place.display()))?;
    Kernel::at(place).context("what was unpacked is gone")
}

fn decompress(from: &Path, to: &Path) -> Result<()> {
    let mut command = Command::new("busybox");
    command.args(["unxz", "-c"]).arg(from).stdout(Stdio::from(fs::File::create(to)?));
    if !command.status().context("cannot run busybox")?.success() {
        bail!("`{}` failed", shown(&command));
    }
    Ok(())
}

/// Where kernels are kept from one checkout to the next.
fn cache() -> PathBuf {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    base.unwrap_or_else(|| testing_support::workspace::target().join("cache")).join("go-metro/kernels")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_package_of_a_series_is_chosen_by_number_not_by_letter() {
        let offers = "linux-image-6.1.0-9-cloud-amd64 - Linux 6.1\n\
                      linux-image-6.1.0-50-cloud-amd64 - Linux 6.1\n\
                      linux-image-6.12.107+deb13-cloud-amd64 - Linux 6.12\n\
                      linux-image-7.3.4+deb13-cloud-amd64 - Linux 7.3.4\n";
        assert_eq!(latest(offers, "6.1").as_deref(), Some("linux-image-6.1.0-50-cloud-amd64"));
        assert_eq!(latest(offers, "6.12").as_deref(), Some("linux-image-6.12.107+deb13-cloud-amd64"));
        assert_eq!(latest(offers, NEWEST).as_deref(), Some("linux-image-7.3.4+deb13-cloud-amd64"));
        assert_eq!(latest(offers, "5.10"), None);
    }
}
