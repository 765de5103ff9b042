//! The target tries, kept in step with what is to be watched.

use std::collections::BTreeSet;

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{MapData, MapError};
use go_metro_common::names;
use go_metro_common::target::{IFINDEX_BITS, TARGETS_MAX, TargetV4, TargetV6};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::capture::error::CaptureError;

/// Both tries, and what is in them.
pub struct Tries {
    v4: LpmTrie<MapData, TargetV4, u8>,
    v6: LpmTrie<MapData, TargetV6, u8>,
    held: BTreeSet<(u32, IpNet)>,
}

impl Tries {
    /// Two empty tries.
    pub(super) fn new(v4: LpmTrie<MapData, TargetV4, u8>, v6: LpmTrie<MapData, TargetV6, u8>) -> Self {
        Self { v4, v6, held: BTreeSet::new() }
    }

    /// Makes the tries hold exactly `wanted`: interface indices, each with a prefix whose host bits are 0.
    ///
    /// New keys come before old ones go, so a target that stays is matched throughout.
    ///
    /// # Errors
    ///
    /// More keys than a trie takes, or the kernel refuses one. Nothing has been removed then.
    pub fn set(&mut self, wanted: &BTreeSet<(u32, IpNet)>) -> Result<(), CaptureError> {
        fit(wanted.iter())?;
        self.insert(wanted)?;
        let old: Vec<_> = self.held.difference(wanted).copied().collect();
        for (ifindex, net) in old {
            match net {
                IpNet::V4(net) => self.v4.remove(&key_v4(ifindex, net)).map_err(failed(names::TARGETS_V4))?,
                IpNet::V6(net) => self.v6.remove(&key_v6(ifindex, net)).map_err(failed(names::TARGETS_V6))?,
            }
            self.held.remove(&(ifindex, net));
        }
        Ok(())
    }

    /// Adds these to what the tries hold.
    ///
    /// # Errors
    ///
    /// More keys than a trie takes, or the kernel refuses one.
    pub fn extend(&mut self, more: &BTreeSet<(u32, IpNet)>) -> Result<(), CaptureError> {
        fit(self.held.iter().chain(more.difference(&self.held)))?;
        self.insert(more)
    }

    fn insert(&mut self, wanted: &BTreeSet<(u32, IpNet)>) -> Result<(), CaptureError> {
        let new: Vec<_> = wanted.difference(&self.held).copied().collect();
        for (ifindex, net) in new {
            match net {
                IpNet::V4(net) => self.v4.insert(&key_v4(ifindex, net), 0, 0).map_err(failed(names::TARGETS_V4))?,
                IpNet::V6(net) => self.v6.insert(&key_v6(ifindex, net), 0, 0).map_err(failed(names::TARGETS_V6))?,
            }
            self.held.insert((ifindex, net));
        }
        Ok(())
    }
}

/// Whether so many fit into the tries.
fn fit<'a>(keys: impl Iterator<Item = &'a (u32, IpNet)>) -> Result<(), CaptureError> {
    let (mut v4, mut all) = (0, 0);
    for (_, net) in keys {
        v4 += usize::from(matches!(net, IpNet::V4(_)));
        all += 1;
    }
    let most = v4.max(all - v4);
    if most > TARGETS_MAX as usize {
        return Err(CaptureError::TooManyTargets { wanted: most, limit: TARGETS_MAX });
    }
    Ok(())
}

fn key_v4(ifindex: u32, net: Ipv4Net) -> Key<TargetV4> {
    let bits = IFINDEX_BITS + u32::from(net.prefix_len());
    Key::new(bits, TargetV4 { ifindex, addr: net.network().octets() })
}

fn key_v6(ifindex: u32, net: Ipv6Net) -> Key<TargetV6> {
    let bits = IFINDEX_BITS + u32::from(net.prefix_len());
    Key::new(bits, TargetV6 { ifindex, addr: net.network().octets() })
}

fn failed(map: &'static str) -> impl Fn(MapError) -> CaptureError {
    move |error| CaptureError::Map { map, reason: error.to_string() }
}
