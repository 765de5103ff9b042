//! What this process gives up, so that an attacker who takes it over by a hostile packet, answer or file gets little.
//!
//! Before any thread starts ([`confine`]): no program that it runs gains rights (`no_new_privs`), nobody but root may
//! trace it, system calls that it has no use for fail ([`syscalls`]), and files can be written in few folders only
//! ([`files`]). Threads that start later inherit that. Once the source is open ([`keep`]): all capabilities but those
//! that capturing goes on to need. Threads that do not capture need still less ([`give_up_all`]).
//!
//! Each is a second line of defence: a kernel without it is a word in the log at level debug and in the status, never a
//! failure.

mod files;
mod syscalls;
mod threads;
mod users;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use aya::util::KernelVersion;
use caps::{CapSet, Capability, CapsHashSet};
use tracing::debug;

pub(crate) use files::Landlock;
pub(crate) use threads::{of_all_threads, without_proc};
pub(crate) use users::{group_name, user_name};

/// In the environment: `off`, and nothing is given up, for tracers and debuggers; `kill`, and a system call that is not
/// expected ends the process instead of failing, so that tests notice it.
const SANDBOX: &str = "GO_METRO_SANDBOX";

/// The packages' copy of the program that has capabilities, for the group's members (packaging/capabilities.sh).
const PRIVILEGED: &str = "/usr/lib/go-metro/go-metro";

/// What gives this program these capabilities, as setcap(8) names them.
pub(crate) fn remedy(capabilities: &str) -> String {
    remedy_of(capabilities, std::env::current_exe().ok().as_deref(), Path::new(PRIVILEGED))
}

/// The same of a program, where the packages' copy would be there.
fn remedy_of(capabilities: &str, program: Option<&Path>, copy: &Path) -> String {
    let program = program.unwrap_or(Path::new("go-metro"));
    if program == copy {
        // It has what this machine gives.
        "run as root".to_owned()
    } else if copy.exists() {
        format!("run as root, or join the group go-metro and run {}", copy.display())
    } else {
        format!("run as root, or: setcap {capabilities}+ep {}", program.display())
    }
}

/// What goes on to be needed once a source is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    /// To attach to interfaces that come, and to change targets.
    Ebpf,
    /// To open interfaces that come.
    Libpcap,
    /// The way to files and ports alone.
    Files,
}

/// What root keeps in any case: the way to files of other users (the log, the configuration and the server's socket are
/// reopened by name), and low ports to be scraped at.
const ROOTS: [Capability; 2] = [Capability::CAP_DAC_OVERRIDE, Capability::CAP_NET_BIND_SERVICE];

impl Needs {
    /// The capabilities.
    fn capabilities(self, kernel: Option<KernelVersion>) -> Vec<Capability> {
        // Any use of bpf(2), a map's too, wanted CAP_BPF until commit c8644cd0efe7 of Linux 5.19.
        let bpf_for_maps = kernel.is_none_or(|version| version < KernelVersion::new(5, 19, 0));
        let capturing: &[Capability] = match self {
            Self::Ebpf if bpf_for_maps => &[Capability::CAP_NET_ADMIN, Capability::CAP_BPF],
            Self::Ebpf => &[Capability::CAP_NET_ADMIN],
            Self::Libpcap => &[Capability::CAP_NET_RAW],
            Self::Files => &[],
        };
        [capturing, &ROOTS].concat()
    }
}

/// What the environment asks of the sandbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Asked {
    /// Nothing, or what the configuration has by default.
    #[default]
    On,
    /// None.
    Off,
    /// An unexpected system call ends the process.
    Kill,
}

impl Asked {
    fn parse(value: &OsStr) -> Result<Self, String> {
        match value.to_str().map(str::to_ascii_lowercase).as_deref() {
            Some("" | "on" | "yes" | "true" | "1") => Ok(Self::On),
            Some("off" | "no" | "false" | "0") => Ok(Self::Off),
            Some("kill") => Ok(Self::Kill),
            _ => Err(format!(
                "environment variable {SANDBOX} is `{}`; set it to on, off or kill, or not at all (docs/privileges.md)",
                value.to_string_lossy()
            )),
        }
    }
}

