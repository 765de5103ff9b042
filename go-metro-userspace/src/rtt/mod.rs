//! The engine.

mod sample;
mod segment;
mod seq;
mod summary;
mod time;

pub use sample::{Class, Kind, Sample};
pub use segment::{Addr, Direction, Endpoint, FlowKey, Segment};
pub use seq::SeqNum;
pub use summary::{Interval, PairKey, PairSummary, Stats, Summaries, SummaryLimits};
pub use time::{Nanos, Rtt};
