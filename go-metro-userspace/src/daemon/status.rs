//! What the daemon says when it is asked how it is (docs/status.md).

use std::cmp::Reverse;
use std::collections::{BTreeSet, VecDeque};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use go_metro_rtt::PeerHealth;

use super::Daemon;
use super::capture_thread::CaptureStatus;
use super::reload::Refusal;
use super::server::{self, Ask, Server, SocketError};
use crate::capture::ebpf::features;
use crate::config::{Backend, MetricName};
use crate::logging::{OnceInAWhile, recent};
use crate::metrics::{self, Health};
use crate::output::naming::with_service;
use crate::output::{NamedPair, Report};
use crate::privileges::{self, Landlock};
use crate::status::document::{
    BackendStatus, ConnectionsStatus, Counts, FeatureStatus, InterfaceStatus, Kernel, LastReport, LogMessage, PairName,
    PeerStatus, PrivilegesStatus, Program, Rates, ResponseStatus, State, TargetStatus, VERSION,
};
use crate::status::{RELOAD_REFUSED, Status};
use crate::targets::hosts;
use crate::threads;

/// Pairs whose connections had trouble that are told apart: as many as one looks at.
const TROUBLED: usize = 8;
/// Most reports whose counters are kept: more come in two intervals only if many are late.
const MARKS: usize = 16;

/// That records were lost, and what helps.
fn lost_lately(backend: &str, lost: u64) -> String {
    let filter = if backend == "pcap" { "set `filter`, " } else { "" };
    format!(
        "{lost} records lost lately: enlarge `ring_size`, watch fewer targets, {filter}or give the daemon more \
         processor time"
    )
}

/// That named interfaces are absent: one reason, however many they are.
fn absent_ones(names: &[&str]) -> Option<String> {
    match names {
        [] => None,
        [name] => Some(format!("interface {name} is absent")),
        names => Some(format!("{} interfaces are absent: {}", names.len(), hosts::shortened(names))),
    }
}

/// What only time tells.
pub(super) struct Memory {
    started: SystemTime,
    started_at: Instant,
    /// Counters at reports, oldest first: the first is from two intervals ago at least, once there were so many.
    marks: VecDeque<Mark>,
    /// Losses that the log has.
    lost_said: u64,
    said_lost: OnceInAWhile,
    last_report: Option<LastReport>,
    last_report_at: Instant,
    /// How all connections did since the start.
    connections: PeerHealth,
    /// Pairs of the last report whose connections had trouble.
    peers: Vec<PeerStatus>,
    /// Pairs of the last report whose other end took longest for its responses.
    slowest: Vec<ResponseStatus>,
    /// Why the configuration was not read again, the last time that it was to be.
    pub(super) refused: Option<Refusal>,
    /// Whether somebody removed the status socket, and it is to be made again.
    socket_is_gone: bool,
    /// Why it could not be made again.
    no_socket: Option<String>,
}

#[derive(Clone, Copy)]
struct Mark {
    at: Instant,
    packets: u64,
    records: u64,
    samples: u64,
    lost: u64,
    send_errors: u64,
    lines_lost: u64,
}

/// What a pair is called in the status.
fn name_of(pair: &NamedPair) -> PairName {
    PairName {
        src: pair.src.clone(),
        process: (!pair.process.is_empty()).then(|| pair.process.clone()),
        dst: with_service(pair.dst.as_str().into(), pair.port).into_owned(),
        iface: pair.iface.clone(),
        side: pair.side.map(|side| side.name().to_owned()),
    }
}

/// The pairs with something that was sent again or failed, those with most of it first.
fn troubled(pairs: &[NamedPair]) -> Vec<PeerStatus> {
    let trouble = |health: &PeerHealth| health.retransmits_total() + health.failed();
    let mut all: Vec<_> = pairs
        .iter()
        .filter_map(|pair| Some((pair, pair.summary.health.as_deref()?)))
        .filter(|(_, health)| trouble(health) > 0)
        .collect();
    all.sort_by_key(|(_, health)| Reverse(trouble(health)));
    let told = all
        .into_iter()
        .take(TROUBLED)
        .map(|(pair, health)| PeerStatus { pair: name_of(pair), counts: Counts::of_peer(health) });
    told.collect()
}

