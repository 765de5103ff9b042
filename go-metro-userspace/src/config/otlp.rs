//! Where and how metrics are sent over OTLP: `otlp_endpoint`, and the environment variables of OpenTelemetry's
//! exporters.
//!
//! They follow OpenTelemetry's specification: "OpenTelemetry Protocol Exporter" for endpoints, headers, timeout and
//! compression, "Resource SDK" for the attributes of the sender. A variable for metrics takes precedence over the one
//! for all signals. A malformed one is ignored with a warning ("Environment Variable Specification"). One that is valid
//! but asks for something that go-metro does not support, such as TLS, is an error: otherwise metrics and credentials
//! would be sent unencrypted to another receiver. A malformed header is left out alone, as in OpenTelemetry's own
//! exporters; a malformed attribute discards all attributes, as specified.
//!
//! Each variable that is set and has no effect is named once, with the reason ([`UnusedVariables`]).

use std::fmt;
use std::str::FromStr as _;
use std::time::Duration;

use hyper::Uri;
use hyper::header::{
    ACCEPT_ENCODING, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, HeaderName, HeaderValue,
    TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use percent_encoding::percent_decode_str;

use super::credentials::hidden;
use super::error::quotable;
use super::kinds::{listed, server_host};
use super::{Environment, Origin};

/// Appended to an endpoint for all signals.
const METRICS_PATH: &str = "/v1/metrics";
/// The port of a URL without one (RFC 9110 section 4.2.1).
const HTTP_PORT: u16 = 80;
/// Default of the longest wait for a response.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The only supported protocol.
const PROTOCOL: &str = "http/protobuf";
/// The other protocols of OTLP.
const OTHER_PROTOCOLS: [&str; 2] = ["grpc", "http/json"];
/// Header fields that follow from the body and the connection (RFC 9110 sections 7.6.1 and 8, RFC 9112 section 6).
/// Other values would make the request invalid or change its meaning.
static OF_TRANSPORT: [HeaderName; 13] = [
    ACCEPT_ENCODING,
    CONNECTION,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    EXPECT,
    HOST,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// The URL that metrics are posted to.
#[derive(Clone, PartialEq, Eq)]
pub struct OtlpUrl {
    /// Address or name.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path, with the query if there is one.
    pub path: String,
}

/// The default of OpenTelemetry's exporters.
impl Default for OtlpUrl {
    fn default() -> Self {
        Self { host: "localhost".to_owned(), port: 4318, path: METRICS_PATH.to_owned() }
    }
}

/// Without the query, which may contain a secret.
impl fmt::Display for OtlpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { port, path, .. } = self;
        f.write_str(&hidden(&format!("http://{}:{port}{path}", self.host_in_url())))
    }
}

impl fmt::Debug for OtlpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text cannot be used as an endpoint.
#[derive(Debug)]
pub(super) enum Unusable {
    /// It is not the URL of a receiver.
    Malformed(String),
    /// It is one, but asks for something that go-metro does not support.
    Unsupported(String),
}

impl From<Unusable> for String {
    fn from(unusable: Unusable) -> Self {
        match unusable {
            Unusable::Malformed(what) | Unusable::Unsupported(what) => what,
        }
    }
}

impl OtlpUrl {
    /// The host as in a URL: IPv6 in brackets.
    pub fn host_in_url(&self) -> String {
        if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() }
    }

    /// The URL for metrics, made from the one for all signals. A URL that ends in the path for metrics stays as it is.
    pub(super) fn below(base: &str) -> Result<Self, Unusable> {
        let mut url = Self::parse(base)?;
        if url.path.contains('?') {
            let what = quotable(&format!("`{base}` has a query; write the URL without `?` and what follows"));
            return Err(Unusable::Malformed(what));
        }
        url.path.truncate(url.path.trim_end_matches('/').len());
        if !url.path.ends_with(METRICS_PATH) {
            url.path.push_str(METRICS_PATH);
        }
        Ok(url)
    }

    /// The URL for metrics, unchanged.
    fn parse(text: &str) -> Result<Self, Unusable> {
        let text = text.trim();
        let what = |why: &str| quotable(&format!("`{text}` {why}"));
        let refused = |why: &str| Err(Unusable::Malformed(what(why)));
        let unsupported = |why: &str| Err(Unusable::Unsupported(what(why)));
        let Ok(uri) = Uri::from_str(text) else { return refused("is not a URL; write http://HOST:PORT") };
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return unsupported(
                    "needs TLS, which go-metro does not support; use a collector on this host, such as \
                     http://127.0.0.1:4318, and let it forward over https",
                );
            }
            _ => return refused("does not start with http://; write http://HOST:PORT"),
        }
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        if authority.contains('@') {
            return unsupported("contains a user name; put credentials into OTEL_EXPORTER_OTLP_HEADERS");
        }
        let bare = uri.host().unwrap_or_default();
        let host = server_host(bare).map_err(Unusable::Malformed)?;
        let port = match authority.strip_prefix(bare).and_then(|rest| rest.strip_prefix(':')) {
            None => HTTP_PORT,
            Some(port) => match port.parse() {
                Ok(port @ 1..) => port,
                _ => return refused("has an invalid port; use 1 to 65535"),
            },
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { host, port, path })
    }
}

