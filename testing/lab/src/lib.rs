//! A network of its own to test in: two hosts, and between them a path whose delay and faults are set by command.
//!
//! ```text
//! host a                       middle                        host b
//! 10.77.0.1  eth0 ──── to-a ─ forwarder ─ to-b ──── eth0  10.77.0.2, .3, ...
//! fd77::1                                                 fd77::2
//! ```
//!
//! Each host is a network namespace. [`Link::Veth`] joins them through a third one, where the forwarder ([`forwarder`])
//! moves frames between two packet sockets; [`Link::Tun`] gives each host a device without a link header, whose other
//! end is the forwarder itself. Super-segments and checksum offload pass unharmed either way, so that what the
//! classifier sees at the hooks is what it sees on a real machine.
//!
//! Needs root. Namespaces are removed when a [`Lab`] is dropped; those of a process that was killed, when the next one
//! starts.
//!
//! Order of modules: `behind`, `browser`, `container`, `control_groups`, `drawing`, `flood`, `pair`, `programs`,
//! `prometheus`, `statsd`, `tcpdump`, `terminal`, `threads`, `traffic`, `victoria` → `agent`, `tcp_info` → `network` →
//! `forwarder`, `namespace` → `ethtool`, `passage`, `port`, `priority` → `frame` → `impairment` → `big_tcp`, `late`,
//! `over`, `soon`.

pub mod agent;
pub mod behind;
pub mod big_tcp;
pub mod browser;
pub mod container;
pub mod control_groups;
pub mod drawing;
mod ethtool;
pub mod flood;
pub mod forwarder;
mod frame;
pub mod impairment;
pub mod late;
pub mod namespace;
mod network;
mod over;
mod pair;
pub mod passage;
pub mod port;
mod priority;
pub mod programs;
pub mod prometheus;
pub mod soon;
pub mod statsd;
pub mod tcp_info;
pub mod tcpdump;
pub mod terminal;
pub mod threads;
pub mod traffic;
pub mod victoria;

pub use behind::{Behind, HostDelay};
pub use container::Container;
pub use forwarder::{Forwarder, PathCounters};
pub use impairment::{Impairment, Order, Queue, Then, Way, What};
pub use namespace::Namespace;
pub use network::{Host, INTERFACE, Lab, Link, Offload};
pub use over::Over;
pub use pair::Pair;
pub use passage::Passage;
pub use priority::before_others;
pub use tcp_info::TcpInfo;
