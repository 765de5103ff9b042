//! What stands behind keys: how each kind of value is read into a type that cannot hold a bad one, what it takes, and
//! how it is shown.

use std::fmt;
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde_json::{Map, Value as Json, json};
use serde_yaml::Value;

use super::declaration::{Key, Section};
use super::error::Faults;
use super::host::{self, host_of_url, is_everything, network, with_port};
use super::place::Place;
use super::schema::properties;
use super::section::{Reader, found, kind, scalar};
use super::selector::Selector;
use go_metro_rtt::{Ports, parse_ports};

/// A kind of value.
pub(super) trait Kind {
    /// What it is in the program.
    type Value: Clone + fmt::Debug + PartialEq;
    /// Keys of its own.
    const KEYS: &'static [Key] = &[];

    /// Reads the value that stands at a place; none if it is wrong, which is noted.
    fn read(value: &Value, place: &Place, faults: &mut Faults) -> Option<Self::Value>;

    /// What it takes, for people.
    fn takes() -> String;

    /// What it takes, as a JSON schema.
    fn schema() -> Json;

    /// The value as a file would state it; null for none.
    fn shown(value: &Self::Value) -> Json;
}

/// Why a value is none of a kind.
pub(super) enum Wrong {
    /// It is not what the kind takes.
    Other,
    /// Something better can be said.
    Said(String),
}

/// A kind of value that is a word, a number or the like.
pub(super) trait Scalar {
    /// What it is in the program.
    type Value: Clone + fmt::Debug + PartialEq;

    /// Reads it.
    fn parse(value: &Value) -> Result<Self::Value, Wrong>;

    /// What it takes, for people.
    fn takes() -> String;

    /// What it takes, as a JSON schema.
    fn schema() -> Json;

    /// The value as a file would state it; null for none.
    fn shown(value: &Self::Value) -> Json;
}

impl<S: Scalar> Kind for S {
    type Value = S::Value;

    fn read(value: &Value, place: &Place, faults: &mut Faults) -> Option<Self::Value> {
        parse::<S>(value).map_err(|what| faults.add(place, &what)).ok()
    }

    fn takes() -> String {
        S::takes()
    }

    fn schema() -> Json {
        S::schema()
    }

    fn shown(value: &Self::Value) -> Json {
        S::shown(value)
    }
}

/// Reads a scalar.
pub(super) fn parse<S: Scalar>(value: &Value) -> Result<S::Value, String> {
    S::parse(value).map_err(|wrong| match wrong {
        Wrong::Said(what) => what,
        Wrong::Other => format!("expected {}, found {}", S::takes(), found(value)),
    })
}

/// Reads a scalar from an argument of the command line.
pub(super) fn argument<S: Scalar>(text: &str) -> Result<S::Value, String> {
    parse::<S>(&Value::from(text))
}

/// A text, and nothing that only looks like one.
pub(super) fn text(value: &Value) -> Result<&str, Wrong> {
    value.as_str().ok_or(Wrong::Other)
}

/// A value, or what is wrong with it.
fn said<T>(result: Result<T, String>) -> Result<T, Wrong> {
    result.map_err(Wrong::Said)
}

/// Alternatives as people list them.
pub(super) fn listed(words: &[String], last: &str) -> String {
    match words {
        [] => String::new(),
        [word] => word.clone(),
        [words @ .., word] => format!("{} {last} {word}", words.join(", ")),
    }
}

/// The words for yes and no, also those of YAML 1.1, which the original's parser took.
const YES_AND_NO: [&str; 8] = ["true", "false", "yes", "no", "on", "off", "y", "n"];

fn yes_or_no(word: &str) -> Option<bool> {
    let at = YES_AND_NO.iter().position(|known| word.eq_ignore_ascii_case(known))?;
    Some(at % 2 == 0)
}

/// Yes or no.
pub(super) struct YesNo;

impl Scalar for YesNo {
    type Value = bool;

    fn parse(value: &Value) -> Result<bool, Wrong> {
        value.as_bool().or_else(|| yes_or_no(value.as_str()?)).ok_or(Wrong::Other)
    }

    fn takes() -> String {
        "true or false".to_owned()
    }

