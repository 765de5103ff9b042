//! Which processor's mapped ring lies where, and whether such rings can be used at all.

use std::fs;

use go_metro_common::slot::{SLOTS_MIN, Slot};

use super::merge::Place;

/// Slots of a page, of which a ring has at least one: a part of the array is mapped in whole pages.
const PAGE: u32 = 4096 / size_of::<Slot>() as u32;

/// Most slots of all rings together: a gibibyte.
const ALL_MAX: u32 = (1 << 30) / size_of::<Slot>() as u32;

/// Why no mapped rings can be used here, if they cannot.
pub(super) fn obstacle() -> Option<String> {
    if !cfg!(target_arch = "x86_64") {
        return Some("this processor may make stores visible out of order".to_owned());
    }
    // Older ones have no word of it in their version, and a file of their own.
    let is_realtime = nix::sys::utsname::uname()
        .is_ok_and(|name| name.version().to_string_lossy().contains("PREEMPT_RT"))
        || fs::read_to_string("/sys/kernel/realtime").is_ok_and(|text| text.trim() == "1");
    // There a segment's way through a hook may be interrupted by another's, on the same processor.
    is_realtime.then(|| "this is a real-time kernel (PREEMPT_RT)".to_owned())
}

/// The rings of `cpus` processors, of which some may never come: those that are there now share `bytes`, the others
/// have the smallest that there is.
pub(super) fn of(bytes: u32, cpus: usize) -> Vec<Place> {
    let online = online().filter(|online| !online.is_empty()).unwrap_or_else(|| (0..cpus).collect());
    shared_out(bytes, cpus, &online)
}

pub(super) fn shared_out(bytes: u32, cpus: usize, online: &[usize]) -> Vec<Place> {
    let share = (bytes / size_of::<Slot>() as u32).min(ALL_MAX) / u32::try_from(online.len()).unwrap_or(1).max(1);
    let large = if share < PAGE { PAGE } else { 1 << share.ilog2() };
    let small = large.min(SLOTS_MIN);
    let mut base = 0;
    let place = |cpu| {
        let slots = if online.contains(&cpu) { large } else { small };
        let place = Place { base, mask: slots - 1 };
        base += slots;
        place
    };
    (0..cpus).map(place).collect()
}

/// Slots of all rings.
pub(super) fn slots(places: &[Place]) -> u32 {
    places.last().map_or(0, |last| last.base + last.mask + 1)
}

/// The processors that are there now.
fn online() -> Option<Vec<usize>> {
    aya::util::online_cpus().ok().map(|cpus| cpus.into_iter().map(|cpu| cpu as usize).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: u32 = 8 << 20;

    fn bytes(places: &[Place]) -> u64 {
        u64::from(slots(places)) * size_of::<Slot>() as u64
    }

    #[test]
    fn rings_lie_one_behind_the_other_in_whole_pages() {
        for (size, cpus) in [(0, 1), (1, 3), (DEFAULT, 1), (DEFAULT, 2), (DEFAULT, 65), (DEFAULT, 8192), (u32::MAX, 4)]
        {
            let online: Vec<usize> = (0..cpus).step_by(2).collect();
            let places = shared_out(size, cpus, &online);
            assert_eq!(places.len(), cpus);
            let mut end = 0;
            for Place { base, mask } in places {
                assert_eq!(base, end);
                assert!((mask + 1).is_power_of_two() && (mask + 1).is_multiple_of(PAGE), "{size} bytes, {cpus} CPUs");
                end = base + mask + 1;
            }
        }
    }

    #[test]
    fn those_that_are_there_share_the_size_and_the_others_have_the_smallest() {
        assert_eq!(bytes(&shared_out(DEFAULT, 2, &[0, 1])), 8 << 20);
        // Of three each has a quarter: a power of two.
        assert_eq!(bytes(&shared_out(DEFAULT, 3, &[0, 1, 2])), 6 << 20);
        // A virtual machine with two processors that may have 240 one day.
        let places = shared_out(DEFAULT, 240, &[0, 1]);
        assert_eq!((places[1].mask + 1, places[2].mask + 1), (65_536, SLOTS_MIN));
        assert_eq!(bytes(&places), (8 << 20) + 238 * (32 << 10));
        // A page each, were there no size.
        assert_eq!(bytes(&shared_out(0, 2, &[0, 1])), 8192);
        assert_eq!(bytes(&shared_out(u32::MAX, 1, &[0])), 1 << 30);
    }
}