/// The pairs whose other end took longest for its responses, by their medians.
fn slowest(pairs: &[NamedPair]) -> Vec<ResponseStatus> {
    let status = |pair: &NamedPair| {
        let stats = pair.summary.response.as_ref()?;
        let [p50, p95] = stats.quantiles([0.5, 0.95]);
        Some(ResponseStatus { pair: name_of(pair), count: stats.count(), p50_ms: p50.ms, p95_ms: p95.ms })
    };
    let mut all: Vec<_> = pairs.iter().filter_map(status).collect();
    all.sort_by(|a, b| b.p50_ms.total_cmp(&a.p50_ms));
    all.truncate(TROUBLED);
    all
}

impl Memory {
    pub(super) fn new() -> Self {
        let at = Instant::now();
        let mark = Mark { at, packets: 0, records: 0, samples: 0, lost: 0, send_errors: 0, lines_lost: 0 };
        Self {
            started: SystemTime::now(),
            started_at: at,
            marks: [mark].into(),
            lost_said: 0,
            said_lost: OnceInAWhile::default(),
            last_report: None,
            last_report_at: at,
            connections: PeerHealth::default(),
            peers: Vec::new(),
            slowest: Vec::new(),
            refused: None,
            socket_is_gone: false,
            no_socket: None,
        }
    }

    /// Notes a report; `interval` is how often one is due.
    pub(super) fn note(&mut self, report: &Report, interval: Duration, send_errors: u64) {
        self.say_lost(report.backend, report.health.source.packets.lost);
        self.last_report_at = Instant::now();
        self.last_report = Some(LastReport {
            at_ns: since_epoch(report.at),
            age_s: 0.0,
            interval_s: report.interval.as_secs_f64(),
            pairs: report.pairs.len() as u64,
        });
        for health in report.pairs.iter().filter_map(|pair| pair.summary.health.as_deref()) {
            self.connections.merge(health);
        }
        self.peers = troubled(&report.pairs);
        self.slowest = slowest(&report.pairs);
        let mark = Mark {
            at: Instant::now(),
            packets: report.health.source.packets.seen,
            records: report.health.source.packets.records,
            samples: report.health.engine.samples_total(),
            lost: report.health.source.packets.lost,
            send_errors,
            lines_lost: report.health.happened.log_lines_lost,
        };
        // A late report and a regular one may follow each other at once: what counts is time.
        let lately = 2 * report.interval.max(interval);
        while self.marks.get(1).is_some_and(|next| next.at.elapsed() >= lately) {
            self.marks.pop_front();
        }
        if self.marks.len() >= MARKS {
            self.marks.remove(1);
        }
        self.marks.push_back(mark);
    }

    /// The counters of two intervals ago.
    fn recent(&self) -> &Mark {
        &self.marks[0]
    }

    /// Says in the log that records were lost, once in a while.
    fn say_lost(&mut self, backend: &str, lost: u64) {
        if lost > self.lost_said && self.said_lost.may_say() {
            tracing::warn!("{}", lost_lately(backend, lost - self.lost_said));
            self.lost_said = lost;
        }
    }
}

impl Daemon {
    /// Opens the status socket, if one is wanted and possible.
    pub(super) async fn open_status_socket(&mut self) -> Option<Server> {
        let path = self.options.config.status_socket.as_ref()?;
        match server::unix(path, &self.asks.0).await {
            Ok(server) => Some(server),
            Err(taken @ SocketError::Taken(_)) => {
                tracing::warn!("{taken}; the status of this one is not available");
                None
            }
            Err(error) => {
                tracing::warn!("{error}; continuing without it");
                None
            }
        }
    }

