//! `--samples`: every sample on standard output, as a line of JSON.

use std::io::{self, Write as _};
use std::sync::mpsc;
use std::thread::JoinHandle;

use go_metro_rtt::Sample;

use super::capture_thread::{CaptureThread, Samples};
use crate::output::sample::SampleWriter;
use crate::privileges;
use crate::terminal::{Spelling, shared_stdout};
use crate::threads;

/// A thread that prints samples, so that a slow reader holds up nothing else.
pub(super) fn print() -> io::Result<(mpsc::SyncSender<Samples>, JoinHandle<()>)> {
    let (sender, receiver) = CaptureThread::sample_channel();
    let printer = threads::spawn("samples", move || {
        privileges::give_up_all();
        for Samples { samples, epoch_offset_ns } in receiver {
            let written = write(&samples, epoch_offset_ns);
            if written.is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
                return;
            }
        }
    })?;
    Ok((sender, printer))
}

/// Prints samples, a line each.
pub(super) fn write(samples: &[Sample], epoch_offset_ns: i64) -> io::Result<()> {
    let mut lines = Vec::new();
    let mut writer = SampleWriter::Json(&mut lines);
    samples.iter().try_for_each(|sample| writer.write(sample, epoch_offset_ns))?;
    drop(writer);
    shared_stdout(Spelling::Json).write_all(&lines)
}
