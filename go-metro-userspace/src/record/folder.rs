//! The folder of recordings: files get their names once they are whole, and the oldest go where there are too many or
//! they are too large together. Several daemons may have the same folder: they take turns.

use std::fmt;
use std::fs::{self, DirBuilder, DirEntry, File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;
use nix::sys::statfs::{
    BPF_FS_MAGIC, CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, DEBUGFS_MAGIC, DEVPTS_SUPER_MAGIC, FsType, PROC_SUPER_MAGIC,
    SECURITYFS_MAGIC, SYSFS_MAGIC, TRACEFS_MAGIC, statfs,
};
use nix::unistd::Uid;

use super::choice::Recording;
use super::file::{self, Described};
use crate::privileges::{self, user_name};

/// How names of recordings begin and end: no other file is touched.
const BEGINS: &str = "go-metro-";
const ENDS: &str = ".pcapng";
/// How the name ends while it is written.
const UNFINISHED: &str = ".pcapng.part";
/// Longest wait for another process that writes to the folder.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked whether that has ended.
const PAUSE: Duration = Duration::from_millis(10);

/// How much a folder may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FolderLimits {
    /// Most files.
    pub(crate) files: usize,
    /// Most bytes of all files.
    pub(crate) bytes: u64,
}

/// A folder of recordings.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    limits: FolderLimits,
}

impl Folder {
    /// This folder; it is made when it is needed.
    pub(crate) fn new(path: &Path, limits: FolderLimits) -> Self {
        Self { path: path.to_owned(), limits }
    }

    /// Whether this thread can make files in it, which may make the folder.
    ///
    /// # Errors
    ///
    /// It cannot; the error says why, as far as that is known of the folder.
    pub(crate) fn check(&self) -> io::Result<()> {
        self.make_a_file().map_err(|error| match self.fault(&error) {
            Some(fault) => io::Error::new(error.kind(), format!("{error}: {fault}")),
            None => error,
        })
    }

    /// As [`Self::check`], where the folder may not be there and is not to be there afterwards: what had to be made is
    /// removed again.
    ///
    /// # Errors
    ///
    /// What making the folder, or a file in it, fails with.
    pub(crate) fn try_out(&self) -> Result<(), Errno> {
        let absent: Vec<&Path> = self.path.ancestors().take_while(|path| !path.exists()).collect();
        let made = self.make_a_file();
        for folder in absent {
            // It fails if somebody has begun to use it meanwhile, which then stays.
            let _ = fs::remove_dir(folder);
        }
        made.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
    }

    /// What of the folder is behind an error.
    fn fault(&self, error: &io::Error) -> Option<Unwritable> {
        Unwritable::of(&self.path, Errno::from_raw(error.raw_os_error()?), Uid::effective())
    }

    fn make_a_file(&self) -> io::Result<()> {
        make_folder(&self.path)?;
        // A daemon and `go-metro check` may try it at the same time.
        let unfinished = self.path.join(format!("{BEGINS}check-{}{UNFINISHED}", std::process::id()));
        let _ = fs::remove_file(&unfinished);
        write_new(&unfinished, &[])?;
        fs::remove_file(&unfinished)
    }

    /// Writes a recording, `name` in its name, after the oldest files have made room; the file. What cannot be written
    /// leaves nothing behind. A folder that is gone is made once more: what somebody has removed is worth less than the
    /// outliers that come.
    ///
    /// # Errors
    ///
    /// The folder or a file cannot be made or written; the error names it.
    pub(crate) fn keep(&self, name: &str, recording: &Recording, described: &Described) -> io::Result<PathBuf> {
        let at = |path: &Path, error: &io::Error| {
            let fault = match self.fault(error) {
                Some(fault) => format!(": {fault}"),
                None if error.kind() == io::ErrorKind::PermissionDenied && privileges::is_kept_to_folders() => {
                    "; a folder that was removed or replaced is out of the daemon's reach until it is restarted \
                     (docs/privileges.md)"
                        .to_owned()
                }
                None => String::new(),
            };
            io::Error::new(error.kind(), format!("{}: {error}{fault}", path.display()))
        };
        make_folder(&self.path).map_err(|error| at(&self.path, &error))?;
        let mut bytes = Vec::new();
        file::write(recording, described, &mut bytes)?;
        // Until the file has its name: what is unfinished is nobody's then, and a name that is free stays so.
        let _turn = self.turn(PATIENCE).map_err(|error| at(&self.path, &error))?;
        let unfinished = self.path.join(format!("{BEGINS}{name}{UNFINISHED}"));
        // What of an earlier process is left goes first, and makes room.
        self.make_room(bytes.len() as u64).map_err(|error| at(&self.path, &error))?;
        let whole = self.free_name(name);
        let written = write_new(&unfinished, &bytes).and_then(|()| fs::rename(&unfinished, &whole));
        if let Err(error) = written {
            let _ = fs::remove_file(&unfinished);
            return Err(at(&whole, &error));
        }
        Ok(whole)
    }

