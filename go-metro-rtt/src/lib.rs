//! The engine: round-trip times from segments and their acknowledgements.
//!
//! The way of one record: a source hands a [`Segment`] to [`Engine::record`]. The flow table finds (or begins) its flow. An outbound
//! segment joins the flow's outstanding transmissions; an inbound acknowledgement is matched with them by
//! the rules of `flow`, and comes out as an [`Outcome`]: a [`Sample`], or the reason why there is none. Samples go into
//! [`Summaries`], which are handed out once per report interval.
//!
//! Nothing here knows a clock, socket, file or thread. Time is an argument.
//!
//! ```
//! use go_metro_rtt::{
//!     Addr, Bits, Endpoint, Engine, EngineConfig, FlowKey, Outcome, Segment, SegmentHeader, Side, TcpFlags,
//! };
//!
//! let flow = FlowKey {
//!     local: Endpoint { addr: Addr::v4([10, 0, 0, 1]), port: 40000 },
//!     remote: Endpoint { addr: Addr::v4([10, 0, 0, 2]), port: 80 },
//!     ifindex: 2,
//!     side: Side::Remote,
//! };
//! let flags = TcpFlags(TcpFlags::ACK);
//! let request = SegmentHeader { time_ns: 1_000, seq: 1, payload_len: 100, flags, bits: Bits(Bits::EGRESS), ..Default::default() };
//! let answer = SegmentHeader { time_ns: 51_000, ack: 101, flags, ..Default::default() };
//!
//! let mut engine = Engine::new(EngineConfig::default());
//! engine.record(&Segment { flow, header: request });
//! let Outcome::Sample(sample) = engine.record(&Segment { flow, header: answer }) else { panic!("no sample") };
//! assert_eq!(sample.rtt.0, 50_000);
//! ```
//!
//! Order of modules: `engine` → `batch`, `merge` → `summary`, `table` → `distribution`, `flow`, `index` → `ack_delay`,
//! `early`, `histogram`, `marks`, `outstanding` → `key`, `ports`, `sample`, `shard` → `segment` → `seq`, `time`.

#![forbid(unsafe_code)]

mod batch;
mod distribution;
mod early;
mod engine;
mod flow;
mod histogram;
mod index;
mod key;
mod merge;
mod outstanding;
mod ports;
mod sample;
mod segment;
mod seq;
mod shard;
mod summary;
mod table;
mod time;

#[doc(inline)]
pub use go_metro_common::segment::{Bits, Direction, SegmentHeader, SegmentV4, SegmentV6, Sides, TcpFlags};

pub use batch::Batch;
pub use distribution::{Figure, QUANTILE_ERROR};
pub use engine::{Engine, EngineConfig, EngineCounters};
pub use histogram::{Buckets, Histogram};
pub use ports::{Ports, parse_ports};
pub use sample::{Class, Kind, Outcome, Quiet, Rejection, Sample};
pub use segment::{Addr, Endpoint, FlowKey, Segment, Side};
pub use seq::SeqNum;
pub use shard::shard_of;
pub use summary::{Average, Interval, PairKey, PairSummary, Stats, Summaries, SummaryLimits};
pub use time::{Nanos, Rtt};
