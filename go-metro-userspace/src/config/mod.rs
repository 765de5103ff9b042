//! Configuration: the original's file, our own keys beside its own, and the environment where the file is silent.
//!
//! [`init`] and [`instance`] declare the file's two sections, key by key ([`declaration`]); all else follows from that:
//! [`section`] reads them into values that [`kinds`] keeps from being bad, [`schema`], [`example`] and
//! [`mod@reference`] describe them. Whatever is wrong is noted with its [`place`], and all of it makes one [`error`],
//! which repeats no [`credentials`]. [`environment`] is what Datadog's clients take from theirs, [`otlp`] what
//! OpenTelemetry's exporters do.

mod argument;
mod credentials;
mod declaration;
mod environment;
mod error;
mod example;
mod file;
mod group_by;
mod host;
mod init;
mod instance;
mod kinds;
mod otlp;
mod place;
mod record;
mod reference;
mod schema;
mod section;
mod selector;
mod thinning;
mod words;
mod yaml;

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};

use serde_yaml::Value;

use declaration::{Names, Section as _};
use error::Faults;
use place::Place;
use section::Reader;

pub use argument::{
    parse_interval, parse_prometheus_listen, parse_status_socket, parse_time, parse_web_address, parse_web_listen,
};
pub use declaration::{Key, Reload};
pub use environment::not_utf8;
pub use error::{ConfigError, Fault};
pub use example::{Answers, example, write};
pub use group_by::{GroupBy, NamedPrefixes, PortBy};
pub use host::{MAPPED_BITS, host_and_port, host_name, listening, local_url, network, split_port};
pub(crate) use init::key;
pub use init::{Config, Doubt, LONGEST_HISTORY_S, STATUS_SOCKET, WEB_ADDRESS, WEB_HISTORY, web_doubt};
pub use instance::{Instance, Sampling};
pub use otlp::{Otlp, OtlpUrl, Unsent, UnusedVariables};
pub use record::Record;
pub use reference::reference;
pub use schema::schema;
pub use selector::{InvalidSelector, Selector};
pub use thinning::{PerFlow, Thinning, Watermark};
pub use words::{
    AverageWanted, Backend, BucketsWanted, DelayedAcks, IngressHook, LogLevel, MetricName, Output, ProcessTags,
    SidesWanted,
};

/// A look-up in the process's environment.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

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

impl fmt::Display for Statsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp { host, port } if host.contains(':') => write!(f, "udp://[{host}]:{port}"),
            Self::Udp { host, port } => write!(f, "udp://{host}:{port}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

/// Where a setting comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The configuration file.
    File,
    /// This variable of the environment.
    Environment(&'static str),
    /// Nobody.
    Default,
}

impl Config {
    /// Reads a file; where it is silent, `environment` and then the defaults speak.
    ///
    /// # Errors
    ///
    /// A file that cannot be read or is not YAML; every unknown key and bad value, with file, line and key; a bad
    /// environment variable.
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
        let mut faults = Faults::default();
        let config = read(&file, &mut faults);
        faults.into_result(path, text)?;
        // A key below another is named with it: `record.folder`.
        let find = |key: &str| key.split('.').try_fold(&file["init_config"], |section, key| section.get(key));
        let is_set = |key: &str| find(key).is_some_and(|value| !value.is_null());
        config.with_environment(is_set, environment).map_err(|what| ConfigError::elsewhere(&what))
    }

    /// A configuration without a file: these interfaces, these targets on each; no target means everything.
    ///
    /// # Errors
    ///
    /// A target that is not an address, prefix or host name, or a bad environment variable.
    pub fn from_cli(
        interfaces: &[String],
        targets: &[String],
        environment: Environment<'_>,
    ) -> Result<Self, ConfigError> {
        let instances: Result<_, String> = interfaces.iter().map(|name| Instance::of(name, targets)).collect();
        let config = |instances| Self { instances, ..Self::defaults() }.with_environment(|_| false, environment);
        instances.and_then(config).map_err(|what| ConfigError::elsewhere(&what))
    }

    /// The filter, if it excludes some TCP traffic.
    pub fn narrowing_filter(&self) -> Option<&str> {
        self.filter.as_deref().filter(|filter| filter.trim() != "tcp")
    }

    /// The keys whose values differ in another configuration.
    pub fn changed(&self, other: &Self) -> Vec<&'static Key> {
        let differ = |(old, new): (serde_json::Value, serde_json::Value)| old != new;
        let init = Self::KEYS.iter().zip(self.shown().into_iter().zip(other.shown()).map(differ));
        // What counts of an instance is what is said of its interface, in whatever order and however often.
        let said = |config: &Self| -> Vec<BTreeSet<(String, String)>> {
            let mut said = vec![BTreeSet::new(); Instance::KEYS.len()];
            for instance in config.instances.iter().filter(|instance| instance.pcap.is_none()) {
                for ((said, value), key) in said.iter_mut().zip(instance.shown()).zip(Instance::KEYS) {
                    if value != (key.default)() {
                        said.insert((instance.interface.clone(), value.to_string()));
                    }
                }
            }
            said
        };
        let instances = said(self).into_iter().zip(said(other)).map(|(old, new)| old != new);
        let changed = init.chain(Instance::KEYS.iter().zip(instances)).filter(|(_, differs)| *differs);
        changed.map(|(key, _)| key).collect()
    }
}

