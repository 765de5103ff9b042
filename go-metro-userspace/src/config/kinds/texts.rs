//! Kinds of value that are a text with a form of its own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use go_metro_rtt::parse_ports;
use ipnet::IpNet;
use serde_json::{Value as Json, json};
use serde_yaml::Value;

use super::{Scalar, Wrong, said, text};
use crate::config::OtlpUrl;
use crate::config::host::{self, host_of_url, is_everything, network, port_number, split_port, with_port};
use crate::config::section::scalar;
use crate::config::selector::Selector;

/// A text that is not empty. A whole number or a truth value is one without its quotes, as the original's parser had
/// it.
pub(in crate::config) struct Text;

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
                    Err(Wrong::Said(format!("`{key}: {value}` {what}; write `{key}:{value}`, without the space")))
                }
                _ => Err(Wrong::Other),
            },
            Value::String(_) | Value::Number(_) | Value::Bool(_) => Ok(scalar(value).trim().to_owned()),
            Value::Null | Value::Sequence(_) | Value::Tagged(_) => Err(Wrong::Other),
        }
    }

    fn takes() -> String {
        "a string".to_owned()
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
        pub(in crate::config) struct $Kind;

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
    SocketPath: PathBuf, "an absolute path", {"type": "string", "pattern": "^/"},
        |value| match text(value)? {
            text if text.starts_with('/') => said(socket_path(text)),
            text => Err(Wrong::Said(format!("`{text}` is not an absolute path; start it with /"))),
        },
        |path| shown_path(path);

    /// Address or name of a server.
    ServerHost: String, "an address or a host name", {"type": "string", "minLength": 1},
        |value| text(value).and_then(|text| {
            said(server_host(text).map_err(|what| match with_port(text) {
                Some(Ok((host, port))) => {
                    format!("`{text}` has a port; write `statsd_ip: {host}` and `statsd_port: {port}`")
                }
                Some(Err(what)) => what,
                None => what,
            }))
        }),
        |host| host.as_str().into();

    /// The URL of an OTLP receiver, for all signals or for metrics.
    OtlpEndpoint: OtlpUrl, "a URL such as http://127.0.0.1:4318", {"type": "string", "pattern": "^http://"},
        |value| text(value).and_then(|text| said(OtlpUrl::below(text).map_err(String::from))),
        |url| url.to_string().into();

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

/// An address and a port to listen on; what is said of it shows this port.
pub(in crate::config) struct Listen<const PORT: u16>;

impl<const PORT: u16> Scalar for Listen<PORT> {
    type Value = SocketAddr;

    fn parse(value: &Value) -> Result<SocketAddr, Wrong> {
        said(listen(&Text::parse(value)?, PORT))
    }

    fn takes() -> String {
        format!("an address with a port such as {}", listened(PORT))
    }

    fn schema() -> Json {
        json!({"type": "string", "pattern": ":[0-9]+$"})
    }

    fn shown(address: &SocketAddr) -> Json {
        address.to_string().into()
    }
}

fn shown_path(path: &std::path::Path) -> Json {
    path.to_string_lossy().into()
}

/// Longest path of a Unix socket, in bytes: `sun_path` without the byte that ends it (unix(7)).
const SOCKET_PATH_MAX: usize = 107;

/// A path that a Unix socket can have.
pub(in crate::config) fn socket_path(text: &str) -> Result<PathBuf, String> {
    match text.len() {
        0..=SOCKET_PATH_MAX => Ok(PathBuf::from(text)),
        bytes => Err(format!(
            "is {bytes} bytes long; the path of a Unix socket has at most {SOCKET_PATH_MAX}: move the socket, or name \
             a shorter symbolic link to its folder"
        )),
    }
}

/// A port alone is asked for its address, as one for this host only and one for all differ in who may read; an address
/// alone is answered with the usual port.
fn listen(text: &str, usual: u16) -> Result<SocketAddr, String> {
    let text = text.trim();
    text.parse().map_err(|_| {
        // An IPv6 address without brackets, with a port or without.
        if let Ok(ip) = text.parse::<Ipv6Addr>() {
            let port = text.rsplit_once(':').filter(|(rest, port)| rest.parse::<Ipv6Addr>().is_ok() && port.len() > 2);
            return match port.and_then(|(rest, port)| Some((rest, port.parse::<u16>().ok()?))) {
                Some((rest, port)) => format!("`{text}` needs brackets; write [{rest}]:{port}"),
                None => format!("`{text}` has no port; write [{ip}]:{usual}"),
            };
        }
        if let Ok(port) = text.trim_start_matches([':', '*']).parse::<u16>() {
            return format!(
                "`{text}` has no address; write 127.0.0.1:{port} for programs on this host, or 0.0.0.0:{port} or \
                 [::]:{port} for all"
            );
        }
        let (host, port) = split_port(text);
        if (matches!(host, "" | "*") || host.parse::<IpAddr>().is_ok())
            && let Some(Err(what)) = port.map(port_number)
        {
            return format!("`{text}` {what}");
        }
        match text.trim_start_matches('[').trim_end_matches(']').parse() {
            Ok(ip) => format!("`{text}` has no port; write {}", SocketAddr::new(ip, usual)),
            Err(_) => format!("`{text}` is not an address with a port such as {}", listened(usual)),
        }
    })
}

/// Where a port is listened on, for this host and for all.
fn listened(port: u16) -> String {
    format!("127.0.0.1:{port} or [::]:{port}")
}

/// The host of a server: an address, perhaps in brackets, or a name; not the address of all hosts, to which the kernel
/// refuses to send datagrams (`SO_BROADCAST`, socket(7)).
pub(in crate::config) fn server_host(text: &str) -> Result<String, String> {
    let bare = text.trim().trim_start_matches('[').trim_end_matches(']');
    let host = host::host(bare).ok_or_else(|| format!("`{text}` is neither an address nor a host name"))?;
    if host.parse() == Ok(IpAddr::V4(Ipv4Addr::BROADCAST)) {
        return Err(format!("`{host}` is a broadcast address, which go-metro does not send to; name one host"));
    }
    Ok(host)
}

fn no_network(text: &str) -> String {
    match with_port(text) {
        Some(Ok((address, port))) => {
            let key = if network(address).is_some() { "here" } else { "in `hosts`" };
            return format!("`{text}` has a port; write `{address}` {key} and `ports: [{port}]` in `init_config`");
        }
        Some(Err(what)) => return what,
        None => {}
    }
    if is_everything(text) {
        return format!("`{text}` is not an address; \"0.0.0.0/0\" and \"::/0\" together mean every address");
    }
    let looks_like_a_name = text.contains(|c: char| c.is_ascii_alphabetic()) && !text.contains(':');
    let hint = if looks_like_a_name { "; host names go into `hosts`" } else { "" };
    format!("`{text}` is neither an address nor a prefix such as 10.0.0.0/8{hint}")
}

fn no_host(text: &str) -> String {
    match (with_port(text), host_of_url(text)) {
        (Some(Ok((host, port))), _) => {
            format!("`{text}` has a port; write `{host}` here and `ports: [{port}]` in `init_config`")
        }
        (Some(Err(what)), _) => what,
        (None, Some(host)) => format!("`{text}` is not a host name; write `{host}`"),
        (None, None) if network(text).is_some() => format!("`{text}` is a prefix; it goes into `ips`"),
        (None, None) => format!("`{text}` is not a host name"),
    }
}
