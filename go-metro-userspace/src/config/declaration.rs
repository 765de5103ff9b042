//! How a key of the file is declared: once.
//!
//! A [`settings!`] block declares one section. Each key states its documentation (the doc comment), its kind, its
//! default, and what a reload does with it; a key that lacks one of them does not compile. The reader, the environment
//! variables, the reload's decision, the JSON schema, `conf.yaml.example`, `config init`, the help of the command line,
//! and by way of [`reference`](super::reference) the manual pages and Datadog's specification all follow from the
//! block.

use serde_json::Value as Json;

use super::example::flow;
use super::section::Reader;

/// What a reload (SIGHUP) does with a key whose value differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// Applies it. Flows go on.
    Apply,
    /// Applies it. Flows start again, as what is kept of them differs.
    ApplyFlows,
    /// Applies a path below a folder that was writable at the start, and refuses the file otherwise.
    ApplyIfWritable,
    /// Applies it, and reopens capture, as [`Self::Reopen`] does, if `response` is added or removed.
    ReopenForResponse,
    /// Reopens capture, where the daemon still has the privileges for it. Flows go on.
    Reopen,
    /// Reopens capture, where the daemon still has the privileges for it. Flows start again, as they are seen
    /// differently.
    ReopenFlows,
    /// Applies the rest of the file, and warns that this key needs a restart.
    Warn,
    /// Refuses the file.
    Refuse,
}

impl Reload {
    /// In the words of the documentation.
    pub fn words(self) -> &'static str {
        match self {
            Self::Apply => "applied",
            Self::ApplyFlows => "applied; flows start again",
            Self::ApplyIfWritable => "applied if its folder was writable at the start, else refused",
            Self::ReopenForResponse => "applied; to add or remove `response` reopens capture; flows go on",
            Self::Reopen => "reopens capture; flows go on",
            Self::ReopenFlows => "reopens capture; flows start again",
            Self::Warn => "needs a restart; the rest of the file is applied",
            Self::Refuse => "refused; needs a restart",
        }
    }
}

/// Everything that is declared about a key, for its documentation.
#[derive(Debug)]
pub struct Key {
    /// Its name in the file.
    pub name: &'static str,
    /// The heading that begins with it; empty where it stands under that of the key before.
    pub(super) heading: &'static str,
    /// What it means, in lines.
    pub(super) text: &'static [&'static str],
    /// What a reload does with it.
    pub reload: Reload,
    /// The environment variables that count where the file does not set it.
    pub(super) environment: &'static [&'static str],
    /// What it takes, for people.
    pub(super) takes: fn() -> String,
    /// What it takes, as a JSON schema.
    pub(super) schema: fn() -> Json,
    /// Its default.
    pub(super) default: fn() -> Json,
    /// A value to show instead of the default; null where the default is shown.
    pub(super) example: fn() -> Json,
    /// The keys below it.
    pub(super) within: &'static [Key],
}

impl Key {
    /// What it means, on one line.
    pub fn text(&self) -> String {
        let lines: Vec<&str> = self.text.iter().map(|line| line.trim()).collect();
        lines.join(" ")
    }

    /// Its first sentence, which says what it is.
    pub fn summary(&self) -> String {
        let text = self.text();
        let end = text.find(". ").unwrap_or(text.len() - 1);
        text[..end].to_owned()
    }

    /// The help of a command-line option that takes precedence over the key.
    pub fn help(&self) -> String {
        let default = self.shown_default().filter(|default| *default != Json::Bool(false));
        let default = default.map(|default| format!(" [default: from the file, else {}]", flow(&default)));
        self.summary() + &default.unwrap_or_default()
    }

    /// The default, as documentation shows it; none where there is none to show.
    pub fn shown_default(&self) -> Option<Json> {
        (self.example)().is_null().then(self.default).filter(|default| !default.is_null())
    }

    /// The value that the documentation shows for the key: its default, or an example.
    pub fn shown(&self) -> Json {
        self.shown_default().unwrap_or_else(self.example)
    }
}

