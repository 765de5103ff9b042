//! go-metro's own tasks, and the network lab that its demo and its end-to-end tests run in.

mod apt;
pub mod bench;
pub mod build_ebpf;
pub mod clones;
pub mod corpus;
pub mod demo;
pub mod deny;
pub mod dist;
pub mod docs;
#[path = "../../go-metro-userspace/build/ebpf_stamp.rs"]
mod ebpf_stamp;
pub mod fuzz;
pub mod guest;
pub mod kernels;
pub mod lab;
pub mod oracle;
pub mod package;
mod paths;
pub mod picture;
pub mod pipe;
pub mod run;
pub mod setup;
pub mod soak;
pub mod test;
pub mod version;
pub mod workspace;
