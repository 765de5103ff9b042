//! The daemon: connects source, engine and outputs, and runs until it is asked to stop.
//!
//! Three parties: the capture thread ([`capture_thread`]) measures, or has others measure; this module's
//! loop reacts to time and signals; sinks report. What each instance watches at a moment, and what its pairs are
//! called, is [`directory`]'s business.

mod bases;
mod capture_thread;
mod containers;
mod directory;
mod events;
mod feed;
mod flow_tap;
#[cfg(all(feature = "top", feature = "web"))]
mod followed;
mod intervals;
mod kernel;
mod lookups;
mod one_direction;
mod open_files;
mod options;
mod outputs;
mod owners;
mod qdiscs;
mod recorder;
mod reload;
mod replay;
mod samples;
mod sandbox;
mod server;
mod service;
mod settings;
mod signals;
#[doc(hidden)]
pub mod simulated;
mod status;
mod waiting;
mod web;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc as unbounded, oneshot};

use crate::capture::{CaptureError, Source, SourceSettings, Way};
use crate::config::Backend;
use crate::groups::Groups;
use crate::metrics::Events;
use crate::privileges::{self, Needs};
use crate::signals::Held;
use crate::status::Live;
use crate::threads;
#[cfg(feature = "top")]
pub(crate) use bases::{Lowest, MINUTE, lowest};
use capture_thread::{CaptureThread, Event};
use directory::Directory;
use events::Hidden;
use feed::Feed;
#[cfg(all(feature = "top", feature = "web"))]
pub(crate) use followed::{FollowError, show_followed};
use intervals::Intervals;
use lookups::Lookups;
pub(crate) use options::{DaemonError, DaemonOptions, Overrides};
use outputs::Outputs;
use owners::Owners;
use qdiscs::Queues;
use recorder::Recorder;
use reload::Reading;
pub(crate) use sandbox::confine;
use server::{Ask, Asks, Server};
use service::Service;
use settings::{Limits, source_settings};
use signals::{Asked, Signals};
use status::Memory;
use waiting::{answer, at, tick, ticks};
use web::Web;

/// Runs until a signal, the duration's end or a closed output stops it. Signals are held until it takes them.
///
/// # Errors
///
/// When it cannot start, or the source fails for good.
pub(crate) fn run(options: DaemonOptions, held: Held) -> Result<(), DaemonError> {
    open_files::raise_limit()?;
    // While every file may be read that the user who starts it may read.
    let groups = Groups::open(&options.config.group_by, &Groups::default())?;
    confine(&options);
    if directory::live(&options.config).next().is_none() {
        privileges::keep(Needs::Files);
    }
    // Names are looked up on threads of the runtime's.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().on_thread_start(privileges::give_up_all).build()?;
    let done = runtime.block_on(async {
        let has_files = options.config.instances.iter().any(|instance| instance.pcap.is_some());
        // A signal ends the reading of files, which may take minutes and leaves nothing behind.
        let held = if has_files { None } else { Some(held) };
        read_files(&options, &groups).await?;
        if directory::live(&options.config).next().is_none() {
            return Ok(());
        }
        let mut signals = Signals::new()?;
        drop(held);
        let daemon = tokio::select! {
            daemon = Daemon::start(options, groups) => daemon?,
            why = signals.stop() => {
                tracing::info!("stopping before capture has started: {why}");
                return Ok(());
            }
        };
        daemon.run(&mut signals).await
    });
    // A look-up may still wait for a dead server; nobody waits for it.
    runtime.shutdown_background();
    done
}

/// Reports the instances that read a capture file, once.
async fn read_files(options: &DaemonOptions, groups: &Groups) -> Result<(), DaemonError> {
    let config = &options.config;
    let files: Vec<_> = config.instances.iter().filter(|instance| instance.pcap.is_some()).collect();
    if files.is_empty() {
        return Ok(());
    }
    let mut directory = Directory::new(config);
    directory.refresh_hosts().await;
    directory.set_groups(groups.clone());
    let mut outputs = Outputs::open(&options.overrides.outputs_of(config), config, None)?;
    for instance in files {
        let mut samples = Vec::new();
        let report = replay::read(config, instance, &directory, &mut |sample| {
            if options.samples {
                samples.push(sample);
            }
        })?;
        // A reader that goes away ends the output, not the work.
        let _ = samples::write(&samples, 0);
        if let Some(report) = report {
            outputs.report(&Arc::new(report));
        }
    }
    outputs.finish(FILE_REPORT);
    Ok(())
}