fn asked() -> Result<Asked, String> {
    std::env::var_os(SANDBOX).map_or(Ok(Asked::On), |value| Asked::parse(&value))
}

/// Whether the environment's word about the sandbox has a meaning.
///
/// # Errors
///
/// It has none; the error names the variable and what it can be.
pub(crate) fn check_environment() -> Result<(), String> {
    asked().map(drop)
}

/// What the process is to be confined to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sandbox<'a> {
    /// Whether it is to be confined at all.
    pub wanted: bool,
    /// Folders below which files can be made and written, and files that can be written.
    pub writable: &'a [PathBuf],
    /// The only files that can be read, if it is so.
    pub readable: Option<&'a [PathBuf]>,
    /// Whether the classifier may be loaded.
    pub may_use_bpf: bool,
    /// Whether there may be sockets.
    pub may_use_sockets: bool,
}

/// What [`confine`] came to.
#[derive(Clone, Debug)]
pub(crate) struct Confinement {
    /// Why nothing is given up, if so.
    pub off: Option<&'static str>,
    /// How far files are restricted.
    pub landlock: Landlock,
    writable: Vec<PathBuf>,
}

static CONFINEMENT: OnceLock<Confinement> = OnceLock::new();

/// Gives up, for this thread and all that it starts, what is not needed from the start on. Once and for all: a second
/// call changes nothing.
pub(crate) fn confine(sandbox: Sandbox<'_>) {
    CONFINEMENT.get_or_init(|| {
        // What it has no meaning for was refused at the start of the program.
        let asked = asked().unwrap_or_default();
        let off = match asked {
            Asked::Off => Some("GO_METRO_SANDBOX=off"),
            _ if !sandbox.wanted => Some("sandbox: off"),
            _ => None,
        };
        if let Some(why) = off {
            debug!("keeping all privileges: {why}");
            return Confinement { off, landlock: Landlock::Off, writable: Vec::new() };
        }
        if let Err(error) = nix::sys::prctl::set_no_new_privs() {
            debug!(%error, "cannot set no_new_privs");
        }
        // Threads without capabilities could otherwise be traced by the same user, and with them the memory of
        // all.
        if let Err(error) = nix::sys::prctl::set_dumpable(false) {
            debug!(%error, "processes of the same user can trace this one");
        }
        let landlock = files::restrict(sandbox.writable, sandbox.readable).unwrap_or_else(|error| {
            debug!(%error, "Landlock is not available");
            Landlock::Off
        });
        debug!("Landlock: {}", landlock.name());
        // systemd(1) may have its own socket there.
        if !std::env::var_os("NOTIFY_SOCKET").is_some_and(|path| path.as_encoded_bytes().starts_with(b"@")) {
            match files::restrict_abstract_sockets() {
                Ok(true) => debug!("cannot reach abstract sockets of others"),
                Ok(false) => {
                    debug!("can connect to abstract sockets of others: the kernel has no Landlock scopes");
                }
                Err(error) => debug!(%error, "can connect to abstract sockets of others"),
            }
        }
        // Last, as it forbids what comes before.
        match syscalls::restrict(&sandbox, asked == Asked::Kill) {
            Ok(()) => debug!("system calls are filtered"),
            Err(error) => debug!(%error, "system calls are not filtered"),
        }
        Confinement { off, landlock, writable: sandbox.writable.to_vec() }
    });
}

/// What [`confine`] came to, once it was called.
#[must_use]
pub(crate) fn confinement() -> Option<&'static Confinement> {
    CONFINEMENT.get()
}

/// Whether nothing was given up, as it was not wanted.
#[must_use]
pub(crate) fn is_off() -> bool {
    confinement().is_some_and(|confinement| confinement.off.is_some())
}

/// Whether a folder that was not there when this process confined itself is out of its reach.
#[must_use]
pub(crate) fn is_kept_to_folders() -> bool {
    confinement().is_some_and(|confinement| confinement.landlock != Landlock::Off)
}

/// Whether files can be made in this folder as far as this process has confined itself.
#[must_use]
pub(crate) fn may_write_in(folder: &Path) -> bool {
    let is_writable = |confinement: &Confinement| confinement.writable.iter().any(|below| folder.starts_with(below));
    !is_kept_to_folders() || confinement().is_some_and(is_writable)
}

