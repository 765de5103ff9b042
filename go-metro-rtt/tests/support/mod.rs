//! What the engine's tests share.

#![allow(dead_code, unreachable_pub, missing_docs)]

pub mod case;
pub mod model;
pub mod path;
pub mod property;
pub mod trace;
