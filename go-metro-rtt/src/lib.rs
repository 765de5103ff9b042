//! Passive TCP round-trip times: segments and their acknowledgements go in, round-trip times come out.
//!
//! A source hands each [`Segment`] to [`Engine::record`], in the order of capture. The engine finds its flow, or begins
//! one. A segment that the local end sends joins the flow's outstanding transmissions; an acknowledgement is matched
//! with them by the rules of [RULES.md], and comes out as an [`Outcome`]: a [`Sample`], or the reason why there is
//! none.
//!
//! Nothing here opens a socket, reads a clock or starts a thread. Time is an argument.
//!
//! [RULES.md]: https://github.com/DataDog/go-metro/blob/main/go-metro-rtt/RULES.md
//!
//! ```
//! use go_metro_rtt::{
//!     Addr, Bits, Endpoint, Engine, EngineConfig, FlowKey, Outcome, Payload, Segment, SegmentHeader, Side, TcpFlags,
//! };
//!
//! let flow = FlowKey {
//!     local: Endpoint { addr: Addr::v4([10, 0, 0, 1]), port: 40000 },
//!     remote: Endpoint { addr: Addr::v4([10, 0, 0, 2]), port: 80 },
//!     ifindex: 2,
//!     side: Side::Remote,
//! };
//! let usual = SegmentHeader { flags: TcpFlags(TcpFlags::ACK), window: 500, ..Default::default() };
//! let payload = Payload::new(100);
//! let request = SegmentHeader { time_ns: 1_000, seq: 1, payload, bits: Bits(Bits::EGRESS), ..usual };
//! let answer = SegmentHeader { time_ns: 51_000, ack: 101, ..usual };
//!
//! let mut engine = Engine::new(EngineConfig::default());
//! assert_eq!(engine.record(&Segment { flow, header: request }), Outcome::Sent);
//! let Outcome::Sample(sample) = engine.record(&Segment { flow, header: answer }) else { panic!("no sample") };
//! assert_eq!(sample.rtt.0, 50_000);
//! ```
//!
//! A busy source hands over segments with [`Batch::push`] instead: then the flows of several are fetched from memory at
//! the same time. [`Engine::expire`] forgets flows whose time is over.
//!
//! [`Summaries`] collects samples by pair of hosts, interface and side, and hands out an [`Interval`] of them. Remote
//! hosts may be put together in groups before ([`Engine::group`]), so that a group is one pair:
//!
//! ```
//! # use go_metro_rtt::{Addr, Class, Endpoint, FlowKey, Kind, Label, Nanos, Place, Rtt, Sample, SeqNum, Side};
//! use go_metro_rtt::{Summaries, SummaryLimits};
//! # let flow = FlowKey {
//! #     local: Endpoint { addr: Addr::v4([10, 0, 0, 1]), port: 40000 },
//! #     remote: Endpoint { addr: Addr::v4([10, 0, 0, 2]), port: 80 },
//! #     ifindex: 2,
//! #     side: Side::Remote,
//! # };
//! # let sample = |ms: u64| Sample {
//! #     flow,
//! #     acked_at: Nanos(0),
//! #     ack: SeqNum(0),
//! #     rtt: Rtt(ms * 1_000_000),
//! #     kind: Kind::Data,
//! #     class: Class::Exact,
//! #     delayed: false,
//! #     label: Label::NONE,
//! #     place: Place::default(),
//! # };
//! let mut summaries = Summaries::new(SummaryLimits::default());
//! for ms in [50, 52, 54] {
//!     summaries.add(&sample(ms));
//! }
//! let interval = summaries.take();
//! let stats = interval.pairs[0].1.data.as_ref().expect("three samples of data");
//! assert_eq!((stats.count(), stats.mean_ms()), (3, 52.0));
//! ```
//!
//! Order of modules: `batch` → `engine` → `hashed`, `merge` → `table` → `ledger` → `extension` →
//! `exchange`, `flow_health` → `summary` → `distribution`, `flow`, `index` → `early`, `exponential`,
//! `grouping`, `histogram`, `outstanding` → `key`, `ports`, `sample`, `shard` → `health`, `labels`,
//! `place`, `zero_window` → `segment` → `seq`, `time`.

#![forbid(unsafe_code)]

mod batch;
mod distribution;
mod early;
mod engine;
mod exchange;
mod exponential;
mod extension;
mod flow;
mod flow_health;
mod grouping;
mod hashed;
mod health;
mod histogram;
mod index;
mod key;
mod labels;
mod ledger;
mod merge;
mod outstanding;
mod place;
mod ports;
mod sample;
mod segment;
mod seq;
mod shard;
mod summary;
mod table;
mod time;
mod zero_window;

#[doc(inline)]
pub use go_metro_common::segment::{Bits, Direction, Payload, SegmentHeader, SegmentV4, SegmentV6, Sides, TcpFlags};

pub use batch::Batch;
pub use distribution::{Figure, QUANTILE_ERROR};
pub use engine::{Engine, EngineConfig, EngineCounters};
pub use exponential::Exponential;
pub use grouping::{GroupOf, Grouping};
pub use health::{By, Cause, Connect, PeerHealth, Role};
pub use histogram::{Buckets, Histogram};
pub use labels::{Label, Unlabelled};
pub use ledger::HealthLimits;
pub use place::{Group, GroupKind, Place};
pub use ports::{Ports, parse_ports};
pub use sample::{Class, Kind, Outcome, Quiet, Rejection, Resent, Response, Sample};
pub use segment::{Addr, Endpoint, FlowKey, Segment, Side};
pub use seq::SeqNum;
pub use shard::shard_of;
pub use summary::{Average, Interval, PairKey, PairSummary, Stats, Summaries, SummaryLimits};
pub use time::{Nanos, Rtt};
