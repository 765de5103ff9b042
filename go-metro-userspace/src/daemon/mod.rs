//! The daemon: connects source, engine and outputs, and runs until it is asked to stop.
//!
//! Three parties: the capture thread ([`capture_thread`]), or several ([`capture_threads`]), measures; this module's
//! loop reacts to time and signals; sinks report. What each instance watches at a moment, and what its pairs are
//! called, is [`directory`]'s business.

mod capture_thread;
mod capture_threads;
mod cgroup;
mod containers;
mod directory;
mod feed;
mod flow_tap;
mod kernel;
mod lookups;
mod one_direction;
mod open_files;
mod outputs;
mod qdiscs;
mod reload;
mod replay;
mod samples;
mod sandbox;
mod server;
mod service;
mod settings;
mod signals;
mod status;
mod waiting;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use go_metro_rtt::Ports;
use tokio::sync::{mpsc as unbounded, oneshot};

use crate::capture::{CaptureError, InterfaceEvent, Jump, Source, SourceSettings, Way};
use crate::config::{Backend, Config, SidesWanted};
use crate::logging::OnceInAWhile;
use crate::metrics::{Events, Health};
use crate::output::naming::KernelTimes;
use crate::output::{Report, naming};
use crate::privileges::{self, Needs};
use crate::status::Live;
use crate::threads;
use capture_thread::{Event, Snapshot};
use capture_threads::CaptureThreads;
use directory::Directory;
use feed::Feed;
use lookups::Lookups;
use one_direction::Change;
use outputs::Outputs;
pub use outputs::{ListenError, Output};
use qdiscs::Queues;
use reload::Reading;
pub use sandbox::confine;
use server::{Ask, Asks, Server};
use service::Service;
use settings::{engine_config, source_settings, summary_limits};
use signals::{Asked, Signals};
use status::Memory;
use waiting::{answer, at, tick, ticks};

/// What the command line says over the configuration, now and after each reload.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Where segments come from.
    pub backend: Option<Backend>,
    /// Capture filter.
    pub filter: Option<String>,
    /// Which round trips are measured.
    pub sides: Option<SidesWanted>,
    /// Report the kernel's own RTT too.
    pub kernel_rtt: bool,
    /// Where Prometheus scrapes.
    pub prometheus_listen: Option<SocketAddr>,
    /// Where the status is told.
    pub status_socket: Option<Option<PathBuf>>,
    /// Log file.
    pub log_file: Option<PathBuf>,
    /// Time between reports.
    pub report_interval: Option<Duration>,
    /// The ports of a service.
    pub ports: Option<Ports>,
    /// Look no names of peers up.
    pub without_names: bool,
}

impl Overrides {
    /// The configuration with what the command line says instead.
    pub fn apply(&self, mut config: Config) -> Config {
        if let Some(backend) = self.backend {
            config.backend = backend;
        }
        if let Some(sides) = self.sides {
            config.sides = sides;
        }
        config.kernel_rtt |= self.kernel_rtt;
        if let Some(filter) = &self.filter {
            config.filter = Some(filter.clone());
        }
        if let Some(file) = &self.log_file {
            config.log_to_file = true;
            config.log_file.clone_from(file);
        }
        if let Some(address) = self.prometheus_listen {
            config.prometheus_listen = Some(address);
        }
        if let Some(socket) = &self.status_socket {
            config.status_socket.clone_from(socket);
        }
        if let Some(ports) = self.ports {
            config.ports = ports;
        }
        config.reverse_dns &= !self.without_names;
        if let Some(interval) = self.report_interval {
            config.report_interval = interval;
        }
        config
    }
}

/// What [`run`] needs.
#[derive(Debug)]
pub struct DaemonOptions {
    /// The configuration, with the overrides applied.
    pub config: Config,
    /// Its file, to read it again on SIGHUP.
    pub config_path: Option<PathBuf>,
    /// What the command line said over it.
    pub overrides: Overrides,
    /// Where results go.
    pub outputs: Vec<Output>,
    /// Whether to print every sample as a JSON line.
    pub samples: bool,
    /// Who is told from second to second, and ends the daemon by hanging up.
    pub watcher: Option<unbounded::Sender<Arc<Live>>>,
    /// Stop after this long.
    pub duration: Option<Duration>,
}

