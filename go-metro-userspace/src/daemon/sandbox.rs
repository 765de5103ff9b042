//! What the daemon is confined to, by its configuration.

use std::path::PathBuf;

use super::status;
use crate::config::{Backend, Config};
use crate::privileges::{self, Sandbox};

/// Confines this process to what a daemon with this configuration needs. [`super::run`] does so too; who has threads
/// before it does it before them.
pub(crate) fn confine(config: &Config) {
    // What the kernel can do is found out by trying.
    status::kernel();
    privileges::confine(Sandbox {
        wanted: config.sandbox,
        writable: &folders(config),
        readable: None,
        may_use_sockets: true,
        may_use_bpf: config.backend != Backend::Pcap,
    });
    crate::logging::start();
}

/// The folders in which files are made: those of the log and of the status socket, which is made here if need be, as it
/// cannot be later.
fn folders(config: &Config) -> Vec<PathBuf> {
    let log = config.log_to_file.then_some(&config.log_file);
    let folder = |path: &PathBuf| {
        let folder = path.parent()?;
        // A bare name is in the folder that it was started in.
        Some(if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder.to_owned() })
    };
    let socket = config.status_socket.as_ref().and_then(folder);
    // What is wrong with it is told by who makes the socket.
    let _ = socket.as_ref().map(std::fs::create_dir_all);
    log.and_then(folder).into_iter().chain(socket).collect()
}
