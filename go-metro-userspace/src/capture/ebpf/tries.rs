//! The target tries, kept in step with what is to be watched.

use std::collections::BTreeSet;
use std::sync::Arc;

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{MapData, MapError};
use go_metro_common::counters::Everything;
use go_metro_common::names;
use go_metro_common::target::{IFINDEX_BITS, TARGETS_MAX, TargetV4, TargetV6};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::mapping::CpuValues;
use crate::capture::error::CaptureError;

/// Both tries, and what is in them.
///
/// If they hold every address of a family on every interface, the classifier can skip the look-up ([`Self::shorten`]).
pub struct Tries {
    v4: LpmTrie<MapData, TargetV4, u8>,
    v6: LpmTrie<MapData, TargetV6, u8>,
    held: BTreeSet<(u32, IpNet)>,
    /// Memory in which the classifier reads `told`; none if it cannot be mapped.
    cpus: Option<Arc<CpuValues>>,
    told: u32,
}

impl Tries {
    /// Two empty tries.
    pub(super) fn new(
        v4: LpmTrie<MapData, TargetV4, u8>,
        v6: LpmTrie<MapData, TargetV6, u8>,
        cpus: Option<Arc<CpuValues>>,
    ) -> Self {
        Self { v4, v6, held: BTreeSet::new(), cpus, told: 0 }
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
        // What is no longer everything is looked up before any of it goes.
        self.limit(everything(wanted));
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
        self.insert(more)?;
        self.limit(everything(&self.held));
        Ok(())
    }

    /// Lets the classifier skip the look-up for families of which every address is a target on every interface here.
    /// Call it once the classifier is attached to no other interface; the next change of targets ends it.
    pub fn shorten(&mut self) {
        self.tell(everything(&self.held));
    }

    /// Has it look up everything again, before it is attached to an interface of which not everything is a target.
    pub(super) fn lengthen(&mut self) {
        self.tell(0);
    }

    /// Has it look up again what is not in these families.
    fn limit(&mut self, families: u32) {
        self.tell(self.told & families);
    }

    fn tell(&mut self, families: u32) {
        if let Some(cpus) = self.cpus.as_ref().filter(|_| families != self.told) {
            cpus.set_everything(families);
            self.told = families;
        }
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

/// The families of which every address is a target on every interface that any is on.
fn everything(keys: &BTreeSet<(u32, IpNet)>) -> u32 {
    let mut interfaces: Vec<u32> = keys.iter().map(|(ifindex, _)| *ifindex).collect();
    interfaces.dedup();
    let families = [(Everything::V4, IpNet::V4(Ipv4Net::default())), (Everything::V6, IpNet::V6(Ipv6Net::default()))];
    let is_everywhere =
        |net: IpNet| !keys.is_empty() && interfaces.iter().all(|ifindex| keys.contains(&(*ifindex, net)));
    families.into_iter().filter(|(_, net)| is_everywhere(*net)).map(|(bit, _)| bit).sum()
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
