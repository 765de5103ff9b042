//! Libraries that are linked into the binary, so that it needs none but the C library's and the compiler's where it
//! runs.
//!
//! `.cargo/config.toml` has the linker look into this directory first. Without it libpcap is linked as a shared
//! library.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::Outcome;
use crate::workspace::{capture, cargo, root};

/// Debian's libpcap also captures from D-Bus, and so needs libdbus, which needs systemd's and more.
const NO_DBUS: &str = include_str!("no-dbus.c");

/// Uses what the daemon uses, to see whether the archive needs more than glibc.
const PROBE: &str = "#include <pcap/pcap.h>\nint main(void) { char e[PCAP_ERRBUF_SIZE]; pcap_if_t *d; \
                     return pcap_findalldevs(&d, e) || !pcap_create(\"any\", e); }\n";

/// Where they go, unless they are there.
pub(super) fn missing() -> Option<String> {
    let archive = root().join("target/static-libs/libpcap.a");
    (!archive.exists()).then(|| format!("libpcap.a, from libpcap-dev's, in {}", archive.display()))
}

/// Lays them ready. Where that can't be done the build still works, with shared libraries.
pub(super) fn ensure() -> Result<Outcome> {
    let directory = root().join("target/static-libs");
    let archive = directory.join("libpcap.a");
    if archive.exists() {
        return Ok(Outcome::Present("libpcap.a".to_owned()));
    }
    match make(&directory) {
        Ok(made) => {
            // The last step, so that what exists is whole.
            fs::rename(made, &archive)?;
            // What was linked without it is to be linked again, which cargo would not notice.
            for profile in ["dev", "release"] {
                capture(cargo().args(["clean", "--quiet", "--package", "go-metro-userspace", "--profile", profile]))?;
            }
            Ok(Outcome::Installed("libpcap.a, without D-Bus".to_owned()))
        }
        Err(error) => Ok(Outcome::Skipped(format!("libpcap will be linked as a shared library: {error:#}"))),
    }
}

/// Makes the archive and tries it; where it is then.
fn make(directory: &Path) -> Result<PathBuf> {
    let system = system_archive()?;
    // Several builds may be at it at once; each has a directory of its own until the archive is whole.
    let work = directory.join(format!("making-{}", std::process::id()));
    fs::create_dir_all(&work)?;
    let made = make_in(&work, &system).and_then(|()| {
        let made = directory.join(format!("libpcap-{}.a", std::process::id()));
        fs::rename(work.join("libpcap.a"), &made)?;
        Ok(made)
    });
    fs::remove_dir_all(&work)?;
    made
}

fn make_in(work: &Path, system: &Path) -> Result<()> {
    fs::write(work.join("no-dbus.c"), NO_DBUS)?;
    fs::write(work.join("probe.c"), PROBE)?;
    fs::copy(system, work.join("libpcap.a"))?;
    let tool = |program: &str, args: &str| capture(Command::new(program).args(args.split(' ')).current_dir(work));
    tool("cc", "-O2 -fPIC -c no-dbus.c")?;
    if tool("ar", "t libpcap.a")?.lines().any(|member| member == "pcap-dbus.o") {
        tool("ar", "d libpcap.a pcap-dbus.o")?;
        tool("ar", "qs libpcap.a no-dbus.o")?;
    }
    tool("cc", "-o probe probe.c -L. -l:libpcap.a").context("it needs more than glibc")?;
    Ok(())
}

/// The archive that the compiler would link.
fn system_archive() -> Result<PathBuf> {
    // Without such a file the name comes back as it was.
    let path = PathBuf::from(capture(Command::new("cc").arg("-print-file-name=libpcap.a"))?);
    if !path.is_absolute() {
        bail!("there is no libpcap.a");
    }
    Ok(path)
}
