//! `group_by`: which remote hosts are reported together.

use std::collections::BTreeMap;

use clap::ValueEnum;
use ipnet::IpNet;
use serde_json::{Map, Value as Json, json};
use serde_yaml::{Mapping, Value};

use super::declaration::{Section as _, settings};
use super::error::Faults;
use super::host::network;
use super::kinds::{Keys, Kind, List, Network, Number, Optional, Path, Text, parse};
use super::place::Place;
use super::section::{Reader, kind};
use super::words::Word;

/// Longest name of a group, in characters: what Datadog keeps of a tag, without `dst:`.
const LONGEST_NAME: usize = 196;
/// What all pairs beyond `max_pairs` are called.
const OTHER: &str = "other";

/// By which port connections are told apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum PortBy {
    /// By none
    #[default]
    Off,
    /// By that of the end that did not begin the connection
    Service,
}

/// Prefixes with names: each group's, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamedPrefixes(pub Vec<(String, Vec<IpNet>)>);

impl Kind for NamedPrefixes {
    type Value = Self;

    fn read(value: &Value, place: &Place, faults: &mut Faults) -> Option<Self> {
        let Some(keys) = value.as_mapping() else {
            let what = format!(
                "expected names, each with its prefixes, found {}; write `{}: {{office: [10.1.0.0/16]}}`",
                kind(value),
                place.name()
            );
            faults.add(place, &what);
            return None;
        };
        let before = faults.count();
        let mut groups = Vec::new();
        let mut seen: BTreeMap<IpNet, Place> = BTreeMap::new();
        let mut sent: BTreeMap<String, (String, Place)> = BTreeMap::new();
        for (key, value) in keys {
            let name = match parse::<Text>(key).and_then(|name| valid_name(&name).map(|()| name)) {
                Ok(name) => name,
                Err(what) => {
                    let at = key.as_str().map_or_else(|| place.clone(), |key| place.key(key));
                    faults.add_at(&at, place, &what);
                    continue;
                }
            };
            let at = place.key(key.as_str().unwrap_or(&name));
            if let Some((other, first)) = sent.insert(as_tag(&name), (name.clone(), at.clone())) {
                let what = format!(
                    "Datadog treats `{name}` and `{other}` ({first}) as the same name; choose names that differ"
                );
                faults.add(&at, &what);
            }
            let Some(nets) = List::<Network>::read(value, &at, faults) else { continue };
            if value.as_sequence().is_some_and(Vec::is_empty) {
                faults.add(&at, "is empty; name at least one prefix, or leave the name out");
            }
            // An item that is wrong was noted, and is not among these.
            let items = value.as_sequence().into_iter().flatten().enumerate();
            for (item, net) in items.filter_map(|(item, text)| Some((at.item(item), network(text.as_str()?)?))) {
                if let Some(first) = seen.insert(net, item.clone()) {
                    let shown = net.to_string();
                    faults.add(&first, &format!("`{shown}` is also {item}; keep one of them"));
                    faults.add(&item, &format!("`{shown}` is also {first}; keep one of them"));
                }
            }
            groups.push((name, nets));
        }
        (faults.count() == before).then_some(Self(groups))
    }

    fn takes() -> String {
        "names, each with a list of prefixes".to_owned()
    }

    fn schema() -> Json {
        json!({
            "type": ["object", "null"],
            "additionalProperties": {"type": "array", "minItems": 1, "items": <Network as Kind>::schema()},
        })
    }

    fn shown(value: &Self) -> Json {
        let nets = |nets: &Vec<IpNet>| List::<Network>::shown(nets);
        value.0.iter().map(|(name, its)| (name.clone(), nets(its))).collect::<Map<_, _>>().into()
    }
}

/// What Datadog makes of a name in a tag: lower case, and an underscore for what is no letter, digit or one of `_-:./`.
fn as_tag(name: &str) -> String {
    let kept = |c: char| if c.is_alphanumeric() || "_-:./".contains(c) { c } else { '_' };
    name.chars().map(kept).flat_map(char::to_lowercase).collect()
}

