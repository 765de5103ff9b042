//! A log file that is rotated by size: `go-metro.log`, `go-metro.log.1` and so on, as the original did.

use std::fs::{File, OpenOptions, create_dir_all, rename};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Lines that could not be written since the start.
pub(super) static LOST: AtomicU64 = AtomicU64::new(0);

/// The file and those it was rotated into.
pub(super) struct Rotating {
    path: PathBuf,
    max_bytes: u64,
    files: usize,
    open: Mutex<Open>,
}

struct Open {
    file: File,
    bytes: u64,
}

impl Rotating {
    /// Opens the file to append to it, making its folder if need be.
    pub(super) fn open(path: &Path, max_bytes: u64, files: usize) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            create_dir_all(folder)?;
        }
        Ok(Self { path: path.to_owned(), max_bytes, files, open: Mutex::new(append(path)?) })
    }

    /// The name of the file that is `age` rotations old.
    fn rotated(&self, age: usize) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{age}"));
        PathBuf::from(name)
    }

    fn rotate(&self, open: &mut Open) -> io::Result<()> {
        for age in (1..self.files).rev() {
            // The oldest ones may not be there yet.
            let _ = rename(self.rotated(age), self.rotated(age + 1));
        }
        rename(&self.path, self.rotated(1))?;
        *open = append(&self.path)?;
        Ok(())
    }

    /// Somebody else may have moved the file away or removed it.
    fn is_elsewhere(&self, open: &Open) -> bool {
        let here = open.file.metadata().map(|meta| (meta.dev(), meta.ino()));
        let there = std::fs::metadata(&self.path).map(|meta| (meta.dev(), meta.ino()));
        !matches!((here, there), (Ok(here), Ok(there)) if here == there)
    }
}

impl Write for &Rotating {
    /// Writes one whole line. What cannot be written is lost, and the next line tries anew. A file that cannot be
    /// rotated, perhaps because its folder is read-only, grows: too long a log is better than none.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_elsewhere(&open) {
            // Until it can be made anew, what is open still takes lines.
            if let Ok(anew) = append(&self.path) {
                *open = anew;
            }
        } else if open.bytes > 0 && open.bytes + line.len() as u64 > self.max_bytes {
            let _ = self.rotate(&mut open);
        }
        match open.file.write_all(line) {
            Ok(()) => open.bytes += line.len() as u64,
            // An error would have `tracing` complain on standard error, once a line.
            Err(_) => {
                LOST.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<Open> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let bytes = file.metadata()?.len();
    Ok(Open { file, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_rotated_by_size_and_only_so_many_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/go-metro.log");
        let log = Rotating::open(&path, 100, 2).unwrap();
        for line in 0..20 {
            writeln!(&log, "line {line:>3} of forty bytes, more or less...").unwrap();
        }
        let mut names: Vec<_> =
            std::fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["go-metro.log", "go-metro.log.1", "go-metro.log.2"]);
        let newest = std::fs::read_to_string(&path).unwrap();
        assert!(newest.len() <= 100 && newest.contains("line  19"), "{newest}");
    }

    #[test]
    fn a_file_that_cannot_be_rotated_grows_instead_of_losing_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("go-metro.log");
        // No file can be renamed onto a folder, whoever tries.
        create_dir_all(folder.path().join("go-metro.log.1")).unwrap();
        let log = Rotating::open(&path, 10, 1).unwrap();
        for line in ["the first", "the second", "the third"] {
            writeln!(&log, "{line}").unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "the first\nthe second\nthe third\n");
    }

    #[test]
    fn a_file_that_was_moved_away_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("go-metro.log");
        let log = Rotating::open(&path, 1000, 2).unwrap();
        writeln!(&log, "before").unwrap();
        rename(&path, folder.path().join("elsewhere")).unwrap();
        writeln!(&log, "after").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "after\n");
    }
}
