//! What is shipped, installed where it belongs: packages on a machine with a real systemd, the image by a container
//! runtime, and the manifests before their validators.
#![allow(clippy::unwrap_used)]

mod alone;
mod deb;
mod image;
mod kubernetes;
mod machine;
mod page;
mod rpm;
mod shipped;
