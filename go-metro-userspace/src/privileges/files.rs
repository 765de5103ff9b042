//! Landlock (Linux 5.13 and later): nothing is executed, and no file written but those below a few folders and the devices.

use std::path::PathBuf;

use landlock::{
    ABI, AccessFs, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetError,
    RulesetStatus, path_beneath_rules,
};

/// The newest rights that are restricted: those to write, to truncate a file included. Reading is not: configuration, name service and /proc
/// are in many places.
const RIGHTS: ABI = ABI::V3;

/// Restricts this thread and those that it starts; how far the kernel goes along.
///
/// A folder is known by what it is, not by its name: one that is put in its place later cannot be written to.
pub(super) fn restrict(writable: &[PathBuf]) -> Result<&'static str, RulesetError> {
    let write = AccessFs::from_write(RIGHTS);
    // Without the best effort a kernel that lacks a right would be an error.
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(write | AccessFs::Execute)?
        .create()?
        // A folder that is not there makes no rule.
        .add_rules(path_beneath_rules(writable, write))?
        .add_rules(path_beneath_rules(["/dev"], AccessFs::WriteFile | AccessFs::Truncate))?
        .restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => "in full",
        RulesetStatus::PartiallyEnforced => "in part",
        RulesetStatus::NotEnforced => "not in this kernel",
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
                if restrict(&[inside.path().to_owned()]).unwrap() == "not in this kernel" {
                    println!("skipped: no Landlock in this kernel");
                    return;
                }
                std::fs::write(inside.path().join("log"), "line").unwrap();
                std::fs::rename(inside.path().join("log"), inside.path().join("log.1")).unwrap();
                let refused = std::fs::write(outside.path().join("log"), "line").unwrap_err();
                assert_eq!(refused.raw_os_error(), Some(libc::EACCES));
                std::fs::write("/dev/null", "line").unwrap();
                std::fs::read_dir(outside.path()).unwrap();
            });
        });
        std::fs::write(outside.path().join("log"), "line").unwrap();
    }
}
