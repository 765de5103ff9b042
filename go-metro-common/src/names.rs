//! Names that both sides must agree on: maps, programs and read-only globals.

/// Ring buffer of segment records; where the rings are mapped, of nothing but wake-ups.
pub const RECORDS: &str = "RECORDS";
/// Array with a [`crate::counters::PerCpu`] for each processor, by its number.
pub const CPUS: &str = "CPUS";
/// Array of [`crate::slot::Slot`]s: all processors' mapped rings, where they are used.
pub const SLOTS: &str = "SLOTS";
/// Longest-prefix trie of IPv4 targets, keyed by [`crate::target::TargetV4`].
pub const TARGETS_V4: &str = "TARGETS_V4";
/// Longest-prefix trie of IPv6 targets, keyed by [`crate::target::TargetV6`].
pub const TARGETS_V6: &str = "TARGETS_V6";

/// Array of [`crate::last_ack::LastAck`].
pub const LAST_ACK: &str = "LAST_ACK";

/// Least-recently-used hash of [`crate::pick::Pick`].
pub const PICKS: &str = "PICKS";
/// Array with one [`crate::pressure::Pressure`].
pub const PRESSURE: &str = "PRESSURE";

/// Ingress entry point for devices with an Ethernet header.
pub const INGRESS_ETHERNET: &str = "gometro_in_eth";
/// Egress entry point for devices with an Ethernet header.
pub const EGRESS_ETHERNET: &str = "gometro_out_eth";
/// Ingress entry point for devices without a link header (tun, WireGuard).
pub const INGRESS_IP: &str = "gometro_in_ip";
/// Egress entry point for devices without a link header.
pub const EGRESS_IP: &str = "gometro_out_ip";
/// Ingress entry point for devices with an Ethernet header, in the driver.
pub const INGRESS_XDP: &str = "gometro_in_xdp";
/// The same for devices on which comes in what the local end sends.
pub const EGRESS_XDP: &str = "gometro_out_xdp";

/// Read-only global `u8`: 1 where the kernel's `__sk_buff` has `tstamp_type` (5.18 and later).
pub const HAS_TSTAMP_TYPE: &str = "HAS_TSTAMP_TYPE";
/// Read-only global `u8`: which round trips are measured, a [`crate::segment::Sides`].
pub const SIDES: &str = "SIDES";
/// Read-only global `u64`: a secret that flows are hashed with.
pub const SEED: &str = "SEED";
/// Read-only global `u64`: an acknowledgement that only repeats the last is emitted all the same after so many jiffies;
/// 0 for always.
pub const REFRESH: &str = "REFRESH";
/// Read-only global `u8`: 1 where responses are timed, so that the first segment with payload after an acknowledgement
/// alone is emitted even if it repeats that.
pub const RESPONSES: &str = "RESPONSES";
/// Read-only global `u64`: nanoseconds between two samples of a flow; 0 for one in each round trip, `u64::MAX` for all.
pub const PER_FLOW: &str = "PER_FLOW";
/// Read-only global `u64`: bytes in the ring above which flows are thinned; [`crate::pressure::NEVER`] for none.
pub const WATERMARK: &str = "WATERMARK";
/// Read-only global `u32`: a CPU wakes the daemon when its count of emitted records, masked with this, is 0.
pub const WAKE_MASK: &str = "WAKE_MASK";
/// What TC's hooks have, for the usual packet.
pub const ENTRY_POINTS: [&str; 4] = [INGRESS_ETHERNET, EGRESS_ETHERNET, INGRESS_IP, EGRESS_IP];
/// The same, each for any packet; where there are no two programs, this one is on the hook.
pub const FULL_PROGRAMS: [&str; 4] = ["gometro_full_ie", "gometro_full_oe", "gometro_full_ii", "gometro_full_oi"];
/// Array of [`FULL_PROGRAMS`], in which entry points go on where a packet is not a usual one, or flows are sampled.
pub const FULL: &str = "FULL";
/// Read-only global `u8`: 1 where each processor has a mapped ring of its own ([`SLOTS`]).
pub const MAPPED: &str = "MAPPED";
/// Read-only global `u32`: how many times a processor reads the clock again between reading it and putting a record of
/// what is sent into a mapped ring; 0 but in tests, to which it is held up.
pub const HOLD_UP: &str = "HOLD_UP";

/// The program of [`FULL_PROGRAMS`] beside one of [`ENTRY_POINTS`]; any other program itself.
#[must_use]
pub fn full_program(name: &str) -> &str {
    ENTRY_POINTS.iter().position(|entry| *entry == name).map_or(name, |place| FULL_PROGRAMS[place])
}
