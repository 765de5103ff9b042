//! SIGHUP: over to another configuration, without a gap for what stays the same.

use std::path::Path;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::directory::Directory;
use super::settings::{Limits, source_settings};
use super::{Daemon, DaemonError, recorder, sandbox};
use crate::capture::{CaptureError, Source, interfaces, pcap};
use crate::config::{Backend, Config, ConfigError, GroupBy, Key, MetricName, Output, Reload, key};
use crate::groups::{AsDatabaseError, Groups};
use crate::{logging, privileges, threads};

impl Daemon {
    /// Begins to read the configuration again. What is read comes from [`Reading::done`], for [`Self::reload`]: nothing
    /// waits for a file system whose server is gone.
    pub(super) fn read_again(&mut self) {
        let Some(path) = &self.options.config_path else {
            tracing::warn!("SIGHUP: no configuration file to reload");
            return;
        };
        if let Some(reading) = &mut self.reading {
            reading.again = true;
            return;
        }
        let groups = (self.options.overrides.group_by.clone(), self.directory.groups().clone());
        self.reading = Some(Reading::start(path, groups));
        self.service.reloading();
    }

    /// Says so, once, if the file cannot be read for a while.
    pub(super) fn look_at_reading(&mut self) {
        let Some(reading) = self.reading.as_mut().filter(|reading| reading.since.elapsed() >= PATIENCE) else { return };
        if std::mem::replace(&mut reading.is_late, true) {
            return;
        }
        let path = self.options.config_path.as_deref().unwrap_or(Path::new("")).display();
        let seconds = PATIENCE.as_secs();
        self.refuse(Refusal::of(format!("{path}: could not be read within {seconds} s; it is applied once it can be")));
    }

    /// Goes over to what was read; whether that is done. A broken configuration changes nothing.
    pub(super) async fn reload(&mut self, read: Read) -> bool {
        if self.reading.take().is_some_and(|reading| reading.is_late) {
            self.service.reloading();
        }
        let done = match read {
            Ok((config, groups)) => {
                let followed = self.follow(self.options.overrides.apply(config), groups).await;
                followed.map_err(|error| Refusal {
                    is_of_recordings: matches!(error, DaemonError::Recordings { .. }),
                    ..Refusal::of(error.to_string())
                })
            }
            Err(error) => Err(error.into()),
        };
        let is_done = done.is_ok();
        match done {
            Ok(()) => {
                self.memory.refused = None;
                self.happened.reloads += 1;
                tracing::info!("SIGHUP: configuration reloaded");
                self.service.ready("configuration reloaded");
            }
            Err(refusal) => self.refuse(refusal),
        }
        is_done
    }

    fn refuse(&mut self, refusal: Refusal) {
        let Refusal { text, lines, .. } = &refusal;
        self.happened.reloads_refused += 1;
        if let [why] = lines.as_slice() {
            tracing::error!("SIGHUP: reload refused, configuration unchanged: {why}");
        } else {
            lines.iter().for_each(|line| tracing::error!("SIGHUP: {line}"));
            tracing::error!("SIGHUP: reload refused, configuration unchanged: {} faults, listed above", lines.len());
        }
        self.service.ready(&format!("reload refused, configuration unchanged: {text}"));
        self.memory.refused = Some(refusal);
    }

    /// Applies another configuration, reopening the source only if it must be.
    async fn follow(&mut self, config: Config, groups: Result<Groups, AsDatabaseError>) -> Result<(), DaemonError> {
        let mut directory = Directory::new(&config);
        directory.adopt(&self.directory);
        directory.refresh_hosts().await;
        directory.set_groups(groups?);
        directory.check()?;
        let old = &self.options.config;
        let changed = old.changed(&config);
        let wanted = self.options.overrides.outputs_of(&config);
        stays_confined(&changed, &config, &wanted)?;
        recorder::check(&config.record).await?;
        // All that may fail comes first, so that a configuration is followed as a whole or not at all.
        if config.backend != Backend::Pcap {
            interfaces::fit(&directory.watch_list())?;
        }
        let limits = (Limits::of(&config, &directory), config.workers);
        let measuring = self.capture.prepare(&limits.0, limits.1)?;
        let reopening = reopening(&changed, old, &config);
        let settings = source_settings(&config, &directory);
        // What sources and outputs log that do not come to be used would mislead.
        let prepared = logging::if_successful(|| {
            let source = (!reopening.is_empty()).then(|| Source::prepare(config.backend, &settings)).transpose();
            let source = source.map_err(|error| refused(error, reopening, config.filter.as_deref()))?;
            let reopened = self.outputs.reopen(&wanted, old, &config, &self.asks.0)?;
            // Last, as it undoes itself what it began.
            Ok::<_, DaemonError>((source, reopened, self.web.prepare(&config, &self.asks.0)?))
        });
        let (source, reopened, web) = prepared.inspect_err(|_| self.outputs.go_back(old, &self.asks.0))?;
        if let Some(source) = source {
            let keeps_flows = changed.iter().all(|key| key.reload != Reload::ReopenFlows);
            self.capture.replace(source, settings.watch, keeps_flows);
        }
        logging::doubts(&config, Some(old));
        if config.instances.iter().any(|instance| instance.pcap.is_some() && !old.instances.contains(instance)) {
            tracing::warn!("restart to read another capture file");
        }
        let at_start = names(&changed, &[Reload::Warn]);
        if !at_start.is_empty() {
            tracing::warn!("restart to change {at_start}");
        }
        self.capture.set_limits(limits, measuring);
        if self.owners.set(config.process_tags) {
            self.capture.label_flows(self.owners.asker());
        }
        self.outputs.follow(&config, reopened);
        let watches = self.web.follow(web, &config);
        let moved = config.status_socket != old.status_socket;
        self.directory = directory;
        self.options.config = config;
        self.forget_outliers();
        if let Some(seconds) = watches {
            self.watched_by(seconds).await;
        }
        if moved {
            self.status_socket = None;
            self.status_socket = self.open_status_socket().await;
        }
        self.capture.watch(self.directory.watch_list());
        if self.directory.hosts().failing() > 0 {
            self.look_up_hosts();
        }
        Ok(())
    }
}

