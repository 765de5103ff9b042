//! In place of the page for Prometheus, in a build without the feature `prometheus`: `agent/outputs.rs` refuses to open it.

use std::sync::Arc;

use bytes::Bytes;

use super::Report;
use crate::rtt::Buckets;

/// In what form the page is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Format;

#[expect(missing_docs, reason = "as the page for Prometheus has them")]
impl Format {
    pub fn accepted(_: &str) -> Self {
        Self
    }

    pub fn content_type(self) -> &'static str {
        "text/plain"
    }
}

/// What is scraped.
#[derive(Debug)]
pub struct Exposition;

#[expect(missing_docs, reason = "as the page for Prometheus has them")]
impl Exposition {
    pub fn page(self: &Arc<Self>, _: Format) -> Bytes {
        Bytes::new()
    }
}

/// Takes reports for scrapers.
#[derive(Clone, Debug)]
pub struct Prometheus(Arc<Exposition>);

#[expect(missing_docs, reason = "as the page for Prometheus has them")]
impl Prometheus {
    pub fn new(_: usize, _: Buckets) -> Self {
        Self(Arc::new(Exposition))
    }

    pub fn show(&self, _: Buckets) {}

    pub fn exposition(&self) -> Arc<Exposition> {
        self.0.clone()
    }

    pub fn report(&self, _: &Report) {}
}