    /// Waits until no other process writes in the folder; then it is this one's turn until the file is dropped. Where
    /// the file system has no locks (flock(2)), it does not wait.
    ///
    /// # Errors
    ///
    /// Another process still writes after this time, or the folder cannot be opened.
    fn turn(&self, patience: Duration) -> io::Result<File> {
        let (folder, until) = (File::open(&self.path)?, Instant::now() + patience);
        loop {
            match folder.try_lock() {
                Err(TryLockError::WouldBlock) if Instant::now() >= until => {
                    let why = "another process has been writing there for too long; give each daemon its own \
                               `record.folder`";
                    return Err(io::Error::new(io::ErrorKind::TimedOut, why));
                }
                Err(TryLockError::WouldBlock) => thread::sleep(PAUSE),
                Ok(()) | Err(TryLockError::Error(_)) => return Ok(folder),
            }
        }
    }

    /// A name that no file has.
    fn free_name(&self, name: &str) -> PathBuf {
        let first = self.path.join(format!("{BEGINS}{name}{ENDS}"));
        let others = (2..).map(|number| self.path.join(format!("{BEGINS}{name}-{number}{ENDS}")));
        [first].into_iter().chain(others).find(|path| !path.exists()).unwrap_or_default()
    }

    /// Bytes of all recordings in it.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub(crate) fn used(&self) -> io::Result<u64> {
        Ok(self.files()?.iter().map(|(_, _, len)| len).sum())
    }

    /// What was made here and is called so at its end.
    fn own(&self, ends: &str) -> io::Result<impl Iterator<Item = DirEntry>> {
        let is_meant = move |name: &str| is_own(name) && name.ends_with(ends);
        let entries = fs::read_dir(&self.path)?.flatten();
        Ok(entries.filter(move |entry| entry.file_name().to_str().is_some_and(is_meant)))
    }

    /// Recordings in it: when they were written, where they are, and how large.
    fn files(&self) -> io::Result<Vec<(SystemTime, PathBuf, u64)>> {
        let known = self.own(ENDS)?.filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)));
        let files = known.filter(|(_, meta)| meta.is_file());
        files.map(|(path, meta)| Ok((meta.modified()?, path, meta.len()))).collect()
    }

    /// Removes what is unfinished, and the oldest files until one more of so many bytes is within the limits.
    fn make_room(&self, bytes: u64) -> io::Result<()> {
        for unfinished in self.own(UNFINISHED)? {
            let _ = fs::remove_file(unfinished.path());
        }
        let mut files = self.files()?;
        files.sort();
        let (mut count, mut all) = (files.len(), files.iter().map(|(_, _, len)| len).sum::<u64>());
        for (_, path, len) in files {
            if count < self.limits.files && all.saturating_add(bytes) <= self.limits.bytes {
                break;
            }
            fs::remove_file(&path)?;
            (count, all) = (count - 1, all - len);
        }
        Ok(())
    }
}

/// What keeps a user from making files in a folder, and what is to be done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unwritable {
    pub(crate) why: String,
    /// None if only another folder helps.
    pub(crate) remedy: Option<String>,
}

impl fmt::Display for Unwritable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)?;
        match &self.remedy {
            Some(remedy) => write!(f, " (fix: {remedy})"),
            None => Ok(()),
        }
    }
}

