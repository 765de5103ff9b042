//! Which of several engines a flow belongs to, where one is not enough (`docs/design-many-cores.md`).
//!
//! Engines share nothing, so several of them, each with the flows of its own, say together what one would say of all.

use go_metro_common::flow::FlowId;

use crate::FlowKey;

/// The engine of this flow, below `shards`, which is at least 1.
///
/// Both directions of a connection have one key, since local and remote are told apart before, and so have the flows of
/// both its sides. Who does not know the seed cannot send all flows to one engine.
#[inline]
pub fn shard_of(flow: &FlowKey, seed: u64, shards: u32) -> u32 {
    let (local, remote) = (flow.local.addr.words(), flow.remote.addr.words());
    let (local_port, remote_port) = (flow.local.port, flow.remote.port);
    FlowId { local, remote, local_port, remote_port, ifindex: flow.ifindex }.hash(seed).shard(shards)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Addr, Endpoint, Side};

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
                (0..40_000).for_each(|number| counts[shard_of(&flow(number, local_varies), 7, shards) as usize] += 1);
                let even = 40_000 / shards;
                assert!(counts.iter().all(|count| count.abs_diff(even) < even / 20), "{counts:?}");
            }
        }
    }

    #[test]
    fn nobody_who_does_not_know_the_seed_can_fill_one_engine_alone() {
        let of_first =
            |seed| (0..40_000).map(|number| flow(number, true)).filter(move |flow| shard_of(flow, seed, 4) == 0);
        let chosen: Vec<FlowKey> = of_first(1).collect();
        let hit = chosen.iter().filter(|flow| shard_of(flow, 0x5eed, 4) == 0).count();
        assert!(hit.abs_diff(chosen.len() / 4) < chosen.len() / 16, "{hit} of {}", chosen.len());
    }

    #[test]
    fn an_address_of_ipv4_is_the_same_here_and_in_the_kernel() {
        let octets = [192, 0, 2, 7];
        assert_eq!(Addr::v4(octets).words(), go_metro_common::flow::mapped(u32::from_ne_bytes(octets)));
    }

    #[test]
    fn both_sides_of_a_connection_belong_to_one_engine() {
        for number in 0..1000 {
            let remote = flow(number, true);
            assert_eq!(shard_of(&remote, 1, 7), shard_of(&FlowKey { side: Side::Local, ..remote }, 1, 7));
        }
    }
}
