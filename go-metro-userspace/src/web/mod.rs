//! What a browser is shown (docs/web.md): the seconds that the daemon tells those who watch it, kept for a while, and
//! the page that draws them.
//!
//! The way of one second: a [`Live`](crate::status::Live) comes from the daemon to a thread of [`Site`]'s; [`history`]
//! keeps it, and who follows events has it at once. [`api`] makes documents of the history, and [`page`] has the files
//! that a browser loads. The daemon's server asks for all of it, and says by which names a browser may have come.

#[cfg(feature = "web")]
mod api;
#[cfg(feature = "web")]
mod buckets;
#[cfg(test)]
#[cfg(feature = "web")]
mod examples;
#[cfg(feature = "web")]
mod history;
#[cfg(feature = "web")]
mod page;
#[cfg(feature = "web")]
mod series;
#[cfg_attr(not(feature = "web"), path = "without.rs")]
mod site;

use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

pub(crate) use site::Site;

/// How hard answers are compressed: as much as costs little.
const LEVEL: u32 = 3;
/// What is smaller stays as it is: a segment holds it.
const WORTH_COMPRESSING: usize = 1024;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Question {
    /// The path, such as `/api/v1/pairs`.
    pub path: String,
    /// What is behind `?`.
    pub query: String,
    /// Whether the answer may be compressed.
    pub gzip: bool,
}

/// What is answered.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    /// HTTP's status code.
    pub status: u16,
    /// What the body is.
    pub content_type: &'static str,
    /// The body.
    pub body: Bytes,
    /// Whether it is compressed.
    pub is_gzip: bool,
}

impl Reply {
    /// A document, compressed if it may be and that is worth it.
    pub(crate) fn json(status: u16, document: Vec<u8>, may_compress: bool) -> Self {
        let is_gzip = may_compress && document.len() >= WORTH_COMPRESSING;
        let body = if is_gzip { gzip(&document) } else { document.into() };
        Self { status, content_type: "application/json", body, is_gzip }
    }
}

/// Compresses.
fn gzip(bytes: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(LEVEL));
    // Writing to memory does not fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default().into()
}