/// How long a stop takes at most, so that it is over within a second: the outputs have what the rest of it leaves.
const STOP: Duration = Duration::from_millis(900);
/// What the outputs have of it in any case, to take the last report.
const LAST_REPORT: Duration = Duration::from_millis(250);
/// Longest wait for the outputs to take the report of a capture file: nobody is in a hurry.
const FILE_REPORT: Duration = Duration::from_secs(3600);
/// How often it is seen to that the status socket is there.
const SOCKET_EVERY: Duration = Duration::from_secs(1);
/// Questions that wait for the loop before more are held back.
const ASKS: usize = 16;

struct Daemon {
    options: DaemonOptions,
    directory: Directory,
    capture: CaptureThread,
    events: unbounded::UnboundedReceiver<Event>,
    outputs: Outputs,
    asks: (Asks, unbounded::Receiver<Ask>),
    feed: Feed,
    /// Who ends the daemon by hanging up.
    watcher: Option<unbounded::Sender<Arc<Live>>>,
    memory: Memory,
    status_socket: Option<Server>,
    web: Web,
    printer: Option<JoinHandle<()>>,
    lookups: Lookups,
    intervals: Intervals,
    service: Service,
    /// The configuration file while it is read again.
    reading: Option<Reading>,
    happened: Events,
    queues: Queues,
    /// Whose the connections are.
    owners: Owners,
    recorder: Recorder,
    /// Directions of interfaces of which nothing is or was seen.
    hidden: BTreeMap<(u32, Way), Hidden>,
}

/// Why the loop ended.
enum End {
    Asked(&'static str),
    OutputClosed,
    Failed(CaptureError),
}

impl Daemon {
    async fn start(options: DaemonOptions, groups: Groups) -> Result<Self, DaemonError> {
        let config = &options.config;
        recorder::check(&config.record).await?;
        let mut directory = Directory::new(config);
        directory.refresh_hosts().await;
        directory.set_groups(groups);
        directory.check()?;
        let source = open_source(config.backend, source_settings(config, &directory)).await?;
        tracing::info!("backend: {}", source.name());
        let is_ebpf = !matches!(source, Source::Pcap(_));
        privileges::keep(if is_ebpf { Needs::Ebpf } else { Needs::Libpcap });
        let (samples, printer) = if options.samples { Some(samples::print()?) } else { None }.unzip();
        let limits = (Limits::of(config, &directory), config.workers);
        let (capture, events) = CaptureThread::spawn(source, directory.watch_list(), limits, samples)?;
        let owners = Owners::start(config.process_tags);
        if let Some(asker) = owners.asker() {
            capture.label_flows(Some(asker));
        }
        if is_ebpf {
            // The capture thread keeps what it needs; another classifier cannot be loaded any more. Another libpcap can
            // be opened here.
            privileges::keep(Needs::Files);
        }
        let asks = unbounded::channel(ASKS);
        let outputs = Outputs::open(&options.overrides.outputs_of(config), config, Some(&asks.0))?;
        let mut daemon = Self {
            watcher: options.watcher.clone(),
            options,
            directory,
            capture,
            events,
            outputs,
            asks,
            feed: Feed::default(),
            memory: Memory::new(),
            status_socket: None,
            web: Web::default(),
            printer,
            lookups: Lookups::start(),
            intervals: Intervals::start(),
            service: Service::from_environment(),
            reading: None,
            happened: Events::default(),
            queues: Queues::start(),
            owners,
            recorder: Recorder::default(),
            hidden: BTreeMap::new(),
        };
        daemon.status_socket = daemon.open_status_socket().await;
        if daemon.directory.hosts().failing() > 0 {
            daemon.look_up_hosts();
        }
        if let Some(address) = daemon.options.config.web_listen {
            let (web, seconds) = Web::open(address, daemon.options.config.web_history, &daemon.asks.0)?;
            daemon.web = web;
            daemon.watched_by(seconds).await;
        }
        if let Some(watcher) = daemon.watcher.clone() {
            daemon.watched_by(watcher).await;
        }
        Ok(daemon)
    }

    async fn run(mut self, signals: &mut Signals) -> Result<(), DaemonError> {
        self.service.ready("measuring");
        let end = self.until_stopped(signals).await;
        self.service.stopping();
        let began = Instant::now();
        if let End::Asked(why) = &end {
            tracing::info!("stopping: {why}");
            // What was asked for before is one interval, what came since another.
            let by = tokio::time::Instant::now() + capture_thread::LAST;
            if let Some(taken) = self.intervals.taken.take()
                && let Ok(Ok(taken)) = tokio::time::timeout_at(by, taken).await
            {
                self.report(&taken);
            }
            if let Some(asked) = self.intervals.asked.take()
                && let Ok(Ok(snapshot)) = tokio::time::timeout_at(by, asked).await
            {
                self.report_by(by, snapshot).await;
            }
            if let Some(snapshot) = self.capture.finish(by).await {
                self.report_by(by, snapshot).await;
            }
        }
        let Self { capture, outputs, printer, status_socket, web, .. } = self;
        drop((status_socket, web));
        // The hooks are left first, then what was measured is sent.
        drop(capture);
        outputs.finish(STOP.saturating_sub(began.elapsed()).max(LAST_REPORT));
        // Its reader may not read.
        let deadline = Instant::now() + LAST_REPORT;
        while printer.as_ref().is_some_and(|printer| !printer.is_finished()) && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        match end {
            End::Failed(error) => Err(error.into()),
            End::Asked(_) | End::OutputClosed => Ok(()),
        }
    }

