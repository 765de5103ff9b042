//! Which of several engines a flow belongs to, where one is not enough (`docs/design-many-cores.md`).
//!
//! Engines share nothing, so several of them, each with the flows of its own, say together what one would say of all.

use super::FlowKey;

/// 2^64 divided by the golden ratio: multiplying by it spreads what differs in low bits over the high ones (Knuth, The Art of Computer
/// Programming, section 6.4).
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// The engine of this flow, below `shards`, which is at least 1.
///
/// Both directions of a connection have one key, since local and remote are told apart before, and so have the flows of both its sides. Only operations that
/// a kernel without multiplication of 128 bits has as well: whoever fills the rings can ask the same.
#[inline]
pub fn shard_of(flow: &FlowKey, shards: u32) -> u32 {
    let [local, remote] = [flow.local.addr, flow.remote.addr].map(|addr| {
        let [high, low] = addr.words();
        high.wrapping_mul(SPREAD).rotate_left(32) ^ low
    });
    let ports = u64::from(flow.local.port) << 48 | u64::from(flow.remote.port) << 32 | u64::from(flow.ifindex);
    let mixed = [remote, ports].iter().fold(local.wrapping_mul(SPREAD), |mixed, word| {
        (mixed.rotate_left(29) ^ (mixed >> 32) ^ word).wrapping_mul(SPREAD)
    });
    let hash = mixed >> 32;
    ((hash * u64::from(shards)) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::super::{Addr, Endpoint, Side};
    use super::*;

    fn flow(number: u32, local_varies: bool) -> FlowKey {
        let (high, low) = ((number >> 8) as u8, number as u8);
        let remote = if local_varies { [93, 0, 0, 1] } else { [93, 0, high, low] };
        let port = if local_varies { 1024 + number as u16 } else { 50_000 };
        FlowKey {
            local: Endpoint { addr: Addr::v4([10, 0, 0, 1]), port },
            remote: Endpoint { addr: Addr::v4(remote), port: 443 },
            ifindex: 2,
            side: Side::Remote,
        }
    }

    #[test]
    fn flows_that_differ_in_one_port_or_one_address_alone_are_shared_out_evenly() {
        for local_varies in [false, true] {
            for shards in [2, 3, 8] {
                let mut counts = vec![0_u32; shards as usize];
                (0..40_000).for_each(|number| counts[shard_of(&flow(number, local_varies), shards) as usize] += 1);
                let even = 40_000 / shards;
                assert!(counts.iter().all(|count| count.abs_diff(even) < even / 20), "{counts:?}");
            }
        }
    }

    #[test]
    fn both_sides_of_a_connection_belong_to_one_engine() {
        for number in 0..1000 {
            let remote = flow(number, true);
            assert_eq!(shard_of(&remote, 7), shard_of(&FlowKey { side: Side::Local, ..remote }, 7));
        }
    }
}
