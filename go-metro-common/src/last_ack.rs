//! What the classifier remembers of a flow of which everything is emitted: the last acknowledgement that it emitted,
//! and how far it has sent.
//!
//! An array, in which a flow's place is given by its hash. Two flows of one place forget each other's, which costs
//! records and, while one of them sends again what was lost, perhaps a sample's truth when thinning begins.

/// Places: two mebibytes in all.
pub const LAST_ACKS: u32 = 1 << 16;

/// One flow, within one cache line.
#[repr(C, align(32))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LastAck {
    /// The fingerprint of flow, acknowledgement number and window, one word so that it is never seen half written; 0
    /// for none. Within one flow different numbers have different fingerprints; two flows share one once in 2^64.
    pub print: u64,
    /// When it was emitted, in jiffies.
    pub at: u64,
    /// The part of the flow's hash that does not say where its place is.
    pub flow: u32,
    /// Sequence number after the highest sent (RFC 9293 section 3.3.1), while flows may be thinned.
    pub snd_nxt: u32,
}
