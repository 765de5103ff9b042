//! Programs of Debian packages, unpacked below `target/tools` in place of installing the package.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use object::read::elf::{ElfFile64, FileHeader as _, ProgramHeader as _};
use object::{Endianness, elf};

use super::Outcome;
use crate::apt::{self, Apt};
use crate::workspace::{every, target};

/// A package, and what is used of it.
#[derive(PartialEq, Eq)]
pub(super) struct Unpacked {
    /// What it is, for the list of steps.
    pub(super) name: &'static str,
    package: &'static str,
    /// Where it is unpacked, below `target/tools`.
    directory: &'static str,
    /// The suite that it is taken from; the machine's own if none is named.
    suite: Option<&'static str>,
    programs: &'static [&'static str],
    /// Whether the programs must need no library.
    is_static: bool,
}

/// Installing the package would also enable and start a service.
pub(super) const PROMETHEUS: Unpacked = Unpacked {
    name: "Prometheus",
    package: "prometheus",
    directory: "prometheus",
    suite: None,
    programs: &["prometheus", "promtool"],
    is_static: false,
};
/// What takes OTLP with its exponential histograms: Debian's builds of Prometheus leave that out, and Debian 12 has a
/// VictoriaMetrics from before it.
pub(super) const OTLP_RECEIVER: Unpacked = Unpacked {
    name: "VictoriaMetrics",
    package: "victoria-metrics",
    directory: "victoria-metrics",
    suite: Some("trixie"),
    programs: &["victoria-metrics"],
    is_static: false,
};
/// Installing the package would remove `busybox`, which most systems have instead.
pub(super) const BUSYBOX: Unpacked = Unpacked {
    name: "static busybox",
    package: "busybox-static",
    directory: "busybox-static",
    suite: None,
    programs: &["busybox"],
    is_static: true,
};

impl Unpacked {
    fn directory(&self) -> PathBuf {
        target().join("tools").join(self.directory)
    }

    /// Where a program is: the system's own comes first, unless it is to be of another suite.
    pub(super) fn program(&self, name: &str) -> Option<PathBuf> {
        let unpacked = ["usr/bin", "bin"].map(|directory| self.directory().join(directory).join(name));
        let own = every(name).filter(|_| self.suite.is_none());
        own.chain(unpacked).find(|path| path.exists() && (!self.is_static || is_static(path)))
    }

    fn is_there(&self) -> bool {
        self.programs.iter().all(|name| self.program(name).is_some())
    }

    /// What would be unpacked, and where.
    pub(super) fn missing(&self) -> Option<String> {
        let what = self.programs.join(" and ");
        let text = format!("{what}, of Debian's package {}, in {}", self.package, self.directory().display());
        (!self.is_there()).then_some(text)
    }

    /// Download and unpack them, unless they are there.
    pub(super) fn ensure(&self) -> Result<Outcome> {
        if self.is_there() {
            return Ok(Outcome::Present(self.programs.join(", ")));
        }
        let apt = Apt::new()?;
        let mirror = apt::mirror();
        let beside = self.directory().with_extension("new");
        let _ = fs::remove_dir_all(&beside);
        fs::create_dir_all(&beside)?;
        let suites = self.suite.map_or_else(|| mirror.suites.clone(), |suite| vec![suite.to_owned()]);
        for suite in &suites {
            if apt.read_suite(&mirror, suite).is_ok() && apt.unpack(self.package, &beside).is_ok() {
                // The last step, so that what exists is whole.
                let _ = fs::remove_dir_all(self.directory());
                fs::rename(&beside, self.directory())?;
                return Ok(Outcome::Installed(self.directory().display().to_string()));
            }
        }
        bail!("{} has no package {} in {}", mirror.uri, self.package, suites.join(", "))
    }
}

/// The directory of Prometheus's programs, unless the system has them.
#[must_use]
pub fn prometheus_programs() -> PathBuf {
    PROMETHEUS.directory().join("usr/bin")
}

/// What takes OTLP.
#[must_use]
pub fn otlp_receiver() -> Option<PathBuf> {
    OTLP_RECEIVER.program("victoria-metrics")
}

/// A busybox that needs no library.
#[must_use]
pub fn static_busybox() -> Option<PathBuf> {
    BUSYBOX.program("busybox")
}

/// Whether the kernel runs it without a loader.
fn is_static(program: &Path) -> bool {
    fs::read(program).is_ok_and(|bytes| {
        ElfFile64::<Endianness>::parse(&*bytes).is_ok_and(|file| {
            let endian = file.endian();
            let headers = file.elf_header().program_headers(endian, &*bytes).unwrap_or_default();
            !headers.is_empty() && headers.iter().all(|header| header.p_type(endian) != elf::PT_INTERP)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::capture;
    use std::process::Command;

    #[test]
    fn a_program_with_a_loader_is_not_static_and_one_without_is() {
        let place = tempfile::tempdir().unwrap();
        let built = |name: &str, option: &str| {
            let [source, program] = [place.path().join("main.c"), place.path().join(name)];
            fs::write(&source, "int main(void) { return 0; }\n").unwrap();
            capture(Command::new("cc").args([option, "-o"]).arg(&program).arg(source)).unwrap();
            program
        };
        assert!(!is_static(&built("dynamic", "-pie")));
        assert!(is_static(&built("static", "-static")));
        assert!(!is_static(&place.path().join("main.c")), "no program");
    }
}
