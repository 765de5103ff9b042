//! In place of the page for Prometheus, in a build without the feature `prometheus`: [`super::Endpoint`] refuses to
//! open it.

use std::sync::Arc;

use go_metro_rtt::Buckets;

use super::page::{Format, Page, PageError};
use crate::output::Report;

/// What is scraped.
#[derive(Debug)]
pub struct Exposition;

#[expect(missing_docs, reason = "as the page for Prometheus has them")]
impl Exposition {
    pub fn page(&self, _: Format) -> Result<Arc<Page>, PageError> {
        Err(PageError::Write("built without the feature `prometheus`".to_owned()))
    }

    pub fn problem(&self) -> Option<PageError> {
        None
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

    pub fn follow(&self, _: usize, _: Buckets) {}
    pub fn forget_health(&self) {}

    pub fn exposition(&self) -> Arc<Exposition> {
        self.0.clone()
    }

    pub fn report(&self, _: &Report) {}
}
