//! Values that cannot be bad: each says what it takes when it is given something else.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use go_metro_common::segment::Sides;
use ipnet::IpNet;
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use go_metro_rtt::{Average, Buckets, parse_ports};

/// Where segments come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// eBPF where the kernel and the privileges allow it, else libpcap.
    #[default]
    Auto,
    /// eBPF or nothing.
    Ebpf,
    /// libpcap or nothing.
    Pcap,
}

/// Where the classifier sees what comes in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IngressHook {
    /// At TC's hook: on every device, after segments were merged (GRO).
    #[default]
    Tc,
    /// In the device's driver, before all else: where it has native XDP.
    Xdp,
}

/// Which round trips to measure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum SidesWanted {
    /// From here to the remote end and back
    #[default]
    Remote,
    /// From here to the local end and back
    Local,
    /// Both, told apart by the tag `side:`
    Both,
}

impl From<SidesWanted> for Sides {
    fn from(wanted: SidesWanted) -> Self {
        match wanted {
            SidesWanted::Remote => Self::REMOTE,
            SidesWanted::Local => Self::LOCAL,
            SidesWanted::Both => Self::BOTH,
        }
    }
}

/// How close the bounds of Prometheus's buckets are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BucketsWanted {
    /// At most 10 % apart.
    #[default]
    Fine,
    /// 1, 2 and 5 of each decade.
    Coarse,
}

impl From<BucketsWanted> for Buckets {
    fn from(wanted: BucketsWanted) -> Self {
        match wanted {
            BucketsWanted::Fine => Self::Fine,
            BucketsWanted::Coarse => Self::Coarse,
        }
    }
}

/// What summaries do with samples whose acknowledgement the receiver kept back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DelayedAcks {
    /// They count like all others.
    #[default]
    Keep,
    /// They are left out.
    Drop,
}

/// What the average of an interval is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AverageWanted {
    /// The mean of all samples.
    #[default]
    Mean,
    /// The smoothed RTT of RFC 6298.
    Smoothed,
}

impl From<AverageWanted> for Average {
    fn from(wanted: AverageWanted) -> Self {
        match wanted {
            AverageWanted::Mean => Self::Mean,
            AverageWanted::Smoothed => Self::Smoothed,
        }
    }
}

/// Deserialises a string and parses it.
pub(super) fn parsed<'de, D, T>(
    deserializer: D,
    expected: &'static str,
    parse: fn(&str) -> Result<T, String>,
) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
{
    struct V<T>(&'static str, fn(&str) -> Result<T, String>);
    impl<T> Visitor<'_> for V<T> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
        fn visit_str<E: Error>(self, v: &str) -> Result<T, E> {
            (self.1)(v).map_err(E::custom)
        }
    }
    deserializer.deserialize_any(V(expected, parse))
}

/// How important a message must be to be logged; the original's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Everything.
    Trace,
    /// For finding faults.
    Debug,
    /// What happens.
    #[default]
    Info,
    /// What deserves a look.
    Warn,
    /// What went wrong; the original's `critical` too.
    Error,
}

impl<'de> Deserialize<'de> for LogLevel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer, "the name of a level", |name| {
            Ok(match name.to_ascii_lowercase().as_str() {
                "trace" => Self::Trace,
                "debug" => Self::Debug,
                "info" => Self::Info,
                "warning" | "warn" => Self::Warn,
                "error" | "err" | "critical" | "crit" => Self::Error,
                _ => {
                    return Err(format!("unknown level `{name}`; use trace, debug, info, warning, error or critical"));
                }
            })
        })
    }
}

