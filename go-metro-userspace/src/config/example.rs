//! The commented file: every key with what it means and its default, and `config init`'s answers in their places.

use std::path::Path;

use serde_json::Value as Json;

use super::declaration::{Key, Reload, Section as _};
use super::host::{EVERYTHING, network};
use super::{Config, ConfigError, Instance};

const HEAD: &str = "\
# go-metro: passive round-trip times of TCP connections, reported to a Datadog Agent over DogStatsD.
#
# Every key of the original go-metro's file works here too. Only `instances` is required: each instance needs an
# `interface`, and a target in `ips` or `hosts`. A key that is commented out shows its default, or an example if it has
# none. A reload (SIGHUP, `go-metro reload`) applies a change at once, unless the key's comment says otherwise. A change
# that reopens capture is refused if the daemon has dropped the privileges for it (docs/privileges.md).

init_config:
";

/// Columns up to which a heading is drawn.
const HEADING: usize = 98;

/// The values to set in a file; every other key stays commented out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// Interfaces to watch; at least one.
    pub interfaces: Vec<String>,
    /// Remote addresses, prefixes and host names; none for everything.
    pub targets: Vec<String>,
    /// Settings of `init_config`: key and value.
    pub settings: Vec<(&'static str, Json)>,
}

/// The example: every key with its meaning and its default.
pub fn example() -> String {
    let mut instance = Vec::new();
    for key in Instance::KEYS.iter().filter(|key| ["interface", "ips"].contains(&key.name)) {
        instance.push((key.name, key.shown()));
    }
    file(&[], &[instance])
}

/// A file with these answers, which is read once to be sure that it is a configuration.
///
/// # Errors
///
/// An answer that is not valid.
pub fn write(answers: &Answers) -> Result<String, ConfigError> {
    let everything = EVERYTHING.map(str::to_owned);
    let (nets, hosts): (Vec<String>, Vec<String>) = match answers.targets.as_slice() {
        [] => (everything.to_vec(), Vec::new()),
        targets => targets.iter().cloned().partition(|target| network(target).is_some()),
    };
    let lists = [("ips", nets), ("hosts", hosts)].map(|(key, list)| (key, Json::from(list)));
    let lists: Vec<_> =
        lists.into_iter().filter(|(_, list)| list.as_array().is_some_and(|list| !list.is_empty())).collect();
    let instance = |name: &String| [vec![("interface", Json::from(name.as_str()))], lists.clone()].concat();
    let instances: Vec<_> = answers.interfaces.iter().map(instance).collect();
    let text = file(&answers.settings, &instances);
    Config::parse(&text, Path::new("the answers"), &|_| None)?;
    Ok(text)
}