    /// Makes the status socket again once its file is gone, as cleaners of /run and /tmp have it.
    pub(super) async fn keep_status_socket(&mut self) {
        let Some(path) = self.options.config.status_socket.clone() else { return };
        if self.status_socket.as_ref().is_some_and(Server::is_gone) {
            tracing::warn!("the status socket {} is gone; creating it again", path.display());
            self.status_socket = None;
            self.memory.socket_is_gone = true;
        }
        if !self.memory.socket_is_gone {
            return;
        }
        match server::unix(&path, &self.asks.0).await {
            Ok(server) => {
                self.status_socket = Some(server);
                self.memory.socket_is_gone = false;
                self.memory.no_socket = None;
            }
            Err(taken @ SocketError::Taken(_)) => {
                tracing::warn!("{taken}; the status of this one is not available");
                self.memory.socket_is_gone = false;
            }
            Err(error) => {
                if self.memory.no_socket.is_none() {
                    tracing::warn!(
                        "{error}; retrying every second. A folder that was removed and created again is outside the \
                         sandbox; restart to use it"
                    );
                }
                self.memory.no_socket = Some(error.to_string());
            }
        }
    }

    pub(super) async fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Live(watcher) => self.watched_by(watcher).await,
            Ask::Record(order, reply) => self.record_by_hand(order, reply),
            Ask::EndRecording(id, reply) => {
                // Who asked may be gone.
                let _ = reply.send(self.end_by_hand(id));
            }
            Ask::Status(reply) => {
                // Without an answer the server says that there is none.
                if let Some(state) = self.capture.status().await {
                    let _ = reply.send(Box::new(self.status(&state)));
                }
            }
        }
    }

    fn status(&self, state: &CaptureStatus) -> Status {
        let config = &self.options.config;
        let interfaces = self.interfaces(state);
        let targets: Vec<TargetStatus> = self.directory.status();
        let problems = self.problems(state, &interfaces, &targets, self.outputs.send_errors());
        let health = self.health(&Health {
            source: state.source,
            engine: state.engine,
            flows: state.flows as u64,
            samples_dropped: state.samples_dropped,
            interfaces: state.attached.len() as u64,
            ..Health::default()
        });
        let group = |name: &str| Counts::of(name, metrics::readings(&health));
        Status {
            version: VERSION,
            state: if problems.is_empty() { State::Ok } else { State::Degraded },
            problems,
            program: Program {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                pid: std::process::id(),
                started_ns: since_epoch(self.memory.started),
                uptime_s: self.memory.started_at.elapsed().as_secs_f64(),
                config: self.options.config_path.as_ref().map(|path| path.display().to_string()),
                memory_bytes: health.memory_bytes,
            },
            backend: BackendStatus {
                name: state.backend.to_owned(),
                wanted: match config.backend {
                    Backend::Auto => "auto",
                    Backend::Ebpf => "ebpf",
                    Backend::Pcap => "pcap",
                }
                .to_owned(),
                fallback: state.fallback.clone(),
            },
            kernel: kernel().clone(),
            privileges: privileges(),
            interfaces,
            targets,
            ports: config.ports.names().collect(),
            groups: self.directory.groups().described(),
            flows: group("flows").with("max", config.max_flows.into()),
            rates: self.rates(state),
            packets: group("packets"),
            samples: group("samples"),
            drops: group("drops"),
            happened: group("happened"),
            processes: group("processes"),
            recorder: group("recorder"),
            connections: config.wants(MetricName::Health).then(|| ConnectionsStatus {
                total: Counts::of_peer(&self.memory.connections),
                peers: self.memory.peers.clone(),
            }),
            responses: config.wants(MetricName::Response).then(|| self.memory.slowest.clone()),
            outputs: self.outputs.status(),
            web: self.web.url(),
            // The wall clock may have been set since.
            last_report: self
                .memory
                .last_report
                .map(|last| LastReport { age_s: self.memory.last_report_at.elapsed().as_secs_f64(), ..last }),
            errors: recent::messages()
                .into_iter()
                .map(|m| LogMessage {
                    at_ns: since_epoch(m.at),
                    age_s: Some(m.logged.elapsed().as_secs_f64()),
                    level: m.level.to_owned(),
                    text: m.text,
                })
                .collect(),
        }
    }

    /// Those that capture runs on, then those that ought to be there and are not.
    fn interfaces(&self, state: &CaptureStatus) -> Vec<InterfaceStatus> {
        let there = state.attached.iter().map(|attached| InterfaceStatus {
            qdisc: self.queues.of(attached.ifindex),
            name: attached.name.clone(),
            attached: true,
            ifindex: Some(attached.ifindex),
            hook: Some(attached.hook.clone()),
            host_end: attached.host_end,
        });
        let names: Vec<&str> = state.attached.iter().map(|attached| attached.name.as_str()).collect();
        let absent = self.directory.absent(&names).into_iter().map(|name| InterfaceStatus {
            name,
            qdisc: None,
            attached: false,
            ifindex: None,
            hook: None,
            host_end: false,
        });
        there.chain(absent).collect()
    }

    /// What is in the way of doing all that it was told to.
    fn problems(
        &self,
        state: &CaptureStatus,
        interfaces: &[InterfaceStatus],
        targets: &[TargetStatus],
        send_errors: u64,
    ) -> Vec<String> {
        let mut problems = Vec::new();
        let is_in_trouble = |name: &str| state.trouble.iter().any(|(its, _)| its == name);
        for (interface, why) in &state.trouble {
            problems.push(format!("cannot capture on {interface}: {}", why.lines().next().unwrap_or_default()));
        }
        let absent = interfaces.iter().filter(|now| !now.attached && !is_in_trouble(&now.name));
        problems.extend(absent_ones(&absent.map(|absent| &*absent.name).collect::<Vec<_>>()));
        for ((ifindex, way), _) in self.hidden.iter().filter(|(_, hidden)| hidden.moved) {
            let name =
                state.attached.iter().find(|attached| attached.ifindex == *ifindex).map(|attached| &*attached.name);
            problems.push(format!(
                "{}: no {} segments are seen although there are some: another program ends the chain before the \
                 classifier, or they pass another interface",
                name.unwrap_or("an interface"),
                way.name()
            ));
        }
        let failing: BTreeSet<&str> = targets
            .iter()
            .flat_map(|target| &target.hosts)
            .filter(|host| host.error.is_some())
            .map(|host| &*host.name)
            .collect();
        if !failing.is_empty() {
            let names: Vec<&str> = failing.into_iter().collect();
            problems.push(format!("{} cannot be looked up", hosts::shortened(&names)));
        }
        problems.extend(self.directory.problems());
        problems.extend(self.owners.problem());
        // The refusal names the cause and the fix then.
        let is_named = self.memory.refused.as_ref().is_some_and(|refusal| refusal.is_of_recordings);
        problems.extend(self.recorder.problem().filter(|_| !is_named));
        let recent = self.memory.recent();
        if state.source.packets.lost > recent.lost {
            problems.push(lost_lately(state.backend, state.source.packets.lost - recent.lost));
        }
        if send_errors > recent.send_errors {
            problems
                .push(format!("{} datagrams or reports could not be sent lately", send_errors - recent.send_errors));
        }
        problems.extend(privileges::without_proc().map(str::to_owned));
        problems.extend(threads::problem());
        problems.extend(self.service.problem());
        problems.extend(crate::logging::problem());
        let lines_lost = crate::logging::lines_lost();
        if lines_lost > recent.lines_lost {
            problems.push(format!("{} lines of the log could not be written lately", lines_lost - recent.lines_lost));
        }
        problems.extend(self.outputs.problems());
        problems.extend(self.web.problem().map(str::to_owned));
        problems.extend(self.memory.no_socket.clone());
        if let Some(refusal) = &self.memory.refused {
            let first = refusal.text.lines().next().unwrap_or_default();
            problems.push(format!("{RELOAD_REFUSED}: {first}; reload again once that is fixed"));
        }
        problems
    }

    fn rates(&self, state: &CaptureStatus) -> Rates {
        let since = self.memory.recent();
        let over_s = since.at.elapsed().as_secs_f64();
        let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / over_s.max(1e-3);
        Rates {
            over_s,
            packets_per_s: rate(state.source.packets.seen, since.packets),
            records_per_s: rate(state.source.packets.records, since.records),
            samples_per_s: rate(state.engine.samples_total(), since.samples),
        }
    }
}

