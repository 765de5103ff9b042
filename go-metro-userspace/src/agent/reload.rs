//! SIGHUP: over to another configuration, without a gap for what stays the same.

use std::path::Path;
use std::time::Duration;

use tokio::sync::oneshot;

use super::directory::Directory;
use super::settings::{engine_config, host_ends, source_settings, summary_limits};
use super::{Agent, AgentError};
use crate::capture::{CaptureError, Source, interfaces, pcap};
use crate::config::{Backend, Config, ConfigError};
use crate::{privileges, threads};

impl Agent {
    /// Reads the configuration again. A broken one changes nothing.
    pub(super) async fn reload(&mut self) -> bool {
        let Some(path) = &self.options.config_path else {
            tracing::warn!("SIGHUP: there is no configuration file to read again");
            return false;
        };
        let path = path.clone();
        self.service.reloading();
        let done = self.read_again(&path).await;
        self.memory.refused = done.as_ref().err().map(|refusal| refusal.text.clone());
        let said = match &done {
            Ok(()) => {
                self.happened.reloads += 1;
                tracing::info!("SIGHUP: configuration read again");
                "configuration read again".to_owned()
            }
            Err(Refusal { text, lines }) => {
                self.happened.reloads_refused += 1;
                if let [why] = lines.as_slice() {
                    tracing::error!("SIGHUP: the configuration stays as it was: {why}");
                } else {
                    lines.iter().for_each(|line| tracing::error!("SIGHUP: {line}"));
                    tracing::error!(
                        "SIGHUP: the configuration stays as it was: {} faults, each named above",
                        lines.len()
                    );
                }
                format!("the configuration stays as it was: {text}")
            }
        };
        self.service.ready(&said);
        done.is_ok()
    }

    async fn read_again(&mut self, path: &Path) -> Result<(), Refusal> {
        let config = load(path).await?;
        let followed = self.follow(self.options.overrides.apply(config)).await;
        followed.map_err(|error| Refusal { text: error.to_string(), lines: vec![error.to_string()] })
    }

    /// Goes over to another configuration, opening the source anew only if it must be.
    async fn follow(&mut self, config: Config) -> Result<(), AgentError> {
        let mut directory = Directory::new(&config);
        directory.adopt(&self.directory);
        directory.refresh_hosts().await;
        directory.check()?;
        let old = &self.options.config;
        stays_confined(old, &config)?;
        // All that may fail comes first, so that a configuration is followed as a whole or not at all.
        if config.backend != Backend::Pcap {
            interfaces::fit(&directory.watch_list())?;
        }
        let reserved = self.outputs.reserve(old, &config)?;
        let of_source = of_source(old, &config);
        if !of_source.is_empty() {
            let settings = source_settings(&config, &directory);
            let source = Source::prepare(config.backend, &settings);
            let source = source.map_err(|error| refused(error, &of_source, config.filter.as_deref()))?;
            let keeps_flows = of_source.iter().all(|key| KEEP_FLOWS.contains(key));
            self.worker.replace(source, settings.watch, keeps_flows).await?;
        }
        if config.log != old.log {
            tracing::warn!("restart to change where and how much is logged");
        }
        self.worker.bounds(engine_config(&config), summary_limits(&config));
        self.outputs.follow(old, &config, &self.asks.0, reserved);
        let moved = config.status_socket != old.status_socket;
        self.directory = directory;
        self.options.config = config;
        if moved {
            self.status_socket = None;
            self.status_socket = self.open_status_socket().await;
        }
        self.worker.watch(self.directory.watch_list());
        if self.directory.hosts().failing() > 0 {
            self.look_up_hosts();
        }
        Ok(())
    }
}

/// Longest wait for the file: that of a server that is gone, on a file system that waits for it, cannot be read.
const PATIENCE: Duration = Duration::from_secs(60);

/// Reads the file on a thread of its own, or here if there can be none.
async fn load(path: &Path) -> Result<Config, Refusal> {
    let environment = |name: &str| std::env::var(name).ok();
    let (reply, answer) = oneshot::channel();
    let file = path.to_owned();
    let read = move || drop(reply.send(Config::load_again(&file, &environment)));
    if threads::spawn("configuration", read).is_err() {
        threads::forgo("configuration");
        return Ok(Config::load_again(path, &environment)?);
    }
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(Ok(config)) => Ok(config?),
        _ => {
            let text = format!("{}: it cannot be read within {} s", path.display(), PATIENCE.as_secs());
            Err(Refusal { lines: vec![text.clone()], text })
        }
    }
}

/// Why a configuration is not followed.
struct Refusal {
    /// As `check` shows it, with the lines of the file.
    text: String,
    /// A line for each fault, for the log.
    lines: Vec<String>,
}

impl From<ConfigError> for Refusal {
    fn from(error: ConfigError) -> Self {
        Self { text: error.to_string(), lines: error.lines() }
    }
}

/// What can differ of two sources that say the same of flows.
const KEEP_FLOWS: [&str; 2] = ["ring_size", "snaplen"];

/// What differs that a source is opened with, by name.
fn of_source(old: &Config, new: &Config) -> Vec<&'static str> {
    let differs = [
        ("backend", old.backend != new.backend),
        ("ring_size", old.ring_bytes != new.ring_bytes),
        ("snaplen", old.snaplen != new.snaplen),
        ("filter", old.filter != new.filter),
        ("sides", old.sides != new.sides),
        ("ingress_hook", old.ingress_hook != new.ingress_hook),
        ("sampling", old.thinning != new.thinning),
        ("workers", old.workers != new.workers),
        ("host_end", host_ends(old) != host_ends(new)),
    ];
    differs.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
}

fn refused(error: CaptureError, keys: &[&str], filter: Option<&str>) -> AgentError {
    if privileges::is_off() || !error.is_refusal() {
        return error.into();
    }
    // After a restart this would be in the way.
    if let Some(Err(error)) = filter.map(pcap::check_filter) {
        return error.into();
    }
    tracing::debug!(%error, "the source cannot be opened anew");
    let why = "what opening the source anew needs was given up after the start (docs/privileges.md)".to_owned();
    AgentError::NeedsRestart { keys: keys.join(", "), why }
}

/// What confines the process cannot be undone while it runs, or be done with threads that are there.
fn stays_confined(old: &Config, new: &Config) -> Result<(), AgentError> {
    let needs_restart =
        |key: &str, why: &str| Err(AgentError::NeedsRestart { keys: key.to_owned(), why: why.to_owned() });
    if old.sandbox != new.sandbox {
        return needs_restart("sandbox", "it is for a process's whole life");
    }
    let folder = new.status_socket.as_deref().and_then(Path::parent);
    if old.status_socket != new.status_socket && folder.is_some_and(|folder| !privileges::may_write_in(folder)) {
        return needs_restart(
            "status_socket",
            "files can be made in the folders of the start only (docs/privileges.md)",
        );
    }
    Ok(())
}
