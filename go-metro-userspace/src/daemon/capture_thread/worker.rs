//! The daemon's handle of a capture thread.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use go_metro_rtt::{Batch, Engine, EngineConfig, Summaries};
use tokio::sync::mpsc as async_mpsc;
use tokio::sync::oneshot;

use super::{CaptureStatus, Command, Event, Samples, Snapshot, State};
use crate::capture::{Source, SourceCounters, WatchList};
use crate::daemon::flow_tap::Tapped;
use crate::daemon::one_direction::{Silence, Views};
use crate::daemon::settings::Limits;
use crate::{inbox, threads};

/// A running thread; it ends once nobody can send it commands any more.
pub(in crate::daemon) struct Worker {
    commands: Option<inbox::Sender<Command>>,
    thread: JoinHandle<()>,
    /// How often the thread has gone round: between records, and at least every half second.
    pub(in crate::daemon) beats: Arc<AtomicU64>,
}

impl Worker {
    /// Starts a thread on a source that was opened for `watch`. Samples are handed to `samples` one by one, if anybody
    /// wants them.
    pub(in crate::daemon) fn spawn(
        name: &str,
        source: Source,
        watch: WatchList,
        limits: Limits,
        samples: Option<mpsc::SyncSender<Samples>>,
        events: async_mpsc::UnboundedSender<Event>,
    ) -> std::io::Result<Self> {
        let (commands, inbox) = inbox::channel()?;
        let peers_complete = source.peers_complete();
        let beats = Arc::<AtomicU64>::default();
        let mut engine = Engine::new(EngineConfig { peers_complete, ..limits.engine });
        engine.count_health(limits.health);
        let state = State {
            beats: beats.clone(),
            bell: inbox.bell(),
            source,
            engine,
            batch: Batch::of(limits.ports),
            summaries: Summaries::new(limits.summaries),
            watch,
            indices: BTreeMap::new(),
            retired: SourceCounters::default(),
            samples,
            samples_dropped: 0,
            tap: None,
            events,
            others: Vec::new(),
            outages: None,
            retiring: None,
            views: Views::default(),
            silence: Silence::default(),
        };
        let thread = threads::spawn(name, move || state.run(&inbox))?;
        Ok(Self { commands: Some(commands), thread, beats })
    }

    /// Sends a command. A thread that ended has said why in an event.
    pub(in crate::daemon) fn send(&self, command: Command) {
        if let Some(commands) = &self.commands {
            let _ = commands.send(command);
        }
    }

    /// Where others may send it commands.
    pub(in crate::daemon) fn inbox(&self) -> Option<inbox::Sender<Command>> {
        self.commands.clone()
    }

    /// Asks for the interval. It comes once the thread looks at its commands, and never when the thread has ended.
    pub(in crate::daemon) fn interval(&self) -> oneshot::Receiver<Snapshot> {
        self.asked(Command::Interval)
    }

    /// Asks it to leave the hooks.
    pub(in crate::daemon) fn detach(&self) -> oneshot::Receiver<()> {
        self.asked(Command::Detach)
    }

    /// Asks for the last interval, after which it ends: every sample that it found is in a report.
    pub(in crate::daemon) fn finish(&self) -> oneshot::Receiver<Snapshot> {
        self.asked(Command::Finish)
    }

    /// Asks for its state.
    pub(in crate::daemon) fn status(&self) -> oneshot::Receiver<CaptureStatus> {
        self.asked(Command::Status)
    }

    /// Asks what each flow measured since the last time.
    pub(in crate::daemon) fn flows(&self) -> oneshot::Receiver<(Tapped, CaptureStatus)> {
        self.asked(Command::Flows)
    }

    fn asked<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> oneshot::Receiver<T> {
        let (reply, answer) = oneshot::channel();
        self.send(command(reply));
        answer
    }

    /// Sends no more commands.
    pub(in crate::daemon) fn hang_up(&mut self) {
        self.commands = None;
    }

    /// Stops controlling it: it ends once nothing else sends it commands either.
    pub(in crate::daemon) fn abandon(mut self) {
        self.hang_up();
    }

    /// Waits for its end until then, after which it is taken to hang.
    pub(in crate::daemon) fn join(self, deadline: Instant) {
        while !self.thread.is_finished() {
            if Instant::now() >= deadline {
                tracing::error!("the capture thread does not respond; stopping without it");
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = self.thread.join();
    }
}
