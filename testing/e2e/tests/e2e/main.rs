//! go-metro as a black box, end to end: real TCP between two namespaces, the real classifier or libpcap, and what comes
//! out.
//!
//! Needs root and a built binary; `cargo xtask test` sees to both. One test at a time: they measure time on a machine
//! that may have two processors.
#![allow(clippy::unwrap_used)]

mod bare;
mod beside;
mod court;
mod delayed;
mod demo;
mod groups;
mod health;
mod hosts;
mod idle;
mod interfaces;
mod life;
mod malformed;
mod native;
mod original;
mod outputs;
mod parity;
mod per_flow;
mod privileges;
mod processes;
mod queue;
mod recorder;
mod report;
mod rounds;
mod shells;
mod sides;
mod status;
mod stop;
mod support;
mod thinning;
mod top;
mod truth;
mod web;
mod wire;
mod workers;
