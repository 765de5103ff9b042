//! A real browser on a host, which uses the page that a daemon serves there and says what it saw
//! (`testing/support/browser/page.mjs`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use testing_support::setup::browser_tools;
use testing_support::workspace::{root, which};

use super::Host;

/// What browsers are called that can be driven.
const BROWSERS: [&str; 2] = ["chromium", "chromium-browser"];

/// The browser, where there is one and what drives it.
#[must_use]
pub fn browser() -> Option<PathBuf> {
    let is_drivable = which("node").is_some() && browser_tools().join("installed.json").exists();
    BROWSERS.into_iter().find_map(which).filter(|_| is_drivable)
}

/// Uses the page on a host as these words ask for; what was seen. Its pictures are in `pictures`.
///
/// # Errors
///
/// There is no browser (`cargo xtask setup` installs it), or it cannot be driven.
pub fn look(host: &Host, mut asked: Value, pictures: &Path) -> Result<Value> {
    let browser = browser().context("no browser, or nothing to drive it; run `cargo xtask setup`")?;
    // One that is left from before would open what it had open.
    let profile = pictures.join("profile");
    let _ = fs::remove_dir_all(&profile);
    fs::create_dir_all(&profile)?;
    asked["browser"] = browser.to_string_lossy().into();
    asked["tools"] = browser_tools().to_string_lossy().into();
    asked["profile"] = profile.to_string_lossy().into();
    asked["pictures"] = pictures.to_string_lossy().into();
    let mut node = host.namespace.command("node");
    node.arg(root().join("testing/support/browser/page.mjs"));
    let output = node.env("ASKED", asked.to_string()).stdin(Stdio::null()).output()?;
    let _ = fs::remove_dir_all(&profile);
    let said = String::from_utf8_lossy(&output.stdout);
    match serde_json::from_str(said.trim()) {
        Ok(found) if output.status.success() => Ok(found),
        _ => bail!("{}: {said}\n{}", output.status, String::from_utf8_lossy(&output.stderr)),
    }
}
