//! The outputs of a running daemon: opened, handed reports, changed by a reload, and finished together.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Notify;

use super::server::{self, Asks};
use crate::config::{Config, Output};
use crate::output::{self, Exposition, OpenError, Report, Served, Sink, Surroundings};
use crate::status::document::OutputStatus;
use crate::threads;

/// The outputs of a running daemon.
pub(super) struct Outputs {
    each: Vec<(Output, Box<dyn Sink>)>,
    /// A reader closed its pipe.
    closed: Arc<Notify>,
    /// When the daemon's own counters began.
    started: SystemTime,
    /// The errors of those that a reload ended, so that what is counted only grows.
    ended: Vec<(Output, u64)>,
}

/// The outputs of a configuration that is not in force yet: open, or `None` for one that goes on as it is.
pub(super) struct Reopened(Vec<(Output, Option<Box<dyn Sink>>)>);

/// How long an output that a reload ends may take for what is still queued.
const LAST_REPORTS: Duration = Duration::from_secs(5);

impl Outputs {
    /// Opens them; those of a file's report are asked nothing, and scraped by nobody.
    pub(super) fn open(wanted: &[Output], config: &Config, asks: Option<&Asks>) -> Result<Self, OpenError> {
        let mut outputs =
            Self { each: Vec::new(), closed: Arc::default(), started: SystemTime::now(), ended: Vec::new() };
        for output in wanted.iter().filter(|output| !output.is_scraped() || asks.is_some()) {
            outputs.each.push((*output, outputs.opened(*output, config, asks)?));
        }
        Ok(outputs)
    }

    fn opened(&self, output: Output, config: &Config, asks: Option<&Asks>) -> Result<Box<dyn Sink>, OpenError> {
        let (closed, started) = (&self.closed, self.started);
        output::open(output, config, &Surroundings { closed, started, serve: &serve(asks) })
    }

    /// Opens what another configuration wants and is not open, or cannot follow it as it is, and prepares the rest, so
    /// that [`Self::follow`] cannot fail.
    pub(super) fn reopen(
        &mut self,
        wanted: &[Output],
        old: &Config,
        new: &Config,
        asks: &Asks,
    ) -> Result<Reopened, OpenError> {
        let goes_on =
            |output: &Output| self.each.iter().any(|(its, sink)| its == output && !sink.must_reopen(old, new));
        let opened = wanted.iter().map(|output| {
            let sink = if goes_on(output) { None } else { Some(self.opened(*output, new, Some(asks))?) };
            Ok((*output, sink))
        });
        let opened: Vec<_> = opened.collect::<Result<_, OpenError>>()?;
        for (output, sink) in &mut self.each {
            if opened.iter().any(|(its, opened)| its == output && opened.is_none()) {
                let (closed, started) = (&self.closed, self.started);
                sink.prepare(new, &Surroundings { closed, started, serve: &serve(Some(asks)) })?;
            }
        }
        Ok(Reopened(opened))
    }

    /// Has those that [`Self::reopen`] prepared follow the configuration in force again, as the other one is refused.
    pub(super) fn go_back(&mut self, config: &Config, asks: &Asks) {
        for (output, sink) in &mut self.each {
            let (closed, started) = (&self.closed, self.started);
            let back = sink.prepare(config, &Surroundings { closed, started, serve: &serve(Some(asks)) });
            let _ = back.inspect_err(|error| tracing::warn!("{}: {error}", output.name()));
        }
    }

    /// Applies another configuration, with what [`Self::reopen`] gave; what it leaves as it was goes on, what it does
    /// not have ends.
    pub(super) fn follow(&mut self, new: &Config, reopened: Reopened) {
        let mut old = std::mem::take(&mut self.each);
        for (output, sink) in reopened.0 {
            let place = old.iter().position(|(its, _)| *its == output);
            let before = place.map(|place| old.remove(place).1);
            match (sink, before) {
                (Some(sink), before) => {
                    before.into_iter().for_each(|before| self.end(output, before));
                    self.each.push((output, sink));
                }
                (None, Some(before)) => self.each.push((output, before)),
                (None, None) => {}
            }
        }
        old.into_iter().for_each(|(output, sink)| self.end(output, sink));
        self.each.iter_mut().for_each(|(_, sink)| sink.follow(new));
    }

    /// Ends an output beside the loop, which does not wait for what is still queued.
    fn end(&mut self, output: Output, sink: Box<dyn Sink>) {
        match self.ended.iter_mut().find(|(its, _)| *its == output) {
            Some((_, errors)) => *errors += sink.errors(),
            None => self.ended.push((output, sink.errors())),
        }
        if threads::spawn("last-reports", move || sink.finish(LAST_REPORTS)).is_err() {
            threads::forgo("last-reports");
        }
    }

    /// Hands a report to each.
    pub(super) fn report(&mut self, report: &Arc<Report>) {
        self.each.iter_mut().for_each(|(_, sink)| sink.report(report));
    }

    /// Starts what could not be started before for want of a thread.
    pub(super) fn retry(&mut self) {
        self.each.iter_mut().for_each(|(_, sink)| sink.retry());
    }

    /// Sends what is still queued, within this time.
    pub(super) fn finish(mut self, limit: Duration) {
        let deadline = Instant::now() + limit;
        // What waits for an answer comes last, as it is being sent meanwhile: a receiver that does not answer takes no
        // time of the others.
        self.each.sort_by_key(|(output, _)| *output == Output::Otlp);
        for (_, sink) in self.each {
            sink.finish(deadline.saturating_duration_since(Instant::now()));
        }
    }

    /// Waits until every output is a pipe whose reader closed it: there is nobody left to measure for.
    pub(super) async fn all_closed(&self) {
        while self.each.is_empty() || !self.each.iter().all(|(_, sink)| sink.is_closed()) {
            self.closed.notified().await;
        }
    }

    /// What is in the way of each.
    pub(super) fn problems(&self) -> impl Iterator<Item = String> {
        self.each.iter().flat_map(|(output, sink)| {
            let of = |problem| format!("{} {}: {problem}", output.name(), sink.destination());
            sink.problems().into_iter().map(of).collect::<Vec<_>>()
        })
    }

    /// What could not be sent, but by OTLP.
    pub(super) fn send_errors(&self) -> u64 {
        self.errors(|output| output != Output::Otlp)
    }

    /// Data points that OTLP did not deliver.
    pub(super) fn otlp_lost(&self) -> u64 {
        self.errors(|output| output == Output::Otlp)
    }

    fn errors(&self, of: fn(Output) -> bool) -> u64 {
        let now = self.each.iter().filter(|(output, _)| of(*output)).map(|(_, sink)| sink.errors());
        let before = self.ended.iter().filter(|(output, _)| of(*output)).map(|(_, errors)| *errors);
        now.chain(before).sum()
    }

    /// What they are, for the status.
    pub(super) fn status(&self) -> Vec<OutputStatus> {
        let each = self.each.iter().map(|(output, sink)| OutputStatus {
            kind: output.name(),
            destination: sink.destination(),
            errors: sink.errors(),
        });
        each.collect()
    }
}

/// Serves pages to those who connect.
fn serve(asks: Option<&Asks>) -> impl Fn(TcpListener, Arc<Exposition>) -> io::Result<Box<dyn Served>> {
    move |listener, page| {
        let asks = asks.ok_or_else(|| io::Error::other("nobody scrapes a file's report"))?;
        Ok(Box::new(server::tcp(listener, page, asks)?))
    }
}
