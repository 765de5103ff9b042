//! What the programs of this crate share.

use std::path::PathBuf;

/// The keys and the comments of the original's own example, with addresses of the lab.
pub const ORIGINAL: &str = include_str!("original.yaml");

/// The tasks' binary, `xtask`, which cargo built beside this program.
///
/// # Panics
///
/// It is not there: `cargo build` makes it.
#[must_use]
pub fn xtask() -> PathBuf {
    let this = std::env::current_exe().unwrap_or_default();
    let xtask = this.ancestors().nth(2).map(|directory| directory.join("xtask")).filter(|path| path.exists());
    xtask.expect("no xtask beside this program; run `cargo build`")
}
