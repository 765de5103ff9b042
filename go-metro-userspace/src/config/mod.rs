//! Configuration: the original's file, our own keys beside its own, and the environment where the file is silent.
//!
//! [`values`] are types that cannot hold a bad value; [`init`] and [`instance`] are the file's two sections;
//! [`environment`] is what Datadog's clients take from theirs; [`error`] says where and what is wrong.

mod environment;
mod error;
mod init;
mod instance;
mod values;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

pub use error::ConfigError;
pub use instance::{Instance, Sampling};
pub use values::{Backend, LogLevel};

use init::InitConfig;

/// A look-up in the process's environment.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The whole configuration, valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What to watch.
    pub instances: Vec<Instance>,
    /// Where segments come from.
    pub backend: Backend,
    /// Bytes of each packet that libpcap captures.
    pub snaplen: u32,
    /// Bytes of the ring buffer between the classifier and the daemon.
    pub ring_bytes: u32,
    /// A filter in libpcap's language that packets must pass as well.
    pub filter: Option<String>,
    /// An open flow without a segment for this long is forgotten.
    pub idle_ttl: Duration,
    /// A closed flow is forgotten after this.
    pub exp_ttl: Duration,
    /// Most flows at once.
    pub max_flows: u32,
    /// Most transmissions on record per flow.
    pub outstanding_per_flow: u16,
    /// Most host pairs reported apart in one interval.
    pub max_pairs: usize,
    /// Time between reports.
    pub report_interval: Duration,
    /// Time between look-ups of configured host names.
    pub dns_refresh_interval: Duration,
    /// Whether peers that were not configured by name are looked up for their tag.
    pub reverse_dns: bool,
    /// The DogStatsD server.
    pub statsd: Statsd,
    /// Tags of every metric.
    pub tags: Vec<String>,
    /// Where the log goes.
    pub log: LogSettings,
}

/// Where the DogStatsD server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statsd {
    /// UDP.
    Udp {
        /// Address or name.
        host: String,
        /// Port.
        port: u16,
    },
    /// Unix datagram socket.
    Unix(PathBuf),
}

/// Where the log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// Whether it goes to a file instead of standard error.
    pub to_file: bool,
    /// The file.
    pub file: PathBuf,
    /// Least important messages to log.
    pub level: LogLevel,
    /// The file is rotated when it is larger than this.
    pub max_bytes: u64,
    /// Rotated files to keep.
    pub files: usize,
}

/// The file's top level.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    init_config: Option<InitConfig>,
    /// Older versions of the original called it `config`.
    #[serde(alias = "config")]
    instances: Vec<instance::Raw>,
}

impl Config {
    /// Reads a file; where it is silent, `environment` and then the defaults speak.
    ///
    /// # Errors
    ///
    /// What cannot be read, is no YAML, or holds an unknown key or a bad value: with file, line and key.
    pub fn load(path: &Path, environment: Environment<'_>) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::unreadable(path, &error))?;
        Self::parse(&text, path, environment)
    }

    /// As [`Config::load`], of a text; `path` is only for messages.
    ///
    /// # Errors
    ///
    /// As [`Config::load`].
    pub fn parse(text: &str, path: &Path, environment: Environment<'_>) -> Result<Self, ConfigError> {
        let file: File = serde_yaml::from_str(text).map_err(|error| ConfigError::from_yaml(path, text, &error))?;
        if file.instances.is_empty() {
            return Err(ConfigError::at_key(path, text, "instances", "holds no instance; name at least one interface"));
        }
        let instance = |(index, raw): (usize, instance::Raw)| {
            Instance::try_from(raw).map_err(|what: String| ConfigError::in_instance(path, text, index, &what))
        };
        let instances: Vec<Instance> =
            file.instances.into_iter().enumerate().map(instance).collect::<Result<_, _>>()?;
        let init = file.init_config.unwrap_or_default();
        init.into_config(instances, environment)
            .map_err(|what| ConfigError::in_section(path, text, "init_config", &what))
    }

    /// A configuration without a file: these interfaces, these targets on each; no target means everything.
    ///
    /// # Errors
    ///
    /// A target that is no address, prefix or host name, or an environment that makes no sense.
    pub fn from_cli(
        interfaces: &[String],
        targets: &[String],
        environment: Environment<'_>,
    ) -> Result<Self, ConfigError> {
        let instance = |interface: &String| Instance::of(interface, targets);
        let instances: Result<Vec<Instance>, String> = interfaces.iter().map(instance).collect();
        let config = instances.and_then(|instances| InitConfig::default().into_config(instances, environment));
        config.map_err(ConfigError::CommandLine)
    }
}

#[cfg(test)]
mod tests;
