//! go-metro: passive round-trip times of TCP connections.
//!
//! The rooms, outermost first; a module uses only those below it:
//!
//! - [`cli`]: arguments to a call
//! - [`top`]: the full screen
//! - [`check`], [`read`]: what those two verbs do
//! - [`daemon`]: wires sources, engine and reporters; signals, reload, lifecycle
//! - [`web`]: what browsers are shown: the page, and the last minutes
//! - [`output`]: where reports go: DogStatsD, Prometheus, OTLP, JSON, CSV, tables, plots
//! - [`capture`]: sources of segment records: eBPF, live libpcap, capture files
//! - [`record`]: segment records that are kept, and files made of them
//! - [`logging`], [`status`]: where the log goes; what a running daemon says of itself, and asking it
//! - [`netlink`]: questions to the kernel: interfaces, routes, sockets
//! - [`groups`], [`targets`]: remote hosts that are reported together; names and prefixes to address sets
//! - [`privileges`]: what the process may do, and what of it is given up
//! - [`metrics`]: what the daemon counts, and what each number is called in every output
//! - [`config`]: the file, typed and validated
//! - [`cgroup`], [`inbox`], [`terminal`], [`threads`]: whose a control group is; orders between threads; standard
//!   output and standard error, and text that others chose; threads, of which there may be no more
//! - [`signals`]: which signals the process inherits, holds back and ignores

// What only an optional part uses is no mistake where that part is left out.
#![cfg_attr(
    not(all(feature = "otlp", feature = "pcap", feature = "prometheus", feature = "top", feature = "web")),
    allow(dead_code, unused_imports)
)]
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod capture;
pub(crate) mod cgroup;
pub(crate) mod check;
pub mod cli;
pub mod config;
pub(crate) mod daemon;
pub mod groups;
pub(crate) mod inbox;
pub(crate) mod logging;
pub mod metrics;
pub(crate) mod netlink;
pub mod output;
pub(crate) mod privileges;
pub mod read;
pub(crate) mod record;
pub(crate) mod signals;
pub(crate) mod status;
pub mod targets;
pub mod terminal;
pub(crate) mod threads;
#[cfg(feature = "top")]
pub(crate) mod top;
pub(crate) mod web;

#[doc(hidden)]
pub use daemon::simulated;