/// Whether a group may be called this: not what something else is called.
fn valid_name(name: &str) -> Result<(), String> {
    let is_as = name.strip_prefix("AS").is_some_and(|number| number.parse::<u32>().is_ok());
    if as_tag(name) == OTHER {
        Err(format!("`{name}` is the name of all pairs beyond `max_pairs`; choose another name"))
    } else if network(name).is_some() {
        Err(format!("`{name}` is an address or a prefix; write `NAME: [{name}]`"))
    } else if is_as {
        Err(format!("`{name}` is the name of a group of `as_database`; choose another name"))
    } else if name.chars().count() > LONGEST_NAME {
        let length = name.chars().count();
        Err(format!("a group's name has at most {LONGEST_NAME} characters, this one has {length}; shorten it"))
    } else {
        Ok(())
    }
}

settings! {
    /// Which remote hosts are reported together.
    pub struct GroupBy {
        /// Names of groups, each with its prefixes; an address is in the group of its longest matching prefix.
        pub names: NamedPrefixes = NamedPrefixes::default(),
            example {"office": ["10.1.0.0/16", "10.2.0.0/16"], "vpn": ["10.2.3.0/24"]},
            on_reload Apply;

        /// Group IPv4 hosts that share this many leading bits of their address, such as 24.
        pub ipv4_prefix: Optional<Number<u8, 1, 32>> = None, example 24, on_reload Apply;

        /// Group IPv6 hosts that share this many leading bits of their address, such as 48.
        pub ipv6_prefix: Optional<Number<u8, 1, 128>> = None, example 48, on_reload Apply;

        /// service: report connections to different ports separately, with the tag `port:`, the port of the end that
        /// did not open the connection.
        pub port: Word<PortBy> = PortBy::Off, on_reload Apply;

        /// Group hosts by autonomous system, with the tags `as:` and `as_org:`, from a database in MaxMind's format
        /// (.mmdb) such as GeoLite2-ASN or DB-IP's. At most 256 MiB; kept in memory, and read again at a reload.
        pub as_database: Optional<Path> = None, example "/usr/share/GeoIP/GeoLite2-ASN.mmdb", on_reload Apply;
    }
}

impl GroupBy {
    fn check(&self, _reader: &mut Reader<'_, '_>) {}

    /// Whether anything is grouped or told apart.
    #[must_use]
    pub fn is_any(&self) -> bool {
        *self != Self::defaults()
    }

    /// What stands in arguments `KEY=VALUE` of the command line, with the keys of the file; a name's prefixes are
    /// `names.NAME=PREFIX,PREFIX`.
    ///
    /// # Errors
    ///
    /// What is wrong with one of them.
    pub fn from_arguments(arguments: &[String]) -> Result<Self, String> {
        let (mut keys, mut names) = (Mapping::new(), Mapping::new());
        for argument in arguments {
            let Some((key, value)) = argument.split_once('=') else {
                return Err(format!(
                    "`{argument}` is not KEY=VALUE, such as ipv4_prefix=24 or names.office=10.1.0.0/16"
                ));
            };
            let twice = match key.strip_prefix("names.") {
                Some(name) => {
                    let nets = value.split(',').map(Value::from).collect();
                    names.insert(name.into(), Value::Sequence(nets))
                }
                None if key == "names" => return Err("write names.NAME=PREFIX,PREFIX".to_owned()),
                None => {
                    let number = value.parse::<u64>().map(Value::from);
                    keys.insert(key.into(), number.unwrap_or_else(|_| value.into()))
                }
            };
            if twice.is_some() {
                return Err(format!("`{key}` is given twice; keep one"));
            }
        }
        if !names.is_empty() {
            keys.insert("names".into(), names.into());
        }
        let mut faults = Faults::default();
        let read = Keys::<Self>::read(&keys.into(), &Place::default(), &mut faults);
        match faults.described().next() {
            Some(what) => Err(what),
            None => Ok(read.unwrap_or_default()),
        }
    }
}