/// A file without what editors and templates put around its document: a byte order mark, and an empty document behind
/// it (`---` at the end).
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

/// The file's top level. Older versions of the original called `instances` `config`.
const TOP: Names = Names { valid: &["init_config", "instances", "config"], elsewhere: &[] };

/// Where a key belongs, if it is one.
fn home_of(key: &str) -> Option<String> {
    let below = |section: &Key| {
        Some(format!("`{}` of `init_config`", section.name))
            .filter(|_| section.within.iter().any(|other| other.name == key))
    };
    if Config::KEYS.iter().any(|other| other.name == key) {
        return Some("`init_config`".to_owned());
    }
    if Instance::KEYS.iter().any(|other| other.name == key) {
        return Some("an instance, below `instances`".to_owned());
    }
    Config::KEYS.iter().find_map(below)
}

/// Reads the file; what is wrong is noted.
fn read(file: &Value, faults: &mut Faults) -> Config {
    let top = Place::default();
    let mut reader = Reader::new(top.clone(), file, TOP, faults);
    let key = if reader.has("instances") || !reader.has("config") { "instances" } else { "config" };
    if reader.has("instances") && reader.has("config") {
        reader.fault_at("config", "`config` is an old name for `instances`; keep one");
        return Config::defaults();
    }
    let (init, list) = (reader.value("init_config").unwrap_or(&Value::Null), reader.value(key));
    let keys_are_known = reader.finish();
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
    let mut reader = Reader::new(top.key("init_config"), init, Config::NAMES, faults);
    let mut config = Config::read(&mut reader);
    reader.finish();
    // There may be thousands of them: the first of each kind, by its number.
    let (mut seen, mut host_ends) = (HashMap::new(), HashMap::new());
    for (index, item) in items.iter().enumerate() {
        let mut reader = Reader::new(place.item(index), item, Instance::NAMES, faults);
        let instance = Instance::read(&mut reader);
        if !reader.finish() {
            continue;
        }
        match seen.entry(instance.essence()) {
            Entry::Occupied(twin) => {
                let what = format!("watches the same as {}, with the same tags; remove one", place.item(*twin.get()));
                faults.add(&place.item(index), &what);
            }
            Entry::Vacant(free) => _ = free.insert(index),
        }
        if let Some(host_end) = instance.host_end {
            if let Some(other) = host_ends.get(&(instance.interface.clone(), !host_end)) {
                let other = place.item(*other);
                let what = format!("differs from `host_end` of {other}, for the same interface; make them the same");
                faults.add(&place.item(index).key("host_end"), &what);
            }
            host_ends.entry((instance.interface.clone(), host_end)).or_insert(index);
        }
        config.instances.push(instance);
    }
    config
}

#[cfg(test)]
mod tests;
