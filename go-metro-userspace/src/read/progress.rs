//! How far a long file has been read, shown at a terminal.

use std::fs::File;
use std::io::Read;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::terminal;

/// Files below this are read before anybody could wait: a quarter of a second's worth.
const LONG: u64 = 32 << 20;
/// Times a second that the bar is drawn.
const DRAWS: u8 = 8;

const TEMPLATE: &str = "{percent:>3} % [{bar:40}] {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";

/// The file, whose reading is shown on standard error if that is a terminal, the file is long, and nothing else is
/// written there.
pub(super) fn shown(file: File, writes_lines: bool) -> Box<dyn Read + Send> {
    let len = file.metadata().map_or(0, |metadata| metadata.len());
    let in_the_way = writes_lines && terminal::is_stdout();
    if len < LONG || in_the_way || !terminal::is_stderr() || terminal::is_dumb() {
        return Box::new(file);
    }
    let bar = ProgressBar::with_draw_target(Some(len), ProgressDrawTarget::stderr_with_hz(DRAWS));
    if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
        bar.set_style(style.progress_chars("=> "));
    }
    Box::new(Shown { file, bar })
}

/// Clears the bar when the file is done with.
struct Shown {
    file: File,
    bar: ProgressBar,
}

impl Read for Shown {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read(into)?;
        if count == 0 {
            self.bar.finish_and_clear();
        }
        self.bar.inc(count as u64);
        Ok(count)
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
