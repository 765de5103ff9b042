//! Is the number right, and does it stay so? Captures of real TCP, the judges of every sample, and the soak.
//!
//! Order of modules: `oracle`, `soak` → `corpus`.

pub mod corpus;
pub mod oracle;
pub mod soak;
