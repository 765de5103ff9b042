//! What names a flow, and its hash: in the kernel a key and a place in tables, in user space the choice of an engine.

use crate::hash::FlowHash;

/// Everything that names a flow. Local and remote end are told apart already, so both directions have the same.
///
/// No padding: it is a map's key, which the kernel compares byte by byte.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowId {
    /// Local address: its first and its last eight bytes, each as they lie in memory. IPv4 is [`mapped`].
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

impl FlowId {
    /// The flow's hash: of all that names it, the same in both directions, in the kernel and in user space.
    ///
    /// Two flows that share one cannot be chosen without the seed ([`crate::hash`]). Only operations that BPF
    /// has as well.
    #[inline(always)]
    #[must_use]
    pub const fn hash(&self, seed: u64) -> FlowHash {
        let ports = (self.local_port as u64) << 48 | (self.remote_port as u64) << 32 | self.ifindex as u64;
        let hash = FlowHash::new(seed).with(ports);
        match (unmapped(self.local), unmapped(self.remote)) {
            (Some(local), Some(remote)) => hash.with((local as u64) << 32 | remote as u64),
            _ => hash.with(self.local[0]).with(self.local[1]).with(self.remote[0]).with(self.remote[1]),
        }
    }
}

/// In the second word of a [`mapped`] address: bytes that are the same in all of them, and where the others are.
const MAPPED: u64 = u64::from_ne_bytes([0, 0, 0xff, 0xff, 0, 0, 0, 0]);
const MAPPED_MASK: u64 = u64::from_ne_bytes([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
const MAPPED_SHIFT: u32 = if cfg!(target_endian = "little") { 32 } else { 0 };

/// An IPv4 address, as it lies in memory, as one of IPv6: `::ffff:a.b.c.d` (RFC 4291 section 2.5.5.2).
#[inline(always)]
#[must_use]
pub const fn mapped(address: u32) -> [u64; 2] {
    [0, MAPPED | (address as u64) << MAPPED_SHIFT]
}

/// The IPv4 address that [`mapped`] made this of.
#[inline(always)]
#[must_use]
pub const fn unmapped(address: [u64; 2]) -> Option<u32> {
    if address[0] == 0 && address[1] & MAPPED_MASK == MAPPED { Some((address[1] >> MAPPED_SHIFT) as u32) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::mix;

    fn flow(local: [u64; 2], remote: [u64; 2]) -> FlowId {
        FlowId { local, remote, local_port: 40_000, remote_port: 443, ifindex: 2 }
    }

    #[test]
    fn an_ipv4_address_lies_in_memory_as_in_a_mapped_one() {
        let octets = [192, 0, 2, 1];
        let bytes = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1];
        let address = mapped(u32::from_ne_bytes(octets));
        assert_eq!([address[0].to_ne_bytes(), address[1].to_ne_bytes()].as_flattened(), bytes);
        assert_eq!(unmapped(address), Some(u32::from_ne_bytes(octets)));
        assert_eq!(unmapped([1, address[1]]), None);
        assert_eq!(unmapped([0, 0]), None);
    }

    #[test]
    fn every_part_of_a_flow_is_in_its_hash() {
        let (near, far) = (mapped(1), mapped(2));
        let v4 = flow(near, far);
        let v6 = flow([1, 2], [3, 4]);
        for base in [v4, v6] {
            let others = [
                FlowId { local_port: 1, ..base },
                FlowId { remote_port: 1, ..base },
                FlowId { ifindex: 1, ..base },
                FlowId { local: mapped(7), ..base },
                FlowId { remote: mapped(7), ..base },
                FlowId { local: [base.local[0] ^ 1, base.local[1]], ..base },
                FlowId { local: [base.local[0], base.local[1] ^ 1], ..base },
                FlowId { remote: [base.remote[0] ^ 1, base.remote[1]], ..base },
                FlowId { remote: [base.remote[0], base.remote[1] ^ 1], ..base },
                FlowId { local: base.remote, remote: base.local, ..base },
            ];
            for other in others {
                assert_ne!(other.hash(7), base.hash(7), "{other:?}");
            }
            assert_ne!(base.hash(7), base.hash(8));
        }
    }

    #[test]
    fn the_top_bits_of_ports_and_addresses_cancel_each_other_under_no_seed() {
        // The highest bits of the local port, of the local address and of the remote one: all of these collided once.
        let word = |number| mix(0x0005_eed0, number);
        let collides = |number: &u64| {
            let (seed, ports, addresses) = (word(3 * number), word(3 * number + 1), word(3 * number + 2));
            let one = FlowId {
                local: mapped((addresses >> 32) as u32),
                remote: mapped(addresses as u32),
                local_port: (ports >> 48) as u16,
                remote_port: (ports >> 32) as u16,
                ifindex: ports as u32,
            };
            let twin = FlowId {
                local: mapped((addresses >> 32) as u32 ^ 1 << 31),
                remote: mapped(addresses as u32 ^ 1 << 31),
                local_port: one.local_port ^ 1 << 15,
                ..one
            };
            one.hash(seed) == twin.hash(seed)
        };
        assert_eq!((0..100_000).filter(collides).count(), 0);
    }
}