    fn schema() -> Json {
        let values: Vec<Json> = [json!(true), json!(false)].into_iter().chain(YES_AND_NO.map(Json::from)).collect();
        json!({"enum": values})
    }

    fn shown(value: &bool) -> Json {
        (*value).into()
    }
}

/// Yes, no, or `auto`: found out, for which there is no value.
pub(super) struct AutoOr;

impl Scalar for AutoOr {
    type Value = Option<bool>;

    fn parse(value: &Value) -> Result<Option<bool>, Wrong> {
        match value.as_str() {
            Some(word) if word.eq_ignore_ascii_case("auto") => Ok(None),
            _ => YesNo::parse(value).map(Some),
        }
    }

    fn takes() -> String {
        "auto, true or false".to_owned()
    }

    fn schema() -> Json {
        let mut schema = <YesNo as Scalar>::schema();
        if let Some(words) = schema["enum"].as_array_mut() {
            words.insert(0, json!("auto"));
        }
        schema
    }

    fn shown(value: &Option<bool>) -> Json {
        value.map_or(json!("auto"), Json::from)
    }
}

/// A whole number within bounds.
pub(super) struct Number<T, const MIN: u64, const MAX: u64>(PhantomData<T>);

impl<T, const MIN: u64, const MAX: u64> Scalar for Number<T, MIN, MAX>
where
    T: TryFrom<u64> + TryInto<u64> + Copy + fmt::Debug + PartialEq,
{
    type Value = T;

    fn parse(value: &Value) -> Result<T, Wrong> {
        let number = value.as_u64().or_else(|| value.as_str()?.trim().parse().ok());
        let bounded = number.filter(|number| (MIN..=MAX).contains(number));
        bounded.and_then(|number| T::try_from(number).ok()).ok_or(Wrong::Other)
    }

    fn takes() -> String {
        format!("a whole number from {MIN} to {MAX}")
    }

    fn schema() -> Json {
        let number = json!({"type": "integer", "minimum": MIN, "maximum": MAX});
        json!({"anyOf": [number, {"type": "string", "pattern": r"^\s*[0-9]+\s*$"}]})
    }

    fn shown(value: &T) -> Json {
        (*value).try_into().map_or(Json::Null, |number: u64| number.into())
    }
}

/// Units of bytes, the largest first; each with its other names.
const BYTES: [(u64, &[&str]); 4] =
    [(1 << 30, &["GiB", "G"]), (1 << 20, &["MiB", "M"]), (1 << 10, &["KiB", "K", "k"]), (1, &["", "B"])];

/// A number of bytes: `8388608` or `8MiB`.
pub(super) struct Bytes;

impl Scalar for Bytes {
    type Value = u32;

    fn parse(value: &Value) -> Result<u32, Wrong> {
        let written = || {
            let text = value.as_str()?;
            let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic()).trim_end();
            let unit = text[digits.len()..].trim();
            let (bytes, _) = BYTES.iter().find(|(_, names)| names.contains(&unit))?;
            digits.parse::<u64>().ok()?.checked_mul(*bytes)
        };
        let bytes = value.as_u64().or_else(written).and_then(|bytes| u32::try_from(bytes).ok());
        bytes.filter(|bytes| *bytes > 0).ok_or(Wrong::Other)
    }

    fn takes() -> String {
        "a number of bytes such as 65536, 512KiB or 8MiB".to_owned()
    }

    fn schema() -> Json {
        let number = json!({"type": "integer", "minimum": 1, "maximum": u32::MAX});
        json!({"anyOf": [number, {"type": "string", "pattern": "^[0-9]+ ?(B|k|K|KiB|M|MiB|G|GiB)?$"}]})
    }

    fn shown(value: &u32) -> Json {
        let value = u64::from(*value);
        match BYTES.iter().find(|(bytes, _)| *bytes > 1 && value.is_multiple_of(*bytes)) {
            Some((bytes, names)) => format!("{}{}", value / bytes, names[0]).into(),
            None => value.into(),
        }
    }
}

/// A time, perhaps none.
pub(super) struct Span;

impl Scalar for Span {
    type Value = Duration;

