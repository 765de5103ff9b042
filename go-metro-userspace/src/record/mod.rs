//! Segment records that are kept in bounded memory, and pcapng files made of them (docs/recorder.md).
//!
//! A meter keeps its records and what became of them in a [`Ring`]. [`choice`] takes those of some flows out of what
//! rings hold, and measures them as `read` will: what a file lacks, as it begins within connections, is known before it
//! is written. [`ongoing`] writes one while it goes on, whose [`blocks`] are fetched meanwhile. [`headers`] makes a
//! packet's headers of a record, [`file`] the file, and [`note`] says in it what no header can; [`folder`] keeps files
//! within their limits.

mod blocks;
mod choice;
mod file;
mod folder;
mod headers;
pub(crate) mod note;
mod ongoing;
mod ring;

pub(crate) use blocks::Blocks;
pub(crate) use choice::{Choice, Focus, Recording};
pub(crate) use file::Described;
#[cfg(test)]
pub(crate) use file::write;
pub(crate) use folder::{Folder, FolderLimits, Unwritable, make_folder};
pub(crate) use ongoing::Ongoing;
pub(crate) use ring::{Mark, Ring, Snapshot};