/// The names of the keys of a section.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names {
    /// Those that exist.
    pub(super) valid: &'static [&'static str],
    /// What other programs call them, each with ours.
    pub(super) elsewhere: &'static [(&'static str, &'static str)],
}

/// A section of the file: what [`settings!`] makes.
pub(super) trait Section: Sized {
    /// Its keys, in the order of the documentation.
    const KEYS: &'static [Key];
    /// Their names.
    const NAMES: Names;

    /// Every key at its default.
    fn defaults() -> Self;

    /// Reads every key; one that is absent or wrong is at its default, and what is wrong is noted.
    fn read(reader: &mut Reader<'_, '_>) -> Self;

    /// The values, in the order of the keys, as a file would state them.
    fn shown(&self) -> Vec<Json>;
}

/// Declares a section of the file. The section's own `check` looks at what its keys must have in common.
///
/// `derived` are fields that no key states alone.
macro_rules! settings {
    (
        $(#[$attribute:meta])*
        $visible:vis struct $Section:ident {
            $(
                $([$heading:literal])?
                $(#[doc = $text:literal])+
                $seen:vis $key:ident: $kind:ty = $default:expr
                    $(, example $example:tt)?
                    $(, elsewhere [$($elsewhere:literal),+])?
                    $(, environment [$($variable:literal),+])?
                    , on_reload $reload:ident;
            )+
        }
        $(derived {
            $($(#[doc = $about:literal])+ $shown:vis $field:ident: $type:ty = $initial:expr;)+
        })?
    ) => {
        $(#[$attribute])*
        // The kinds are this module's own, the values are everybody's.
        #[allow(private_interfaces)]
        #[derive(Clone, Debug, PartialEq, Eq)]
        $visible struct $Section {
            $($(#[doc = $text])+ $seen $key: <$kind as $crate::config::kinds::Kind>::Value,)+
            $($($(#[doc = $about])+ $shown $field: $type,)+)?
        }

        /// The keys one by one.
        #[allow(non_upper_case_globals)]
        pub(crate) mod key {
            use super::*;

            $(
                $(#[doc = $text])+
                pub(crate) const $key: $crate::config::declaration::Key = $crate::config::declaration::Key {
                    name: stringify!($key),
                    heading: concat!($($heading)?),
                    text: &[$($text),+],
                    reload: $crate::config::declaration::Reload::$reload,
                    environment: &[$($($variable),+)?],
                    takes: <$kind as $crate::config::kinds::Kind>::takes,
                    schema: <$kind as $crate::config::kinds::Kind>::schema,
                    default: || <$kind as $crate::config::kinds::Kind>::shown(&$default),
                    example: || serde_json::json!([$($example)?]).get(0).cloned().unwrap_or_default(),
                    within: <$kind as $crate::config::kinds::Kind>::KEYS,
                };
            )+
        }

        impl $crate::config::declaration::Section for $Section {
            const KEYS: &'static [$crate::config::declaration::Key] = &[$(key::$key),+];

            const NAMES: $crate::config::declaration::Names = $crate::config::declaration::Names {
                valid: &[$(stringify!($key)),+],
                elsewhere: &[$($($(($elsewhere, stringify!($key))),+,)?)+],
            };

            fn defaults() -> Self {
                Self { $($key: $default,)+ $($($field: $initial,)+)? }
            }

            fn read(reader: &mut $crate::config::section::Reader<'_, '_>) -> Self {
                let mut section = Self::defaults();
                $(if let Some(value) = reader.take::<$kind>(stringify!($key)) {
                    section.$key = value;
                })+
                section.check(reader);
                section
            }

            fn shown(&self) -> Vec<serde_json::Value> {
                vec![$(<$kind as $crate::config::kinds::Kind>::shown(&self.$key)),+]
            }
        }
    };
}

pub(super) use settings;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::config::{Config, Instance, schema};

    fn read(init: &Json, instances: &Json) -> Config {
        let file = json!({"init_config": init, "instances": instances}).to_string();
        Config::parse(&file, Path::new("c"), &|_| None).unwrap_or_else(|error| panic!("{file}: {error}"))
    }

    fn changed(old: &Config, new: &Config) -> Vec<&'static str> {
        old.changed(new).iter().map(|key| key.name).collect()
    }

    #[test]
    fn what_documentation_shows_of_a_key_is_read_and_the_default_changes_nothing() {
        let instance = json!({"interface": "lo", "ips": ["::1"]});
        let usual = read(&json!({}), &json!([instance]));
        for key in Config::KEYS {
            let with = |value: &Json| read(&json!({key.name: value}), &json!([instance]));
            with(&key.shown());
            if let Some(default) = key.shown_default() {
                assert_eq!(changed(&usual, &with(&default)), [""; 0], "{}: {default}", key.name);
            }
        }
        for key in Instance::KEYS {
            let mut instance = instance.clone();
            instance[key.name] = key.shown();
            if key.name == "pcap" {
                instance["interface"] = "file".into();
            }
            read(&json!({}), &json!([instance]));
        }
    }

    #[test]
    fn the_schema_has_every_key_and_no_other() {
        let schema = schema();
        let properties = &schema["properties"];
        let keys = |of: &Json| of["properties"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        for (of, declared) in [
            (&properties["init_config"], Config::KEYS),
            (&properties["instances"]["items"], Instance::KEYS),
            (&properties["init_config"]["properties"]["sampling"], crate::config::Thinning::KEYS),
        ] {
            let mut declared: Vec<&str> = declared.iter().map(|key| key.name).collect();
            declared.sort_unstable();
            assert_eq!(keys(of), declared);
        }
    }

    #[test]
    fn a_key_that_differs_is_named_with_what_a_reload_does() {
        let instance = json!({"interface": "lo", "ips": ["::1"]});
        let usual = read(&json!({}), &json!([instance]));
        for (init, key, reload) in [
            (json!({"sides": "local"}), "sides", Reload::ReopenFlows),
            (json!({"sampling": {"watermark": "off"}}), "sampling", Reload::ReopenFlows),
            (json!({"ring_size": "1MiB"}), "ring_size", Reload::Reopen),
            (json!({"sandbox": false}), "sandbox", Reload::Refuse),
            (json!({"log_files": 7}), "log_files", Reload::Warn),
            (json!({"status_socket": "/run/a"}), "status_socket", Reload::ApplyIfWritable),
            (json!({"ports": [443]}), "ports", Reload::ApplyFlows),
            (json!({"metrics": ["default", "health"]}), "metrics", Reload::ReopenForResponse),
        ] {
            let new = read(&init, &json!([instance]));
            let keys = usual.changed(&new);
            assert_eq!(keys.iter().map(|key| (key.name, key.reload)).collect::<Vec<_>>(), [(key, reload)]);
            assert!(new.changed(&new).is_empty());
        }
    }

    #[test]
    fn of_instances_only_what_is_said_of_an_interface_counts() {
        let [a, b] = ["eth0", "eth1"].map(|name| json!({"interface": name, "ips": ["::1"]}));
        let mut turned = b.clone();
        turned["host_end"] = true.into();
        let file = json!({"interface": "file", "pcap": "/a", "ips": ["::1"], "host_end": true});
        let with = |instances: Json| read(&json!({}), &instances);
        let usual = with(json!([a, b]));
        assert_eq!(changed(&usual, &with(json!([b, a]))), [""; 0]);
        assert_eq!(changed(&usual, &with(json!([a, b, file]))), [""; 0]);
        assert_eq!(changed(&usual, &with(json!([a, turned]))), ["host_end"]);
        assert_eq!(changed(&usual, &with(json!([a]))), ["interface", "ips"]);
    }

    #[test]
    fn a_key_below_another_does_at_a_reload_what_that_does() {
        for key in Config::KEYS.iter().chain(Instance::KEYS) {
            assert!(key.within.iter().all(|within| within.reload == key.reload), "{}", key.name);
        }
    }
}