/// A text that is not empty. A whole number or a truth value is one without its quotes, as the original's parser had it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text(pub(super) String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Text;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }
            fn visit_str<E: Error>(self, v: &str) -> Result<Text, E> {
                let text = v.trim();
                if text.is_empty() { Err(E::custom("is empty; give it a value")) } else { Ok(Text(text.to_owned())) }
            }
            fn visit_bool<E: Error>(self, v: bool) -> Result<Text, E> {
                Ok(Text(v.to_string()))
            }
            fn visit_u64<E: Error>(self, v: u64) -> Result<Text, E> {
                Ok(Text(v.to_string()))
            }
            fn visit_i64<E: Error>(self, v: i64) -> Result<Text, E> {
                Ok(Text(v.to_string()))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Text, A::Error> {
                let what = match map.next_entry::<Text, Text>() {
                    Ok(Some((Text(key), Text(value)))) => {
                        format!("`{key}: {value}` is a key with a value; write `{key}:{value}`, without the blank")
                    }
                    _ => "expected a text, found keys with values".to_owned(),
                };
                Err(A::Error::custom(what))
            }
            fn visit_f64<E: Error>(self, v: f64) -> Result<Text, E> {
                // `1.10` would silently become `1.1`.
                Err(E::custom(format!("`{v}` is a number and may have lost digits; put quotes around it")))
            }
        }
        deserializer.deserialize_any(V)
    }
}

/// Address or name of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServerHost(pub(super) String);

impl<'de> Deserialize<'de> for ServerHost {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer, "an address or a host name", |text| {
            let host = server_host(text).ok_or_else(|| match with_port(text) {
                Some((host, port)) => {
                    format!("`{text}` has a port; write `statsd_ip: {host}` and `statsd_port: {port}`")
                }
                None => format!("`{text}` is neither an address nor a host name"),
            })?;
            one_host(host).map(Self)
        })
    }
}

/// The host, unless it is the address of all hosts: the kernel refuses datagrams to it (`SO_BROADCAST`, socket(7)).
pub(super) fn one_host(host: String) -> Result<String, String> {
    if host.parse() == Ok(IpAddr::V4(Ipv4Addr::BROADCAST)) {
        return Err(format!("`{host}` is a broadcast address, to which nothing is sent; name one host"));
    }
    Ok(host)
}

/// An address, perhaps in brackets, or a host name.
pub(super) fn server_host(text: &str) -> Option<String> {
    let bare = text.trim().trim_start_matches('[').trim_end_matches(']');
    let address = || bare.parse::<IpAddr>().ok().map(|address| address.to_string());
    address().or_else(|| host_name(text))
}

/// Longest path of a Unix socket, in bytes: `sun_path` without the byte that ends it (unix(7)).
const SOCKET_PATH_MAX: usize = 107;

/// A path that a Unix socket can have.
pub(super) fn socket_path(text: &str) -> Result<PathBuf, String> {
    match text.len() {
        0..=SOCKET_PATH_MAX => Ok(PathBuf::from(text)),
        bytes => Err(format!(
            "is {bytes} bytes long; the path of a Unix socket has at most {SOCKET_PATH_MAX}: move the socket, or name a \
             shorter symbolic link to its folder"
        )),
    }
}

/// A path of a Unix socket, from the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AbsolutePath(pub(super) PathBuf);

impl<'de> Deserialize<'de> for AbsolutePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer, "a path", |text| {
            if !text.starts_with('/') {
                return Err(format!("`{text}` is no path from the root; begin with /"));
            }
            socket_path(text).map(Self)
        })
    }
}

/// A path from the root, or `off`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PathOrOff(pub(super) Option<PathBuf>);

impl<'de> Deserialize<'de> for PathOrOff {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl Visitor<'_> for V {
            type Value = PathOrOff;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a path, or off")
            }
            fn visit_bool<E: Error>(self, v: bool) -> Result<PathOrOff, E> {
                if v { Err(E::invalid_value(serde::de::Unexpected::Bool(v), &self)) } else { Ok(PathOrOff(None)) }
            }
            fn visit_str<E: Error>(self, v: &str) -> Result<PathOrOff, E> {
                path_or_off(v).map(PathOrOff).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(V)
    }
}

/// A path from the root; none if it is `off`.
pub(super) fn path_or_off(text: &str) -> Result<Option<PathBuf>, String> {
    match text {
        "off" | "no" | "false" => Ok(None),
        path if path.starts_with('/') => socket_path(path).map(Some),
        _ => Err(format!("`{text}` is neither a path from the root nor `off`")),
    }
}

/// An address and a port to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Listen(pub(super) SocketAddr);

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Text(text) = Text::deserialize(deserializer)?;
        listen(&text).map(Self).map_err(D::Error::custom)
    }
}

