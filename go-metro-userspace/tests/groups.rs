//! Look-ups of groups on the packet path: they do not allocate.

#![allow(clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::IpAddr;

use go_metro::config::{GroupBy, NamedPrefixes};
use go_metro::groups::{Apart, Groups};
use go_metro_rtt::{Addr, Group};

#[path = "../../testing/support/src/mmdb.rs"]
#[allow(dead_code, unreachable_pub)]
mod mmdb;

/// The system's allocator, counting.
struct Counting;

thread_local! {
    /// Of this thread: the test's harness has others.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: hands everything on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn looking_a_group_up_costs_no_allocation() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("as.mmdb");
    let systems = [("192.0.2.0/24", 64_500, "Example"), ("2001:db8::/32", 64_501, "Other")];
    std::fs::write(&path, mmdb::of_systems(&systems)).unwrap();
    let names = NamedPrefixes(vec![("office".to_owned(), vec!["10.1.0.0/16".parse().unwrap()])]);
    let wanted =
        GroupBy { names, as_database: Some(path), ipv4_prefix: Some(24), ipv6_prefix: Some(48), ..GroupBy::default() };
    let apart = Apart { hosts: ["10.1.2.3".parse().unwrap()].into(), ..Apart::default() };
    let grouping = Groups::open(&wanted, &Groups::default()).unwrap().grouping(apart).unwrap();
    let asked = ["10.1.2.3", "10.1.2.4", "10.2.0.1", "192.0.2.9", "2001:db8::1", "2001:db9::1"];
    let asked = asked.map(|address| Addr::from(address.parse::<IpAddr>().unwrap()));
    let before = ALLOCATIONS.get();
    let mut hosts = 0;
    for _ in 0..1000 {
        for address in asked {
            hosts += u32::from((grouping.group_of)(address).0 == Group::HOST);
        }
    }
    let after = ALLOCATIONS.get();
    assert_eq!((hosts, after - before), (1000, 0));
    assert!(before > 0, "the allocator counts");
}
