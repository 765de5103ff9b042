//! What the daemon is started with, and why it could not.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use go_metro_rtt::Ports;
use tokio::sync::mpsc;

use super::directory;
use super::web::ListenError;
use crate::capture::CaptureError;
use crate::config::{Backend, Config, GroupBy, MetricName, Output, Record, SidesWanted, WEB_HISTORY};
use crate::groups::AsDatabaseError;
use crate::output::OpenError;
use crate::status::Live;
use crate::terminal::printable;

/// What the command line says over the configuration, now and after each reload.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overrides {
    /// Where segments come from.
    pub backend: Option<Backend>,
    /// Capture filter.
    pub filter: Option<String>,
    /// Which round trips are measured.
    pub sides: Option<SidesWanted>,
    /// Report the kernel's own RTT too.
    pub kernel_rtt: bool,
    /// Count the health of connections, and report it.
    pub health: bool,
    /// Time the other end's responses, and report them.
    pub responses: bool,
    /// Where Prometheus scrapes.
    pub prometheus_listen: Option<SocketAddr>,
    /// Where browsers find the page, or that there is none.
    pub web_listen: Option<Option<SocketAddr>>,
    /// Where `status` and `top` connect.
    pub status_socket: Option<Option<PathBuf>>,
    /// Log file.
    pub log_file: Option<PathBuf>,
    /// Where results go; `None` for where the configuration says.
    pub outputs: Option<Vec<Output>>,
    /// Time between reports.
    pub report_interval: Option<Duration>,
    /// The ports of a service.
    pub ports: Option<Ports>,
    /// Look no names of peers up.
    pub without_names: bool,
    /// Which remote hosts are reported together.
    pub group_by: Option<GroupBy>,
    /// Leave `record` to the daemon whose file it is in, and its folder alone.
    pub without_recordings: bool,
}

impl Overrides {
    /// Where results go with this configuration; an address to scrape adds Prometheus.
    pub(crate) fn outputs_of(&self, config: &Config) -> Vec<Output> {
        let mut outputs = self.outputs.as_ref().unwrap_or(&config.outputs).clone();
        if self.prometheus_listen.is_some() && !outputs.contains(&Output::Prometheus) {
            outputs.push(Output::Prometheus);
        }
        outputs
    }

    /// The configuration with what the command line says instead. Its outputs are the file's and those of the command
    /// line, so that no key of one of them passes for one without effect; where results go, [`Self::outputs_of`] says.
    pub(crate) fn apply(&self, mut config: Config) -> Config {
        for output in self.outputs_of(&config) {
            if !config.outputs.contains(&output) {
                config.outputs.push(output);
            }
        }
        if let Some(backend) = self.backend {
            config.backend = backend;
        }
        if let Some(sides) = self.sides {
            config.sides = sides;
        }
        config.kernel_rtt |= self.kernel_rtt;
        for (wanted, family) in [(self.health, MetricName::Health), (self.responses, MetricName::Response)] {
            if wanted && !config.wants(family) {
                config.metrics.push(family);
            }
        }
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
        if let Some(web_listen) = self.web_listen {
            config.web_listen = web_listen;
            if web_listen.is_none() {
                // It is no slip that what the file says of the page has no effect.
                config.web_history = WEB_HISTORY;
            }
        }
        if let Some(socket) = &self.status_socket {
            config.status_socket.clone_from(socket);
        }
        if let Some(ports) = self.ports {
            config.ports = ports;
        }
        config.reverse_dns &= !self.without_names;
        if let Some(group_by) = &self.group_by {
            config.group_by.clone_from(group_by);
        }
        if let Some(interval) = self.report_interval {
            config.report_interval = interval;
        }
        if self.without_recordings {
            config.record = Record::default();
        }
        config
    }
}

