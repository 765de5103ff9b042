//! What makes packages the same wherever and whenever they are made: the time of their files, and the files' modes.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};

use testing_support::workspace::{capture, root};

/// What reproducible builds take as the time of the source, in seconds since the epoch.
pub(super) const TIME_VARIABLE: &str = "SOURCE_DATE_EPOCH";

/// 1980-01-01, the earliest that every archive can say: of files without a history.
const NO_HISTORY: u64 = 315_532_800;

/// The time that packages give their files, in seconds since the epoch: that of `SOURCE_DATE_EPOCH`, else of the last
/// commit, else 1980.
///
/// # Errors
///
/// The variable has something else in it.
pub(super) fn time() -> Result<u64> {
    time_of(&root(), std::env::var(TIME_VARIABLE).ok().as_deref())
}

fn time_of(root: &Path, given: Option<&str>) -> Result<u64> {
    if let Some(given) = given {
        return given.parse().with_context(|| format!("{TIME_VARIABLE}={given}: not a number of seconds"));
    }
    // A repository around it, or one that the environment names, is another one.
    if !root.join(".git").exists() {
        return Ok(NO_HISTORY);
    }
    let mut git = Command::new("git");
    git.args(["-c", "safe.directory=*", "log", "-1", "--format=%ct"]).current_dir(root);
    git.env_remove("GIT_DIR").env_remove("GIT_WORK_TREE");
    Ok(capture(&mut git).ok().and_then(|time| time.parse().ok()).unwrap_or(NO_HISTORY))
}

/// Gives everything below a directory the time of the source, and modes that depend neither on the umask nor on how the
/// files came here: 0755 for directories and programs, 0644 for all else.
pub(super) fn settle(tree: &Path) -> Result<()> {
    settle_as_of(tree, UNIX_EPOCH + Duration::from_secs(time()?))
}

fn settle_as_of(tree: &Path, time: SystemTime) -> Result<()> {
    if tree.is_dir() {
        for entry in fs::read_dir(tree)? {
            settle_as_of(&entry?.path(), time)?;
        }
    }
    open_up(tree)?;
    let file = File::open(tree).with_context(|| format!("cannot open {}", tree.display()))?;
    file.set_modified(time)?;
    Ok(())
}

/// Has everyone read a file or directory, and execute what its owner may.
pub(super) fn open_up(path: &Path) -> Result<()> {
    let is_program = path.metadata()?.permissions().mode() & 0o100 != 0;
    fs::set_permissions(path, Permissions::from_mode(if is_program { 0o755 } else { 0o644 }))
        .with_context(|| format!("cannot change the mode of {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_s_time_is_the_one_given_or_its_own_history_s() {
        let outer = tempfile::tempdir().unwrap();
        let git = |folder: &Path, arguments: &[&str]| {
            let mut git = Command::new("git");
            git.args(["-c", "user.name=x", "-c", "user.email=x@example.com"]).args(arguments).current_dir(folder);
            capture(git.env("GIT_COMMITTER_DATE", "1000000000 +0000")).unwrap();
        };
        git(outer.path(), &["init", "--quiet"]);
        git(outer.path(), &["commit", "--quiet", "--allow-empty", "--message", "x"]);
        let inner = outer.path().join("unpacked");
        fs::create_dir(&inner).unwrap();
        assert_eq!(time_of(outer.path(), None).unwrap(), 1_000_000_000);
        assert_eq!(time_of(&inner, None).unwrap(), NO_HISTORY, "the commit is another repository's");
        assert_eq!(time_of(outer.path(), Some("5")).unwrap(), 5);
        assert!(time_of(outer.path(), Some("now")).unwrap_err().to_string().contains("SOURCE_DATE_EPOCH=now"));
    }

    #[test]
    fn modes_do_not_depend_on_how_files_came_here() {
        let tree = tempfile::tempdir().unwrap();
        let below = tree.path().join("below");
        fs::create_dir(&below).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o7777;
        for (name, before) in [("program", 0o700), ("page", 0o600), ("open", 0o666)] {
            fs::write(below.join(name), "").unwrap();
            fs::set_permissions(below.join(name), Permissions::from_mode(before)).unwrap();
        }
        fs::set_permissions(&below, Permissions::from_mode(0o700)).unwrap();
        settle(tree.path()).unwrap();
        let modes = [below.clone(), below.join("program"), below.join("page"), below.join("open")];
        assert_eq!(modes.map(|path| mode(&path)), [0o755, 0o755, 0o644, 0o644]);
    }
}
