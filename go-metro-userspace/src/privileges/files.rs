//! Landlock (Linux 5.13 and later): nothing is executed, and no file written but those below a few folders and two
//! devices. Who needs to read one file alone reads no other. Where the kernel can (6.12 and later), no abstract Unix
//! socket of another process is connected to.

use std::path::PathBuf;

use landlock::{
    ABI, AccessFs, BitFlags, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _,
    RulesetError, RulesetStatus, Scope, path_beneath_rules,
};

/// The newest rights that are restricted: those to write, to truncate a file included. Reading is not: configuration,
/// name service and /proc are in many places.
const RIGHTS: ABI = ABI::V3;

/// How far files are restricted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Landlock {
    /// As far as they are meant to be.
    Full,
    /// The kernel lacks some of the rights.
    Part,
    /// Not at all: the kernel has none, or it was not wanted.
    Off,
}

impl Landlock {
    /// For people and programs.
    #[must_use]
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Part => "part",
            Self::Off => "off",
        }
    }
}

/// What is done in a folder of logs or sockets: files are made, written, rotated and removed, nothing else.
fn kept() -> BitFlags<AccessFs> {
    AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeSock
        | AccessFs::MakeDir
        | AccessFs::RemoveFile
}

/// Device nodes that are written: the sink of libraries, and the terminal of who started it.
const DEVICES: [&str; 2] = ["/dev/null", "/dev/tty"];

/// Restricts this thread and those that it starts; how far the kernel goes along. `writable`: folders, and files.
/// `readable`: the only files that can be read, if it is so; else all can.
///
/// A folder is known by what it is, not by its name: one that is put in its place later cannot be written to.
pub(super) fn restrict(writable: &[PathBuf], readable: Option<&[PathBuf]>) -> Result<Landlock, RulesetError> {
    let reading = AccessFs::ReadFile | AccessFs::ReadDir;
    let handled = AccessFs::from_write(RIGHTS) | AccessFs::Execute;
    // Without the best effort a kernel that lacks a right would be an error.
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(if readable.is_some() { handled | reading } else { handled })?
        .create()?
        // A folder that is not there makes no rule; a file's has what a file can have.
        .add_rules(path_beneath_rules(writable, kept()))?
        .add_rules(path_beneath_rules(readable.unwrap_or_default(), reading))?
        .add_rules(path_beneath_rules(DEVICES, AccessFs::WriteFile | AccessFs::Truncate))?
        .restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => Landlock::Full,
        RulesetStatus::PartiallyEnforced => Landlock::Part,
        RulesetStatus::NotEnforced => Landlock::Off,
    })
}

/// From now on this thread, and those that it starts, connect to no abstract Unix socket that another process made;
/// whether the kernel goes along. Sockets that have a path can still be connected to: no kernel restricts that.
pub(super) fn restrict_abstract_sockets() -> Result<bool, RulesetError> {
    let ruleset = Ruleset::default().set_compatibility(CompatLevel::BestEffort).scope(Scope::AbstractUnixSocket)?;
    Ok(ruleset.create()?.restrict_self()?.ruleset == RulesetStatus::FullyEnforced)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_can_be_written_in_the_given_folder_only_by_the_restricted_thread() {
        let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                nix::sys::prctl::set_no_new_privs().unwrap();
                std::fs::write(outside.path().join("drawing"), "old").unwrap();
                let writable = [inside.path().to_owned(), outside.path().join("drawing")];
                if restrict(&writable, None).unwrap() == Landlock::Off {
                    println!("skipped: no Landlock in this kernel");
                    return;
                }
                std::fs::write(inside.path().join("log"), "line").unwrap();
                std::fs::rename(inside.path().join("log"), inside.path().join("log.1")).unwrap();
                let refused = std::fs::write(outside.path().join("log"), "line").unwrap_err();
                assert_eq!(refused.raw_os_error(), Some(libc::EACCES));
                std::fs::write(outside.path().join("drawing"), "new").unwrap();
                let refused = std::os::unix::fs::symlink("/", inside.path().join("link")).unwrap_err();
                assert_eq!(refused.raw_os_error(), Some(libc::EACCES));
                std::fs::write("/dev/null", "line").unwrap();
                // As one for all the other nodes, disks among them.
                let refused = std::fs::OpenOptions::new().write(true).open("/dev/zero").unwrap_err();
                assert_eq!(refused.raw_os_error(), Some(libc::EACCES));
                std::fs::File::open("/dev/zero").unwrap();
                std::fs::read_dir(outside.path()).unwrap();
            });
        });
        std::fs::write(outside.path().join("log"), "line").unwrap();
    }

    #[test]
    fn who_reads_one_file_reads_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let [capture, secret] = ["capture", "secret"].map(|name| folder.path().join(name));
        for file in [&capture, &secret] {
            std::fs::write(file, "bytes").unwrap();
        }
        std::thread::scope(|scope| {
            scope.spawn(|| {
                nix::sys::prctl::set_no_new_privs().unwrap();
                if restrict(&[], Some(std::slice::from_ref(&capture))).unwrap() == Landlock::Off {
                    println!("skipped: no Landlock in this kernel");
                    return;
                }
                assert_eq!(std::fs::read(&capture).unwrap(), b"bytes");
                assert_eq!(std::fs::read(&secret).unwrap_err().raw_os_error(), Some(libc::EACCES));
                assert_eq!(std::fs::read_dir(folder.path()).unwrap_err().raw_os_error(), Some(libc::EACCES));
            });
        });
    }

    #[test]
    fn abstract_sockets_of_others_are_out_of_reach_and_those_with_a_path_are_not() {
        use std::os::linux::net::SocketAddrExt as _;
        use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

        let name = SocketAddr::from_abstract_name(format!("go-metro-test-{}", std::process::id())).unwrap();
        let _server = UnixListener::bind_addr(&name).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let _other = UnixListener::bind(&path).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                nix::sys::prctl::set_no_new_privs().unwrap();
                UnixStream::connect_addr(&name).unwrap();
                if !restrict_abstract_sockets().unwrap() {
                    println!("skipped: no scopes in this kernel's Landlock");
                    return;
                }
                let refused = UnixStream::connect_addr(&name).unwrap_err();
                assert_eq!(refused.raw_os_error(), Some(libc::EPERM));
                // What remains (SECURITY.md).
                UnixStream::connect(&path).unwrap();
            });
        });
    }
}
