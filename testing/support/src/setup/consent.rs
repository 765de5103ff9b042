//! Whether what is missing may be installed.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};

static YES: AtomicBool = AtomicBool::new(false);

/// Ask nothing from here on (`--yes`).
pub fn assume_yes() {
    YES.store(true, Ordering::Relaxed);
}

/// Whether this is continuous integration (`CI=true`).
#[must_use]
pub fn is_ci() -> bool {
    std::env::var_os("CI").is_some_and(|ci| ci == "true")
}

/// Ask on a terminal; go ahead with `--yes` and with `CI=true`.
///
/// # Errors
///
/// The answer is no, or there is no terminal to ask on.
pub(super) fn ask() -> Result<()> {
    if YES.load(Ordering::Relaxed) || is_ci() {
        return Ok(());
    }
    if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        bail!("nothing was installed: there is no terminal to ask on; to go ahead, add --yes or set CI=true");
    }
    eprint!("Go ahead? [Y/n] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    // The end of the input is no answer.
    if std::io::stdin().lock().read_line(&mut answer)? > 0 && is_yes(&answer) {
        return Ok(());
    }
    bail!("nothing was installed; `cargo xtask setup --list` shows what each task needs")
}

/// As apt reads it: yes unless something else was typed.
fn is_yes(answer: &str) -> bool {
    ["", "y", "yes"].contains(&answer.trim().to_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::is_yes;

    #[test]
    fn enter_and_yes_are_consent_and_anything_else_is_not() {
        assert!(["\n", "y\n", "YES\n"].into_iter().all(is_yes));
        assert!(!["n\n", "no\n", "what?\n"].into_iter().any(is_yes));
    }
}
