//! What is handed to people beside the program: dashboards, rules, the integration's files, the pages; each held
//! against the program itself.
//!
//! Needs root, a built binary, Prometheus and the makers' checkers; `cargo xtask test` sees to all of it.
#![allow(clippy::unwrap_used)]

mod additions;
mod commands;
mod datadog;
mod generated;
mod links;
mod pages;
mod prometheus;
mod security;
mod support;
mod workflows;