    async fn until_stopped(&mut self, signals: &mut Signals) -> End {
        let ends_at = self.options.duration.map(|duration| tokio::time::Instant::now() + duration);
        let mut report = ticks(self.options.config.report_interval);
        let mut refresh = ticks(self.options.config.dns_refresh_interval);
        let watcher = self.watcher.clone();
        let mut feed = self.service.feed_every().map(ticks);
        let mut socket = ticks(SOCKET_EVERY);
        loop {
            let window = self.directory.next_window();
            tokio::select! {
                asked = signals.next() => match asked {
                    Asked::Stop(why) => return End::Asked(why),
                    Asked::Reload => self.read_again(),
                },
                read = Reading::done(&mut self.reading, self.options.config_path.as_deref()) => tokio::select! {
                    // It waits for the name server, a stop does not.
                    why = signals.stop() => return End::Asked(why),
                    done = self.reload(read) => if done {
                        report = ticks(self.options.config.report_interval);
                        refresh = ticks(self.options.config.dns_refresh_interval);
                    }
                },
                () = at(ends_at) => return End::Asked("the duration is over"),
                () = tick(&mut feed) => self.service.feed(self.capture.beats()),
                event = self.events.recv() => match event {
                    Some(Event::Failed(error)) => return End::Failed(error),
                    Some(Event::Interface(event)) => self.interface(event),
                    Some(Event::Clock(jump)) => self.clock(jump),
                    Some(Event::View(change)) => self.view(change),
                    Some(Event::Outlier(focus)) => self.outlier(focus),
                    None => return End::Asked("the capture thread ended"),
                },
                () = at(window.map(tokio::time::Instant::from_std)) => {
                    self.directory.update_windows();
                    self.capture.watch(self.directory.watch_list());
                }
                _ = refresh.tick() => self.look_up_hosts(),
                Some(answer) = self.lookups.receiver.recv() => self.learn(answer),
                Some(ask) = self.asks.1.recv() => self.answer(ask).await,
                () = tick(&mut self.feed.ticks) => self.tell_watchers().await,
                () = hung_up(watcher.as_ref()) => return End::OutputClosed,
                () = self.outputs.all_closed() => return End::OutputClosed,
                _ = report.tick() => self.ask_for_interval(),
                () = at(self.recorder.next()) => self.record(),
                done = answer(&mut self.recorder.writing) => self.recorded(done),
                _ = socket.tick() => {
                    self.forget_recordings();
                    self.keep_status_socket().await;
                    self.look_at_reading();
                    self.try_again();
                }
                snapshot = answer(&mut self.intervals.asked) => {
                    self.intervals.asked = None;
                    if let Some(snapshot) = snapshot {
                        let taken = self.take(snapshot, self.options.config.report_interval);
                        let (sender, receiver) = oneshot::channel();
                        // Nobody waits for it any more once the daemon has stopped.
                        tokio::spawn(async move { sender.send(taken.await) });
                        self.intervals.taken = Some(receiver);
                    }
                }
                taken = answer(&mut self.intervals.taken) => {
                    self.intervals.taken = None;
                    if let Some(taken) = taken {
                        self.report(&taken);
                    }
                }
            }
        }
    }

    /// Tries what was not possible for want of a thread, or of a service manager that reads.
    fn try_again(&mut self) {
        crate::logging::start();
        self.queues.retry();
        self.owners.retry();
        self.outputs.retry();
        self.look_up_unasked();
        threads::look_again();
        self.service.retry();
    }
}

/// Opens the source on a thread of its own: the verifier takes its time, and a stop does not wait for it.
async fn open_source(backend: Backend, settings: SourceSettings) -> Result<Source, DaemonError> {
    let (reply, answer) = oneshot::channel();
    let open = move || drop(reply.send(Source::open(backend, &settings)));
    threads::spawn("open", open)?;
    Ok(answer.await.map_err(io::Error::other)??)
}

/// Waits until the watcher is gone; for ever if there is none.
async fn hung_up(watcher: Option<&unbounded::Sender<Arc<Live>>>) {
    match watcher {
        Some(watcher) => watcher.closed().await,
        None => std::future::pending().await,
    }
}
