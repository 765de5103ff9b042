//! Landlock (Linux 5.13 and later): nothing is executed, and no file written but those below a few folders and the devices.

use std::path::PathBuf;

use landlock::{
    ABI, AccessFs, BitFlags, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _,
    RulesetError, RulesetStatus, path_beneath_rules,
};

/// The newest rights that are restricted: those to write, to truncate a file included. Reading is not: configuration, name service and /proc
/// are in many places.
const RIGHTS: ABI = ABI::V3;

/// How far files are restricted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Landlock {
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
    pub const fn name(self) -> &'static str {
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

/// Restricts this thread and those that it starts; how far the kernel goes along. `writable`: folders, and files.
///
/// A folder is known by what it is, not by its name: one that is put in its place later cannot be written to.
pub(super) fn restrict(writable: &[PathBuf]) -> Result<Landlock, RulesetError> {
    let write = AccessFs::from_write(RIGHTS);
    // Without the best effort a kernel that lacks a right would be an error.
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(write | AccessFs::Execute)?
        .create()?
        // A folder that is not there makes no rule; a file's has what a file can have.
        .add_rules(path_beneath_rules(writable, kept()))?
        .add_rules(path_beneath_rules(["/dev"], AccessFs::WriteFile | AccessFs::Truncate))?
        .restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => Landlock::Full,
        RulesetStatus::PartiallyEnforced => Landlock::Part,
        RulesetStatus::NotEnforced => Landlock::Off,
    })
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
                if restrict(&writable).unwrap() == Landlock::Off {
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
                std::fs::read_dir(outside.path()).unwrap();
            });
        });
        std::fs::write(outside.path().join("log"), "line").unwrap();
    }
}
