//! Libraries that are linked into the binary, so that it needs none but the C library's and the compiler's where it
//! runs.
//!
//! `.cargo/config.toml` has the linker look into this directory first. Without it libpcap is linked as a shared
//! library.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::Outcome;
use crate::workspace::{capture, cargo, root};

/// What takes the place of an archive's member, so that capturing segments needs no more libraries: Debian's libpcap
/// also captures from D-Bus, and so needs libdbus, which needs systemd's and more; Ubuntu's from RDMA devices too, by
/// libibverbs.
const STAND_INS: [(&str, &str, &str); 2] = [
    ("pcap-dbus.o", "no-dbus.c", include_str!("no-dbus.c")),
    ("pcap-rdmasniff.o", "no-rdma.c", include_str!("no-rdma.c")),
];

/// Uses what the daemon uses, to see whether the archive needs more than glibc.
const PROBE: &str = "#include <pcap/pcap.h>\nint main(void) { char e[PCAP_ERRBUF_SIZE]; pcap_if_t *d; \
                     return pcap_findalldevs(&d, e) || !pcap_create(\"any\", e); }\n";

fn directory() -> PathBuf {
    root().join("target/static-libs")
}

/// Where they go, unless they are there, or could not be made from what the system has.
pub(super) fn missing() -> Option<String> {
    let archive = directory().join("libpcap.a");
    let text = || format!("libpcap.a, from libpcap-dev's, in {}", archive.display());
    (!archive.exists() && why_not().is_none()).then(text)
}

/// Lays them ready. Where that can't be done the build still works, with shared libraries.
pub(super) fn ensure() -> Result<Outcome> {
    let directory = directory();
    let archive = directory.join("libpcap.a");
    if archive.exists() {
        return Ok(Outcome::Present("libpcap.a".to_owned()));
    }
    if let Some(reason) = why_not() {
        return Ok(Outcome::Skipped(reason));
    }
    match make(&directory) {
        Ok(made) => {
            // The last step, so that what exists is whole.
            fs::rename(made, &archive)?;
            let _ = fs::remove_file(directory.join(MARK));
            // What was linked without it is to be linked again, which cargo would not notice.
            for profile in ["dev", "release"] {
                capture(cargo().args(["clean", "--quiet", "--package", "go-metro-userspace", "--profile", profile]))?;
            }
            Ok(Outcome::Installed("libpcap.a, without D-Bus and RDMA".to_owned()))
        }
        Err(error) => {
            let said = format!("{error:#}").lines().collect::<Vec<_>>().join("; ");
            let reason = format!("libpcap will be linked as a shared library: {said}");
            fs::create_dir_all(&directory)?;
            fs::write(directory.join(MARK), format!("{}\n{reason}\n", source()))?;
            Ok(Outcome::Skipped(reason))
        }
    }
}

/// Says that the archive could not be made: on its first line from what, then why.
const MARK: &str = "skipped";

/// Why the archive could not be made of what the system has now. It is tried once: again when libpcap-dev changes.
pub(super) fn why_not() -> Option<String> {
    reason_for(&fs::read_to_string(directory().join(MARK)).ok()?, &source())
}

fn reason_for(mark: &str, source: &str) -> Option<String> {
    let (tried, reason) = mark.split_once('\n')?;
    (tried == source).then(|| reason.trim_end().to_owned())
}

/// The system's archive, with its age and size; that there is none, otherwise.
fn source() -> String {
    let described = system_archive().and_then(|path| {
        let metadata = path.metadata()?;
        Ok(format!("{}, {} bytes, of {}", path.display(), metadata.len(), metadata.mtime()))
    });
    described.unwrap_or_else(|error| error.to_string())
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
    fs::write(work.join("probe.c"), PROBE)?;
    fs::copy(system, work.join("libpcap.a"))?;
    let tool = |program: &str, args: &str| capture(Command::new(program).args(args.split(' ')).current_dir(work));
    let members = tool("ar", "t libpcap.a")?;
    for (member, source, text) in STAND_INS {
        if members.lines().any(|line| line == member) {
            fs::write(work.join(source), text)?;
            tool("cc", &format!("-O2 -fPIC -c {source}"))?;
            tool("ar", &format!("d libpcap.a {member}"))?;
            tool("ar", &format!("qs libpcap.a {}", source.replace(".c", ".o")))?;
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_that_need_more_libraries_make_way_for_stand_ins() {
        let place = tempfile::tempdir().unwrap();
        let work = place.path().join("work");
        fs::create_dir(&work).unwrap();
        let tool = |program: &str, args: &str| {
            capture(Command::new(program).args(args.split(' ')).current_dir(place.path())).unwrap()
        };
        // As Ubuntu's is: a part that is needed, and two that need libdbus and libibverbs.
        for (name, text) in [
            (
                "pcap",
                "int dbus_findalldevs(void *, char *); int rdmasniff_findalldevs(void *, char *);\n\
                 int pcap_findalldevs(void *d, char *e) {\n\
                 return dbus_findalldevs(d, e) + rdmasniff_findalldevs(d, e); }\n\
                 void *pcap_create(void *d, char *e) { return d; }\n",
            ),
            (
                "pcap-dbus",
                "int dbus_bus_get(void); int dbus_findalldevs(void *d, char *e) { return dbus_bus_get(); }\n",
            ),
            (
                "pcap-rdmasniff",
                "int ibv_get_device_list(void); \
                 int rdmasniff_findalldevs(void *d, char *e) { return ibv_get_device_list(); }\n",
            ),
        ] {
            fs::write(place.path().join(format!("{name}.c")), text).unwrap();
            tool("cc", &format!("-fPIC -c {name}.c"));
        }
        tool("ar", "rcs libpcap.a pcap.o pcap-dbus.o pcap-rdmasniff.o");
        make_in(&work, &place.path().join("libpcap.a")).unwrap();

        // One that needs something else is refused.
        fs::write(place.path().join("pcap.c"), "int x(void); int pcap_findalldevs(void) { return x(); }\n").unwrap();
        tool("cc", "-fPIC -c pcap.c");
        tool("ar", "r libpcap.a pcap.o");
        assert!(make_in(&work, &place.path().join("libpcap.a")).is_err());
    }

    #[test]
    fn what_failed_is_tried_again_once_the_systems_archive_is_another() {
        let mark = "/usr/lib/libpcap.a, 5 bytes, of 7\nit needs more\nthan glibc\n";
        assert_eq!(reason_for(mark, "/usr/lib/libpcap.a, 5 bytes, of 7").as_deref(), Some("it needs more\nthan glibc"));
        assert_eq!(reason_for(mark, "/usr/lib/libpcap.a, 5 bytes, of 8"), None);
        assert_eq!(reason_for("", "there is no libpcap.a"), None);
    }
}
