//! Recordings: which outliers get one, when what is kept of records is taken for it, and what comes of writing it.
//!
//! One is written at a time, on a thread of its own: while it reads what is kept, that cannot be overwritten
//! (`record/ring.rs`). One by hand ([`by_hand`]) is written part by part.

mod by_hand;

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use go_metro_rtt::{Nanos, PairKey};
use tokio::sync::oneshot;

use super::capture_thread::{Kept, PATIENCE};
use super::waiting::beside;
use super::{Daemon, DaemonError};
use crate::config::{Record, SidesWanted};
use crate::logging::OnceInAWhile;
use crate::metrics::Recorded;
use crate::record::{Choice, Focus, Folder, FolderLimits, Recording, note};
use crate::status::record::{RecordError, RecordOrder};
use by_hand::{ByHand, EVERY};

pub(super) use by_hand::Reply;

/// Recordings that wait for their time, or for each other.
const MOST_WAITING: usize = 64;
/// Of those, by hand.
const MOST_BY_HAND: usize = 4;
/// Pairs of which it is remembered that they had a file.
const MOST_PAIRS: usize = 4096;
/// Memory for records while somebody records by hand, where the configuration gives none.
const BY_HAND: usize = 32 << 20;

/// Recordings that are to be made, and what came of those that were.
#[derive(Default)]
pub(super) struct Recorder {
    waiting: Vec<Waiting>,
    /// The one that is written.
    pub(super) writing: Option<oneshot::Receiver<Done>>,
    /// When a pair last had a file.
    last: HashMap<PairKey, Instant>,
    counts: [u64; Recorded::COUNT],
    records: u64,
    /// Why the last one could not be written.
    failed: Option<String>,
    said_failed: OnceInAWhile,
    said_empty: OnceInAWhile,
    /// Records are kept because somebody records by hand.
    keeps_by_hand: bool,
    /// The one by hand that is gone on with.
    at_work: Option<AtWork>,
}

/// A recording that waits until what it is to hold has passed.
struct Waiting {
    at: Instant,
    what: What,
}

enum What {
    Outlier(Focus),
    ByHand(Box<ByHand>),
}

/// What is known of a recording by hand while it is elsewhere.
struct AtWork {
    id: Option<u64>,
    /// Whether it is to end.
    ends: bool,
}

/// What came of a recording.
pub(super) enum Done {
    /// A file, and how many records are in it.
    File(PathBuf, Focus, u64),
    /// So many records were handed over; and the recording, if it goes on after this long.
    ByHand(u64, Option<(Box<ByHand>, Duration)>),
    /// There is no record of it; of this outlier, if it is one.
    Empty(Option<Focus>),
    /// Why there is none.
    Failed(String),
}

/// Whether files can be made where they are to be, if any are: tried on a thread as those that make them are, which
/// has no capability.
///
/// # Errors
///
/// They cannot.
pub(super) async fn check(record: &Record) -> Result<(), DaemonError> {
    if !record.makes_files() {
        return Ok(());
    }
    let there = folder(record);
    let checked = beside("record", move || there.check()).await.and_then(|checked| checked);
    checked.map_err(|source| DaemonError::Recordings { folder: record.folder.clone(), source })
}

fn folder(record: &Record) -> Folder {
    Folder::new(&record.folder, FolderLimits { files: record.files, bytes: record.size.into() })
}

impl Recorder {
    /// When the next one is to be made.
    pub(super) fn next(&self) -> Option<tokio::time::Instant> {
        let first = self.waiting.iter().map(|waiting| waiting.at).min();
        first.filter(|_| self.writing.is_none()).map(tokio::time::Instant::from_std)
    }

    /// What came of outliers and of recording by hand.
    pub(super) fn counts(&self) -> [u64; Recorded::COUNT] {
        self.counts
    }

    /// Records in recordings.
    pub(super) fn records(&self) -> u64 {
        self.records
    }

