//! Sequence numbers: serial-number arithmetic modulo 2^32 (RFC 9293 section 3.4, RFC 1982).

/// Sequence numbers further apart than the largest window (2^30, RFC 7323 section 2.3) are not of one stream: what
/// comes is the first segment of something else.
pub(crate) const LARGEST_WINDOW: u32 = 1 << 30;

/// A TCP sequence or acknowledgement number.
///
/// There is no `<` on purpose: which of two comes first depends on where the window is, and only
/// numbers less than 2^31 apart can be compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SeqNum(pub u32);

impl SeqNum {
    /// Whether this number comes before `other`.
    #[inline]
    pub fn before(self, other: Self) -> bool {
        (self.0.wrapping_sub(other.0) as i32) < 0
    }

    /// Whether this number comes after `other`.
    #[inline]
    pub fn after(self, other: Self) -> bool {
        other.before(self)
    }

    /// The number `len` later.
    #[inline]
    pub fn plus(self, len: u32) -> Self {
        Self(self.0.wrapping_add(len))
    }

    /// The number `len` earlier.
    #[inline]
    pub fn minus(self, len: u32) -> Self {
        Self(self.0.wrapping_sub(len))
    }

    /// How far apart the two are, whichever comes first.
    #[inline]
    pub fn distance(self, other: Self) -> u32 {
        (self.0.wrapping_sub(other.0) as i32).unsigned_abs()
    }

    /// The later of the two.
    #[inline]
    pub fn max(self, other: Self) -> Self {
        if self.before(other) { other } else { self }
    }
}
