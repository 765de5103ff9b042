//! The folder of recordings: files get their names once they are whole, and the oldest go where there are too many or
//! they are too large together.

use std::fs::{self, DirBuilder, DirEntry, File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::unistd::{Uid, User};

use super::choice::Recording;
use super::file::{self, Described};

/// How names of recordings begin and end: no other file is touched.
const BEGINS: &str = "go-metro-";
const ENDS: &str = ".pcapng";
/// How the name ends while it is written.
const UNFINISHED: &str = ".pcapng.part";

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
    /// It cannot; the error says whose the folder is if it is another user's.
    pub(crate) fn check(&self) -> io::Result<()> {
        self.make_a_file().map_err(|error| match (error.kind(), fs::metadata(&self.path)) {
            (io::ErrorKind::PermissionDenied, Ok(meta)) if meta.uid() != Uid::effective().as_raw() => {
                let (owner, writer) = (user_name(Uid::from_raw(meta.uid())), user_name(Uid::effective()));
                // Root's right to the files of others is one that is given up.
                let without = if Uid::effective().is_root() { " without any capability" } else { "" };
                let why = format!("it belongs to user {owner}, and recordings are written by user {writer}{without}");
                let remedy = format!("chown {} {}", Uid::effective(), self.path.display());
                io::Error::new(error.kind(), format!("{error}: {why}; give it to that user (`{remedy}`)"))
            }
            _ => error,
        })
    }

    fn make_a_file(&self) -> io::Result<()> {
        make_folder(&self.path)?;
        let unfinished = self.path.join(format!("{BEGINS}check{UNFINISHED}"));
        let _ = fs::remove_file(&unfinished);
        write_new(&unfinished, &[])?;
        fs::remove_file(&unfinished)
    }

    /// Writes a recording, `name` in its name, after the oldest files have made room; the file. What cannot be written
    /// leaves nothing behind.
    ///
    /// # Errors
    ///
    /// The folder or a file cannot be made or written; the error names it.
    pub(crate) fn keep(&self, name: &str, recording: &Recording, described: &Described) -> io::Result<PathBuf> {
        let at = |path: &Path, error: &io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        make_folder(&self.path).map_err(|error| at(&self.path, &error))?;
        let mut bytes = Vec::new();
        file::write(recording, described, &mut bytes)?;
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

/// A user, by name if it has one, and number.
pub(crate) fn user_name(user: Uid) -> String {
    match User::from_uid(user) {
        Ok(Some(known)) => format!("{} ({user})", known.name),
        _ => user.to_string(),
    }
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
