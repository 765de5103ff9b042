//! Configuration: the original's file, our own keys beside its own, and the environment where the file is silent.
//!
//! [`init`] and [`instance`] are the file's two sections, read with [`section`] key by key into [`values`], types that cannot
//! hold a bad value. Whatever is wrong is noted with its [`place`], and all of it makes one [`error`]. [`environment`] is what
//! Datadog's clients take from theirs.

mod environment;
mod error;
mod file;
mod init;
mod instance;
mod mark;
mod place;
mod sampling;
mod schema;
mod section;
mod selector;
mod template;
mod values;
mod yaml;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_yaml::Value;

use go_metro_rtt::Ports;

pub use environment::not_utf8;
pub use error::{ConfigError, Fault};
pub use instance::{Instance, Sampling};
pub use sampling::{PerFlow, Thinning, Watermark};
pub use schema::schema;
pub use selector::{Hopeless, Selector};
pub use template::{Answers, write};
pub use values::{
    AverageWanted, Backend, BucketsWanted, DelayedAcks, IngressHook, LogLevel, MetricName, OutputName, SidesWanted,
    network,
};

/// Where the daemon tells its status unless it is told otherwise.
pub const STATUS_SOCKET: &str = init::STATUS_SOCKET;

/// A time of the command line: seconds, or a number and its unit.
///
/// # Errors
///
/// What is no time, or none at all.
pub fn parse_time(text: &str) -> Result<Duration, String> {
    match values::duration(text) {
        Some(time) if time.is_zero() => Err("must be more than 0".to_owned()),
        Some(time) => Ok(time),
        None => Err(format!("`{text}` is no time; write seconds (10) or a unit (500ms, 10s, 5m, 1h)")),
    }
}

/// A time between reports, of the command line.
///
/// # Errors
///
/// As [`parse_time`]; and a time that is too short.
pub fn parse_interval(text: &str) -> Result<Duration, String> {
    values::at_least(parse_time(text)?, init::SHORTEST_INTERVAL)
}

/// An address and a port to listen on.
///
/// # Errors
///
/// It is none; the error says what to write.
pub fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    values::listen(text)
}

/// What the command line may say for `status_socket`: a path from the root, or `off`.
///
/// # Errors
///
/// It is neither.
pub fn parse_status_socket(text: &str) -> Result<Option<PathBuf>, String> {
    values::path_or_off(text)
}

use error::Faults;
use init::InitConfig;
use place::Place;
use section::Section;

/// The commented example: each key with its meaning and its default.
pub const EXAMPLE: &str = include_str!(concat!(env!("OUT_DIR"), "/conf.yaml.example"));

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
    /// Bytes of the buffer between the kernel and the daemon.
    pub ring_bytes: u32,
    /// Rings, and threads that drain them (eBPF).
    pub workers: u32,
    /// A filter in libpcap's language that packets must pass as well.
    pub filter: Option<String>,
    /// The ports of a service; none for all.
    pub ports: Ports,
    /// Which round trips are measured.
    pub sides: SidesWanted,
    /// Which samples are not taken.
    pub thinning: Thinning,
    /// Where the classifier sees what comes in.
    pub ingress_hook: IngressHook,
    /// What summaries do with delayed acknowledgements.
    pub delayed_acks: DelayedAcks,
    /// What `system.net.tcp.rtt.avg` is.
    pub average: AverageWanted,
    /// Whether the kernel's own RTT of this host's sockets is reported beside ours.
    pub kernel_rtt: bool,
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
    /// Who named it.
    pub statsd_origin: Origin,
    /// Where results go when the command line does not say.
    pub outputs: Vec<OutputName>,
    /// What DogStatsD gets.
    pub metrics: Vec<MetricName>,
    /// Where Prometheus scrapes; see [`Config::prometheus_address`].
    pub prometheus_listen: Option<SocketAddr>,
    /// How close the bounds of its buckets are.
    pub prometheus_buckets: BucketsWanted,
    /// The Unix socket at which the daemon tells its status.
    pub status_socket: Option<PathBuf>,
    /// Tags of every metric.
    pub tags: Vec<String>,
    /// Where the log goes.
    pub log: LogSettings,
    /// Whether the daemon confines itself, and gives up what it no longer needs.
    pub sandbox: bool,
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