/// An address and a port; a port alone is asked for its address, as one for this host only and one for all differ in
/// who may read.
pub(super) fn listen(text: &str) -> Result<SocketAddr, String> {
    let wrong = || match text.trim_start_matches([':', '*']).parse::<u16>() {
        Ok(port) => format!(
            "`{text}` has no address; write 127.0.0.1:{port} for programs on this host, or 0.0.0.0:{port} or [::]:{port} for all"
        ),
        Err(_) => format!("`{text}` is no address with a port such as 127.0.0.1:9464 or [::]:9464"),
    };
    text.trim().parse().map_err(|_| wrong())
}

/// Where results go when the command line does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputName {
    /// DogStatsD.
    Statsd,
    /// A page that Prometheus scrapes.
    Prometheus,
    /// JSON lines on standard output.
    Json,
}

/// A metric, or a family of them, that DogStatsD gets; by the end of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum MetricName {
    /// `system.net.tcp.rtt`: the last sample.
    #[serde(rename = "rtt")]
    Last,
    /// `system.net.tcp.rtt.avg`.
    #[serde(rename = "rtt.avg")]
    Average,
    /// `system.net.tcp.rtt.jitter`.
    #[serde(rename = "rtt.jitter")]
    Jitter,
    /// `system.net.tcp.rtt.min`.
    #[serde(rename = "rtt.min")]
    Min,
    /// `system.net.tcp.rtt.max`.
    #[serde(rename = "rtt.max")]
    Max,
    /// `system.net.tcp.rtt.dist`.
    #[serde(rename = "rtt.dist")]
    Distribution,
    /// `system.net.tcp.rtt.connect`.
    #[serde(rename = "rtt.connect")]
    Connect,
    /// `system.net.tcp.rtt.kernel` and `.kernel.min`.
    #[serde(rename = "rtt.kernel")]
    Kernel,
    /// `go_metro.*`: the daemon's own health.
    #[serde(rename = "go_metro")]
    Own,
}

impl MetricName {
    /// Each, in the order of the documentation: the default.
    pub const ALL: [Self; 9] = [
        Self::Last,
        Self::Average,
        Self::Jitter,
        Self::Min,
        Self::Max,
        Self::Distribution,
        Self::Connect,
        Self::Kernel,
        Self::Own,
    ];
}

/// A time: seconds, whole or not, or a number and its unit.
pub(super) fn duration(text: &str) -> Option<Duration> {
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

/// A positive time in seconds, whole or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seconds(pub(super) Duration);

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Span(time) = Span::deserialize(deserializer)?;
        if time.is_zero() { Err(D::Error::custom("`0` is no time; use seconds above 0")) } else { Ok(Self(time)) }
    }
}

/// A time that is no shorter than this many milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AtLeast<const MILLISECONDS: u64>(pub(super) Duration);

impl<'de, const MILLISECONDS: u64> Deserialize<'de> for AtLeast<MILLISECONDS> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Seconds(time) = Seconds::deserialize(deserializer)?;
        at_least(time, Duration::from_millis(MILLISECONDS)).map(Self).map_err(D::Error::custom)
    }
}

/// The time, if it is no shorter than this.
pub(super) fn at_least(time: Duration, shortest: Duration) -> Result<Duration, String> {
    if time < shortest {
        return Err(format!("{} s is too short; the smallest is {} s", time.as_secs_f64(), shortest.as_secs_f64()));
    }
    Ok(time)
}

/// A time in seconds, whole or not, perhaps none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span(pub(super) Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl Visitor<'_> for V {
            type Value = Span;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("seconds, or a time such as 500ms, 10s or 5m")
            }
            fn visit_u64<E: Error>(self, v: u64) -> Result<Span, E> {
                self.visit_f64(v as f64)
            }
            fn visit_i64<E: Error>(self, v: i64) -> Result<Span, E> {
                self.visit_f64(v as f64)
            }
            fn visit_f64<E: Error>(self, v: f64) -> Result<Span, E> {
                let span = Duration::try_from_secs_f64(v).ok();
                span.map(Span).ok_or_else(|| E::custom(format!("`{v}` is no time; use seconds above 0")))
            }
            fn visit_str<E: Error>(self, v: &str) -> Result<Span, E> {
                duration(v).map(Span).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(v), &self))
            }
        }
        deserializer.deserialize_any(V)
    }
}

