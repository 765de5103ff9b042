//! A log file that is rotated by size: `go-metro.log`, `go-metro.log.1` and so on, as the original did.
//!
//! A user who may write to the log's folder must not choose what a daemon that runs as root appends to: the file is
//! opened without following a link or waiting for a FIFO, and is used only if it is a regular file of our own with no
//! other name.

use std::fs::{File, OpenOptions, create_dir_all, rename};
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Its owner writes it, its group reads it; names of hosts are nobody else's business.
const MODE: u32 = 0o640;

/// Why the file could not be rotated the last time, if so.
static PROBLEM: Mutex<Option<String>> = Mutex::new(None);

/// Why the file could not be rotated the last time that it was full, if so.
pub(super) fn problem() -> Option<String> {
    PROBLEM.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// The file and those it was rotated into.
pub(super) struct Rotating {
    path: PathBuf,
    max_bytes: u64,
    files: usize,
    open: Open,
}

struct Open {
    file: File,
    bytes: u64,
}

impl Rotating {
    /// Opens the file to append to it, making its folder if need be.
    pub(super) fn open(path: &Path, max_bytes: u64, files: usize) -> io::Result<Self> {
        if let Some(stream) = standard_stream(path) {
            // As it was given to this process: nothing is opened, so there is nothing to be led astray by.
            let open = Open { file: File::from(stream?), bytes: 0 };
            return Ok(Self { path: path.to_owned(), max_bytes, files, open });
        }
        if let Some(folder) = path.parent() {
            create_dir_all(folder)?;
        }
        Ok(Self { path: path.to_owned(), max_bytes, files, open: append(path)? })
    }

    /// Why others could replace the file, if they can.
    pub(super) fn exposure(&self) -> Option<String> {
        if standard_stream(&self.path).is_some() {
            return None;
        }
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let meta = std::fs::metadata(folder).ok()?;
        let ours = nix::unistd::geteuid().as_raw();
        let why = if meta.uid() != ours && meta.uid() != 0 {
            format!("it belongs to user {}", meta.uid())
        } else if meta.mode() & 0o002 != 0 {
            "everyone may write to it".to_owned()
        } else if meta.mode() & 0o020 != 0 && meta.gid() != nix::unistd::getegid().as_raw() && meta.gid() != 0 {
            format!("group {} may write to it", meta.gid())
        } else {
            return None;
        };
        Some(format!("others can replace the log in {}: {why}", folder.display()))
    }

    /// The name of the file that is `age` rotations old.
    fn rotated(&self, age: usize) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{age}"));
        PathBuf::from(name)
    }

    fn rotate(&mut self) -> io::Result<()> {
        // The current one is one of them.
        let Some(oldest) = self.files.checked_sub(1).filter(|oldest| *oldest > 0) else {
            self.open.file.set_len(0)?;
            self.open.bytes = 0;
            return Ok(());
        };
        for age in (1..oldest).rev() {
            // The oldest ones may not be there yet.
            let _ = rename(self.rotated(age), self.rotated(age + 1));
        }
        rename(&self.path, self.rotated(1))?;
        self.open = append(&self.path)?;
        Ok(())
    }

    /// Somebody else may have moved the file away or removed it.
    fn is_elsewhere(&self) -> bool {
        let here = self.open.file.metadata().map(|meta| (meta.dev(), meta.ino()));
        let there = std::fs::symlink_metadata(&self.path).map(|meta| (meta.dev(), meta.ino()));
        !matches!((here, there), (Ok(here), Ok(there)) if here == there)
    }

    /// Makes room. Where the file cannot be rotated, perhaps because its folder is read-only, it is emptied: a log
    /// without bound fills the disk.
    fn make_room(&mut self) {
        let failed = self.rotate().err();
        if failed.is_some() && self.open.file.set_len(0).is_ok() {
            self.open.bytes = 0;
        }
        let problem = failed.map(|error| {
            format!("the log {} cannot be rotated and is emptied instead when it is full: {error}", self.path.display())
        });
        let mut known = PROBLEM.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = known.is_none();
        known.clone_from(&problem);
        drop(known);
        if let Some(problem) = problem.filter(|_| is_new) {
            tracing::warn!("{problem}");
        }
    }

    /// Writes one whole line. After a failure the next line tries again.
    pub(super) fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        if standard_stream(&self.path).is_some() {
            // Rotation is up to whatever reads the stream.
        } else if self.is_elsewhere() {
            // Until it can be made again, what is open still takes lines.
            if let Ok(new) = append(&self.path) {
                self.open = new;
            }
        } else if self.open.bytes > 0 && self.open.bytes + line.len() as u64 > self.max_bytes {
            self.make_room();
        }
        self.open.file.write_all(line)?;
        self.open.bytes += line.len() as u64;
        Ok(())
    }
}