/// Why the daemon could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The source failed.
    #[error("{0}")]
    Capture(#[from] CaptureError),
    /// Every target is an address of this host.
    #[error("{0}")]
    Targets(#[from] directory::OnlyLocalTargets),
    /// An output cannot be had.
    #[error("{0}")]
    Listen(#[from] ListenError),
    /// Keys whose change needs a restart.
    #[error("restart to change {keys}: {why}")]
    NeedsRestart {
        /// Their names.
        keys: String,
        /// What is in the way.
        why: String,
    },
    /// A signal handler, thread or runtime could not be had.
    #[error("cannot start: {0}")]
    Start(#[from] io::Error),
}

/// Runs until a signal, the duration's end or a closed output stops it.
///
/// # Errors
///
/// When it cannot start, or the source fails for good.
pub fn run(options: DaemonOptions) -> Result<(), DaemonError> {
    open_files::raise_limit()?;
    confine(&options.config);
    if directory::live(&options.config).next().is_none() {
        privileges::keep(Needs::Files);
    }
    // Names are looked up on threads of the runtime's.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().on_thread_start(privileges::give_up_all).build()?;
    let done = runtime.block_on(async {
        read_files(&options).await?;
        if directory::live(&options.config).next().is_none() {
            return Ok(());
        }
        let mut signals = Signals::new()?;
        let daemon = tokio::select! {
            daemon = Daemon::start(options) => daemon?,
            why = signals.stop() => {
                tracing::info!("stopping before it has begun: {why}");
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
async fn read_files(options: &DaemonOptions) -> Result<(), DaemonError> {
    let config = &options.config;
    let files: Vec<_> = config.instances.iter().filter(|instance| instance.pcap.is_some()).collect();
    if files.is_empty() {
        return Ok(());
    }
    let mut directory = Directory::new(config);
    directory.refresh_hosts().await;
    let mut outputs = Outputs::open(&options.outputs, config, None)?;
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
/// How long the capture thread may take for an interval before it is said: longer than an interval may be short.
const LATE: Duration = Duration::from_secs(1);
/// How often it is seen to that the status socket is there.
const SOCKET_EVERY: Duration = Duration::from_secs(1);
/// Questions that wait for the loop before more are held back.
const ASKS: usize = 16;

struct Daemon {
    options: DaemonOptions,
    directory: Directory,
    worker: CaptureThreads,
    events: unbounded::UnboundedReceiver<Event>,
    outputs: Outputs,
    asks: (Asks, unbounded::Receiver<Ask>),
    feed: Feed,
    /// Who ends the daemon by hanging up.
    watcher: Option<unbounded::Sender<Arc<Live>>>,
    memory: Memory,
    status_socket: Option<Server>,
    printer: Option<JoinHandle<()>>,
    lookups: Lookups,
    /// The interval that was asked for and has not come yet.
    interval: Option<oneshot::Receiver<Snapshot>>,
    /// When it was asked for, unless it was said since that it does not come.
    asked_at: Option<Instant>,
    said_late: OnceInAWhile,
    /// The interval that came, while the kernel is asked about its sockets and name servers about its addresses.
    taken: Option<oneshot::Receiver<Taken>>,
    service: Service,
    /// The configuration file while it is read again.
    reading: Option<Reading>,
    happened: Events,
    folded_samples: u64,
    /// When the last interval came.
    taken_at: Instant,
    queues: Queues,
    /// Directions of interfaces that were or are hidden.
    blind: BTreeMap<(u32, Way), Blind>,
}

/// An interval and what a report says beside it.
struct Taken {
    snapshot: Snapshot,
    kernel: KernelTimes,
    at: SystemTime,
    /// How long it was.
    interval: Duration,
}

/// Longest that a report waits for the names of addresses that are new in it, so that a pair has one name from its
/// first report on.
const NAMES: Duration = Duration::from_millis(500);

/// A direction of an interface of which nothing was seen.
struct Blind {
    since: Instant,
    /// Whether moving to the head of the hook was of no help.
    moved: bool,
}

/// Longer than it takes to move.
const MOVE: Duration = Duration::from_secs(2);

/// Why the loop ended.
enum End {
    Asked(&'static str),
    OutputClosed,
    Failed(CaptureError),
}

impl Daemon {
    async fn start(options: DaemonOptions) -> Result<Self, DaemonError> {
        let config = &options.config;
        let mut directory = Directory::new(config);
        directory.refresh_hosts().await;
        directory.check()?;
        let source = open_source(config.backend, source_settings(config, &directory)).await?;
        tracing::info!("backend: {}", source.name());
        let is_ebpf = !matches!(source, Source::Pcap(_));
        privileges::keep(if is_ebpf { Needs::Ebpf } else { Needs::Libpcap });
        let (samples, printer) = if options.samples { Some(samples::print()?) } else { None }.unzip();
        let (engine, limits) = (engine_config(config), summary_limits(config));
        let (worker, events) = CaptureThreads::spawn(source, directory.watch_list(), engine, limits, samples)?;
        if is_ebpf {
            // The capture thread keeps what it needs; another classifier cannot be loaded any more. Another libpcap can
            // be opened here.
            privileges::keep(Needs::Files);
        }
        let asks = unbounded::channel(ASKS);
        let outputs = Outputs::open(&options.outputs, config, Some(&asks.0))?;
        let mut daemon = Self {
            watcher: options.watcher.clone(),
            options,
            directory,
            worker,
            events,
            outputs,
            asks,
            feed: Feed::default(),
            memory: Memory::new(),
            status_socket: None,
            printer,
            lookups: Lookups::start(),
            interval: None,
            asked_at: None,
            said_late: OnceInAWhile::default(),
            taken: None,
            service: Service::from_environment(),
            reading: None,
            happened: Events::default(),
            folded_samples: 0,
            taken_at: Instant::now(),
            queues: Queues::start(),
            blind: BTreeMap::new(),
        };
        daemon.status_socket = daemon.open_status_socket().await;
        if daemon.directory.hosts().failing() > 0 {
            daemon.look_up_hosts();
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
            if let Some(taken) = self.taken.take()
                && let Ok(Ok(taken)) = tokio::time::timeout_at(by, taken).await
            {
                self.report(&taken);
            }
            if let Some(asked) = self.interval.take()
                && let Ok(Ok(snapshot)) = tokio::time::timeout_at(by, asked).await
            {
                self.report_by(by, snapshot).await;
            }
            if let Some(snapshot) = self.worker.finish(by).await {
                self.report_by(by, snapshot).await;
            }
        }
        let Self { worker, outputs, printer, status_socket, .. } = self;
        drop(status_socket);
        // The hooks are left first, then what was measured is sent.
        drop(worker);
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
                () = tick(&mut feed) => self.service.feed(self.worker.beats()),
                event = self.events.recv() => match event {
                    Some(Event::Failed(error)) => return End::Failed(error),
                    Some(Event::Interface(event)) => self.interface(event),
                    Some(Event::Clock(jump)) => self.clock(jump),
                    Some(Event::View(change)) => self.view(change),
                    None => return End::Asked("the capture thread ended"),
                },
                () = at(window.map(tokio::time::Instant::from_std)) => {
                    self.directory.update_windows();
                    self.worker.watch(self.directory.watch_list());
                }
                _ = refresh.tick() => self.look_up_hosts(),
                Some(answer) = self.lookups.receiver.recv() => self.learn(answer),
                Some(ask) = self.asks.1.recv() => self.answer(ask).await,
                () = tick(&mut self.feed.ticks) => self.tell_watchers().await,
                () = hung_up(watcher.as_ref()) => return End::OutputClosed,
                () = self.outputs.all_closed() => return End::OutputClosed,
                _ = report.tick() => self.ask_for_interval(),
                _ = socket.tick() => {
                    self.keep_status_socket().await;
                    self.look_at_reading();
                    self.try_again();
                }
                snapshot = answer(&mut self.interval) => {
                    self.interval = None;
                    if let Some(snapshot) = snapshot {
                        let taken = self.take(snapshot, self.options.config.report_interval);
                        let (sender, receiver) = oneshot::channel();
                        // Nobody waits for it any more once the daemon has stopped.
                        tokio::spawn(async move { sender.send(taken.await) });
                        self.taken = Some(receiver);
                    }
                }
                taken = answer(&mut self.taken) => {
                    self.taken = None;
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
        self.outputs.retry();
        self.look_up_unasked();
        threads::look_again();
        self.service.retry();
    }

    fn interface(&mut self, event: InterfaceEvent) {
        match event {
            InterfaceEvent::Attached { name, ifindex } => {
                tracing::info!("capturing on {name}");
                self.queues.watch(ifindex, &name);
                self.directory.interface_attached(ifindex, name);
                // It runs as long as the daemon.
                let _ = self.lookups.machines.send(ifindex);
            }
            InterfaceEvent::Turned { .. } => {}
            InterfaceEvent::Lost { name, ifindex } => {
                let is_named = self.directory.is_named(&name);
                self.blind.retain(|(index, _), _| *index != ifindex);
                self.queues.forget(ifindex);
                self.directory.interface_lost(ifindex);
                if nix::net::if_::if_nametoindex(&*name) == Ok(ifindex) {
                    tracing::info!("no longer capturing on {name}");
                } else if !is_named {
                    // On a host of containers that is everyday.
                    tracing::info!("interface {name} is gone");
                } else {
                    self.happened.interfaces_lost += 1;
                    tracing::warn!("interface {name} went away; waiting for it");
                }
            }
        }
    }

    /// Has the classifier move where it can see both directions, and remembers where it cannot.
    fn view(&mut self, Change { ifindex, way, blind }: Change) {
        if !blind {
            self.blind.remove(&(ifindex, way));
            return;
        }
        match self.blind.get_mut(&(ifindex, way)) {
            None => {
                self.worker.move_to_head(ifindex, way);
                self.blind.insert((ifindex, way), Blind { since: Instant::now(), moved: false });
            }
            // Another thread may tell the same.
            Some(known) if known.since.elapsed() > MOVE => known.moved = true,
            Some(_) => {}
        }
    }

    fn clock(&mut self, jump: Jump) {
        self.happened.clock_jumps += 1;
        match jump {
            Jump::Suspended(time) => {
                tracing::warn!("the host was suspended for {} s; nothing is timed across it", time.as_secs_f64());
            }
            Jump::Set(ns) => tracing::warn!("the wall clock was set by {} s", ns as f64 / 1e9),
        }
    }

    /// Asks for the interval, which may take a while to come: nothing else waits for a capture thread that is busy or
    /// hangs.
    fn ask_for_interval(&mut self) {
        if self.interval.is_none() && self.taken.is_none() {
            self.interval = Some(self.worker.interval());
            self.asked_at = Some(Instant::now());
        } else if self.interval.is_some()
            && self.asked_at.take_if(|at| at.elapsed() >= LATE).is_some()
            && self.said_late.may_say()
        {
            tracing::warn!("the capture thread has not answered since the last report; reports come later");
        }
    }

    /// Adds to an interval what a report also wants, as far as it comes in time: the kernel's own times of its sockets
    /// if those are wanted, and the names of addresses that are new.
    fn take(&mut self, snapshot: Snapshot, time: Duration) -> impl Future<Output = Taken> + use<> {
        let interval = std::mem::replace(&mut self.taken_at, Instant::now()).elapsed();
        let at = SystemTime::now();
        self.directory.want_names(snapshot.interval.pairs.iter().map(|(key, _)| key.remote.ip()));
        let names = self.look_up_names();
        let kernel_rtt = self.options.config.kernel_rtt;
        async move {
            let kernel = async {
                if kernel_rtt { kernel::times(&snapshot.interval, interval).await } else { KernelTimes::new() }
            };
            let (kernel, _) = tokio::join!(
                tokio::time::timeout(time, kernel),
                // The next report is not to wait for this one.
                tokio::time::timeout(NAMES.min(time / 2), names.answered()),
            );
            Taken { snapshot, kernel: kernel.unwrap_or_default(), at, interval }
        }
    }

    /// Reports an interval, with what else belongs to it as far as that comes by then.
    async fn report_by(&mut self, by: tokio::time::Instant, snapshot: Snapshot) {
        let time = by.saturating_duration_since(tokio::time::Instant::now());
        let taken = self.take(snapshot, time).await;
        self.report(&taken);
    }

    /// Names the interval's pairs and hands it to the sinks.
    fn report(&mut self, taken: &Taken) {
        self.learn_what_came();
        self.directory.before_report();
        let report = Arc::new(self.name(taken));
        self.queues.look(taken.snapshot.backend == "ebpf");
        self.service.status(&status(&report));
        self.outputs.report(&report);
        self.directory.reported();
        self.directory.in_use(taken.snapshot.interval.pairs.iter().map(|(key, _)| key.remote.ip()));
        self.memory.note(&report, self.options.config.report_interval, self.outputs.send_errors());
    }

    fn name(&mut self, Taken { snapshot, kernel, at, interval }: &Taken) -> Report {
        let folded = snapshot.interval.folded_samples;
        if folded > 0 && self.folded_samples == 0 {
            tracing::warn!(
                "more than {} pairs: {folded} samples of the others are counted as `{}`, and counts of a single pair \
                 may be too low; \
                 raise `max_pairs`",
                self.options.config.max_pairs,
                naming::OTHER
            );
        }
        self.folded_samples += folded;
        let health = self.health(&Health {
            source: snapshot.source,
            engine: snapshot.engine,
            flows: snapshot.flows as u64,
            samples_dropped: snapshot.samples_dropped,
            interfaces: snapshot.interfaces as u64,
            ..Health::default()
        });
        let pairs = naming::name_pairs(&snapshot.interval, &self.directory, kernel);
        Report { at: *at, interval: *interval, backend: snapshot.backend, pairs, health }
    }

    /// What the capture threads counted, with what the agent itself counts.
    fn health(&self, counted: &Health) -> Health {
        Health {
            folded_samples: self.folded_samples,
            memory_bytes: resident_bytes(),
            send_errors: self.outputs.send_errors(),
            happened: Events {
                log_lines_lost: crate::logging::lines_lost(),
                notifications_lost: self.service.lost(),
                ..self.happened
            },
            ..*counted
        }
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

/// How things are, in one line.
fn status(report: &Report) -> String {
    let Health { source, engine, flows, interfaces, .. } = &report.health;
    format!(
        "{} on {interfaces} interfaces: {flows} flows, {} samples, {} lost; {} pairs in the last report",
        report.backend,
        engine.samples_total(),
        source.packets.lost,
        report.pairs.len()
    )
}

/// Resident memory of this process (proc_pid_statm(5)); 0 if it cannot be told.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{}/statm", process::id())).unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    pages * page.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(4096)
}
