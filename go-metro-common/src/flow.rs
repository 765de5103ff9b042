//! What a flow is known by: whose shard is chosen, and what the kernel keeps of it while it is thinned.

/// Everything that names a flow. Local and remote are told apart before, so both directions have the same.
///
/// No padding: it is a map's key, which the kernel compares byte by byte.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowId {
    /// Local address: its first and its last eight bytes, each as they lie in memory. IPv4 is mapped ([`mapped`]).
    pub local: [u64; 2],
    /// Remote address, likewise.
    pub remote: [u64; 2],
    /// TCP port of the local end.
    pub local_port: u16,
    /// TCP port of the remote end.
    pub remote_port: u16,
    /// Interface index.
    pub ifindex: u32,
}

const _: () = assert!(size_of::<FlowId>() == 40);

/// An IPv4 address, as it lies in memory, as one of IPv6: `::ffff:a.b.c.d` (RFC 4291 section 2.5.5.2).
#[inline(always)]
pub const fn mapped(address: u32) -> [u64; 2] {
    let last = if cfg!(target_endian = "little") {
        0xffff_0000 | (address as u64) << 32
    } else {
        0xffff_0000_0000 | address as u64
    };
    [0, last]
}