    /// That recordings cannot be written.
    pub(super) fn problem(&self) -> Option<String> {
        self.failed.as_ref().map(|why| format!("a recording could not be written: {why}"))
    }

    fn count(&mut self, what: Recorded) {
        self.counts[what as usize] += 1;
    }

    /// Whether the pair may have a file now, which counts as having one.
    fn may_have(&mut self, pair: PairKey, every: Duration) -> bool {
        self.last.retain(|_, at| at.elapsed() < every);
        if self.waiting.len() >= MOST_WAITING || self.last.len() >= MOST_PAIRS || self.last.contains_key(&pair) {
            return false;
        }
        self.last.insert(pair, Instant::now());
        true
    }

    /// The one whose time has come first.
    fn take_due(&mut self) -> Option<Waiting> {
        let (number, first) = self.waiting.iter().enumerate().min_by_key(|(_, waiting)| waiting.at)?;
        (first.at <= Instant::now()).then(|| self.waiting.swap_remove(number))
    }

    fn by_hand(&self) -> usize {
        let waiting = self.waiting.iter().filter(|waiting| matches!(waiting.what, What::ByHand(_)));
        waiting.count() + usize::from(self.at_work.is_some())
    }
}

impl Daemon {
    /// A round trip took long: what led to it is written once what follows has passed.
    pub(super) fn outlier(&mut self, focus: Focus) {
        let record = &self.options.config.record;
        if !record.makes_files() {
            // A reload has turned them off since.
            return;
        }
        if self.recorder.may_have(PairKey::from(&focus.flow), record.every) {
            let waiting = Waiting { at: Instant::now() + record.after, what: What::Outlier(focus) };
            self.recorder.waiting.push(waiting);
        } else {
            self.recorder.count(Recorded::Skipped);
        }
    }

    /// Somebody records by hand.
    pub(super) fn record_by_hand(&mut self, order: RecordOrder, reply: Reply) {
        if self.recorder.by_hand() >= MOST_BY_HAND || self.recorder.waiting.len() >= MOST_WAITING {
            self.recorder.count(Recorded::Skipped);
            let _ = reply.send(Err(RecordError::Busy(format!("{MOST_BY_HAND} recordings are being made; try later"))));
            return;
        }
        // Where records are kept anyway this changes nothing, unless a reload has them kept no longer.
        if !self.recorder.keeps_by_hand {
            self.capture.keep_by_hand(Some(BY_HAND));
            self.recorder.keeps_by_hand = true;
        }
        let by_hand = Box::new(ByHand::new(order, reply));
        self.recorder.waiting.push(Waiting { at: by_hand.next(EVERY), what: What::ByHand(by_hand) });
    }

    /// Ends a recording by hand, with what has passed; whether there is one of that name.
    pub(super) fn end_by_hand(&mut self, id: u64) -> bool {
        for Waiting { at, what } in &mut self.recorder.waiting {
            if let What::ByHand(by_hand) = what
                && by_hand.id() == Some(id)
            {
                by_hand.end();
                *at = Instant::now();
                return true;
            }
        }
        let at_work = self.recorder.at_work.as_mut().filter(|at_work| at_work.id == Some(id));
        at_work.map(|at_work| at_work.ends = true).is_some()
    }

    /// Forgets what nobody waits for any more.
    pub(super) fn forget_recordings(&mut self) {
        self.recorder.waiting.retain(|waiting| match &waiting.what {
            What::ByHand(by_hand) => !by_hand.is_forgotten(),
            What::Outlier(_) => true,
        });
        if self.recorder.keeps_by_hand && self.recorder.by_hand() == 0 && self.recorder.writing.is_none() {
            self.capture.keep_by_hand(None);
            self.recorder.keeps_by_hand = false;
        }
    }

