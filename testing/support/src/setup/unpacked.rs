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
    must: Must,
}

/// What a file must be to do as one of the programs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Must {
    Exist,
    /// A binary: Ubuntu's `bpftool` is a script that looks for one of the running kernel's version, often in vain.
    BeBinary,
    /// A binary that needs no library.
    BeStatic,
}

impl Must {
    fn holds(self, path: &Path) -> bool {
        match self {
            Self::Exist => path.exists(),
            Self::BeBinary => interpreter(path).is_some(),
            Self::BeStatic => interpreter(path) == Some(false),
        }
    }
}

/// Installing the package would also enable and start a service.
pub(super) const PROMETHEUS: Unpacked = Unpacked {
    name: "Prometheus",
    package: "prometheus",
    directory: "prometheus",
    suite: None,
    programs: &["prometheus", "promtool"],
    must: Must::Exist,
};
/// What takes OTLP with its exponential histograms: Debian's builds of Prometheus leave that out, and Debian 12 has a
/// VictoriaMetrics from before it.
pub(super) const OTLP_RECEIVER: Unpacked = Unpacked {
    name: "VictoriaMetrics",
    package: "victoria-metrics",
    directory: "victoria-metrics",
    suite: Some("trixie"),
    programs: &["victoria-metrics"],
    must: Must::Exist,
};
/// Installing the package would remove `busybox`, which most systems have instead.
pub(super) const BUSYBOX: Unpacked = Unpacked {
    name: "static busybox",
    package: "busybox-static",
    directory: "busybox-static",
    suite: None,
    programs: &["busybox"],
    must: Must::BeStatic,
};
/// Ubuntu's package of that name is a virtual one. This one needs libelf, libcap and zlib, which iproute2 and dpkg need
/// too.
pub(super) const BPFTOOL: Unpacked = Unpacked {
    name: "bpftool",
    package: "bpftool",
    directory: "bpftool",
    suite: None,
    programs: &["bpftool"],
    must: Must::BeBinary,
};

impl Unpacked {
    fn directory(&self) -> PathBuf {
        target().join("tools").join(self.directory)
    }

    /// Where a program is: the system's own comes first, unless it is to be of another suite.
    pub(super) fn program(&self, name: &str) -> Option<PathBuf> {
        let unpacked = ["usr/bin", "usr/sbin", "bin"].map(|directory| self.directory().join(directory).join(name));
        let own = every(name).filter(|_| self.suite.is_none());
        own.chain(unpacked).find(|path| self.must.holds(path))
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

/// bpftool: the system's own, or the unpacked one.
#[must_use]
pub fn bpftool() -> Option<PathBuf> {
    BPFTOOL.program("bpftool")
}

/// Whether a binary names a loader; `None` for what is no binary.
fn interpreter(program: &Path) -> Option<bool> {
    let bytes = fs::read(program).ok()?;
    let file = ElfFile64::<Endianness>::parse(&*bytes).ok()?;
    let headers = file.elf_header().program_headers(file.endian(), &*bytes).unwrap_or_default();
    let names_one = headers.iter().any(|header| header.p_type(file.endian()) == elf::PT_INTERP);
    (!headers.is_empty()).then_some(names_one)
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
        let [dynamic, fixed] = [built("dynamic", "-pie"), built("static", "-static")];
        assert!(!Must::BeStatic.holds(&dynamic) && Must::BeBinary.holds(&dynamic));
        assert!(Must::BeStatic.holds(&fixed) && Must::BeBinary.holds(&fixed));
        let source = place.path().join("main.c");
        assert!(!Must::BeStatic.holds(&source) && !Must::BeBinary.holds(&source), "no program");
    }
}
