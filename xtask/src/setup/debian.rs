//! rust-src from Debian: some suite has the package of exactly the compiler's version, seldom the machine's own.
//!
//! The machine's own mirror and keys are used, through lists and a cache of our own: the system's package state is
//! neither read nor changed, and no root is needed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::place;
use crate::workspace::{capture, root, which};

/// Looked in after the machine's own suites. Those that a mirror does not have are passed over.
const OTHER_SUITES: [&str; 5] = ["trixie", "trixie-backports", "forky", "forky-backports", "sid"];

/// Fetches rust-src of `release` and puts its library at `destination`.
///
/// Returns the package's version.
pub(super) fn fetch(release: &str, destination: &Path) -> Result<String> {
    for tool in ["apt-get", "apt-cache", "dpkg-deb"] {
        if which(tool).is_none() {
            bail!("no {tool}: not a Debian system");
        }
    }
    let mirror = mirror()?;
    let work = root().join(format!("target/setup-{}", std::process::id()));
    let result = fetch_with(&Apt { work: work.clone() }, &mirror, release, destination);
    let _ = fs::remove_dir_all(work);
    result
}

fn fetch_with(apt: &Apt, mirror: &Mirror, release: &str, destination: &Path) -> Result<String> {
    let others = OTHER_SUITES.iter().map(|suite| (*suite).to_owned());
    let mut suites: Vec<String> = Vec::new();
    for suite in mirror.suites.iter().cloned().chain(others) {
        if !suites.contains(&suite) {
            suites.push(suite);
        }
    }
    for suite in &suites {
        apt.prepare(&mirror.line(suite))?;
        eprintln!("looking for rust-src {release} in {} {suite}", mirror.uri);
        if capture(apt.command("apt-get").arg("update")).is_err() {
            continue;
        }
        let offers = capture(apt.command("apt-cache").args(["madison", "rust-src"])).unwrap_or_default();
        let Some(version) = version_of(&offers, release) else { continue };
        capture(apt.command("apt-get").arg("download").arg(format!("rust-src={version}")).current_dir(&apt.work))?;
        let package = fs::read_dir(&apt.work)?
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .context("apt-get downloaded no package")?;
        let tree = apt.work.join("tree");
        capture(Command::new("dpkg-deb").arg("-x").arg(package).arg(&tree))?;
        place(&tree.join(format!("usr/src/rustc-{release}/library")), destination)?;
        return Ok(version);
    }
    bail!("{} has no rust-src {release} in {}", mirror.uri, suites.join(", "));
}

/// The package version that is of `release`, of what `apt-cache madison` lists.
fn version_of(madison: &str, release: &str) -> Option<String> {
    madison
        .lines()
        .filter_map(|line| line.split('|').nth(1).map(str::trim))
        .find(|version| version.strip_prefix(release).is_some_and(|rest| rest.starts_with(['+', '-', '~'])))
        .map(str::to_owned)
}

/// apt with state of its own.
struct Apt {
    work: PathBuf,
}

impl Apt {
    fn list(&self) -> PathBuf {
        self.work.join("sources.list")
    }

    fn prepare(&self, line: &str) -> Result<()> {
        let _ = fs::remove_dir_all(&self.work);
        fs::create_dir_all(self.work.join("lists/partial"))?;
        fs::create_dir_all(self.work.join("cache/archives/partial"))?;
        fs::write(self.list(), format!("{line}\n"))?;
        Ok(())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for option in [
            format!("Dir::Etc::sourcelist={}", self.list().display()),
            "Dir::Etc::sourceparts=-".to_owned(),
            format!("Dir::State::lists={}", self.work.join("lists").display()),
            format!("Dir::Cache={}", self.work.join("cache").display()),
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

/// An archive that the machine is configured for.
#[derive(Debug, PartialEq, Eq)]
struct Mirror {
    uri: String,
    signed_by: Option<String>,
    suites: Vec<String>,
}

impl Mirror {
    fn line(&self, suite: &str) -> String {
        let options = self.signed_by.as_ref().map(|keys| format!("[signed-by={keys}] ")).unwrap_or_default();
        format!("deb {options}{} {suite} main", self.uri)
    }

    /// The main archive, not the one for security updates or someone else's packages.
    fn is_debian(&self) -> bool {
        self.uri.trim_end_matches('/').ends_with("/debian")
    }
}

/// The Debian archive in this machine's apt configuration.
fn mirror() -> Result<Mirror> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(entries.filter_map(|entry| entry.ok().map(|entry| entry.path())));
    }
    let mirrors = files.iter().flat_map(|path| {
        let text = fs::read_to_string(path).unwrap_or_default();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("sources") => paragraphs(&text),
            Some("list") => lines(&text),
            _ => Vec::new(),
        }
    });
    mirrors.into_iter().find(Mirror::is_debian).context("no Debian archive in /etc/apt/sources.list and sources.list.d")
}