fn privileges() -> PrivilegesStatus {
    let told = privileges::of_all_threads();
    let confinement = privileges::confinement();
    let unknown = told.is_none();
    let rights = told.unwrap_or_default();
    PrivilegesStatus {
        off: confinement.and_then(|confinement| confinement.off).map(str::to_owned),
        unknown,
        capabilities: rights.capabilities.iter().map(ToString::to_string).collect(),
        no_new_privs: rights.no_new_privs,
        seccomp: rights.seccomp,
        landlock: confinement.map_or(Landlock::Off, |confinement| confinement.landlock).name().to_owned(),
    }
}

/// Asked once, at the start: neither changes while this process runs, but its right to ask does.
pub(super) fn kernel() -> &'static Kernel {
    static KERNEL: OnceLock<Kernel> = OnceLock::new();
    KERNEL.get_or_init(|| Kernel {
        release: std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
        features: features()
            .into_iter()
            .map(|f| FeatureStatus { name: f.name.to_owned(), available: f.available, detail: f.detail })
            .collect(),
    })
}

fn since_epoch(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_with_trouble_are_told_and_only_those_the_worst_first() {
        use crate::output::examples::{counted, pair};
        let mut worse = counted("worse", &[]);
        worse.summary.health.as_mut().unwrap().resets[0] = 9;
        let mut fine = counted("fine", &[]);
        **fine.summary.health.as_mut().unwrap() = PeerHealth { segments: 9, ..PeerHealth::default() };
        let mut pairs = vec![pair("uncounted", &[1], &[]), counted("bad", &[20]), fine, worse];
        let names = |pairs: &[NamedPair]| troubled(pairs).into_iter().map(|peer| peer.pair.dst).collect::<Vec<_>>();
        assert_eq!(names(&pairs), ["worse", "bad"]);
        pairs.extend((0..20).map(|k| counted(&k.to_string(), &[])));
        assert_eq!(names(&pairs).len(), TROUBLED);
    }

    #[test]
    fn pairs_whose_responses_are_slowest_are_told_first_and_those_without_never() {
        use crate::output::examples::{pair, responding};
        let mut pairs = vec![pair("silent", &[1], &[]), responding("fast", &[1], &[2_000, 4_000, 9_000])];
        pairs.extend((0..20).map(|k| responding(&k.to_string(), &[1], &[1_000 + k])));
        pairs.push(responding("slow", &[1], &[70_000]));
        let told = slowest(&pairs);
        assert_eq!(
            (told.len(), &*told[0].pair.dst, &*told[1].pair.dst, &*told[2].pair.dst),
            (TROUBLED, "slow", "fast", "19")
        );
        assert_eq!((told[1].count, told[1].p50_ms, told[1].p95_ms), (3, 4.0, 9.0));
    }

    #[test]
    fn services_and_units_of_one_host_are_told_apart_in_both_lists() {
        use crate::output::examples::{counted, responding};
        let of =
            |pair: NamedPair, port, process: &str| NamedPair { port: Some(port), process: process.to_owned(), ..pair };
        let pairs = vec![
            of(responding("db", &[1], &[9_000]), 5432, "web.service"),
            of(responding("db", &[1], &[8_000]), 6379, ""),
            of(counted("db", &[]), 5432, "web.service"),
        ];
        let slow = slowest(&pairs).into_iter().map(|told| (told.pair.dst, told.pair.process));
        let web = Some("web.service".to_owned());
        assert_eq!(slow.collect::<Vec<_>>(), [("db:5432".to_owned(), web.clone()), ("db:6379".to_owned(), None)]);
        let peers = troubled(&pairs).into_iter().map(|told| (told.pair.dst, told.pair.process));
        assert_eq!(peers.collect::<Vec<_>>(), [("db:5432".to_owned(), web)]);
    }

    #[test]
    fn three_thousand_absent_interfaces_are_one_reason() {
        let names: Vec<String> = (0..3000).map(|n| format!("veth{n}")).collect();
        let names: Vec<&str> = names.iter().map(|name| &**name).collect();
        let reason = "3000 interfaces are absent: veth0, veth1, veth2 and 2997 more";
        assert_eq!(absent_ones(&names).as_deref(), Some(reason));
        assert_eq!(absent_ones(&names[..1]).as_deref(), Some("interface veth0 is absent"));
        assert_eq!(absent_ones(&[]), None);
    }
}