impl Unwritable {
    /// What is behind this error, which the user got in the folder, or where it would be made; none if it is nothing of
    /// the folder's.
    pub(crate) fn of(folder: &Path, error: Errno, user: Uid) -> Option<Self> {
        let because = |why: String, remedy: String| Some(Self { why, remedy: Some(remedy) });
        let is_absent = |path: &Path| fs::metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        if let Some(link) = folder.ancestors().find(|path| path.is_symlink() && is_absent(path)) {
            let place = link.display();
            return because(format!("{place} is a symbolic link to what does not exist"), format!("rm {place}"));
        }
        let there = folder.ancestors().find(|there| there.exists())?;
        let place = there.display();
        if let Some(name) = kernels_own(there) {
            // Each fails in its own way: procfs with ENOENT, sysfs with EPERM for a folder and EACCES for a file.
            return Some(Self { why: format!("{place} is on {name}, whose files the kernel makes"), remedy: None });
        }
        match error {
            Errno::EROFS => because(
                format!("{place} is on a file system that is mounted read-only"),
                "mount it read-write".to_owned(),
            ),
            Errno::ENOTDIR | Errno::EEXIST if !there.is_dir() => {
                because(format!("{place} is no folder"), format!("remove or rename {place}"))
            }
            // Permissions never say this (EACCES is what they say), but attributes do, to root too.
            Errno::EPERM => because(
                format!("{place} has an attribute that lets nobody change it, as `lsattr -d {place}` shows"),
                format!("as root: chattr -ia {place}"),
            ),
            Errno::EACCES if there == folder => {
                let meta = fs::metadata(there).ok()?;
                let mode = meta.permissions().mode() & 0o7777;
                // That of the group does not count: the user would not have got the error by it.
                let needed = if meta.uid() == user.as_raw() { 0o300 } else { 0o003 };
                if mode & needed == needed {
                    return None;
                }
                let owner = user_name(Uid::from_raw(meta.uid()));
                // Root's right to the files of others is one that is given up.
                let without = if user.is_root() { " without root's right to the files of others" } else { "" };
                let writer = user_name(user);
                because(
                    format!(
                        "it belongs to user {owner}, mode {mode:04o}, and recordings are written by user \
                         {writer}{without}"
                    ),
                    format!("as root: chown {user} {place} && chmod u+rwx {place}"),
                )
            }
            _ => None,
        }
    }
}

/// File systems whose files the kernel makes, by their numbers (include/uapi/linux/magic.h).
const KERNELS_OWN: [(FsType, &str); 9] = [
    (PROC_SUPER_MAGIC, "procfs"),
    (SYSFS_MAGIC, "sysfs"),
    (CGROUP_SUPER_MAGIC, "cgroupfs"),
    (CGROUP2_SUPER_MAGIC, "cgroup2"),
    (BPF_FS_MAGIC, "bpffs"),
    (DEBUGFS_MAGIC, "debugfs"),
    (TRACEFS_MAGIC, "tracefs"),
    (SECURITYFS_MAGIC, "securityfs"),
    (DEVPTS_SUPER_MAGIC, "devpts"),
];

/// The name of the file system of a folder, if it is one of those.
fn kernels_own(folder: &Path) -> Option<&'static str> {
    let kind = statfs(folder).ok()?.filesystem_type();
    KERNELS_OWN.iter().find(|(its, _)| *its == kind).map(|(_, name)| *name)
}

/// Whether a file is called as those are that are written here: by its time.
fn is_own(name: &str) -> bool {
    let stamp = name.strip_prefix(BEGINS).and_then(|rest| rest.split_once('T'));
    stamp.is_some_and(|(day, _)| day.len() == 8 && day.bytes().all(|digit| digit.is_ascii_digit()))
}

/// Makes the folder, which only its owner may look into, unless it is there.
///
/// # Errors
///
/// It cannot be made.
pub(crate) fn make_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() { Ok(()) } else { DirBuilder::new().recursive(true).mode(0o700).create(path) }
}

