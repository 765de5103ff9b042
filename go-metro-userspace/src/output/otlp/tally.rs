//! How many data points were lost, why reports are not accepted now, and what is logged about both.

use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::logging::OnceInAWhile;

/// Counts what is lost, and logs why.
#[derive(Debug)]
pub(super) struct Tally {
    destination: String,
    lost: AtomicU64,
    trouble: Mutex<Trouble>,
}

impl Tally {
    /// Nothing is lost yet; `destination` is for messages.
    pub(super) fn new(destination: String) -> Self {
        Self { destination, lost: AtomicU64::default(), trouble: Mutex::default() }
    }

    /// Where reports go.
    pub(super) fn destination(&self) -> &str {
        &self.destination
    }

    /// Data points that were not accepted, since the start.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Why reports are not accepted now.
    pub(super) fn problem(&self) -> Option<String> {
        self.trouble().problem()
    }

    /// A request was not accepted, and will be tried again.
    pub(super) fn fail(&self, cause: &str) {
        let line = self.trouble().fail(cause);
        self.warn(line);
    }

    /// These data points will not be sent again.
    pub(super) fn lose(&self, points: u64, cause: &str) {
        if points == 0 {
            return;
        }
        let line = self.trouble().lose(points, cause);
        // After the cause: a reader of the count finds its cause.
        self.count(points);
        self.warn(line);
    }

    /// As [`Self::lose`], for reports that waited and were dropped for newer ones. The cause is the current one.
    pub(super) fn lose_waiting(&self, points: u64) {
        let cause = self.trouble().cause();
        self.lose(points, cause.as_deref().unwrap_or("the receiver accepts reports more slowly than they are made"));
    }

    /// Counts what is lost at the end of the output, which logs that itself.
    pub(super) fn count(&self, points: u64) {
        self.lost.fetch_add(points, Ordering::Relaxed);
    }

    /// A whole report was accepted.
    pub(super) fn delivered(&self) {
        let line = self.trouble().delivered();
        if let Some(line) = line {
            tracing::info!("{} {line}", self.destination);
        }
    }

    /// A request was accepted, with this warning.
    pub(super) fn note(&self, warning: &str) {
        if self.trouble().warnings.may_say() {
            tracing::warn!("{} accepts reports with a warning: {warning}", self.destination);
        }
    }

    fn warn(&self, line: Option<String>) {
        if let Some(line) = line {
            tracing::warn!("cannot send to {}: {line}", self.destination);
        }
    }

    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why reports are not accepted, and how much of that is logged.
#[derive(Debug, Default)]
struct Trouble {
    /// The cause and the consequence; none while reports are accepted.
    now: Option<(String, String)>,
    failures: OnceInAWhile,
    /// For the first loss of a trouble, as a failure was usually logged shortly before.
    losses: OnceInAWhile,
    warnings: OnceInAWhile,
    is_logged: bool,
    is_loss_logged: bool,
    /// Data points lost since the log last stated their number.
    lost: u64,
}

impl Trouble {
    fn problem(&self) -> Option<String> {
        self.now.as_ref().map(|(cause, outcome)| format!("{cause}; {outcome}"))
    }

    fn cause(&self) -> Option<String> {
        self.now.as_ref().map(|(cause, _)| cause.clone())
    }

    /// The line for the log, if it is time for one; likewise below.
    fn fail(&mut self, cause: &str) -> Option<String> {
        self.now = Some((cause.to_owned(), "it is tried again".to_owned()));
        let may_say = self.failures.may_say();
        self.is_logged |= may_say;
        self.problem().filter(|_| may_say)
    }

    fn lose(&mut self, points: u64, cause: &str) -> Option<String> {
        self.now = Some((cause.to_owned(), format!("data points lost: {points}")));
        self.lost += points;
        let is_first = !self.is_loss_logged && self.losses.may_say();
        let may_say = self.failures.may_say() || is_first;
        self.is_logged |= may_say;
        self.is_loss_logged |= may_say;
        self.problem().filter(|_| may_say)
    }

    fn delivered(&mut self) -> Option<String> {
        self.now = None;
        self.is_loss_logged = false;
        if !mem::take(&mut self.is_logged) {
            return None;
        }
        Some(match mem::take(&mut self.lost) {
            0 => "accepts reports again".to_owned(),
            lost => format!("accepts reports again; data points lost meanwhile: {lost}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_first_loss_is_logged_although_a_failure_just_was_and_all_of_it_once_reports_are_accepted() {
        let mut trouble = Trouble::default();
        assert_eq!(trouble.fail("503").as_deref(), Some("503; it is tried again"));
        assert_eq!(trouble.fail("503"), None);
        assert_eq!(trouble.lose(90, "503").as_deref(), Some("503; data points lost: 90"));
        assert_eq!((trouble.lose(80, "503"), trouble.fail("502")), (None, None));
        assert_eq!(trouble.problem().as_deref(), Some("502; it is tried again"));
        assert_eq!(trouble.delivered().as_deref(), Some("accepts reports again; data points lost meanwhile: 170"));
        assert_eq!((trouble.delivered(), trouble.problem()), (None, None));
    }

    #[test]
    fn troubles_that_follow_each_other_closely_are_not_logged_each_and_no_loss_is_left_out_of_the_sums() {
        let mut trouble = Trouble::default();
        assert!(trouble.lose(1, "400").is_some() && trouble.delivered().is_some());
        assert_eq!((trouble.fail("503"), trouble.lose(2, "503"), trouble.delivered()), (None, None, None));
        trouble.failures = OnceInAWhile::new(Duration::ZERO);
        assert!(trouble.fail("503").is_some());
        assert_eq!(trouble.delivered().as_deref(), Some("accepts reports again; data points lost meanwhile: 2"));
        assert!(trouble.fail("503").is_some());
        assert_eq!(trouble.delivered().as_deref(), Some("accepts reports again"));
    }

    #[test]
    fn reports_that_waited_are_lost_for_what_they_waited_for() {
        let tally = Tally::new("http://a:1/v1/metrics".to_owned());
        tally.lose_waiting(0);
        assert_eq!((tally.lost(), tally.problem()), (0, None));
        tally.lose_waiting(7);
        let slow = "the receiver accepts reports more slowly than they are made; data points lost: 7";
        assert_eq!(tally.problem().as_deref(), Some(slow));
        tally.fail("no answer within 1s");
        tally.lose_waiting(5);
        assert_eq!((tally.lost(), tally.problem().as_deref()), (12, Some("no answer within 1s; data points lost: 5")));
    }
}
