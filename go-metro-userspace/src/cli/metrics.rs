//! `go-metro metrics`: what `cargo xtask docs` makes lists of metrics from.

use super::Failure;
use crate::metrics::listing;
use crate::terminal::{self, Spelling};

pub(super) fn run() -> Result<(), Failure> {
    let listing = serde_json::to_string_pretty(&listing::all()).map_err(|error| Failure::running(&error))?;
    terminal::print(&(listing + "\n"), Spelling::Text).map_err(|error| Failure::output(&error))
}
