//! Maps and read-only globals; names and layouts are those of `go_metro_common`.

use aya_ebpf::Global;
use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, LpmTrie, LruHashMap, ProgramArray, RingBuf};
use go_metro_common::counters::PerCpu;
use go_metro_common::flow::FlowId;
use go_metro_common::last_ack::{LAST_ACKS, LastAck};
use go_metro_common::names::FULL_PROGRAMS;
use go_metro_common::pick::{self, Pick};
use go_metro_common::pressure::{NEVER, Pressure};
use go_metro_common::slot::Slot;
use go_metro_common::target::{TARGETS_MAX, TargetV4, TargetV6};

/// Segment records for user space, which sets the size when it loads the map.
#[map]
pub(crate) static RECORDS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// Ring, counters and working memory of each processor. User space sets how many there may be.
#[map]
pub(crate) static CPUS: Array<PerCpu> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// The processors' rings, where they are mapped.
#[map]
pub(crate) static SLOTS: Array<Slot> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// IPv4 targets.
#[map]
pub(crate) static TARGETS_V4: LpmTrie<TargetV4, u8> = LpmTrie::with_max_entries(TARGETS_MAX, 0);

/// IPv6 targets.
#[map]
pub(crate) static TARGETS_V6: LpmTrie<TargetV6, u8> = LpmTrie::with_max_entries(TARGETS_MAX, 0);

/// The last acknowledgement of each flow, by its hash.
#[map]
pub(crate) static LAST_ACK: Array<LastAck> = Array::with_max_entries(LAST_ACKS, 0);

/// Flows that are sampled, by all that names them: of two that share a place one would have no samples.
#[map]
pub(crate) static PICKS: LruHashMap<FlowId, Pick> = LruHashMap::with_max_entries(pick::PICKS, 0);

/// The second programs of TC's entry points.
#[map]
pub(crate) static FULL: ProgramArray = ProgramArray::with_max_entries(FULL_PROGRAMS.len() as u32, 0);

/// How full the rings are.
#[map]
pub(crate) static PRESSURE: Array<Pressure> = Array::with_max_entries(1, 0);

/// Bytes in a ring above which flows are sampled.
#[unsafe(no_mangle)]
pub(crate) static WATERMARK: Global<u64> = Global::new(NEVER);

/// Nanoseconds between two samples of a flow.
#[unsafe(no_mangle)]
pub(crate) static PER_FLOW: Global<u64> = Global::new(u64::MAX);

/// What flows are hashed with.
#[unsafe(no_mangle)]
pub(crate) static SEED: Global<u64> = Global::new(0);

/// How long an acknowledgement may repeat the last before it is emitted all the same, in jiffies; 0 for not at all.
#[unsafe(no_mangle)]
pub(crate) static REFRESH: Global<u64> = Global::new(0);

/// 1 where responses are timed: then payload says more than the acknowledgement alone that it repeats.
#[unsafe(no_mangle)]
pub(crate) static RESPONSES: Global<u8> = Global::new(0);

/// 1 where `__sk_buff` has `tstamp_type`.
#[unsafe(no_mangle)]
pub(crate) static HAS_TSTAMP_TYPE: Global<u8> = Global::new(0);

/// Which round trips are measured, as [`go_metro_common::segment::Sides`].
#[unsafe(no_mangle)]
pub(crate) static SIDES: Global<u8> = Global::new(1);

/// User space is woken when a CPU's count of emitted records, masked with this, is 0.
#[unsafe(no_mangle)]
pub(crate) static WAKE_MASK: Global<u32> = Global::new(0);

/// 1 where each processor has a mapped ring of its own; else the kernel's ring buffer is used.
#[unsafe(no_mangle)]
pub(crate) static MAPPED: Global<u8> = Global::new(0);

/// Turns for which what is sent is held up between the clock and a mapped ring, for tests.
#[unsafe(no_mangle)]
pub(crate) static HOLD_UP: Global<u32> = Global::new(0);
