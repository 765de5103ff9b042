//! What a running daemon says of itself.
//!
//! [`document`] is what it says (docs/status.md describes it field by field), [`live`] what it tells those who watch it
//! from second to second; [`client`] asks it over its Unix socket, [`show`] prints the answer for people. The answering
//! side is the agent's.

pub mod beside;
pub mod client;
pub mod document;
pub mod live;
pub mod show;

pub use document::Status;
pub use live::Live;

/// The document.
pub const STATUS_PATH: &str = "/v1/status";
/// A line a second, for as long as the connection lasts.
pub const LIVE_PATH: &str = "/v1/live";