impl Default for GroupBy {
    fn default() -> Self {
        Self::defaults()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    fn read(group_by: &str) -> Result<GroupBy, String> {
        let text = format!("init_config:\n  group_by:\n{group_by}\ninstances: [{{interface: lo, ips: ['::1']}}]");
        let config = Config::parse(&text, std::path::Path::new("c"), &|_| None);
        config.map(|config| config.group_by).map_err(|error| error.to_string())
    }

    #[test]
    fn every_key_is_read_and_nothing_groups_nothing() {
        assert!(!read("").unwrap().is_any());
        assert!(!read("    names: {}\n    port: off").unwrap().is_any());
        let all = read(
            "    names:\n      office: [10.1.0.0/16, 2001:db8::/32]\n      vpn: [10.1.9.9/24]\n    \
             ipv4_prefix: 24\n    ipv6_prefix: 48\n    port: service\n    as_database: /a.mmdb",
        );
        let nets = |nets: &[&str]| nets.iter().map(|net| net.parse().unwrap()).collect();
        let names = vec![
            ("office".to_owned(), nets(&["10.1.0.0/16", "2001:db8::/32"])),
            // Host bits are cleared, as in `ips`.
            ("vpn".to_owned(), nets(&["10.1.9.0/24"])),
        ];
        let expected = GroupBy {
            names: NamedPrefixes(names),
            ipv4_prefix: Some(24),
            ipv6_prefix: Some(48),
            port: PortBy::Service,
            as_database: Some("/a.mmdb".into()),
        };
        assert_eq!(all, Ok(expected));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_lines_and_what_to_do() {
        let said = |text: &str, parts: &[&str]| {
            let error = read(text).unwrap_err();
            assert!(parts.iter().all(|part| error.contains(part)), "{text}: {error}");
        };
        // Named where it stands first and where it stands again, whichever way it is written.
        said(
            "    names:\n      office: [10.1.0.0/16]\n      vpn:\n        - 10.2.0.0/16\n        - 10.1.2.3/16",
            &["c:4: ", "c:7: ", "also init_config.group_by.names.vpn[1]", "also init_config.group_by.names.office[0]"],
        );
        said("    names: {office: 10.1.0.0/16}", &["c:3: ", "office: [10.1.0.0/16]"]);
        said("    names: {office: []}", &["is empty; name at least one prefix"]);
        said("    names: {office: [10.1.0.0/33]}", &["neither an address nor a prefix"]);
        said("    names: [office]", &["found a list", "{office: [10.1.0.0/16]}"]);
        said("    names: {other: [10.1.0.0/16]}", &["`other` is the name of all pairs", "choose another name"]);
        said("    names: {10.0.0.0/8: [10.1.0.0/16]}", &["NAME: [10.0.0.0/8]"]);
        said("    names: {AS64500: [10.1.0.0/16]}", &["choose another name"]);
        said("    names: {Other: [10.1.0.0/16]}", &["choose another name"]);
        for (one, other) in [("a,b", "a|b"), ("Office", "office"), ("north east", "north_east")] {
            let text = format!("    names: {{'{one}': [10.1.0.0/16], '{other}': [10.2.0.0/16]}}");
            said(&text, &["Datadog treats", one, other, "choose names that differ"]);
        }
        said("    ipv4_prefix: 33", &["from 1 to 32"]);
        said("    ipv6_prefix: 0", &["from 1 to 128"]);
        said("    port: 443", &["`service`"]);
        said("    prefix: 24", &["ipv4_prefix"]);
        said("    office: [10.1.0.0/16]", &["unknown key `office`", "names"]);
    }

    #[test]
    fn arguments_are_the_keys_of_the_file() {
        let of = |arguments: &[&str]| {
            GroupBy::from_arguments(&arguments.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(of(&[]), Ok(GroupBy::default()));
        assert_eq!(
            of(&["names.office=10.1.0.0/16,10.2.0.0/16", "ipv4_prefix=24", "port=service"]),
            read("    names: {office: [10.1.0.0/16, 10.2.0.0/16]}\n    ipv4_prefix: 24\n    port: service")
        );
        for (wrong, what) in [
            ("ipv4_prefix", "KEY=VALUE"),
            ("ipv4_prefix=40", "ipv4_prefix: expected a whole number from 1 to 32"),
            ("names=10.0.0.0/8", "names.NAME=PREFIX"),
            ("names.office=somewhere", "names.office[0]"),
            ("color=red", "unknown key `color`"),
        ] {
            let error = of(&[wrong]).unwrap_err();
            assert!(error.contains(what), "{wrong}: {error}");
        }
        assert!(of(&["port=service", "port=off"]).unwrap_err().contains("twice"));
    }
}
