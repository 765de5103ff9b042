//! In place of the OpenTelemetry sink, in a build without the feature `otlp`: [`Exporter`] refuses to open.

use std::sync::Arc;

use super::{OpenError, Report, Sink, Surroundings};
use crate::config::Config;

/// Sends nothing.
pub struct Exporter;

impl Exporter {
    /// Refuses.
    ///
    /// # Errors
    ///
    /// Always.
    pub fn open(_: &Config, _: &Surroundings<'_>) -> Result<Self, OpenError> {
        Err(OpenError::Otlp("this go-metro was built without the cargo feature `otlp`".to_owned()))
    }
}

impl Sink for Exporter {
    fn destination(&self) -> String {
        String::new()
    }

    fn report(&mut self, _: &Arc<Report>) {}
}
