//! The contract between the classifier in the kernel and the daemon in user space.
//!
//! Everything that crosses the border is defined here, once: the [segment record](segment), the
//! [counters](mod@counters) and how one is [declared](metric), the keys of the [target] tries, what names a [flow] and
//! its [hash], the numbers in packet [headers] that both sides read, and the [names] of maps, programs and globals. The
//! crate is `no_std`, does not allocate, and is compiled for both sides.
//!
//! Order of modules: `counters`, `slot` → `flow` → `hash`, `headers`, `last_ack`, `metric`, `names`, `pick`,
//! `pressure`, `segment`, `target`.

#![no_std]

#[macro_use]
pub mod metric;

pub mod counters;
pub mod flow;
pub mod hash;
pub mod headers;
pub mod last_ack;
pub mod names;
pub mod pick;
pub mod pressure;
pub mod segment;
pub mod slot;
pub mod target;
