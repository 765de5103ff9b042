//! What the daemon is confined to, by its configuration.

use std::path::{Path, PathBuf};

use super::DaemonOptions;
use super::status;
use crate::config::{Backend, Config, Output};
use crate::output;
use crate::privileges::{self, Sandbox};
use crate::record;

/// Confines this process to what a daemon with this configuration needs. [`super::run`] does so too; who has threads
/// before it does it before them.
pub(crate) fn confine(options: &DaemonOptions) {
    let config = &options.config;
    // What the kernel can do is found out by trying.
    status::kernel();
    privileges::confine(Sandbox {
        wanted: config.sandbox,
        writable: &folders(config, &options.overrides.outputs_of(config)),
        readable: None,
        may_use_sockets: true,
        may_use_bpf: config.backend != Backend::Pcap,
    });
    crate::logging::start();
}

/// The folders in which files are made: those of the log, of the outputs, of recordings, and of the status socket. The
/// last two are made here if need be, as they cannot be later.
fn folders(config: &Config, outputs: &[Output]) -> Vec<PathBuf> {
    let log = config.log_to_file.then_some(config.log_file.as_path());
    let socket = config.status_socket.as_deref().and_then(folder);
    // What is wrong with it is told by who makes the socket.
    let _ = socket.as_ref().map(std::fs::create_dir_all);
    let of_outputs = outputs.iter().flat_map(|output| output::files(*output, config));
    let of_outputs = of_outputs.filter_map(|path| folder(&path));
    // One that is there may be wanted after a reload.
    let record = &config.record;
    if record.has_outliers() {
        let _ = record::make_folder(&record.folder);
    }
    let recordings = Some(record.folder.clone()).filter(|folder| folder.is_dir());
    log.and_then(folder).into_iter().chain(socket).chain(of_outputs).chain(recordings).collect()
}

/// A file that this process is not confined to, which an output would write.
pub(super) fn out_of_reach(config: &Config, outputs: &[Output]) -> Option<(Output, PathBuf)> {
    let files =
        outputs.iter().flat_map(|output| output::files(*output, config).into_iter().map(|file| (*output, file)));
    files.into_iter().find(|(_, path)| folder(path).is_some_and(|folder| !privileges::may_write_in(&folder)))
}

/// The folder that a file is made in. A bare name is in the folder that the process was started in.
fn folder(path: &Path) -> Option<PathBuf> {
    let folder = path.parent()?;
    Some(if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder.to_owned() })
}