/// Who named a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The configuration file.
    File,
    /// This variable of the environment.
    Environment(&'static str),
    /// Nobody.
    Default,
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

impl Config {
    /// Reads a file; where it is silent, `environment` and then the defaults speak.
    ///
    /// # Errors
    ///
    /// What cannot be read or is no YAML; every unknown key and bad value, with file, line and key; an environment that makes
    /// no sense.
    pub fn load(path: &Path, environment: Environment<'_>) -> Result<Self, ConfigError> {
        Self::load_from(path, file::Kind::FileOrPipe, environment)
    }

    /// As [`Config::load`], for a daemon that reads its file again: never waits for a pipe.
    ///
    /// # Errors
    ///
    /// As [`Config::load`]; and a file that is a pipe now.
    pub fn load_again(path: &Path, environment: Environment<'_>) -> Result<Self, ConfigError> {
        Self::load_from(path, file::Kind::File, environment)
    }

    fn load_from(path: &Path, kind: file::Kind, environment: Environment<'_>) -> Result<Self, ConfigError> {
        let text = file::read(path, kind).map_err(|error| ConfigError::unreadable(path, &error))?;
        Self::parse(&text, path, environment)
    }

    /// As [`Config::load`], of a text; `path` is only for messages.
    ///
    /// # Errors
    ///
    /// As [`Config::load`].
    pub fn parse(text: &str, path: &Path, environment: Environment<'_>) -> Result<Self, ConfigError> {
        let text = only_document(text);
        let mut file: Value = serde_yaml::from_str(text).map_err(|error| ConfigError::from_yaml(path, text, &error))?;
        file.apply_merge().map_err(|error| ConfigError::from_yaml(path, text, &error))?;
        let mut faults = Faults::new(text);
        let (init, instances) = read(&file, &mut faults);
        faults.into_result(path)?;
        init.into_config(instances, environment).map_err(ConfigError::CommandLine)
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

/// A file without what editors and templates put around its document: a byte order mark, and an empty document behind it (`---` at the end).
fn only_document(text: &str) -> &str {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let is_empty =
        |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#') || line.trim_end() == "...";
    let mut end = text.len();
    let mut cut = None;
    for line in text.split_inclusive('\n').rev() {
        end -= line.len();
        if line.trim_end() == "---" {
            cut = Some(end);
        } else if !is_empty(line) {
            return cut.map_or(text, |cut| &text[..cut]);
        }
    }
    text
}

/// Reads the file's top level; what is wrong is noted.
fn read(file: &Value, faults: &mut Faults<'_>) -> (InitConfig, Vec<Instance>) {
    let top = Place::default();
    let mut section = Section::new(top.clone(), file, faults);
    let init = section.value("init_config").unwrap_or(&Value::Null);
    // Older versions of the original called it `config`.
    let old = if section.has("config") { section.value("config") } else { None };
    let (key, list) = match (section.value("instances"), old) {
        (None, Some(old)) => ("config", Some(old)),
        (Some(_), Some(_)) => {
            section.fault_at("config", "`config` is an old name of `instances`; keep one");
            return (InitConfig::default(), Vec::new());
        }
        (list, None) => ("instances", list),
    };
    let keys_are_known = section.finish();
    let place = top.key(key);
    let items = match list {
        Some(Value::Sequence(items)) if !items.is_empty() => items.as_slice(),
        Some(Value::Sequence(_)) => {
            faults.add(&place, "holds no instance; name at least one interface");
            &[]
        }
        Some(_) => {
            faults.add(&place, "expected a list; write each instance as `- interface: NAME` with its keys below");
            &[]
        }
        None => {
            // A slip in this very key was noted already.
            if keys_are_known {
                faults.add(&place, "is missing or empty; name at least one interface");
            }
            &[]
        }
    };
    let init = InitConfig::read(Section::new(top.key("init_config"), init, faults));
    let mut instances: Vec<Instance> = Vec::new();
    // There may be thousands of them: the first of each kind, by its number.
    let (mut seen, mut host_ends) = (HashMap::new(), HashMap::new());
    for (index, item) in items.iter().enumerate() {
        let Some(instance) = Instance::read(Section::new(place.item(index), item, faults)) else { continue };
        match seen.entry(instance.essence()) {
            Entry::Occupied(twin) => {
                let what = format!("watches what {} watches, with the same tags; remove one", place.item(*twin.get()));
                faults.add(&place.item(index), &what);
            }
            Entry::Vacant(free) => _ = free.insert(index),
        }
        if let Some(host_end) = instance.host_end {
            if let Some(other) = host_ends.get(&(instance.interface.clone(), !host_end)) {
                let what = format!("`host_end` differs from that of {}, of the same interface", place.item(*other));
                faults.add(&place.item(index).key("host_end"), &what);
            }
            host_ends.entry((instance.interface.clone(), host_end)).or_insert(index);
        }
        instances.push(instance);
    }
    (init, instances)
}

#[cfg(test)]
mod tests;
