//! Connections that a capture has in several VLANs.
//!
//! Tags are no part of a flow's identity: each direction may have its own, or one of them none. But where one direction
//! comes with several, these are two places of one path, or two connections with the same addresses, and are taken for
//! one.

use std::collections::HashMap;
use std::fmt::Write as _;

/// Directions of connections that are remembered.
const DIRECTIONS_MAX: usize = 1 << 16;

/// With which tags directions of connections were seen.
#[derive(Default)]
pub(super) struct Vlans {
    /// By the direction's digest: the first tags, and whether there were others.
    seen: HashMap<u64, (u64, bool)>,
    /// Directions with several, and the first two tags of one of them.
    several: u64,
    example: [u64; 2],
}

impl Vlans {
    /// Notes a segment of a direction, and its tags; before any has tags, none is remembered.
    #[inline]
    pub(super) fn note(&mut self, direction: u64, vlans: u64) {
        if vlans != 0 || !self.seen.is_empty() {
            self.remember(direction, vlans);
        }
    }

    #[cold]
    fn remember(&mut self, direction: u64, vlans: u64) {
        if self.seen.len() >= DIRECTIONS_MAX && !self.seen.contains_key(&direction) {
            return;
        }
        let (first, has_others) = self.seen.entry(direction).or_insert((vlans, false));
        if *first != vlans && !std::mem::replace(has_others, true) {
            (self.several, self.example) = (self.several + 1, [*first, vlans]);
        }
    }

    /// That there are such connections, for people.
    pub(super) fn warning(&self) -> Option<String> {
        let [one, other] = self.example.map(name);
        (self.several > 0).then(|| {
            format!(
                "{} directions of connections appear in several VLANs (one in {one} and {other}), which are taken for \
                 one; segments that appear twice are not measured. Keep one VLAN with `tshark -Y vlan.id==N -w FILE`",
                self.several
            )
        })
    }
}

/// `VLAN 10/20`, the outer one first.
fn name(vlans: u64) -> String {
    let mut each: Vec<u64> =
        std::iter::successors(Some(vlans), |rest| Some(rest >> 12)).take_while(|rest| *rest != 0).collect();
    each.reverse();
    let mut name = String::new();
    for vlan in each {
        let _ = write!(name, "{}{}", if name.is_empty() { "VLAN " } else { "/" }, vlan & 0xfff);
    }
    if name.is_empty() { "none".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_direction_in_two_vlans_is_said_and_a_vlan_for_each_direction_is_not() {
        let mut vlans = Vlans::default();
        vlans.note(1, 10);
        vlans.note(2, 20);
        vlans.note(1, 10);
        vlans.note(3, 0);
        assert_eq!(vlans.warning(), None);
        vlans.note(1, 10 << 12 | 7);
        vlans.note(3, 30);
        vlans.note(1, 0);
        let said = vlans.warning().unwrap();
        assert!(
            said.starts_with("2 directions of connections appear in several VLANs (one in none and VLAN 30)"),
            "{said}"
        );
        assert_eq!(name(10 << 12 | 7), "VLAN 10/7");
    }
}