/// The stream that a path is a name of, as containers' users have `-log=/dev/stderr`.
#[expect(clippy::disallowed_methods, reason = "a line of the log is escaped")]
fn standard_stream(path: &Path) -> Option<io::Result<OwnedFd>> {
    match path.to_str()? {
        "/dev/stderr" | "/dev/fd/2" | "/proc/self/fd/2" => Some(io::stderr().as_fd().try_clone_to_owned()),
        "/dev/stdout" | "/dev/fd/1" | "/proc/self/fd/1" => Some(io::stdout().as_fd().try_clone_to_owned()),
        _ => None,
    }
}

fn append(path: &Path) -> io::Result<Open> {
    let open = |create: bool| {
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
        OpenOptions::new().create_new(create).append(true).mode(MODE).custom_flags(flags).open(path)
    };
    let opened =
        open(false).or_else(|error| if error.kind() == io::ErrorKind::NotFound { open(true) } else { Err(error) });
    let file = opened.map_err(|error| match error.raw_os_error() {
        Some(libc::ELOOP | libc::EEXIST) => unsafe_file("it is a symbolic link"),
        // A FIFO that nobody reads (fifo(7)), or a socket.
        Some(libc::ENXIO) => unsafe_file("it is not a regular file"),
        _ => error,
    })?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(unsafe_file("it is not a regular file"));
    }
    if meta.nlink() > 1 {
        return Err(unsafe_file("it has another name (a hard link)"));
    }
    if meta.uid() != nix::unistd::geteuid().as_raw() {
        return Err(unsafe_file(&format!("it belongs to user {}", meta.uid())));
    }
    Ok(Open { file, bytes: meta.len() })
}

fn unsafe_file(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, format!("{what}; remove it, or set `log_file` to another path"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_rotated_by_size_and_only_so_many_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/go-metro.log");
        let mut log = Rotating::open(&path, 100, 3).unwrap();
        for line in 0..20 {
            log.write_line(format!("line {line:>3} of forty bytes, more or less...\n").as_bytes()).unwrap();
        }
        let mut names: Vec<_> =
            std::fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["go-metro.log", "go-metro.log.1", "go-metro.log.2"], "the current one among them");
        let newest = std::fs::read_to_string(&path).unwrap();
        assert!(newest.len() <= 100 && newest.contains("line  19"), "{newest}");
    }

    #[test]
    fn a_file_that_cannot_be_rotated_is_emptied_and_that_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("go-metro.log");
        // No file can be renamed onto a folder, not even by root.
        create_dir_all(folder.path().join("go-metro.log.1")).unwrap();
        let mut log = Rotating::open(&path, 10, 2).unwrap();
        for line in ["the first", "the second", "the third"] {
            log.write_line(format!("{line}\n").as_bytes()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "the third\n");
        assert!(problem().unwrap().contains("cannot be rotated and is emptied"), "{:?}", problem());
        std::fs::remove_dir(folder.path().join("go-metro.log.1")).unwrap();
        log.write_line(b"the fourth\n").unwrap();
        assert_eq!(problem(), None);
    }

    #[test]
    fn a_single_file_is_emptied_when_it_is_full() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("go-metro.log");
        let mut log = Rotating::open(&path, 10, 1).unwrap();
        for line in ["the first", "the second"] {
            log.write_line(format!("{line}\n").as_bytes()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "the second\n");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_was_moved_away_is_recreated() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("go-metro.log");
        let mut log = Rotating::open(&path, 1000, 2).unwrap();
        log.write_line(b"before\n").unwrap();
        rename(&path, folder.path().join("elsewhere")).unwrap();
        log.write_line(b"after\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "after\n");
    }

    #[test]
    fn only_a_regular_file_of_our_own_with_one_name_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let refused = |name: &str| Rotating::open(&at(name), 100, 2).err().unwrap().to_string();
        std::fs::write(at("precious"), "kept").unwrap();
        std::os::unix::fs::symlink(at("precious"), at("link")).unwrap();
        std::os::unix::fs::symlink(at("absent"), at("dangling")).unwrap();
        std::fs::hard_link(at("precious"), at("hard")).unwrap();
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(refused("link").contains("symbolic link"));
        assert!(refused("dangling").contains("symbolic link"));
        assert!(refused("hard").contains("hard link"));
        assert!(refused("fifo").contains("not a regular file"));
        // One that is read can be opened.
        let _reader = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(at("fifo")).unwrap();
        assert!(refused("fifo").contains("not a regular file"));
        assert_eq!(std::fs::read_to_string(at("precious")).unwrap(), "kept");
        assert!(!at("absent").exists());
        if nix::unistd::geteuid().is_root() {
            std::fs::write(at("foreign"), "").unwrap();
            nix::unistd::chown(&at("foreign"), Some(65_534.into()), None).unwrap();
            assert!(refused("foreign").contains("belongs to user 65534"));
        }
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_noticed() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let log = Rotating::open(&folder.path().join("go-metro.log"), 100, 2).unwrap();
        assert_eq!(log.exposure(), None);
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(log.exposure().unwrap().ends_with("everyone may write to it"));
    }
}