    /// Forgets outliers, and that their files could not be written, once a reload has turned them off: the folder is
    /// no longer the one that they are of.
    pub(super) fn forget_outliers(&mut self) {
        if !self.options.config.record.makes_files() {
            self.recorder.waiting.retain(|waiting| matches!(waiting.what, What::ByHand(_)));
            self.recorder.failed = None;
        }
    }

    /// Makes the recording whose time has come.
    pub(super) fn record(&mut self) {
        let Some(Waiting { mut what, .. }) = self.recorder.take_due() else { return };
        if let What::ByHand(by_hand) = &mut what {
            by_hand.look_at_time();
            self.recorder.at_work = Some(AtWork { id: by_hand.id(), ends: false });
        }
        let (kept, record) = (self.capture.kept(), self.options.config.record.clone());
        let sides = self.options.config.sides;
        let (done, writing) = oneshot::channel();
        self.recorder.writing = Some(writing);
        tokio::spawn(async move {
            let came = match tokio::time::timeout(PATIENCE, kept).await {
                Ok(Ok(kept)) => beside("record", move || make(what, &kept, &record, sides)).await,
                _ => Ok(unanswered(what)),
            };
            // The daemon may have stopped.
            let _ = done.send(came.unwrap_or_else(|error| Done::Failed(error.to_string())));
        });
    }

    /// Notes what came of one.
    pub(super) fn recorded(&mut self, done: Option<Done>) {
        self.recorder.writing = None;
        let at_work = self.recorder.at_work.take();
        match done.unwrap_or_else(|| Done::Failed("its thread ended".to_owned())) {
            Done::File(path, focus, records) => {
                tracing::info!(
                    rtt_ms = focus.rtt.as_millis_f64(),
                    local = %focus.flow.local,
                    remote = %focus.flow.remote,
                    records,
                    "outlier recorded: {}",
                    path.display()
                );
                self.recorder.records += records;
                self.recorder.count(Recorded::Written);
                self.recorder.failed = None;
            }
            Done::ByHand(records, rest) => {
                self.recorder.records += records;
                if let Some((mut by_hand, after)) = rest {
                    if at_work.is_some_and(|at_work| at_work.ends) {
                        by_hand.end();
                    }
                    self.recorder.waiting.push(Waiting { at: by_hand.next(after), what: What::ByHand(by_hand) });
                } else {
                    self.recorder.count(Recorded::Written);
                }
            }
            Done::Empty(outlier) => {
                if let Some(outlier) = outlier
                    && self.recorder.said_empty.may_say()
                {
                    tracing::warn!(
                        rtt_ms = outlier.rtt.as_millis_f64(),
                        local = %outlier.flow.local,
                        remote = %outlier.flow.remote,
                        "an outlier is not recorded, as its records have left the memory; raise `record.memory`, or \
                         lower `record.after`"
                    );
                }
                self.recorder.count(Recorded::Empty);
            }
            Done::Failed(why) => {
                if self.recorder.said_failed.may_say() {
                    tracing::warn!("a recording could not be written: {why}");
                }
                self.recorder.count(Recorded::Failed);
                self.recorder.failed = Some(why);
            }
        }
        self.forget_outliers();
        self.forget_recordings();
    }
}

/// What comes of a recording for which the capture thread does not answer in time.
fn unanswered(what: What) -> Done {
    match what {
        // It loses nothing by waiting.
        What::ByHand(by_hand) if by_hand.may_wait() => Done::ByHand(0, Some((by_hand, EVERY))),
        _ => Done::Failed("the capture thread does not answer".to_owned()),
    }
}

