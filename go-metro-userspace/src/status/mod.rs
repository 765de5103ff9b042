//! What a running daemon says of itself.
//!
//! [`document`] is what it says (docs/status.md describes it field by field), [`live`] what it tells those who watch it
//! from second to second, [`record`] what it can be asked to record; [`client`] asks it over its Unix socket, [`show`]
//! prints the answer for people. The answering side is the agent's.

pub(crate) mod beside;
pub(crate) mod client;
pub(crate) mod document;
pub(crate) mod live;
pub(crate) mod record;
pub(crate) mod show;

pub(crate) use document::Status;
pub(crate) use live::Live;

/// How the problem begins that says why the last reload was refused.
pub(crate) const RELOAD_REFUSED: &str = "the last reload was refused";
/// The document.
pub(crate) const STATUS_PATH: &str = "/v1/status";
/// A line a second, for as long as the connection lasts.
pub(crate) const LIVE_PATH: &str = "/v1/live";
/// A recording, as it goes on.
pub(crate) const RECORD_PATH: &str = "/v1/record";
/// Ends one before its time, by the `id` that it was asked for with.
pub(crate) const END_RECORDING_PATH: &str = "/v1/record/end";