/// Header fields of a request. Their values are never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<(HeaderName, HeaderValue)>);

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// Settings of the OTLP output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Otlp {
    /// Where metrics are posted.
    pub url: OtlpUrl,
    /// Where the URL was set.
    pub origin: Origin,
    /// Additional header fields.
    pub headers: Headers,
    /// Longest wait for a response.
    pub timeout: Duration,
    /// Whether bodies are compressed.
    pub gzip: bool,
    /// Attributes of the resource from the environment.
    pub resource: Vec<(String, String)>,
}

/// The variables that are set and have no effect, for messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnusedVariables {
    /// A line for each variable that is malformed.
    pub malformed: Vec<String>,
    /// A line for each setting that takes precedence over variables, and for each reason why some are not used.
    pub overridden: Vec<String>,
    /// Why none of the variables has an effect while OTLP is not an output.
    pub unsent: Option<Unsent>,
    /// The endpoint comes from the environment, which switches OTLP off.
    pub is_off: bool,
}

/// Why nothing is sent over OTLP, and which variables therefore have no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unsent {
    /// The endpoint or protocol in the environment cannot be used.
    Unusable(String),
    /// The configuration does not ask for OTLP, or the environment switches it off.
    Unwanted(String),
}

/// Switches everything off, as does [`EXPORTER`] with the value `none`.
const DISABLED: &str = "OTEL_SDK_DISABLED";
/// Names exporters of metrics.
const EXPORTER: &str = "OTEL_METRICS_EXPORTER";
/// Variables of OpenTelemetry's exporters of metrics that go-metro does not use: why, which, and the value that says
/// what go-metro does anyway.
static UNUSED: [(&str, &[&str], Option<&str>); 5] = [
    (
        "go-metro does not support TLS",
        &[
            "OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE",
            "OTEL_EXPORTER_OTLP_CERTIFICATE",
            "OTEL_EXPORTER_OTLP_METRICS_CLIENT_CERTIFICATE",
            "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
            "OTEL_EXPORTER_OTLP_METRICS_CLIENT_KEY",
            "OTEL_EXPORTER_OTLP_CLIENT_KEY",
        ],
        None,
    ),
    (
        "sums and histograms are always cumulative",
        &["OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"],
        Some("cumulative"),
    ),
    (
        "histograms are always exponential",
        &["OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION"],
        Some("base2_exponential_bucket_histogram"),
    ),
    ("`report_interval` is the interval of reports", &["OTEL_METRIC_EXPORT_INTERVAL"], None),
    ("OTEL_EXPORTER_OTLP_TIMEOUT is the longest wait for a response", &["OTEL_METRIC_EXPORT_TIMEOUT"], None),
];

/// The endpoint for metrics, and for all signals.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
const SERVICE_NAME_VARIABLE: &str = "OTEL_SERVICE_NAME";
/// The attribute that names the service.
const SERVICE_NAME: &str = "service.name";

