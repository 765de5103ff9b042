//! The output for scrapers: [`exposition`] holds what is shown, [`page`] is how it is sent.

#[cfg_attr(not(feature = "prometheus"), path = "without.rs")]
pub mod exposition;
pub mod page;

pub use exposition::{Exposition, Prometheus};