/// What [`super::run`] needs.
#[derive(Debug)]
pub(crate) struct DaemonOptions {
    /// The configuration, with the overrides applied.
    pub config: Config,
    /// Its file, to read it again on SIGHUP.
    pub config_path: Option<PathBuf>,
    /// What the command line said over it.
    pub overrides: Overrides,
    /// Whether to print every sample as a JSON line.
    pub samples: bool,
    /// A watcher that gets the figures of every second, and ends the daemon by hanging up.
    pub watcher: Option<mpsc::Sender<Arc<Live>>>,
    /// Stop after this long.
    pub duration: Option<Duration>,
}

/// Why the daemon could not start or go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DaemonError {
    /// The source failed.
    #[error("{0}")]
    Capture(#[from] CaptureError),
    /// Every target is an address of this host.
    #[error("{0}")]
    Targets(#[from] directory::OnlyLocalTargets),
    /// Hosts cannot be grouped as is wanted.
    #[error("{0}")]
    Groups(#[from] AsDatabaseError),
    /// An output cannot be had.
    #[error("{0}")]
    Output(#[from] OpenError),
    /// There is no page for browsers.
    #[error("{0}; set `web_listen` or --web-listen to another address or to off")]
    Web(#[from] ListenError),
    /// Recordings cannot be written.
    #[error(
        "no recording can be made in {}: {source}; set `record.folder` to a folder that the daemon's user may write",
        printable(&folder.display().to_string())
    )]
    Recordings {
        /// Where.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn an_endpoint_of_an_output_that_only_the_command_line_names_has_an_effect() {
        let init = "{outputs: [statsd], otlp_endpoint: 'http://a:1', prometheus_listen: '127.0.0.1:1'}";
        let text = format!("init_config: {init}\ninstances: [{{interface: lo, ips: ['::1']}}]\n");
        let config = Config::parse(&text, Path::new("c"), &|_| None).unwrap();
        let doubted = |outputs: Option<Vec<Output>>| {
            let overrides = Overrides { outputs, ..Overrides::default() };
            let applied = overrides.apply(config.clone());
            let subjects: Vec<_> = applied.doubts().iter().map(|doubt| doubt.subject).collect();
            (subjects, overrides.outputs_of(&applied))
        };
        assert_eq!(doubted(None), (vec!["Prometheus", "OTLP"], vec![Output::Statsd]));
        assert_eq!(doubted(Some(vec![Output::Otlp])), (vec!["Prometheus"], vec![Output::Otlp]));
        assert_eq!(doubted(Some(vec![Output::Prometheus])), (vec!["OTLP"], vec![Output::Prometheus]));
    }

    #[test]
    fn a_page_that_the_command_line_turns_off_leaves_no_key_without_effect() {
        let init = "{web_listen: '0.0.0.0:9465', web_history: 60}";
        let text = format!("init_config: {init}\ninstances: [{{interface: lo, ips: ['::1']}}]\n");
        let config = Config::parse(&text, Path::new("c"), &|_| None).unwrap();
        let applied = |web_listen| Overrides { web_listen, ..Overrides::default() }.apply(config.clone());
        assert_eq!(applied(None).doubts().len(), 1);
        let off = applied(Some(None));
        assert_eq!((off.web_listen, off.doubts()), (None, Vec::new()));
        let elsewhere = applied(Some(Some("127.0.0.1:1".parse().unwrap())));
        assert_eq!((elsewhere.web_history.as_secs(), elsewhere.doubts()), (60, Vec::new()));
    }

    #[test]
    fn a_run_that_leaves_recordings_to_the_daemon_has_none_whatever_the_file_says() {
        let text = "init_config: {record: {memory: 1MiB, threshold: 1s}}\ninstances: [{interface: lo, ips: ['::1']}]\n";
        let config = Config::parse(text, Path::new("c"), &|_| None).unwrap();
        let applied = |without| Overrides { without_recordings: without, ..Overrides::default() }.apply(config.clone());
        assert!(applied(false).record.makes_files() && !applied(true).record.makes_files());
    }
}
