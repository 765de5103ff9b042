//! What the classifier keeps of a flow while it thins: of all segments it emits a few, and the acknowledgement that
//! closes them.

/// Flows that are thinned at once; the least recently active makes room for a new one.
pub const PICKS: u32 = 1 << 16;

/// Segments in a row that are picked together, so that an acknowledgement of every second one ends with one of them.
pub const SEGMENTS_MAX: u64 = 4;

/// Timed segments after the SYN that are all told of while only a full ring thins, so that what is short is whole.
pub const FIRST_SEGMENTS: u64 = 32;

/// One flow. Sequence numbers are as in RFC 9293 section 3.3.1.
///
/// No padding, which the verifier would call uninitialised. What is 0 in a new one stands in aligned pairs: the
/// compiler writes them in one, and the verifier wants that aligned.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pick {
    /// Departure of the last pick; 0 for none.
    pub at: u64,
    /// Segments picked and not yet acknowledged; 0 if nothing is picked.
    pub pending: u64,
    /// Timed segments still to be told of whatever happens.
    pub whole: u64,
    /// Not 0 for a flow of which everything is emitted again: what stands here is no longer true.
    pub returned: u64,
    /// Sequence number after the highest sent.
    pub snd_nxt: u32,
    /// First sequence number not acknowledged.
    pub snd_una: u32,
    /// First sequence number picked.
    pub start: u32,
    /// Sequence number after the last picked.
    pub end: u32,
    /// Window of the last acknowledgement.
    pub window: u32,
    /// All below must be acknowledged before anything is picked: something was sent twice, or is missing at the peer.
    pub clean_from: u32,
    /// Sequence number of our SYN.
    pub isn: u32,
    /// Not 0 if it is known.
    pub opened: u32,
}

const _: () = assert!(size_of::<Pick>() == 64);