/// Gives up, for this thread and all that it starts from now on, every capability that `needs` does not have, for good.
pub(crate) fn keep(needs: Needs) {
    retain(&needs.capabilities(KernelVersion::current().ok()));
}

/// Gives up every capability that this thread has.
pub(crate) fn give_up_all() {
    retain(&[]);
}

/// Those of these capabilities that this thread lacks. CAP_SYS_ADMIN stands for two of them
/// (include/linux/capability.h, `bpf_capable` and `perfmon_capable`).
#[must_use]
pub(crate) fn lacking(wanted: &[Capability]) -> Vec<Capability> {
    let effective = caps::read(None, CapSet::Effective).unwrap_or_default();
    let stands_for = |capability: &Capability| {
        matches!(capability, Capability::CAP_BPF | Capability::CAP_PERFMON)
            && effective.contains(&Capability::CAP_SYS_ADMIN)
    };
    wanted.iter().filter(|capability| !effective.contains(capability) && !stands_for(capability)).copied().collect()
}

fn retain(needed: &[Capability]) {
    if is_off() {
        return;
    }
    let Ok(permitted) = caps::read(None, CapSet::Permitted) else { return };
    let kept: CapsHashSet = permitted.into_iter().filter(|capability| needed.contains(capability)).collect();
    // What is ambient must be inheritable, what is effective permitted.
    let given_up = caps::clear(None, CapSet::Ambient)
        .and_then(|()| caps::set(None, CapSet::Effective, &kept))
        .and_then(|()| caps::set(None, CapSet::Permitted, &kept))
        .and_then(|()| caps::clear(None, CapSet::Inheritable));
    match given_up {
        Ok(()) => debug!("capabilities kept: {}", names(&kept)),
        Err(error) => debug!(%error, "cannot give up capabilities"),
    }
}

fn names(capabilities: &CapsHashSet) -> String {
    let mut names: Vec<String> = capabilities.iter().map(ToString::to_string).collect();
    names.sort();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    #[test]
    fn a_word_about_the_sandbox_that_means_nothing_is_refused() {
        for (text, meant) in [("", Asked::On), ("on", Asked::On), ("OFF", Asked::Off), ("0", Asked::Off)] {
            assert_eq!(Asked::parse(OsStr::new(text)), Ok(meant), "{text}");
        }
        assert_eq!(Asked::parse(OsStr::new("kill")), Ok(Asked::Kill));
        for wrong in [OsStr::new("offf"), OsStr::from_bytes(b"of\xff")] {
            let why = Asked::parse(wrong).unwrap_err();
            assert!(why.contains("GO_METRO_SANDBOX is `of") && why.contains("set it to on, off or kill"), "{why}");
        }
    }

    #[test]
    fn the_packages_copy_is_named_where_it_is_and_setcap_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("go-metro");
        let program = Some(Path::new("/bin/go-metro"));
        assert_eq!(remedy_of("cap_net_raw", program, &copy), "run as root, or: setcap cap_net_raw+ep /bin/go-metro");
        std::fs::write(&copy, "").unwrap();
        let said = remedy_of("cap_net_raw", program, &copy);
        assert_eq!(said, format!("run as root, or join the group go-metro and run {}", copy.display()));
        assert_eq!(remedy_of("cap_net_raw", Some(&copy), &copy), "run as root");
    }

    #[test]
    fn cap_bpf_is_kept_only_where_maps_need_it() {
        let kept = |minor| Needs::Ebpf.capabilities(Some(KernelVersion::new(5, minor, 0)));
        assert!(kept(18).contains(&Capability::CAP_BPF));
        assert!(!kept(19).contains(&Capability::CAP_BPF));
        assert!(Needs::Ebpf.capabilities(None).contains(&Capability::CAP_BPF));
    }

    #[test]
    fn a_thread_gives_up_what_it_does_not_need_and_the_others_keep_theirs() {
        let effective = || caps::read(None, CapSet::Effective).unwrap();
        let before = effective();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                keep(Needs::Files);
                let left = effective();
                assert!(left.iter().all(|capability| ROOTS.contains(capability)), "{left:?}");
                give_up_all();
                assert!(effective().is_empty());
            });
        });
        assert_eq!(effective(), before);
    }
}
