//! go-metro's own tasks.
//!
//! Order of modules: `clones`, `demo`, `docs`, `picture`, `run`, `test`, `version` → `deny`, `fuzz`, `package` →
//! `dist`.

pub mod clones;
pub mod demo;
pub mod deny;
pub mod dist;
pub mod docs;
pub mod fuzz;
pub mod package;
pub mod picture;
pub mod run;
pub mod test;
pub mod version;