    fn parse(value: &Value) -> Result<Duration, Wrong> {
        let seconds = value.as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        seconds.or_else(|| duration(value.as_str()?)).ok_or(Wrong::Other)
    }

    fn takes() -> String {
        "seconds, or a time such as 500ms, 10s or 5m".to_owned()
    }

    fn schema() -> Json {
        let text = json!({"type": "string", "pattern": r"^\s*[0-9.]+\s*(ms|s|sec|m|min|h|d)?\s*$"});
        json!({"anyOf": [{"type": "number", "minimum": 0}, text]})
    }

    fn shown(value: &Duration) -> Json {
        if value.subsec_nanos() == 0 { value.as_secs().into() } else { value.as_secs_f64().into() }
    }
}

/// A time: seconds, whole or not, or a number and its unit.
fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let seconds = match &text[number.len()..] {
        "ms" => 0.001,
        "" | "s" | "sec" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return None,
    };
    let number: f64 = number.trim_end().parse().ok()?;
    Duration::try_from_secs_f64(number * seconds).ok()
}

/// A time above 0 that is no shorter than this many milliseconds.
pub(super) struct Time<const SHORTEST_MS: u64>;

impl<const SHORTEST_MS: u64> Scalar for Time<SHORTEST_MS> {
    type Value = Duration;

    fn parse(value: &Value) -> Result<Duration, Wrong> {
        let (time, shortest) = (Span::parse(value)?, Duration::from_millis(SHORTEST_MS));
        if time.is_zero() {
            return Err(Wrong::Said(NO_TIME.to_owned()));
        }
        if time < shortest {
            let [time, shortest] = [time, shortest].map(|time| time.as_secs_f64());
            return Err(Wrong::Said(format!("{time} s is too short; the smallest is {shortest} s")));
        }
        Ok(time)
    }

    fn takes() -> String {
        <Span as Scalar>::takes()
    }

    fn schema() -> Json {
        let mut schema = <Span as Scalar>::schema();
        schema["anyOf"][0] = match SHORTEST_MS {
            0 => json!({"type": "number", "exclusiveMinimum": 0}),
            milliseconds => json!({"type": "number", "minimum": milliseconds as f64 / 1000.0}),
        };
        schema
    }

    fn shown(value: &Duration) -> Json {
        <Span as Scalar>::shown(value)
    }
}

/// What is wrong with a time that is none.
pub(super) const NO_TIME: &str = "`0` is no time; use seconds above 0";

/// A text that is not empty. A whole number or a truth value is one without its quotes, as the original's parser had
/// it.
pub(super) struct Text;

impl Scalar for Text {
    type Value = String;

    fn parse(value: &Value) -> Result<String, Wrong> {
        match value {
            Value::String(text) if text.trim().is_empty() => Err(Wrong::Said("is empty; give it a value".to_owned())),
            // `1.10` would silently become `1.1`.
            Value::Number(number) if number.is_f64() => {
                Err(Wrong::Said(format!("`{number}` is a number and may have lost digits; put quotes around it")))
            }
            Value::Mapping(keys) => match keys.iter().next() {
                Some((Value::String(key), value @ (Value::String(_) | Value::Number(_) | Value::Bool(_)))) => {
                    let value = scalar(value);
                    let what = "is a key with a value";
                    Err(Wrong::Said(format!("`{key}: {value}` {what}; write `{key}:{value}`, without the blank")))
                }
                _ => Err(Wrong::Other),
            },
            Value::String(_) | Value::Number(_) | Value::Bool(_) => Ok(scalar(value).trim().to_owned()),
            Value::Null | Value::Sequence(_) | Value::Tagged(_) => Err(Wrong::Other),
        }
    }

    fn takes() -> String {
        "a text".to_owned()
    }

    fn schema() -> Json {
        json!({"type": ["string", "integer", "boolean"]})
    }

    fn shown(value: &String) -> Json {
        value.as_str().into()
    }
}