/// Only its owner may read it: headers tell who talks to whom.
fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let mut out = BufWriter::new(file);
    out.write_all(bytes)?;
    let file: File = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use go_metro_common::segment::Sides;
    use go_metro_rtt::{EngineConfig, Nanos};

    use super::super::choice::Choice;
    use super::super::note::Section;
    use super::*;

    /// One without packets.
    fn recording() -> Recording {
        let choice = Choice {
            remotes: Vec::new(),
            local: None,
            ifindex: None,
            since: Nanos(0),
            until: Nanos(0),
            focus: None,
            most_bytes: 0,
        };
        Recording::of(&[], &choice, Section::of(&EngineConfig::DEFAULT, Sides::REMOTE))
    }

    /// Each has its own descriptor of the folder, as two processes have, and the same pair at the same time.
    #[test]
    fn two_daemons_in_one_folder_neither_overwrite_nor_remove_what_the_other_writes() {
        const EACH: usize = 100;
        const NAME: &str = "20261130T172233.123Z-10.0.0.1-10.0.0.2";
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::new(place.path(), FolderLimits { files: 2 * EACH, bytes: u64::MAX });
        let write = || {
            let keep = |_| folder.keep(NAME, &recording(), &Described::default()).unwrap();
            (0..EACH).map(keep).collect::<Vec<_>>()
        };
        let written = thread::scope(|scope| {
            let both = [scope.spawn(write), scope.spawn(write)];
            both.map(|daemon| daemon.join().unwrap()).concat()
        });
        let bytes = fs::metadata(&written[0]).unwrap().len();
        let whole = written.iter().filter(|path| fs::metadata(path).is_ok_and(|meta| meta.len() == bytes)).count();
        let names: std::collections::BTreeSet<&PathBuf> = written.iter().collect();
        assert_eq!((names.len(), whole, fs::read_dir(place.path()).unwrap().count()), (2 * EACH, 2 * EACH, 2 * EACH));
        // The bounds count what both have written.
        let one = Folder::new(place.path(), FolderLimits { files: 3, bytes: u64::MAX });
        one.keep(NAME, &recording(), &Described::default()).unwrap();
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 3);
    }

    #[test]
    fn one_that_holds_the_folder_for_too_long_is_not_waited_for_and_nothing_is_left_out_of_turn() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::new(place.path(), FolderLimits { files: 2, bytes: u64::MAX });
        let held = folder.turn(Duration::ZERO).unwrap();
        let error = folder.turn(Duration::from_millis(20)).unwrap_err();
        assert!(error.to_string().contains("give each daemon its own `record.folder`"), "{error}");
        drop(held);
        folder.turn(Duration::ZERO).unwrap();
    }

    #[test]
    fn why_nobody_can_write_is_told_from_whose_the_folder_is() {
        let folder = tempfile::tempdir().unwrap();
        let (path, place) = (folder.path(), folder.path().display());
        let other = Uid::from_raw(fs::metadata(path).unwrap().uid() + 4_000_042);
        fs::set_permissions(path, fs::Permissions::from_mode(0o775)).unwrap();
        let of = |path: &Path, error| Unwritable::of(path, error, other);
        let Some(owners) = of(path, Errno::EACCES) else { panic!("it is another user's") };
        assert!(owners.why.contains("mode 0775") && owners.why.contains(&format!("user {other}")), "{owners}");
        assert_eq!(owners.remedy, Some(format!("as root: chown {other} {place} && chmod u+rwx {place}")));
        // It is not there: where it would be made is what cannot be written.
        for path in [path, &path.join("a/b")] {
            let (mounted, marked) = (of(path, Errno::EROFS).unwrap(), of(path, Errno::EPERM).unwrap());
            let said = format!("{place} is on a file system that is mounted read-only (fix: mount it read-write)");
            assert_eq!(mounted.to_string(), said);
            assert!(marked.to_string().ends_with(&format!("(fix: as root: chattr -ia {place})")), "{marked}");
        }
        assert_eq!(of(&path.join("a"), Errno::EACCES), None, "the folder above is not to be given away");
        assert_eq!(of(path, Errno::ENOSPC), None);
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(of(path, Errno::EACCES), None, "the mode is not in the way");
    }
}