/// A variable's name and value.
type Variable = (&'static str, String);

/// The variable for metrics, and the one for all signals.
type Pair = [Option<Variable>; 2];

/// A variable that asks for something that go-metro does not support.
struct Unsupported {
    variable: &'static str,
    what: String,
}

/// Reads variables, and collects those without effect.
#[derive(Default)]
struct Reading {
    /// Each with its message.
    malformed: Vec<(&'static str, String)>,
    /// What takes precedence, and over which variables.
    overridden: Vec<(&'static str, Vec<&'static str>)>,
}

impl Reading {
    /// The first variable that is valid, and its value.
    fn first<T>(
        &mut self,
        variables: impl IntoIterator<Item = Option<Variable>>,
        read: impl Fn(&Variable) -> Result<T, String>,
    ) -> Option<(&'static str, T)> {
        let mut chosen: Option<(&'static str, T)> = None;
        for variable in variables.into_iter().flatten() {
            match &chosen {
                Some((name, _)) => self.note_overridden(name, variable.0),
                None => match read(&variable) {
                    Ok(value) => chosen = Some((variable.0, value)),
                    Err(what) => {
                        let what = quotable(&format!("{} is ignored: {what}", variable.0));
                        self.malformed.push((variable.0, what));
                    }
                },
            }
        }
        chosen
    }

    fn note_overridden(&mut self, by: &'static str, variable: &'static str) {
        match self.overridden.iter_mut().find(|(known, _)| *known == by) {
            Some((_, variables)) => variables.push(variable),
            None => self.overridden.push((by, vec![variable])),
        }
    }
}

/// The settings, or the variable that prevents sending and what to write instead; and the variables without effect.
/// `file` is `otlp_endpoint`, `has_outputs` whether the file sets `outputs`.
pub(super) fn settings(
    file: Option<&OtlpUrl>,
    has_outputs: bool,
    env: Environment<'_>,
) -> (Result<Otlp, String>, UnusedVariables) {
    let get = |name: &'static str| env(name).filter(|value| !value.trim().is_empty()).map(|value| (name, value));
    let endpoints = ENDPOINTS.map(get);
    let protocols = ["OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"].map(get);
    let headers = ["OTEL_EXPORTER_OTLP_METRICS_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"].map(get);
    let timeouts = ["OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"].map(get);
    let compressions = ["OTEL_EXPORTER_OTLP_METRICS_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION"].map(get);
    let about = [get("OTEL_RESOURCE_ATTRIBUTES"), get(SERVICE_NAME_VARIABLE)];
    let all = [&endpoints, &protocols, &headers, &timeouts, &compressions, &about];
    let unused = unused(get);
    let of_unused = unused.iter().flat_map(|(_, names)| names.iter().copied());
    let set: Vec<&'static str> = all.into_iter().flatten().flatten().map(|(name, _)| *name).chain(of_unused).collect();
    let switches = [DISABLED, EXPORTER].map(get).into_iter().flatten().filter(|switch| !is_usual(switch));
    let switches: Vec<Variable> = switches.collect();
    let is_named = endpoints.iter().any(Option::is_some);

    let mut reading = Reading::default();
    let endpoint = endpoint(file, endpoints, protocols, &mut reading);
    let headers = reading.first(headers, fields).map(|(name, (headers, left_out))| {
        if !left_out.is_empty() {
            reading.malformed.push((name, format!("{name}: {}; the other items are sent", left_out.join("; "))));
        }
        headers
    });
    let timeout = reading.first(timeouts, milliseconds).map_or(TIMEOUT, |(_, timeout)| timeout);
    let gzip = reading.first(compressions, is_gzip).is_none_or(|(_, gzip)| gzip);
    let resource = resource(about, &mut reading);

    let is_of_environment = !has_outputs && file.is_none() && is_named;
    let off = switches.iter().find(|switch| is_of_environment && switches_off(switch));
    let is_off = off.is_some();
    let unsent = match off {
        Some((switch, _)) => Some(Unsent::Unwanted(format!("{}: {switch} switches OTLP off", no_effect(&set)))),
        None => unsent(&set, has_outputs, is_named, &endpoint, &reading.malformed),
    };
    let overridden = |(by, names): &(&str, Vec<&str>)| format!("{}: {by} takes precedence", no_effect(names));
    let unused = unused.iter().map(|(why, names)| format!("{}: {why}", no_effect(names)));
    let switches: Vec<&str> = switches.iter().map(|(name, _)| *name).collect();
    let by = match file {
        _ if has_outputs => "`outputs` takes precedence",
        Some(_) => "`otlp_endpoint` takes precedence",
        None => "the outputs of go-metro are those of its own settings",
    };
    let ignored = (!switches.is_empty()).then(|| format!("{}: {by}", no_effect(&switches)));
    let unused = UnusedVariables {
        overridden: reading.overridden.iter().map(overridden).chain(unused).chain(ignored).collect(),
        malformed: reading.malformed.into_iter().map(|(_, line)| line).collect(),
        unsent,
        is_off,
    };
    let headers = headers.unwrap_or_default();
    let otlp = endpoint.map(|(url, origin)| Otlp { url, origin, headers, timeout, gzip, resource });
    (otlp.map_err(|unsupported| unsupported.what), unused)
}

/// The variables that are set and that go-metro does not use, by the reason.
fn unused(get: impl Fn(&'static str) -> Option<Variable>) -> Vec<(&'static str, Vec<&'static str>)> {
    let of = |(why, names, usual): &(&'static str, &[&'static str], Option<&str>)| {
        let is_unused = |(_, value): &Variable| usual.is_none_or(|usual| !value.trim().eq_ignore_ascii_case(usual));
        let names = names.iter().filter_map(|name| get(name).filter(is_unused));
        (*why, names.map(|(name, _)| name).collect::<Vec<_>>())
    };
    UNUSED.iter().map(of).filter(|(_, names)| !names.is_empty()).collect()
}

/// Whether a switch has the value that leaves OTLP on.
fn is_usual((name, value): &Variable) -> bool {
    match *name {
        DISABLED => !value.trim().eq_ignore_ascii_case("true"),
        _ => value.split(',').any(|exporter| exporter.trim() == "otlp"),
    }
}

/// Whether a switch that is not as usual has OTLP off. Another exporter (`prometheus`) is not what go-metro's outputs
/// follow.
fn switches_off((name, value): &Variable) -> bool {
    *name == DISABLED || value.trim() == "none"
}

/// The URL from the file, else from the environment, else the default.
fn endpoint(
    file: Option<&OtlpUrl>,
    endpoints: Pair,
    protocols: Pair,
    reading: &mut Reading,
) -> Result<(OtlpUrl, Origin), Unsupported> {
    if let Some(url) = file {
        let others = protocols.iter().flatten().filter(|(_, protocol)| protocol.trim() != PROTOCOL);
        for (name, _) in endpoints.iter().flatten().chain(others) {
            reading.note_overridden("`otlp_endpoint`", name);
        }
        return Ok((url.clone(), Origin::File));
    }
    let protocol = reading.first(protocols, |(_, protocol)| match protocol.trim() {
        PROTOCOL => Ok(None),
        other if OTHER_PROTOCOLS.contains(&other) => Ok(Some(other.to_owned())),
        other => Err(format!("`{other}` is not a protocol of OTLP")),
    });
    if let Some((variable, Some(protocol))) = protocol {
        let what = format!(
            "{variable} is `{protocol}`, but go-metro sends only {PROTOCOL}; set `otlp_endpoint`, or set {variable} to \
             {PROTOCOL} and the endpoint to one that takes it"
        );
        return Err(Unsupported { variable, what });
    }
    let endpoint = reading.first(endpoints, |(name, text)| {
        let [of_metrics, _] = ENDPOINTS;
        match if *name == of_metrics { OtlpUrl::parse(text) } else { OtlpUrl::below(text) } {
            Ok(url) => Ok(Ok(url)),
            Err(Unusable::Unsupported(what)) => Ok(Err(what)),
            Err(Unusable::Malformed(what)) => Err(what),
        }
    });
    match endpoint {
        Some((variable, Ok(url))) => Ok((url, Origin::Environment(variable))),
        Some((variable, Err(what))) => Err(Unsupported { variable, what: format!("{variable}: {what}") }),
        None => Ok((OtlpUrl::default(), Origin::Default)),
    }
}

/// The attributes of the resource. The name of the service comes from `OTEL_SERVICE_NAME` if that is set.
fn resource([attributes, service]: Pair, reading: &mut Reading) -> Vec<(String, String)> {
    let attributes = reading.first([attributes], |(_, text)| items(text)?.into_iter().map(pair).collect());
    let (variable, mut resource): (_, Vec<_>) = attributes.unwrap_or_default();
    if let Some((_, name)) = service {
        let is_overridden = !resource.is_empty() && resource.iter().all(|(key, _)| key == SERVICE_NAME);
        if is_overridden {
            reading.note_overridden(SERVICE_NAME_VARIABLE, variable);
        }
        resource.retain(|(key, _)| key != SERVICE_NAME);
        resource.push((SERVICE_NAME.to_owned(), name));
    }
    resource
}

/// Why the variables that are set have no effect while OTLP is not an output.
fn unsent(
    set: &[&'static str],
    has_outputs: bool,
    is_named: bool,
    endpoint: &Result<(OtlpUrl, Origin), Unsupported>,
    malformed: &[(&'static str, String)],
) -> Option<Unsent> {
    if set.is_empty() {
        return None;
    }
    if has_outputs {
        return Some(Unsent::Unwanted(format!("{}: `outputs` does not name otlp", no_effect(set))));
    }
    if !is_named {
        return Some(Unsent::Unwanted(format!("{}: no endpoint is set for OTLP", no_effect(set))));
    }
    let (why, named) = match endpoint {
        Err(Unsupported { variable, what }) => (what.clone(), vec![*variable]),
        Ok((_, Origin::Default)) => {
            let lines: Vec<&str> = malformed.iter().map(|(_, line)| &**line).collect();
            (lines.join("; "), malformed.iter().map(|(name, _)| *name).collect())
        }
        // Then OTLP is an output.
        Ok(_) => return None,
    };
    let others: Vec<&str> = set.iter().copied().filter(|name| !named.contains(name)).collect();
    let others = if others.is_empty() { String::new() } else { format!("; {} either", no_effect(&others)) };
    Some(Unsent::Unusable(format!("nothing is sent over OTLP: {why}{others}")))
}

/// `A and B have no effect`.
fn no_effect(variables: &[&str]) -> String {
    let names: Vec<String> = variables.iter().map(|name| (*name).to_owned()).collect();
    format!("{} {} no effect", listed(&names, "and"), if names.len() == 1 { "has" } else { "have" })
}

/// The items of `key=value,key=value`, with their numbers.
fn items(text: &str) -> Result<Vec<(usize, &str)>, String> {
    let items = (1..).zip(text.split(',').map(str::trim)).filter(|(_, item)| !item.is_empty());
    let items: Vec<_> = items.collect();
    if items.is_empty() { Err("it has no item of the form key=value".to_owned()) } else { Ok(items) }
}

/// An item's key and value, which are percent-encoded as in W3C Baggage. An error does not repeat the value, which may
/// be a secret.
fn pair((number, item): (usize, &str)) -> Result<(String, String), String> {
    let decoded = |text: &str| percent_decode_str(text.trim()).decode_utf8().ok().map(String::from);
    let (key, value) = item.split_once('=').ok_or_else(|| format!("item {number} is not of the form key=value"))?;
    let key = decoded(key).filter(|key| !key.is_empty());
    let key = key.ok_or_else(|| format!("the key of item {number} is empty or not UTF-8"))?;
    let value = decoded(value).ok_or_else(|| format!("the value of {} is not UTF-8", numbered(number, &key)))?;
    Ok((key, value))
}

/// An item's number, and its key if it could be a header's name: anything else may be a secret in the wrong place.
fn numbered(number: usize, key: &str) -> String {
    let is_name = HeaderName::from_str(key).is_ok();
    if is_name { format!("item {number} (`{key}`)") } else { format!("item {number}") }
}

/// Header fields, and why items were left out; an error if all were.
fn fields((_, text): &Variable) -> Result<(Headers, Vec<String>), String> {
    let (mut headers, mut left_out) = (Headers::default(), Vec::new());
    for item in items(text)? {
        match field(item) {
            Ok(field) => headers.0.push(field),
            Err(what) => left_out.push(what),
        }
    }
    if headers.0.is_empty() { Err(left_out.join("; ")) } else { Ok((headers, left_out)) }
}

fn field(item: (usize, &str)) -> Result<(HeaderName, HeaderValue), String> {
    let (key, value) = pair(item)?;
    let item = numbered(item.0, &key);
    let key = HeaderName::from_str(&key).map_err(|_| format!("the key of {item} cannot be the name of a header"))?;
    if OF_TRANSPORT.contains(&key) {
        return Err(format!("{item} follows from the request and cannot be set"));
    }
    let value = HeaderValue::from_str(&value);
    Ok((key, value.map_err(|_| format!("the value of {item} has characters that a header cannot have"))?))
}

fn milliseconds((_, text): &Variable) -> Result<Duration, String> {
    let time = text.trim().parse().ok().filter(|ms| *ms > 0).map(Duration::from_millis);
    time.ok_or_else(|| format!("`{text}` is not a number of milliseconds above 0"))
}

fn is_gzip((_, text): &Variable) -> Result<bool, String> {
    match text.as_str() {
        "gzip" => Ok(true),
        "none" => Ok(false),
        _ => Err(format!("`{text}` is neither gzip nor none")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without `outputs` in the file.
    fn read(file: Option<&str>, variables: &[(&str, &str)]) -> (Result<Otlp, String>, UnusedVariables) {
        let file = file.map(|text| OtlpUrl::below(text).unwrap());
        let env = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        settings(file.as_ref(), false, &env)
    }

    fn of(file: Option<&str>, variables: &[(&str, &str)]) -> Result<Otlp, String> {
        read(file, variables).0
    }

    #[test]
    fn a_url_for_all_signals_gets_the_path_and_one_for_metrics_stays_as_it_is() {
        const ALL: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
        const METRICS: &str = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT";
        for (file, variables, url) in [
            (None, &[][..], "http://localhost:4318/v1/metrics"),
            (None, &[(ALL, "http://collector:4318")], "http://collector:4318/v1/metrics"),
            (None, &[(ALL, "http://collector:4318/mine/")], "http://collector:4318/mine/v1/metrics"),
            (None, &[(ALL, "http://collector")], "http://collector:80/v1/metrics"),
            (None, &[(METRICS, "http://collector:4318/custom")], "http://collector:4318/custom"),
            (None, &[(METRICS, "http://collector:4318")], "http://collector:4318/"),
            (None, &[(METRICS, "http://collector:4318/a?b=c")], "http://collector:4318/a?…"),
            (None, &[(ALL, "http://a:1"), (METRICS, "http://b:2/x")], "http://b:2/x"),
            (
                Some("http://[::1]:9090/api/v1/otlp"),
                &[(METRICS, "http://b:2/x")],
                "http://[::1]:9090/api/v1/otlp/v1/metrics",
            ),
            (Some("http://a:1/v1/metrics"), &[], "http://a:1/v1/metrics"),
            // Other programs on this host use gRPC.
            (Some("http://a:1"), &[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")], "http://a:1/v1/metrics"),
            (None, &[(ALL, "http://a:1"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")], "http://a:1/v1/metrics"),
        ] {
            assert_eq!(of(file, variables).unwrap().url.to_string(), url, "{file:?} {variables:?}");
        }
        assert_eq!(of(None, &[(METRICS, "http://collector:4318/a?b=c")]).unwrap().url.path, "/a?b=c", "it is sent");
        assert_eq!(of(None, &[]).unwrap().origin, Origin::Default);
        assert_eq!(of(None, &[(ALL, "http://a:1")]).unwrap().origin, Origin::Environment(ALL));
    }

    #[test]
    fn what_cannot_be_sent_to_is_refused_with_what_to_do() {
        for (text, what) in [
            ("https://collector:4318", "needs TLS, which go-metro does not support; use a collector on this host"),
            ("collector:4318", "does not start with http://"),
            ("127.0.0.1", "does not start with http://"),
            ("http://", "is not a URL"),
            ("http://user:word@collector:4318", "put credentials into OTEL_EXPORTER_OTLP_HEADERS"),
            ("http://collector:0", "has an invalid port"),
            ("http://collector:70000", "port"),
            ("http://10.0.0.300:4318", "neither an address nor a host name"),
            ("http://collector:4318/?a=b", "has a query"),
        ] {
            let refused = String::from(OtlpUrl::below(text).expect_err(text));
            assert!(refused.contains(what), "{text}: {refused}");
        }
        for (variable, value, what) in [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://a", "OTEL_EXPORTER_OTLP_ENDPOINT: `https://a` needs TLS"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "OTEL_EXPORTER_OTLP_PROTOCOL is `grpc`"),
            ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "http/json", "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL is `http/json`"),
            ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://u:secret@a", ": `http://…@a` contains a user name"),
        ] {
            // The endpoint for all signals is not used instead.
            let all = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://b:1");
            let refused = of(None, &[(variable, value), all]).expect_err(value);
            assert!(refused.contains(what) && !refused.contains("secret"), "{variable}: {refused}");
        }
    }

    #[test]
    fn a_malformed_variable_is_named_once_and_counts_as_not_set() {
        let usual = of(None, &[]).unwrap();
        assert_eq!(read(None, &[]).1, UnusedVariables::default());
        for (variable, value, what) in [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318", "`collector:4318` does not start with http://"),
            ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://a:0", "`http://a:0` has an invalid port"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http", "`http` is not a protocol of OTLP"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon", "not a number of milliseconds"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "0", "not a number of milliseconds"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd", "neither gzip nor none"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "secret", "item 1 is not of the form key=value"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "Bearer secret=", "the key of item 1 cannot be the name of a header"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=%0d%0aHost: b", "the value of item 1 (`a`) has characters"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "Host=secret", "item 1 (`Host`) follows from the request"),
            ("OTEL_EXPORTER_OTLP_HEADERS", ",", "it has no item of the form key=value"),
            // One item discards them all.
            ("OTEL_RESOURCE_ATTRIBUTES", "a=b,=x", "the key of item 2 is empty"),
            ("OTEL_RESOURCE_ATTRIBUTES", "a=b,c=%ff", "the value of item 2 (`c`) is not UTF-8"),
        ] {
            let (otlp, unused) = read(None, &[(variable, value)]);
            let [said] = &*unused.malformed else { panic!("{variable}: {unused:?}") };
            assert!(said.starts_with(&format!("{variable} is ignored: ")) && said.contains(what), "{said}");
            assert!(!said.contains("secret") && unused.overridden.is_empty(), "{unused:?}");
            assert_eq!(otlp.unwrap(), usual, "as if it were not set");
        }
        // The one for all signals takes its place.
        let (otlp, unused) = read(
            None,
            &[
                ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "collector"),
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://b:1"),
                ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "x"),
                ("OTEL_EXPORTER_OTLP_TIMEOUT", "7"),
                ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "secret"),
                ("OTEL_EXPORTER_OTLP_HEADERS", "a=b"),
            ],
        );
        let otlp = otlp.unwrap();
        assert_eq!((otlp.url.to_string().as_str(), otlp.timeout.as_millis()), ("http://b:1/v1/metrics", 7));
        assert_eq!((otlp.headers.0.len(), unused.malformed.len(), unused.overridden.len()), (1, 3, 0));
    }

    #[test]
    fn an_item_of_the_headers_that_is_malformed_or_follows_from_the_request_is_left_out_alone() {
        let sent = |text: &str| {
            let (otlp, unused) = read(None, &[("OTEL_EXPORTER_OTLP_HEADERS", text)]);
            let names: Vec<String> = otlp.unwrap().headers.0.iter().map(|(name, _)| name.to_string()).collect();
            assert!(!unused.malformed.concat().contains("secret"), "{unused:?}");
            (names.join(","), unused.malformed.join("\n"))
        };
        for field in ["Content-Length", "host", "Transfer-Encoding", "Connection", "content-type", "Content-Encoding"] {
            let (names, said) = sent(&format!("{field}=secret,api-key=a"));
            let what = "follows from the request and cannot be set; the other items are sent";
            assert_eq!((&*names, said), ("api-key", format!("OTEL_EXPORTER_OTLP_HEADERS: item 1 (`{field}`) {what}")));
        }
        let (names, said) = sent("a=1,,secret,b=%ff,x y=secret, c=2");
        let what = "item 3 is not of the form key=value; the value of item 4 (`b`) is not UTF-8; the key of item 5 \
                    cannot be the name of a header; the other items are sent";
        assert_eq!((&*names, said), ("a,c", format!("OTEL_EXPORTER_OTLP_HEADERS: {what}")));
        assert_eq!(sent("a=1,b=2,"), ("a,b".to_owned(), String::new()));
    }

    #[test]
    fn a_variable_that_go_metro_does_not_use_is_named_unless_it_says_what_go_metro_does() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:1");
        for (variable, value, why) in [
            ("OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE", "/ca.pem", "go-metro does not support TLS"),
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/key.pem", "go-metro does not support TLS"),
            ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta", "sums and histograms are always cumulative"),
            ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "Cumulative", ""),
            (
                "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
                "explicit_bucket_histogram",
                "histograms are always exponential",
            ),
            ("OTEL_METRIC_EXPORT_INTERVAL", "1000", "`report_interval` is the interval of reports"),
            ("OTEL_METRIC_EXPORT_TIMEOUT", "1000", "OTEL_EXPORTER_OTLP_TIMEOUT is the longest wait for a response"),
            ("OTEL_METRICS_EXPORTER", "prometheus", "the outputs of go-metro are those of its own settings"),
            ("OTEL_METRICS_EXPORTER", "console,otlp", ""),
            ("OTEL_SDK_DISABLED", "false", ""),
        ] {
            let (otlp, unused) = read(None, &[endpoint, (variable, value)]);
            assert!(otlp.is_ok() && !unused.is_off, "{unused:?}");
            let expected: Vec<String> =
                (!why.is_empty()).then(|| format!("{variable} has no effect: {why}")).into_iter().collect();
            assert_eq!(unused.overridden, expected);
            if why.contains("always") {
                let unsent = format!("{variable} has no effect: no endpoint is set for OTLP");
                assert_eq!(read(None, &[(variable, value)]).1.unsent, Some(Unsent::Unwanted(unsent)));
            }
        }
    }

    #[test]
    fn a_variable_switches_the_environments_endpoint_off_and_no_other() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:1");
        for switch in [("OTEL_SDK_DISABLED", "TRUE"), ("OTEL_METRICS_EXPORTER", "none")] {
            let unused = read(None, &[endpoint, switch]).1;
            let why = format!("OTEL_EXPORTER_OTLP_ENDPOINT has no effect: {} switches OTLP off", switch.0);
            assert_eq!((unused.is_off, unused.unsent), (true, Some(Unsent::Unwanted(why))));
            let unused = read(Some("http://b:1"), &[switch]).1;
            let ignored = format!("{} has no effect: `otlp_endpoint` takes precedence", switch.0);
            assert_eq!((unused.is_off, unused.overridden), (false, vec![ignored]));
        }
    }

    #[test]
    fn a_variable_over_which_another_setting_takes_precedence_is_named_once_whatever_it_says() {
        let overridden = |file: Option<&str>, variables: &[(&str, &str)]| {
            let (otlp, unused) = read(file, variables);
            assert!(otlp.is_ok() && unused.malformed.is_empty(), "{otlp:?} {unused:?}");
            unused.overridden
        };
        for (general, value) in [
            ("ENDPOINT", "https://a"),
            ("ENDPOINT", "nonsense"),
            ("HEADERS", "nonsense"),
            ("TIMEOUT", "7"),
            ("COMPRESSION", "gzip"),
            ("PROTOCOL", "grpc"),
        ] {
            let good = match general {
                "ENDPOINT" => "http://a:1/x",
                "HEADERS" => "a=b",
                "TIMEOUT" => "8",
                "COMPRESSION" => "none",
                _ => PROTOCOL,
            };
            let (ours, theirs) =
                (format!("OTEL_EXPORTER_OTLP_METRICS_{general}"), format!("OTEL_EXPORTER_OTLP_{general}"));
            let said = overridden(None, &[(ours.as_str(), good), (theirs.as_str(), value)]);
            assert_eq!(said, [format!("{theirs} has no effect: {ours} takes precedence")]);
        }
        let said = overridden(
            Some("http://a:1"),
            &[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://a"),
                ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "nonsense"),
                ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", PROTOCOL),
                ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ],
        );
        let what = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT, OTEL_EXPORTER_OTLP_ENDPOINT and OTEL_EXPORTER_OTLP_PROTOCOL \
                    have no effect: `otlp_endpoint` takes precedence";
        assert_eq!(said, [what]);
        let name = ("OTEL_SERVICE_NAME", "edge");
        let said = overridden(None, &[("OTEL_RESOURCE_ATTRIBUTES", "service.name=a"), name]);
        assert_eq!(said, ["OTEL_RESOURCE_ATTRIBUTES has no effect: OTEL_SERVICE_NAME takes precedence"]);
        assert_eq!(overridden(None, &[("OTEL_RESOURCE_ATTRIBUTES", "service.name=a,b=c"), name]), [""; 0]);
    }

    #[test]
    fn where_nothing_is_sent_each_variable_is_named_once() {
        const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
        const NAME: (&str, &str) = ("OTEL_SERVICE_NAME", "edge");
        let unsent = |has_outputs: bool, variables: &[(&str, &str)]| {
            let env =
                |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
            settings(None, has_outputs, &env).1.unsent
        };
        assert_eq!((unsent(false, &[]), unsent(true, &[])), (None, None));
        assert_eq!(unsent(false, &[(ENDPOINT, "http://a:1"), NAME]), None, "it is sent");
        let unwanted = |what: &str| Some(Unsent::Unwanted(what.to_owned()));
        let both = "OTEL_EXPORTER_OTLP_ENDPOINT and OTEL_SERVICE_NAME have no effect: `outputs` does not name otlp";
        assert_eq!(unsent(true, &[(ENDPOINT, "https://a"), NAME]), unwanted(both));
        let unnamed = "OTEL_SERVICE_NAME has no effect: no endpoint is set for OTLP";
        assert_eq!(unsent(false, &[NAME]), unwanted(unnamed));
        let said = |variables: &[(&str, &str)]| match unsent(false, variables) {
            Some(Unsent::Unusable(what)) => what,
            other => panic!("{other:?}"),
        };
        let either = "; OTEL_SERVICE_NAME has no effect either";
        let tls = said(&[(ENDPOINT, "https://a"), NAME]);
        let why = "nothing is sent over OTLP: OTEL_EXPORTER_OTLP_ENDPOINT: `https://a` needs TLS";
        assert!(tls.starts_with(why) && tls.ends_with(either), "{tls}");
        let grpc = said(&[(ENDPOINT, "http://a:1"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]);
        assert!(grpc.starts_with("nothing is sent over OTLP: OTEL_EXPORTER_OTLP_PROTOCOL is `grpc`"), "{grpc}");
        assert!(grpc.ends_with("; OTEL_EXPORTER_OTLP_ENDPOINT has no effect either"), "{grpc}");
        let malformed = said(&[(ENDPOINT, "a:1"), ("OTEL_EXPORTER_OTLP_TIMEOUT", "x"), NAME]);
        for part in ["OTEL_EXPORTER_OTLP_ENDPOINT is ignored: ", "OTEL_EXPORTER_OTLP_TIMEOUT is ignored: ", either] {
            assert_eq!(malformed.matches(part).count(), 1, "{malformed}");
        }
    }

    #[test]
    fn the_environment_says_what_goes_along() {
        let otlp = of(
            None,
            &[
                ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=no,"),
                ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", " Authorization = Basic%20dTpw , x-scope-orgid=a%2Cb"),
                ("OTEL_EXPORTER_OTLP_TIMEOUT", "2500"),
                ("OTEL_EXPORTER_OTLP_COMPRESSION", "none"),
                ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,k8s.pod.name=a-b,team=r%C3%BCck%3Dlauf"),
                ("OTEL_SERVICE_NAME", "edge"),
            ],
        )
        .unwrap();
        let headers: Vec<_> = otlp.headers.0.iter().map(|(k, v)| (k.as_str(), v.to_str().unwrap())).collect();
        assert_eq!(headers, [("authorization", "Basic dTpw"), ("x-scope-orgid", "a,b")]);
        assert_eq!((otlp.timeout, otlp.gzip), (Duration::from_millis(2500), false));
        let resource: Vec<_> = otlp.resource.iter().map(|(k, v)| (&**k, &**v)).collect();
        assert_eq!(resource, [("k8s.pod.name", "a-b"), ("team", "rück=lauf"), ("service.name", "edge")]);
        assert!(!format!("{otlp:?}").contains("dTpw"), "no secret is shown");
        let usual = of(None, &[]).unwrap();
        assert_eq!((usual.timeout, usual.gzip, usual.resource.len()), (TIMEOUT, true, 0));
    }
}
