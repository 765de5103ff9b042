//! What `cargo xtask dist` makes of the build under test, in two versions.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use testing_lab::agent;
use testing_support::workspace::{capture, output};
use xtask::dist::{self, Args, binary};

/// Later than any.
pub(crate) const NEXT: &str = "99.0.0";

/// The directory with this version's files and, below `next`, the later ones.
pub(crate) fn shipped() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("deploy");
        if out.exists() {
            // An earlier version of the tasks may have made others than this one knows as its own.
            fs::remove_dir_all(&out).unwrap();
        }
        let make = |version: Option<&str>, out: PathBuf| {
            dist::main(&Args::of(&agent::binary().unwrap(), version, &out)).unwrap();
        };
        make(None, out.clone());
        make(Some(NEXT), out.join("next"));
        out
    })
}

/// The only file there with this extension.
pub(crate) fn file(directory: &Path, extension: &str) -> PathBuf {
    let mut files = directory.read_dir().unwrap().map(|entry| entry.unwrap().path());
    files.find(|path| path.extension().is_some_and(|found| found == extension)).unwrap()
}

#[test]
fn the_binary_needs_no_library_but_those_of_c_and_the_compiler() {
    let needed = binary::needed(&shipped().join("go-metro")).unwrap();
    for library in &needed {
        let known = ["libc.so.6", "libm.so.6", "libgcc_s.so.1"];
        assert!(known.contains(&library.as_str()) || library.starts_with("ld-linux"), "{needed:?}");
    }
    assert!(needed.iter().any(|library| library == "libc.so.6"), "{needed:?}");
    // libpcap is inside: without it nothing could be said of a filter.
    let said = capture(Command::new("strings").arg(shipped().join("go-metro"))).unwrap();
    assert!(said.contains("libpcap version") || said.contains("unknown data link type"), "no libpcap");
}

#[test]
fn what_packs_a_binary_refuses_one_that_needs_more() {
    let out = tempfile::tempdir().unwrap();
    // Python's program or bash, whatever is there that needs another library.
    let bash = Path::new("/bin/bash");
    let error = binary::strip(bash, &out.path().join("bash")).unwrap_err();
    assert!(error.to_string().contains("needs libtinfo.so"), "{error}");
}

#[test]
fn the_same_binary_gives_the_same_packages_byte_for_byte() {
    let again = tempfile::tempdir().unwrap();
    dist::main(&Args::of(&agent::binary().unwrap(), None, again.path())).unwrap();
    for extension in ["deb", "rpm"] {
        let [first, second] = [shipped(), again.path()].map(|folder| fs::read(file(folder, extension)).unwrap());
        assert!(first == second, "{extension}: {} and {} bytes", first.len(), second.len());
    }
}

#[test]
fn debian_s_own_critic_finds_nothing_in_the_package() {
    let said = output(Command::new("lintian").arg("--allow-root").arg(file(shipped(), "deb"))).unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr);
    assert_eq!(said.trim(), "");
}
