//! Keys of the target tries.
//!
//! A longest-prefix trie compares bits from the left, so the interface comes first, always in full, and the
//! address or prefix after it: one look-up a packet answers "is this remote address a target on this interface".
//! The value is one unused byte.

/// Bits of the interface index in front of the address.
pub const IFINDEX_BITS: u32 = 32;

/// Entries that each trie holds at most: prefixes times interfaces. Memory is taken as entries are added.
pub const TARGETS_MAX: u32 = 1 << 16;

/// What follows the prefix length in an IPv4 key.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetV4 {
    /// Interface index, in host byte order: it is only ever compared in full.
    pub ifindex: u32,
    /// Address in network byte order.
    pub addr: [u8; 4],
}

/// What follows the prefix length in an IPv6 key.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetV6 {
    /// Interface index, in host byte order: it is only ever compared in full.
    pub ifindex: u32,
    /// Address in network byte order.
    pub addr: [u8; 16],
}

const _: () = assert!(size_of::<TargetV4>() == 8);
const _: () = assert!(size_of::<TargetV6>() == 20);

// SAFETY: `repr(C)` with fields that fill it: no padding, any bit pattern is valid.
#[cfg(feature = "user")]
unsafe impl aya::Pod for TargetV4 {}
// SAFETY: as above.
#[cfg(feature = "user")]
unsafe impl aya::Pod for TargetV6 {}
