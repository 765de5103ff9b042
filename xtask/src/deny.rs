//! `cargo xtask deny`: what may be in the tree of dependencies, by `deny.toml`.
//!
//! By hand, since the tool takes minutes to install on a bare machine. Licences, sources and duplicates need nothing but the lock file;
//! advisories need RustSec's database, which is fetched, and where that cannot be reached the task says so and checks the rest.

use anyhow::{Result, bail};

use crate::setup;
use crate::workspace::{cargo, output, run};

/// Checks all that can be checked.
///
/// # Errors
///
/// Something is in the tree that may not be; cargo-deny cannot be installed.
pub fn main() -> Result<()> {
    setup::for_deny()?;
    run(cargo().args(["deny", "--all-features", "check", "bans", "licenses", "sources"]))?;
    let advisories = output(cargo().args(["deny", "--all-features", "check", "advisories"]))?;
    let said = String::from_utf8_lossy(&advisories.stderr);
    eprint!("{said}");
    if advisories.status.success() {
        return Ok(());
    }
    if said.contains("failed to fetch advisory database") {
        println!("advisories NOT checked: RustSec's database cannot be fetched from here");
        return Ok(());
    }
    bail!("there are advisories: mend each, or give its reason in deny.toml");
}