/// Keys that are set.
type Set = [(&'static str, Json)];

/// The text of a file with these keys, and every other key commented out. The first instance is explained.
fn file(settings: &Set, instances: &[Vec<(&'static str, Json)>]) -> String {
    let mut lines = Vec::new();
    for key in Config::KEYS {
        if !key.heading.is_empty() {
            let heading = format!("  # --- {} ", key.heading);
            lines.extend([format!("{heading:-<HEADING$}"), String::new()]);
        }
        explained(&mut lines, "  ", key, settings);
        lines.push(String::new());
    }
    lines.push("instances:".to_owned());
    for (number, set) in instances.iter().enumerate() {
        let keys = Instance::KEYS.iter().filter(|key| number == 0 || set.iter().any(|(name, _)| *name == key.name));
        for (index, key) in keys.enumerate() {
            let mut of_key = Vec::new();
            explained(&mut of_key, "    ", key, set);
            if number > 0 {
                of_key.retain(|line| !line.trim_start().starts_with('#'));
            }
            if index == 0 {
                // The dash stands before the first key, below its comment.
                of_key.iter_mut().for_each(|line| *line = format!("  {}", line.trim_start()));
                of_key.iter_mut().filter(|line| !line.starts_with("  #")).for_each(|line| line.insert_str(2, "- "));
            } else if number == 0 {
                lines.push(String::new());
            }
            lines.append(&mut of_key);
        }
    }
    format!("{HEAD}{}\n", lines.join("\n"))
}

/// A key below its comment: set, or else commented out.
fn explained(lines: &mut Vec<String>, indent: &str, key: &Key, set: &Set) {
    let value = set.iter().find(|(name, _)| *name == key.name).map(|(_, value)| value);
    lines.extend(key.text.iter().map(|line| format!("{indent}# {}", line.trim())));
    if key.reload != Reload::Apply {
        lines.push(format!("{indent}# At a reload: {}.", key.reload.words()));
    }
    let mark = if value.is_some() { "" } else { "# " };
    let shown = value.cloned().unwrap_or_else(|| key.shown());
    let list = shown.as_array().filter(|list| !list.is_empty() && indent.len() > 2);
    match (list, shown.as_object()) {
        (Some(list), _) => {
            lines.push(format!("{indent}{mark}{}:", key.name));
            lines.extend(list.iter().map(|item| format!("{indent}{mark}  - {}", flow(item))));
        }
        (None, Some(_)) => {
            lines.push(format!("{indent}{mark}{}:", key.name));
            for key in key.within {
                lines.extend(key.text.iter().map(|line| format!("{indent}{mark}  # {}", line.trim())));
                lines.push(format!("{indent}{mark}  {}: {}", key.name, flow(&key.shown())));
            }
        }
        (None, None) => lines.push(format!("{indent}{mark}{}: {}", key.name, flow(&shown))),
    }
}

/// A value on one line of YAML: without quotes where YAML reads the same text without (JSON's quotes are YAML's too).
pub(super) fn flow(value: &Json) -> String {
    match value {
        Json::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Json::Object(keys) => {
            let keys = keys.iter().map(|(key, value)| format!("{}: {}", flow(&key.as_str().into()), flow(value)));
            format!("{{{}}}", keys.collect::<Vec<_>>().join(", "))
        }
        Json::String(text) => {
            let read = serde_yaml::from_str::<[Json; 1]>(&format!("[{text}]"));
            if read.is_ok_and(|[read]| read == *value) { text.clone() } else { value.to_string() }
        }
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(interfaces: &[&str], targets: &[&str]) -> Answers {
        let own = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Answers { interfaces: own(interfaces), targets: own(targets), ..Answers::default() }
    }

    fn read(text: &str) -> Config {
        Config::parse(text, Path::new("c"), &|_| None).unwrap()
    }

    #[test]
    fn what_is_written_is_what_was_answered_and_stays_explained() {
        let mut given = answers(&["eth0", "wg0"], &["10.0.0.0/8", "2001:db8::/32", "db.example.org"]);
        given.settings = vec![
            ("tags", vec!["env:prod"].into()),
            ("prometheus_listen", "127.0.0.1:9464".into()),
            ("report_interval", 10.into()),
        ];
        let text = write(&given).unwrap();
        let config = read(&text);
        assert_eq!(config.instances.len(), 2);
        for instance in &config.instances {
            assert_eq!((instance.ips.len(), instance.hosts.as_slice()), (2, ["db.example.org".to_owned()].as_slice()));
        }
        assert_eq!(
            (config.tags.as_slice(), config.report_interval.as_secs()),
            (["env:prod".to_owned()].as_slice(), 10)
        );
        assert_eq!(config.prometheus_address().port(), 9464);
        assert!(text.contains("  # backend: auto\n") && text.contains("of the DogStatsD server."), "{text}");
        assert!(!text.contains("db.example.org\n    #   - db"), "{text}");
    }

    #[test]
    fn no_target_means_everything_and_names_alone_are_enough() {
        let everything = read(&write(&answers(&["eth0"], &[])).unwrap());
        assert_eq!(everything.instances[0].ips.len(), 2);
        let names = read(&write(&answers(&["eth0"], &["db.example.org"])).unwrap());
        assert!(names.instances[0].ips.is_empty() && names.instances[0].hosts == ["db.example.org"]);
    }

    #[test]
    fn an_answer_that_cannot_be_is_refused() {
        assert!(write(&answers(&["eth0"], &["not a host"])).is_err());
        assert!(write(&answers(&[], &[])).is_err());
        assert!(write(&answers(&["a: b#c"], &[])).is_err(), "no interface is called so");
    }
}
