//! Reading the file itself, which an operator may have replaced by anything: what is no text of a sensible size is
//! refused, and nothing is waited for without a limit.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Largest file. As many targets as the classifier holds, each on a line of its own, are a quarter of it.
const LARGEST: u64 = 8 << 20;
/// Longest wait for who writes into a pipe.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most brackets that are open at once. The parser takes time with the square of it, and its own limit, 128, only comes
/// into force after that.
const DEEPEST: usize = 128;

/// What the file may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A regular file, or a pipe whose writer is quick: `-c /dev/stdin`, `-c <(…)`.
    FileOrPipe,
    /// A regular file: the daemon that reads it again has more to do than to wait.
    File,
}

/// The file's text.
pub(super) fn read(path: &Path, kind: Kind) -> io::Result<String> {
    // A FIFO would be waited for; a terminal must not become ours.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|error| {
        // A socket (open(2)).
        if error.raw_os_error() == Some(libc::ENXIO) { no_file("a socket") } else { error }
    })?;
    let of = file.metadata()?;
    let file_type = of.file_type();
    let bytes = if file_type.is_file() {
        if of.len() > LARGEST {
            return Err(too_large());
        }
        bounded(&file)?
    } else if file_type.is_fifo() && kind == Kind::FileOrPipe {
        from_pipe(&file)?
    } else if file_type.is_fifo() {
        return Err(no_file("a FIFO"));
    } else if file_type.is_dir() {
        return Err(no_file("a folder"));
    } else if file_type.is_char_device() || file_type.is_block_device() {
        return Err(no_file("a device"));
    } else {
        return Err(no_file("something else"));
    };
    let text = String::from_utf8(bytes)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "stream did not contain valid UTF-8"))?;
    if depth(&text) > DEEPEST {
        return Err(io::Error::other(format!("more than {DEEPEST} brackets are open at once; close them")));
    }
    Ok(text)
}

fn no_file(what: &str) -> io::Error {
    io::Error::other(format!("it is {what}, not a regular file; replace it with one"))
}

fn too_large() -> io::Error {
    let most = LARGEST >> 20;
    io::Error::other(format!("it is larger than {most} MiB; write prefixes instead of single addresses"))
}

/// What there is now; a file may grow while it is read.
fn bounded(file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST { Err(too_large()) } else { Ok(bytes) }
}

/// All that is written into a pipe until its writer closes it, which has to be soon.
fn from_pipe(mut pipe: &File) -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + PATIENCE;
    let mut bytes = Vec::new();
    let mut part = [0; 16 << 10];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        match poll(&mut [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) => {
                let seconds = PATIENCE.as_secs();
                return Err(io::Error::other(format!(
                    "it is a FIFO, and its writer did not finish within {seconds} s; name a regular file"
                )));
            }
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        match pipe.read(&mut part) {
            Ok(0) => return Ok(bytes),
            Ok(length) => bytes.extend_from_slice(&part[..length]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
        if bytes.len() as u64 > LARGEST {
            return Err(too_large());
        }
    }
}

/// How many brackets are open at once at most, as if there were no quotes: a sensible file has a handful in its texts.
fn depth(text: &str) -> usize {
    let (mut open, mut most) = (0_usize, 0);
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
        for byte in line.bytes() {
            match byte {
                b'[' | b'{' => open += 1,
                b']' | b'}' => open = open.saturating_sub(1),
                _ => {}
            }
            most = most.max(open);
        }
    }
    most
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn refused(path: &Path, kind: Kind) -> String {
        read(path, kind).expect_err("it is read").to_string()
    }

    #[test]
    fn what_is_no_text_of_a_sensible_size_is_refused_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        symlink("/dev/zero", at("zero")).unwrap();
        File::create(at("sparse")).unwrap().set_len(3 << 30).unwrap();
        symlink(at("sparse"), at("link")).unwrap();
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        std::fs::write(at("lists"), format!("init_config: {}", "[".repeat(200_000))).unwrap();
        std::fs::write(at("maps"), "{a: ".repeat(100_000)).unwrap();
        for kind in [Kind::File, Kind::FileOrPipe] {
            for (name, why) in [
                ("zero", "it is a device, not a regular file"),
                ("sparse", "larger than 8 MiB"),
                ("link", "larger than 8 MiB"),
                ("socket", "it is a socket"),
                (".", "it is a folder"),
                ("lists", "brackets are open at once"),
                ("maps", "brackets are open at once"),
            ] {
                assert!(refused(&at(name), kind).contains(why), "{name}: {}", refused(&at(name), kind));
            }
        }
        assert!(refused(&at("fifo"), Kind::File).contains("it is a FIFO, not a regular file"));
        assert!(refused(&at("fifo"), Kind::FileOrPipe).contains("its writer did not finish"));
        let whole = format!("# {}\nips: [{}]\n", "[".repeat(500), "[1], ".repeat(500));
        std::fs::write(at("whole"), &whole).unwrap();
        assert_eq!(read(&at("whole"), Kind::File).unwrap(), whole);
    }

    #[test]
    fn a_pipe_is_read_to_its_end() {
        use std::io::Write as _;
        use std::os::fd::AsRawFd as _;
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let writing = std::thread::spawn(move || {
            let mut writer = File::from(writer);
            for _ in 0..100 {
                writer.write_all(&[b'#'; 1000]).unwrap();
            }
        });
        let path = format!("/proc/self/fd/{}", reader.as_raw_fd());
        assert_eq!(read(path.as_ref(), Kind::FileOrPipe).unwrap().len(), 100_000);
        writing.join().unwrap();
    }
}