/// Makes a recording of what is kept.
fn make(what: What, kept: &Kept, record: &Record, sides: SidesWanted) -> Done {
    let section = note::Section::of(&kept.engine, sides.into());
    match what {
        What::Outlier(focus) => {
            let choice = Choice {
                remotes: vec![(focus.flow.remote.addr, None)],
                local: Some(focus.flow.local.addr),
                ifindex: Some(focus.flow.ifindex),
                since: earlier(focus.acked_at, record.before + focus.rtt.into()),
                until: focus.acked_at.plus(record.after),
                focus: Some(focus),
                most_bytes: record.size.into(),
            };
            let recording = Recording::of(&kept.rings, &choice, section);
            // An earlier one would make room for a file that says nothing.
            if recording.len() == 0 {
                return Done::Empty(Some(focus));
            }
            match folder(record).keep(&name(&focus, kept), &recording, &kept.described) {
                Ok(path) => Done::File(path, focus, recording.len() as u64),
                Err(error) => Done::Failed(error.to_string()),
            }
        }
        What::ByHand(mut by_hand) => {
            let (records, after) = by_hand.go_on(kept, section);
            match after {
                Some(after) => Done::ByHand(records, Some((by_hand, after))),
                None if by_hand.is_empty() => Done::Empty(None),
                None => Done::ByHand(records, None),
            }
        }
    }
}

fn earlier(time: Nanos, by: Duration) -> Nanos {
    Nanos(time.0.saturating_sub(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
}

/// When the outlier was, and whose: `20261130T172233.123Z-10.0.0.1-10.0.0.2`. Colons are for drives elsewhere.
fn name(focus: &Focus, kept: &Kept) -> String {
    let at = focus.acked_at.0.saturating_add_signed(kept.described.epoch_offset_ns);
    let at = jiff::Timestamp::from_nanosecond(i128::from(at)).unwrap_or_default();
    let [local, remote] = [focus.flow.local, focus.flow.remote].map(|end| end.addr.to_string().replace(':', "."));
    format!("{}Z-{local}-{remote}", at.strftime("%Y%m%dT%H%M%S%.3f"))
}

#[cfg(test)]
mod tests {
    use go_metro_rtt::{Addr, Endpoint, EngineConfig, FlowKey, Rtt, SeqNum, Side};

    use super::*;
    use crate::record::Described;

    fn nothing_kept() -> Kept {
        let described = Described { epoch_offset_ns: 0, interfaces: Vec::new() };
        Kept { rings: Vec::new(), engine: EngineConfig::DEFAULT, now: Nanos(9_000_000_000), described }
    }

    #[test]
    fn what_there_are_no_records_of_makes_no_file_and_costs_no_earlier_one() {
        let folder = tempfile::tempdir().unwrap();
        let earlier = folder.path().join("go-metro-20261130T172233.123Z-10.0.0.1-10.0.0.2.pcapng");
        std::fs::write(&earlier, "earlier").unwrap();
        let record = Record { folder: folder.path().to_owned(), files: 1, ..Record::default() };
        let end = |port| Endpoint { addr: Addr::v4([10, 0, 0, 1]), port };
        let flow = FlowKey { local: end(1), remote: end(2), ifindex: 1, side: Side::Remote };
        let (acked_at, rtt) = (Nanos(8_000_000_000), Rtt(600_000_000));
        let focus = Focus { flow, acked_at, ack: SeqNum(1), rtt, base: None };
        let done = make(What::Outlier(focus), &nothing_kept(), &record, SidesWanted::Remote);
        assert!(matches!(done, Done::Empty(Some(of)) if of == focus));
        assert!(earlier.exists() && std::fs::read_dir(folder.path()).unwrap().count() == 1);
    }

    #[test]
    fn recording_by_hand_what_does_not_pass_has_nothing() {
        let pairs = vec![("192.0.2.1".parse().unwrap(), None)];
        let order = RecordOrder::new(pairs, Duration::from_secs(1)).unwrap();
        let (reply, mut told) = oneshot::channel();
        let mut by_hand = Box::new(ByHand::new(order, reply));
        by_hand.end();
        by_hand.look_at_time();
        let done = make(What::ByHand(by_hand), &nothing_kept(), &Record::default(), SidesWanted::Remote);
        assert!(matches!(done, Done::Empty(None)));
        assert!(matches!(told.try_recv(), Ok(Err(RecordError::Nothing(_)))));
    }
}
