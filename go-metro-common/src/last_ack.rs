//! What the classifier remembers of the last acknowledgement that it emitted of a flow.
//!
//! An array, in which a flow's place is given by its hash. Two flows of one place forget each other's, which costs records and nothing
//! else.

/// Places: a mebibyte in all.
pub const LAST_ACKS: u32 = 1 << 16;

/// One flow's last acknowledgement.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LastAck {
    /// The fingerprint of flow, acknowledgement number and window, one word so that it is never seen half written; 0 for none. Within one
    /// flow different numbers have different fingerprints; two flows share one once in 2^64.
    pub print: u64,
    /// When it was emitted, in jiffies.
    pub at: u64,
}
