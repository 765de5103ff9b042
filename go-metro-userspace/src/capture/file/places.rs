//! What tells flows of a file apart beside their addresses: the tunnel, and the place of the path where they were
//! captured.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::tunnels::Tunnelled;
use crate::capture::decode::{Decoded, Tunnel};

/// Tunnels and places that have a number of their own; others have one by their digest, and no name.
const PLACES_MAX: usize = 1 << 14;
/// Above all numbers, and below what an interface's index can be.
const UNNAMED: u32 = 1 << 30;

/// Numbers for what tells flows apart, as a flow has them in the place of an interface's index; 0 is neither tunnel nor
/// place.
#[derive(Default)]
pub(super) struct Places {
    numbers: Numbers,
    tunnelled: Tunnelled,
}

/// Numbers of tunnels and places, and their names.
#[derive(Default)]
pub(super) struct Numbers {
    numbers: HashMap<(u64, u32), u32>,
    names: Vec<String>,
}

impl Places {
    /// What tells this segment's flow apart, which was captured at this place.
    #[inline]
    pub(super) fn of(&mut self, decoded: &Decoded, place: u32) -> u32 {
        match &decoded.tunnel {
            None if place == 0 => 0,
            None => self.numbers.of(None, place),
            Some(tunnel) => self.tunnelled.number(decoded, tunnel, place, &mut self.numbers),
        }
    }

    /// What goes by this number: `0` for neither.
    pub(super) fn name(&self, number: u32) -> &str {
        match number {
            0 => "0",
            number => self.numbers.names.get(number as usize - 1).map_or("other", String::as_str),
        }
    }

    /// Connections whose directions did not meet, for people.
    pub(super) fn warning(&self) -> Option<String> {
        self.tunnelled.warning()
    }
}

impl Numbers {
    /// The number of a tunnel, if any, and a place.
    #[cold]
    pub(super) fn of(&mut self, tunnel: Option<&Tunnel>, place: u32) -> u32 {
        let digest = tunnel.map_or(0, Tunnel::digest);
        if let Some(number) = self.numbers.get(&(digest, place)) {
            return *number;
        }
        if self.names.len() >= PLACES_MAX {
            return UNNAMED | (digest >> 34) as u32 ^ place & (UNNAMED - 1);
        }
        self.names.push(name(tunnel, place));
        let number = self.names.len() as u32;
        self.numbers.insert((digest, place), number);
        number
    }
}

/// `vxlan-42@192.0.2.1-192.0.2.9`, and the number of the interface where the flow was captured at several.
fn name(tunnel: Option<&Tunnel>, place: u32) -> String {
    let mut name = String::new();
    if let Some(Tunnel { kind, id, ends, .. }) = tunnel {
        name.push_str(kind.name());
        if let Some(id) = id {
            let _ = write!(name, "-{id}");
        }
        let _ = write!(name, "@{}-{}", ends[0], ends[1]);
    }
    if place > 0 {
        let before = if name.is_empty() { "" } else { "/" };
        let _ = write!(name, "{before}{}", place - 1);
    }
    name
}