/// Yes or no, also in the words of YAML 1.1, which the original's parser took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct YesNo(pub(super) bool);

impl<'de> Deserialize<'de> for YesNo {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl Visitor<'_> for V {
            type Value = YesNo;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true or false")
            }
            fn visit_bool<E: Error>(self, v: bool) -> Result<YesNo, E> {
                Ok(YesNo(v))
            }
            fn visit_str<E: Error>(self, v: &str) -> Result<YesNo, E> {
                let word = yes_or_no(v).map(YesNo);
                word.ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(v), &self))
            }
        }
        deserializer.deserialize_any(V)
    }
}

fn yes_or_no(word: &str) -> Option<bool> {
    match word.to_ascii_lowercase().as_str() {
        "yes" | "on" | "y" | "true" => Some(true),
        "no" | "off" | "n" | "false" => Some(false),
        _ => None,
    }
}

/// Yes, no, or what is found out: `auto`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct AutoOr(pub(super) Option<bool>);

impl<'de> Deserialize<'de> for AutoOr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl Visitor<'_> for V {
            type Value = AutoOr;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("auto, true or false")
            }
            fn visit_bool<E: Error>(self, v: bool) -> Result<AutoOr, E> {
                Ok(AutoOr(Some(v)))
            }
            fn visit_str<E: Error>(self, v: &str) -> Result<AutoOr, E> {
                match yes_or_no(v) {
                    Some(yes) => Ok(AutoOr(Some(yes))),
                    None if v.eq_ignore_ascii_case("auto") => Ok(AutoOr(None)),
                    None => Err(E::invalid_value(serde::de::Unexpected::Str(v), &self)),
                }
            }
        }
        deserializer.deserialize_any(V)
    }
}

/// A number of bytes: `8388608` or `8MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bytes(pub(super) u32);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl Visitor<'_> for V {
            type Value = Bytes;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of bytes such as 65536, 512KiB or 8MiB")
            }
            fn visit_u64<E: Error>(self, v: u64) -> Result<Bytes, E> {
                u32::try_from(v)
                    .ok()
                    .filter(|v| *v > 0)
                    .map(Bytes)
                    .ok_or_else(|| E::invalid_value(serde::de::Unexpected::Unsigned(v), &"1 to 4294967295 bytes"))
            }
            fn visit_str<E: Error>(self, v: &str) -> Result<Bytes, E> {
                let digits = v.trim_end_matches(|c: char| c.is_ascii_alphabetic()).trim_end();
                let unit = match v[digits.len()..].trim() {
                    "" | "B" => Some(1_u64),
                    "k" | "K" | "KiB" => Some(1 << 10),
                    "M" | "MiB" => Some(1 << 20),
                    "G" | "GiB" => Some(1 << 30),
                    _ => None,
                };
                let number = digits.parse::<u64>().ok();
                match number.zip(unit).and_then(|(number, unit)| number.checked_mul(unit)) {
                    Some(bytes) => self.visit_u64(bytes),
                    None => Err(E::invalid_value(serde::de::Unexpected::Str(v), &self)),
                }
            }
        }
        deserializer.deserialize_any(V)
    }
}

/// A remote address or prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Network(pub(super) IpNet);

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer, "an address or a prefix", |text| {
            network(text).map(Self).ok_or_else(|| {
                if let Some((address, port)) = with_port(text) {
                    let key = if network(address).is_some() { "here" } else { "in `hosts`" };
                    return format!(
                        "`{text}` has a port; write `{address}` {key} and `ports: [{port}]` in `init_config`"
                    );
                }
                if is_everything(text) {
                    return format!("`{text}` is no address; \"0.0.0.0/0\" and \"::/0\" together are all of them");
                }
                let looks_like_a_name = text.contains(|c: char| c.is_ascii_alphabetic()) && !text.contains(':');
                let hint = if looks_like_a_name { "; host names go into `hosts`" } else { "" };
                format!("`{text}` is neither an address nor a prefix such as 10.0.0.0/8{hint}")
            })
        })
    }
}

/// Whether this is how people write "every address".
fn is_everything(text: &str) -> bool {
    ["any", "all", "*", "everything"].iter().any(|word| text.trim().eq_ignore_ascii_case(word))
}