/// Declares kinds that are a text with a form of its own.
macro_rules! texts {
    ($(
        $(#[doc = $about:literal])+
        $Kind:ident: $value:ty, $takes:literal, $schema:tt, $parse:expr, $shown:expr;
    )+) => {$(
        $(#[doc = $about])+
        pub(super) struct $Kind;

        impl Scalar for $Kind {
            type Value = $value;

            fn parse(value: &Value) -> Result<$value, Wrong> {
                let parse: fn(&Value) -> Result<$value, Wrong> = $parse;
                parse(value)
            }

            fn takes() -> String {
                $takes.to_owned()
            }

            fn schema() -> Json {
                json!($schema)
            }

            fn shown(value: &$value) -> Json {
                let shown: fn(&$value) -> Json = $shown;
                shown(value)
            }
        }
    )+};
}

texts! {
    /// A path.
    Path: PathBuf, "a path", {"type": ["string", "integer", "boolean"]},
        |value| Text::parse(value).map(PathBuf::from),
        |path| shown_path(path);

    /// A path, or nothing, which the original took for none.
    PathOrNothing: Option<PathBuf>, "a path", {"type": ["string", "null"]},
        |value| text(value).map(|text| Some(text).filter(|text| !text.is_empty()).map(PathBuf::from)),
        |path| path.as_deref().map_or(Json::Null, shown_path);

    /// A path of a Unix socket, from the root.
    SocketPath: PathBuf, "a path from the root", {"type": "string", "pattern": "^/"},
        |value| match text(value)? {
            text if text.starts_with('/') => said(socket_path(text)),
            text => Err(Wrong::Said(format!("`{text}` is no path from the root; begin with /"))),
        },
        |path| shown_path(path);

    /// A path of a Unix socket, from the root, or `off`.
    PathOrOff: Option<PathBuf>, "a path from the root, or off",
        {"anyOf": [{"type": "string", "pattern": "^(/.*|off|no|false)$"}, {"const": false}]},
        |value| match value.as_str() {
            Some("off" | "no" | "false") => Ok(None),
            Some(path) if path.starts_with('/') => said(socket_path(path)).map(Some),
            None if value.as_bool() == Some(false) => Ok(None),
            _ => Err(Wrong::Other),
        },
        |path| path.as_deref().map_or(json!("off"), shown_path);

    /// An address and a port to listen on.
    Listen: SocketAddr, "an address with a port such as 127.0.0.1:9464 or [::]:9464",
        {"type": "string", "pattern": ":[0-9]+$"},
        |value| said(listen(&Text::parse(value)?)),
        |address| address.to_string().into();

    /// Address or name of a server.
    ServerHost: String, "an address or a host name", {"type": "string", "minLength": 1},
        |value| text(value).and_then(|text| {
            said(server_host(text).map_err(|what| match with_port(text) {
                Some((host, port)) => {
                    format!("`{text}` has a port; write `statsd_ip: {host}` and `statsd_port: {port}`")
                }
                None => what,
            }))
        }),
        |host| host.as_str().into();

    /// A remote address or prefix.
    Network: IpNet, "an address or a prefix such as 10.0.0.0/8",
        {"type": "string", "pattern": "^[0-9a-fA-F:.]+(/[0-9]+)?$"},
        |value| text(value).and_then(|text| network(text).ok_or_else(|| Wrong::Said(no_network(text)))),
        |net| net.to_string().into();

    /// A remote host.
    HostName: String, "a host name", {"type": "string", "minLength": 1, "maxLength": 254},
        |value| text(value).and_then(|text| host::host(text).ok_or_else(|| Wrong::Said(no_host(text)))),
        |host| host.as_str().into();

    /// A port, or a range of them.
    PortRange: (u16, u16), "a port or a range such as 8000-8010",
        {"anyOf": [
            {"type": "integer", "minimum": 1, "maximum": 65535},
            {"type": "string", "pattern": "^\\s*[0-9]+\\s*(-\\s*[0-9]+\\s*)?$"}
        ]},
        |value| said(parse_ports(&Text::parse(value)?)),
        |(first, last)| format!("{first}-{last}").into();

    /// What [`Selector::parse`] takes. A list is a slip: other programs take one.
    Interface: String, "an interface, a pattern, `default` or `all`", {"type": ["string", "integer", "boolean"]},
        |value| match value {
            Value::Sequence(_) => {
                let what = "takes one interface or a pattern such as `eth*`; write an instance for each";
                Err(Wrong::Said(what.to_owned()))
            }
            value => {
                let name = Text::parse(value)?;
                said(Selector::parse(&name).map_err(|invalid| invalid.to_string()))?;
                Ok(name)
            }
        },
        |name| name.as_str().into();
}

fn shown_path(path: &std::path::Path) -> Json {
    path.to_string_lossy().into()
}

/// Longest path of a Unix socket, in bytes: `sun_path` without the byte that ends it (unix(7)).
const SOCKET_PATH_MAX: usize = 107;

/// A path that a Unix socket can have.
pub(super) fn socket_path(text: &str) -> Result<PathBuf, String> {
    match text.len() {
        0..=SOCKET_PATH_MAX => Ok(PathBuf::from(text)),
        bytes => Err(format!(
            "is {bytes} bytes long; the path of a Unix socket has at most {SOCKET_PATH_MAX}: move the socket, or name \
             a shorter symbolic link to its folder"
        )),
    }
}

/// A port alone is asked for its address, as one for this host only and one for all differ in who may read.
fn listen(text: &str) -> Result<SocketAddr, String> {
    text.trim().parse().map_err(|_| match text.trim_start_matches([':', '*']).parse::<u16>() {
        Ok(port) => format!(
            "`{text}` has no address; write 127.0.0.1:{port} for programs on this host, or 0.0.0.0:{port} or \
             [::]:{port} for all"
        ),
        Err(_) => format!("`{text}` is no address with a port such as 127.0.0.1:9464 or [::]:9464"),
    })
}

/// The host of a server: an address, perhaps in brackets, or a name; not the address of all hosts, to which the kernel
/// refuses to send datagrams (`SO_BROADCAST`, socket(7)).
pub(super) fn server_host(text: &str) -> Result<String, String> {
    let bare = text.trim().trim_start_matches('[').trim_end_matches(']');
    let host = host::host(bare).ok_or_else(|| format!("`{text}` is neither an address nor a host name"))?;
    if host.parse() == Ok(IpAddr::V4(Ipv4Addr::BROADCAST)) {
        return Err(format!("`{host}` is a broadcast address, to which nothing is sent; name one host"));
    }
    Ok(host)
}

fn no_network(text: &str) -> String {
    if let Some((address, port)) = with_port(text) {
        let key = if network(address).is_some() { "here" } else { "in `hosts`" };
        return format!("`{text}` has a port; write `{address}` {key} and `ports: [{port}]` in `init_config`");
    }
    if is_everything(text) {
        return format!("`{text}` is no address; \"0.0.0.0/0\" and \"::/0\" together are all of them");
    }
    let looks_like_a_name = text.contains(|c: char| c.is_ascii_alphabetic()) && !text.contains(':');
    let hint = if looks_like_a_name { "; host names go into `hosts`" } else { "" };
    format!("`{text}` is neither an address nor a prefix such as 10.0.0.0/8{hint}")
}

fn no_host(text: &str) -> String {
    match (with_port(text), host_of_url(text)) {
        (Some((host, port)), _) => {
            format!("`{text}` has a port; write `{host}` here and `ports: [{port}]` in `init_config`")
        }
        (None, Some(host)) => format!("`{text}` is no host name; write `{host}`"),
        (None, None) if network(text).is_some() => format!("`{text}` is a prefix; it goes into `ips`"),
        (None, None) => format!("`{text}` is no host name"),
    }
}

/// A value, or none if the key is absent.
pub(super) struct Optional<K>(PhantomData<K>);

impl<K: Kind> Kind for Optional<K> {
    type Value = Option<K::Value>;

    fn read(value: &Value, place: &Place, faults: &mut Faults) -> Option<Self::Value> {
        K::read(value, place, faults).map(Some)
    }

    fn takes() -> String {
        K::takes()
    }

    fn schema() -> Json {
        K::schema()
    }

    fn shown(value: &Self::Value) -> Json {
        value.as_ref().map_or(Json::Null, K::shown)
    }
}

/// A list.
pub(super) struct List<K>(PhantomData<K>);

impl<K: Kind> Kind for List<K> {
    type Value = Vec<K::Value>;

    fn read(value: &Value, place: &Place, faults: &mut Faults) -> Option<Self::Value> {
        let Some(items) = value.as_sequence() else {
            let instead = match value {
                Value::String(text) if text.starts_with('-') => "write a blank behind the `-` of each item".to_owned(),
                Value::Mapping(keys) => {
                    let items = keys.iter().map(|(key, value)| format!("\"{}:{}\"", scalar(key), scalar(value)));
                    format!("write `{}: [{}]`", place.name(), items.collect::<Vec<_>>().join(", "))
                }
                // What is wrong as an item too is said first.
                value => {
                    let mut as_item = Faults::default();
                    K::read(value, place, &mut as_item);
                    let wrong = as_item.first().filter(|_| value.is_string()).map(str::to_owned);
                    wrong.unwrap_or_else(|| format!("write `{}: [{}]`", place.name(), scalar(value)))
                }
            };
            faults.add(place, &format!("expected a list, found {}; {instead}", kind(value)));
            return None;
        };
        let read = |(index, item)| K::read(item, &place.item(index), faults);
        Some(items.iter().enumerate().filter_map(read).collect())
    }

    fn takes() -> String {
        format!("a list, each {}", K::takes())
    }

    fn schema() -> Json {
        json!({"type": ["array", "null"], "items": K::schema()})
    }

    fn shown(value: &Self::Value) -> Json {
        value.iter().map(K::shown).collect()
    }
}

/// A list that means something only if it holds something.
pub(super) struct OneOrMore<K>(PhantomData<K>);

impl<K: Kind> Kind for OneOrMore<K> {
    type Value = Vec<K::Value>;

    fn read(value: &Value, place: &Place, faults: &mut Faults) -> Option<Self::Value> {
        let items = List::<K>::read(value, place, faults)?;
        if value.as_sequence().is_some_and(Vec::is_empty) {
            faults.add(place, "is empty; leave the key out for its default");
        }
        Some(items).filter(|items| !items.is_empty())
    }

    fn takes() -> String {
        List::<K>::takes()
    }

    fn schema() -> Json {
        List::<K>::schema()
    }

    fn shown(value: &Self::Value) -> Json {
        List::<K>::shown(value)
    }
}

/// The ports of a service.
pub(super) struct PortList;

impl Kind for PortList {
    type Value = Ports;

    fn read(value: &Value, place: &Place, faults: &mut Faults) -> Option<Ports> {
        let ranges = List::<PortRange>::read(value, place, faults)?;
        let ports = Ports::new(&ranges);
        if ports.is_none() {
            let (count, most) = (ranges.len(), Ports::MOST);
            faults.add(place, &format!("holds {count} ports or ranges; at most {most} are taken"));
        }
        ports
    }

    fn takes() -> String {
        List::<PortRange>::takes()
    }

    fn schema() -> Json {
        List::<PortRange>::schema()
    }

    fn shown(value: &Ports) -> Json {
        value.names().collect()
    }
}

/// A section below a key.
pub(super) struct Keys<S>(PhantomData<S>);

impl<S: Section + Clone + fmt::Debug + PartialEq> Kind for Keys<S> {
    type Value = S;
    const KEYS: &'static [Key] = S::KEYS;

    fn read(value: &Value, place: &Place, faults: &mut Faults) -> Option<S> {
        if let (Some(text), Some(key)) = (value.as_str(), S::NAMES.valid.first()) {
            faults.add(place, &format!("has keys; write `{}: {{{key}: {text}}}`", place.name()));
            return None;
        }
        let mut reader = Reader::new(place.clone(), value, S::NAMES, faults);
        let section = S::read(&mut reader);
        reader.finish();
        Some(section)
    }

    fn takes() -> String {
        format!(
            "a section with {}",
            listed(&S::NAMES.valid.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>(), "and")
        )
    }

    fn schema() -> Json {
        json!({"type": ["object", "null"], "properties": properties(S::KEYS), "additionalProperties": false})
    }

    fn shown(value: &S) -> Json {
        S::KEYS.iter().map(|key| key.name.to_owned()).zip(value.shown()).collect::<Map<_, _>>().into()
    }
}