/// One-line style: `deb [options] URI suite component...`.
fn lines(text: &str) -> Vec<Mirror> {
    text.lines()
        .filter_map(|line| {
            let line = line.trim().strip_prefix("deb ")?.trim_start();
            let (options, rest) = match line.strip_prefix('[') {
                Some(line) => line.split_once(']')?,
                None => ("", line),
            };
            let mut words = rest.split_whitespace();
            let uri = words.next()?.to_owned();
            let suites = words.next().map(str::to_owned).into_iter().collect();
            let signed_by =
                options.split_whitespace().find_map(|option| option.strip_prefix("signed-by=")).map(str::to_owned);
            Some(Mirror { uri, signed_by, suites })
        })
        .collect()
}

/// deb822 style: paragraphs of `Key: value`.
fn paragraphs(text: &str) -> Vec<Mirror> {
    text.split("\n\n")
        .filter_map(|paragraph| {
            let field = |name: &str| {
                paragraph.lines().find_map(|line| {
                    let (key, value) = line.split_once(':')?;
                    key.eq_ignore_ascii_case(name).then(|| value.trim())
                })
            };
            let uri = field("URIs")?.split_whitespace().next()?.to_owned();
            let suites = field("Suites").unwrap_or_default().split_whitespace().map(str::to_owned).collect();
            // A key block instead of a file name stands on the lines below; apt's own keyring then has to do.
            let signed_by = field("Signed-By").filter(|keys| keys.starts_with('/')).map(str::to_owned);
            (field("Enabled") != Some("no")).then_some(Mirror { uri, signed_by, suites })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_styles_of_apt_configuration_give_the_mirror() {
        let expected = Mirror {
            uri: "http://deb.debian.org/debian".to_owned(),
            signed_by: Some("/usr/share/keyrings/debian-archive-keyring.gpg".to_owned()),
            suites: vec!["trixie".to_owned()],
        };
        let new = "Types: deb\n# note\nURIs: http://deb.debian.org/debian\nSuites: trixie\nComponents: main\n\
                   Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n";
        assert_eq!(paragraphs(new), [expected]);
        let old = "# deb http://no/debian x main\ndeb [arch=amd64 signed-by=/k.gpg] http://m/debian/ trixie main\n\
                   deb http://m/debian-security trixie-security main\n";
        let found = lines(old);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].line("sid"), "deb [signed-by=/k.gpg] http://m/debian/ sid main");
        assert!(found[0].is_debian() && !found[1].is_debian());
    }

    #[test]
    fn the_package_of_exactly_the_compilers_version_is_chosen() {
        let madison = " rust-src | 1.96.1+dfsg1-1 | http://m/debian sid/main amd64 Packages\n \
                       rust-src | 1.95.0+dfsg1-2~bpo13+1 | http://m/debian trixie-backports/main amd64 Packages\n";
        assert_eq!(version_of(madison, "1.95.0").as_deref(), Some("1.95.0+dfsg1-2~bpo13+1"));
        assert_eq!(version_of(madison, "1.9"), None);
        assert_eq!(version_of(madison, "1.63.0"), None);
    }
}
