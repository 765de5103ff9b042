//! How the repository is laid out and written: which module may use which ([`imports`]), how long a line may be and
//! which words are in no text ([`prose`]). Needs nothing but the files.

#![allow(clippy::unwrap_used, missing_docs)]

mod additions;
mod imports;
mod prose;

use std::fs;
use std::path::{Path, PathBuf};

use testing_support::workspace::root;

/// Every file of the repository, by its path in it; builds and what git keeps for itself are left out.
fn files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    collect(&root(), &mut files);
    files.sort();
    files
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy();
        if path.is_symlink() || ["target", ".git", "seeds", "artifacts", "coverage"].contains(&&*name) {
            continue;
        }
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.push(path.strip_prefix(root()).unwrap().to_owned());
        }
    }
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|other| other == extension)
}
