//! What tasks and tests share: where things are, how commands are run, what has to be installed, and the builds.
//!
//! Order of modules: `daemon`, `tasks` → `build_ebpf` → `ebpf_stamp`, `paths`, `setup` → `apt` → `mmdb`, `pipe`, `svg`,
//! `workspace`.

pub mod apt;
pub mod build_ebpf;
pub mod daemon;
#[path = "../../../go-metro-userspace/build/ebpf_stamp.rs"]
mod ebpf_stamp;
pub mod mmdb;
pub mod paths;
pub mod pipe;
pub mod setup;
#[path = "../../../go-metro-userspace/src/output/plot/svg.rs"]
pub mod svg;
pub mod tasks;
pub mod workspace;
