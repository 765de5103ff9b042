//! Packages from the mirror that this machine is configured for, of any suite.
//!
//! The machine's own mirror and keys are used, or Debian's own where it has none, through lists and a cache of our own:
//! the system's package state is neither read nor changed, and no root is needed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::workspace::{capture, target, which};

mod sources;

pub use sources::{Mirror, mirror};

/// apt with lists and a cache of its own, which go when it is dropped.
pub struct Apt {
    work: PathBuf,
    /// Of packages; this machine's own unless it is named.
    architecture: Option<&'static str>,
}

impl Apt {
    /// With its state in a directory of its own below `target`.
    ///
    /// # Errors
    ///
    /// This is no Debian system.
    pub fn new() -> Result<Self> {
        Self::with(None)
    }

    /// For packages of another architecture, as Debian calls it.
    ///
    /// # Errors
    ///
    /// This is no Debian system.
    pub fn of(architecture: &'static str) -> Result<Self> {
        Self::with(Some(architecture))
    }

    fn with(architecture: Option<&'static str>) -> Result<Self> {
        for tool in ["apt-get", "apt-cache", "dpkg-deb"] {
            if which(tool).is_none() {
                bail!("no {tool}: not a Debian system");
            }
        }
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        remove_abandoned(&target());
        Ok(Self { work: target().join(format!("{WORK}{}-{number}", std::process::id())), architecture })
    }

    /// Reads the package list of one suite, in place of any other.
    ///
    /// # Errors
    ///
    /// The mirror does not have it.
    pub fn read_suite(&self, mirror: &Mirror, suite: &str) -> Result<()> {
        self.read(&mirror.source("deb", suite))
    }

    /// Reads the list of one suite's source packages, in place of any other.
    ///
    /// # Errors
    ///
    /// The mirror does not have it.
    pub fn read_sources(&self, mirror: &Mirror, suite: &str) -> Result<()> {
        self.read(&mirror.source("deb-src", suite))
    }

    fn read(&self, source: &str) -> Result<()> {
        let _ = fs::remove_dir_all(&self.work);
        fs::create_dir_all(self.work.join("lists/partial"))?;
        fs::create_dir_all(self.work.join("cache/archives/partial"))?;
        fs::write(self.list(), source)?;
        capture(self.command("apt-get").arg("update")).map(drop)
    }

    /// Downloads a source package and unpacks its upstream part into `tree`, without Debian's changes.
    ///
    /// # Errors
    ///
    /// The suite read last does not have it.
    pub fn unpack_source(&self, package: &str, tree: &Path) -> Result<()> {
        let directory = self.work.join("source");
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory)?;
        capture(self.command("apt-get").args(["source", "--download-only", package]).current_dir(&directory))?;
        let files = fs::read_dir(&directory)?.filter_map(|entry| entry.ok().map(|entry| entry.path()));
        let is_upstream = |path: &PathBuf| {
            let name = path.to_string_lossy();
            name.contains(".orig.tar.") && !name.ends_with(".asc")
        };
        let archive = files.into_iter().find(is_upstream).context("the source package has no upstream part")?;
        fs::create_dir_all(tree)?;
        capture(Command::new("tar").arg("-xf").arg(archive).args(["--strip-components=1", "-C"]).arg(tree)).map(drop)
    }

    /// What `apt-cache` answers; nothing where it fails.
    pub fn ask(&self, question: &[&str]) -> String {
        capture(self.command("apt-cache").args(question)).unwrap_or_default()
    }

    /// The packages that `names` need, themselves included, on a system that has none.
    ///
    /// # Errors
    ///
    /// The suite read last does not have one.
    pub fn with_dependencies(&self, names: &[&str]) -> Result<Vec<String>> {
        let mut simulation = self.command("apt-get");
        simulation.args(["install", "--simulate", "--no-install-recommends"]);
        let said = capture(simulation.args(names))?;
        let installs = said.lines().filter_map(|line| line.strip_prefix("Inst ")?.split_whitespace().next());
        Ok(installs.map(str::to_owned).collect())
    }

    /// Downloads a package (`name` or `name=version`) and unpacks it into `tree`.
    ///
    /// # Errors
    ///
    /// The suite read last does not have it.
    pub fn unpack(&self, package: &str, tree: &Path) -> Result<()> {
        let directory = self.work.join("download");
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory)?;
        capture(self.command("apt-get").arg("download").arg(package).current_dir(&directory))?;
        let file = fs::read_dir(&directory)?
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .context("apt-get downloaded no package")?;
        capture(Command::new("dpkg-deb").arg("-x").arg(file).arg(tree)).map(drop)
    }

    fn list(&self) -> PathBuf {
        self.work.join("debian.sources")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        if let Some(architecture) = self.architecture {
            command.args(["-o", &format!("APT::Architecture={architecture}"), "-o", "APT::Architectures::="]);
            command.args(["-o", &format!("APT::Architectures::={architecture}")]);
        }
        for option in [
            format!("Dir::Etc::sourcelist={}", self.list().display()),
            "Dir::Etc::sourceparts=-".to_owned(),
            format!("Dir::State::lists={}", self.work.join("lists").display()),
            format!("Dir::Cache={}", self.work.join("cache").display()),
            // A version that is installed, from a suite that is not read here, would be the one to download.
            "Dir::State::status=/dev/null".to_owned(),
            // The sandbox's user cannot write below a home directory; there is nothing to protect in ours.
            "APT::Sandbox::User=root".to_owned(),
            // Descriptions and translations are a third of the download.
            "Acquire::Languages=none".to_owned(),
        ] {
            command.arg("-o").arg(option);
        }
        command
    }
}

/// What the name of such a directory begins with; the process's number follows.
const WORK: &str = "apt-";

/// No download takes longer.
const LONG_AGO: Duration = Duration::from_secs(3600);

/// Removes the directories of processes that have ended without doing so, by Ctrl-C for example. The number of one in a
/// container that shares the directory says nothing here: they have to be old too.
fn remove_abandoned(target: &Path) {
    for entry in fs::read_dir(target).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(WORK)?.split('-').next()?.parse::<u32>().ok());
        let has_ended = process.is_some_and(|process| !Path::new("/proc").join(process.to_string()).exists());
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        let is_old = modified.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > LONG_AGO));
        if has_ended && is_old {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

impl Drop for Apt {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.work);
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn what_an_interrupted_task_left_is_removed_and_what_a_running_one_uses_stays() {
        let target = tempfile::tempdir().unwrap();
        // The kernel gives no process this number (`PID_MAX_LIMIT`).
        let [abandoned, ours, other] =
            [format!("{WORK}4194305-0"), format!("{WORK}{}-0", std::process::id()), "apt-x".into()];
        let directories = || [&abandoned, &ours, &other].map(|name| target.path().join(name));
        directories().iter().for_each(|directory| fs::create_dir(directory).unwrap());
        remove_abandoned(target.path());
        assert!(directories().iter().all(|directory| directory.exists()), "they are new");
        for directory in directories() {
            fs::File::open(directory).unwrap().set_modified(SystemTime::now() - 2 * LONG_AGO).unwrap();
        }
        remove_abandoned(target.path());
        assert!(!target.path().join(abandoned).exists());
        assert!(target.path().join(ours).exists() && target.path().join(other).exists());
    }
}