/// How long the file may take before it is said: that of a server that is gone, on a file system that waits for it,
/// cannot be read.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was read: a configuration, and the groups that it wants after those so far.
pub(super) type Read = Result<(Config, Result<Groups, AsDatabaseError>), ConfigError>;

/// A configuration file that is being read, on a thread of its own, with the database that it names.
pub(super) struct Reading {
    answer: oneshot::Receiver<Read>,
    /// What the command line says of groups, and those so far.
    groups: (Option<GroupBy>, Groups),
    since: Instant,
    /// It was said that it takes long.
    is_late: bool,
    /// It was asked for once more meanwhile: the file may have changed since it was read.
    again: bool,
}

impl Reading {
    fn start(path: &Path, groups: (Option<GroupBy>, Groups)) -> Self {
        let (reply, answer) = oneshot::channel();
        let (file, wanted) = (path.to_owned(), groups.clone());
        let read = move || drop(reply.send(load(&file, &wanted)));
        let answer = if threads::spawn("configuration", read).is_ok() {
            answer
        } else {
            threads::forgo("configuration");
            let (reply, answer) = oneshot::channel();
            drop(reply.send(load(path, &groups)));
            answer
        };
        Self { answer, groups, since: Instant::now(), is_late: false, again: false }
    }

    /// What was read; never if nothing is.
    pub(super) async fn done(reading: &mut Option<Self>, path: Option<&Path>) -> Read {
        let (Some(reading), Some(path)) = (reading, path) else { return std::future::pending().await };
        loop {
            let Ok(read) = (&mut reading.answer).await else { return std::future::pending().await };
            if !reading.again {
                return read;
            }
            *reading = Self { is_late: reading.is_late, ..Self::start(path, reading.groups.clone()) };
        }
    }
}

fn load(path: &Path, (said, before): &(Option<GroupBy>, Groups)) -> Read {
    let config = Config::load_again(path, &|name: &str| std::env::var(name).ok())?;
    // The file may be another under the same name.
    let groups = Groups::open(said.as_ref().unwrap_or(&config.group_by), before);
    Ok((config, groups))
}

/// Why a configuration is not followed.
pub(super) struct Refusal {
    /// As `check` shows it, with the lines of the file.
    pub(super) text: String,
    /// Recordings cannot be written.
    pub(super) is_of_recordings: bool,
    /// A line for each fault, for the log.
    lines: Vec<String>,
}

impl Refusal {
    fn of(text: String) -> Self {
        Self { lines: vec![text.clone()], text, is_of_recordings: false }
    }
}

impl From<ConfigError> for Refusal {
    fn from(error: ConfigError) -> Self {
        Self { text: error.to_string(), lines: error.lines(), is_of_recordings: false }
    }
}

fn refused(error: CaptureError, keys: String, filter: Option<&str>) -> DaemonError {
    if privileges::is_off() || !error.is_refusal() {
        return error.into();
    }
    // After a restart this would be in the way.
    if let Some(Err(error)) = filter.map(pcap::check_filter) {
        return error.into();
    }
    tracing::debug!(%error, "the source cannot be reopened");
    let why = "reopening the source needs privileges that were dropped at startup (docs/privileges.md)".to_owned();
    DaemonError::NeedsRestart { keys, why }
}

/// Why a file elsewhere cannot be written.
const CONFINED: &str = "files can be created only in the folders that were in use at startup (docs/privileges.md)";

/// What confines the process cannot be undone while it runs, or be done with threads that exist.
fn stays_confined(changed: &[&Key], new: &Config, outputs: &[Output]) -> Result<(), DaemonError> {
    let needs_restart =
        |key: &str, why: &str| Err(DaemonError::NeedsRestart { keys: key.to_owned(), why: why.to_owned() });
    let folder = new.status_socket.as_deref().and_then(Path::parent);
    for key in changed {
        match key.reload {
            Reload::Refuse => return needs_restart(key.name, "it takes effect only at startup"),
            Reload::ApplyIfWritable if folder.is_some_and(|folder| !privileges::may_write_in(folder)) => {
                return needs_restart(key.name, CONFINED);
            }
            _ => {}
        }
    }
    if new.record.has_outliers() && !privileges::may_write_in(&new.record.folder) {
        return needs_restart("record.folder", CONFINED);
    }
    match sandbox::out_of_reach(new, outputs) {
        Some((output, path)) => {
            needs_restart("outputs", &format!("`{}` would write {}, and {CONFINED}", output.name(), path.display()))
        }
        None => Ok(()),
    }
}

/// What has capture reopened, with commas between; empty if nothing does.
fn reopening(changed: &[&Key], old: &Config, new: &Config) -> String {
    let mut names = names(changed, &[Reload::Reopen, Reload::ReopenFlows]);
    // Then other segments are to leave the kernel, which only another classifier lets them.
    if old.wants(MetricName::Response) != new.wants(MetricName::Response) {
        names += if names.is_empty() { "" } else { ", " };
        names += &format!("`response` of `{}`", key::metrics.name);
    }
    names
}

/// The names of the keys with which a reload does one of these, with commas between them.
fn names(changed: &[&Key], reload: &[Reload]) -> String {
    let names = changed.iter().filter(|key| reload.contains(&key.reload)).map(|key| key.name);
    names.collect::<Vec<_>>().join(", ")
}
