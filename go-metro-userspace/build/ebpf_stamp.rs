//! The hash by which a build of the daemon tells that the classifier's object is older than its source.
//!
//! One definition, compiled into `build.rs`, which checks it, and into xtask, which writes it. Standard
//! library only.

use std::path::{Path, PathBuf};

/// Directories and files that the object is made of, relative to the workspace.
pub(crate) const OBJECT_INPUTS: [&str; 4] =
    ["go-metro-common/Cargo.toml", "go-metro-common/src", "go-metro-ebpf/Cargo.toml", "go-metro-ebpf/src"];

/// Hashes the sources of the classifier's object: 16 hexadecimal digits.
///
/// FNV-1a, 64 bits, over path and contents of each input file in sorted order of paths. It guards against mistakes, not
/// against malice.
///
/// # Errors
///
/// An input that cannot be read.
pub(crate) fn source_hash(workspace: &Path) -> std::io::Result<String> {
    let mut files = Vec::new();
    for input in OBJECT_INPUTS {
        collect(workspace, Path::new(input), &mut files)?;
    }
    files.sort();
    // FNV-1a's offset basis and prime for 64 bits.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut feed = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        // Keeps "a" + "bc" apart from "ab" + "c".
        hash = (hash ^ 0xff).wrapping_mul(0x0000_0100_0000_01b3);
    };
    for file in files {
        feed(file.to_string_lossy().as_bytes());
        feed(&std::fs::read(workspace.join(&file))?);
    }
    Ok(format!("{hash:016x}"))
}

fn collect(workspace: &Path, path: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    let absolute = workspace.join(path);
    if absolute.is_dir() {
        for entry in std::fs::read_dir(absolute)? {
            collect(workspace, &path.join(entry?.file_name()), files)?;
        }
    } else {
        files.push(path.to_path_buf());
    }
    Ok(())
}