/// An address, prefix or host name with a port behind it: both.
pub(super) fn with_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.trim().rsplit_once(':')?;
    let port = port.parse().ok()?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match bare {
        Some(bare) => network(bare).is_some(),
        None => network(host).is_some() || host_name(host).is_some(),
    };
    is_host.then(|| (bare.unwrap_or(host), port))
}

/// An address or a prefix, its host bits cleared. IPv4 mapped into IPv6 (`::ffff:a.b.c.d`, RFC 4291 section 2.5.5.2) is IPv4, which is what
/// is on the wire.
#[must_use]
pub fn network(text: &str) -> Option<IpNet> {
    /// Bits of such an address before those of IPv4.
    const MAPPED_BITS: u8 = 96;
    let text = text.trim();
    let address = || text.parse::<IpAddr>().ok().map(|address| IpNet::from(address.to_canonical()));
    let net = text.parse::<IpNet>().ok().map(|net| net.trunc()).or_else(address)?;
    let mapped = net.addr().to_canonical();
    match net.prefix_len().checked_sub(MAPPED_BITS) {
        Some(bits) if net.addr().is_ipv6() && mapped.is_ipv4() => IpNet::new(mapped, bits).ok(),
        _ => Some(net),
    }
}

/// A port, or a range of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PortRange(pub(super) (u16, u16));

impl<'de> Deserialize<'de> for PortRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Text(text) = Text::deserialize(deserializer)?;
        parse_ports(&text).map(Self).map_err(D::Error::custom)
    }
}

/// A host name (RFC 1123 section 2.1; underscores occur).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostName(pub(super) String);

impl<'de> Deserialize<'de> for HostName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer, "a host name", |text| {
            let address = || text.trim().parse::<IpAddr>().ok().map(|address| address.to_string());
            address().or_else(|| host_name(text)).map(Self).ok_or_else(|| match (with_port(text), host_of_url(text)) {
                (Some((host, port)), _) => {
                    format!("`{text}` has a port; write `{host}` here and `ports: [{port}]` in `init_config`")
                }
                (None, Some(host)) => format!("`{text}` is no host name; write `{host}`"),
                (None, None) if network(text).is_some() => format!("`{text}` is a prefix; it goes into `ips`"),
                (None, None) => format!("`{text}` is no host name"),
            })
        })
    }
}

/// The host in `SCHEME://HOST/...`.
fn host_of_url(text: &str) -> Option<String> {
    let (_, rest) = text.trim().split_once("://")?;
    let server = rest.split(['/', '?', '#']).next()?;
    host_name(with_port(server).map_or(server, |(host, _)| host))
}

/// A host name without the dot at its end. Its last part is never a number (RFC 1123 section 2.1): that would be an
/// address that is none.
pub(super) fn host_name(text: &str) -> Option<String> {
    let name = text.trim().trim_end_matches('.');
    let part = |part: &str| {
        (1..=63).contains(&part.len()) && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    };
    let ends_in_a_number = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|c| c.is_ascii_digit()));
    (name.len() <= 253 && name.split('.').all(part) && !ends_in_a_number).then(|| name.to_owned())
}

/// A whole number within bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounded<const MIN: u64, const MAX: u64>(pub(super) u64);

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Bounded<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V<const MIN: u64, const MAX: u64>;
        impl<const MIN: u64, const MAX: u64> Visitor<'_> for V<MIN, MAX> {
            type Value = u64;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a whole number from {MIN} to {MAX}")
            }
            fn visit_u64<E: Error>(self, v: u64) -> Result<u64, E> {
                if (MIN..=MAX).contains(&v) {
                    Ok(v)
                } else {
                    Err(E::invalid_value(serde::de::Unexpected::Unsigned(v), &self))
                }
            }
            fn visit_str<E: Error>(self, v: &str) -> Result<u64, E> {
                match v.trim().parse() {
                    Ok(number) => self.visit_u64(number),
                    Err(_) => Err(E::invalid_value(serde::de::Unexpected::Str(v), &self)),
                }
            }
        }
        deserializer.deserialize_any(V::<MIN, MAX>).map(Self)
    }
}
