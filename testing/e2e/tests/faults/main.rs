//! What may happen to a daemon on somebody's host, done to it for real: each test injects a fault and asserts that the
//! agent recovers by itself, that what it reports meanwhile is true, and that a counter shows it. `docs/reliability.md`
//! is their table.
//!
//! Needs root and a built binary; `cargo xtask test` sees to both. One test at a time.
#![allow(clippy::unwrap_used)]

mod blinded;
mod clocks;
mod crowd;
mod dns;
mod forged;
mod interfaces;
mod life;
mod limits;
mod linknames;
mod log;
mod names;
mod otlp;
mod outputs;
mod overload;
mod process;
mod recordings;
mod reload;
mod scrapers;
mod server;
mod service;
mod streams;
mod support;
mod terminals;
