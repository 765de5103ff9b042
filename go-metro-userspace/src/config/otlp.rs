//! Where metrics go by OTLP, and what goes along: `otlp_endpoint`, and the environment of OpenTelemetry's exporters
//! where the file is silent.
//!
//! By OpenTelemetry's specification: "OpenTelemetry Protocol Exporter" for endpoints, headers, timeout and compression,
//! "Resource SDK" for what describes the sender. A variable for metrics goes before the one for all signals. One that
//! makes no sense counts as not set, and a warning names it ("Environment Variable Specification"). Not so one that
//! makes sense and asks for what go-metro does not do, such as an endpoint with TLS: the figures, and the credentials
//! that go along, are not sent in clear to somewhere else instead.

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
use super::kinds::server_host;
use super::{Environment, Origin};

/// Where exporters send where nothing says otherwise.
const DEFAULT: &str = "http://localhost:4318";
/// What is appended to an endpoint that is for all signals.
const METRICS_PATH: &str = "/v1/metrics";
/// The port of a URL without one (RFC 9110 section 4.2.1).
const HTTP_PORT: u16 = 80;
/// Longest time that an exporter waits for the answer to a request.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The only form in which data are sent.
const PROTOCOL: &str = "http/protobuf";
/// The other forms that there are.
const OTHER_PROTOCOLS: [&str; 2] = ["grpc", "http/json"];
/// Fields that follow from what is sent and over which connection (RFC 9110 sections 7.6.1 and 8, RFC 9112 section 6):
/// with others the request would be another, or none.
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

/// A URL that metrics are posted to.
#[derive(Clone, PartialEq, Eq)]
pub struct OtlpUrl {
    /// Address or name.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path, with the query if there is one.
    pub path: String,
}

/// Without its query, which may be a secret.
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

/// Why nothing can be sent to what a text names.
#[derive(Debug)]
pub(super) enum Unusable {
    /// It is no URL of a receiver.
    Malformed(String),
    /// It is one, which asks for what go-metro does not do.
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
    /// The host as URLs have it: IPv6 in brackets.
    pub fn host_in_url(&self) -> String {
        if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() }
    }

    /// The URL for metrics below the one for all signals; the former is taken as well.
    pub(super) fn below(base: &str) -> Result<Self, Unusable> {
        let mut url = Self::parse(base)?;
        if url.path.contains('?') {
            let what = format!("`{}` has a query; write the URL without what begins with `?`", hidden(base));
            return Err(Unusable::Malformed(what));
        }
        url.path.truncate(url.path.trim_end_matches('/').len());
        if !url.path.ends_with(METRICS_PATH) {
            url.path.push_str(METRICS_PATH);
        }
        Ok(url)
    }

    /// A URL as it is.
    fn parse(text: &str) -> Result<Self, Unusable> {
        let text = text.trim();
        let what = |why: &str| format!("`{}` {why}", hidden(text));
        let refused = |why: &str| Err(Unusable::Malformed(what(why)));
        let unsupported = |why: &str| Err(Unusable::Unsupported(what(why)));
        let Ok(uri) = Uri::from_str(text) else { return refused("is no URL; write http://HOST:PORT") };
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return unsupported(
                    "needs TLS, which go-metro does not speak; name a collector on this host, such as \
                     http://127.0.0.1:4318, and have that forward over https",
                );
            }
            _ => return refused("does not begin with http://; write http://HOST:PORT"),
        }
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        if authority.contains('@') {
            return unsupported("has a user name; put credentials into OTEL_EXPORTER_OTLP_HEADERS");
        }
        let bare = uri.host().unwrap_or_default();
        let host = server_host(bare).map_err(Unusable::Malformed)?;
        let port = match authority.strip_prefix(bare).and_then(|rest| rest.strip_prefix(':')) {
            None => HTTP_PORT,
            Some(port) => match port.parse() {
                Ok(port @ 1..) => port,
                _ => return refused("has no valid port; use 1 to 65535"),
            },
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { host, port, path })
    }
}

/// Fields of a request's head, of which nobody is shown the values.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<(HeaderName, HeaderValue)>);

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// What the OTLP output needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Otlp {
    /// Where metrics are posted.
    pub url: OtlpUrl,
    /// Who said so.
    pub origin: Origin,
    /// More fields of each request's head.
    pub headers: Headers,
    /// Longest wait for an answer.
    pub timeout: Duration,
    /// Whether bodies are compressed.
    pub gzip: bool,
    /// What the environment says of the sender: attributes of the resource.
    pub resource: Vec<(String, String)>,
    /// What of the environment makes no sense and counts as not set, with the name of each variable.
    pub passed_over: Vec<String>,
}

/// The variables that name a receiver: of metrics, and of all signals.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

/// Whether the environment names a receiver.
pub(super) fn is_named(env: Environment<'_>) -> bool {
    ENDPOINTS.iter().any(|name| env(name).is_some_and(|url| !url.trim().is_empty()))
}

/// A variable's name and value.
type Variable = (&'static str, String);

/// Two variables of one meaning: that of metrics, and that of all signals.
type Pair = [Option<Variable>; 2];

/// Reads variables, and notes what of them makes no sense.
#[derive(Default)]
struct PassedOver(Vec<String>);

impl PassedOver {
    fn note(&mut self, what: &str) {
        self.0.push(format!("{what}; it is passed over"));
    }

    /// The value of the first that makes sense.
    fn read<T>(
        &mut self,
        variables: impl IntoIterator<Item = Option<Variable>>,
        read: impl Fn(&Variable) -> Result<T, String>,
    ) -> Option<T> {
        let mut set = variables.into_iter().flatten();
        set.find_map(|variable| read(&variable).map_err(|what| self.note(&what)).ok())
    }
}

/// The settings; `file` is the URL that the file has.
///
/// # Errors
///
/// An endpoint or a protocol that go-metro does not speak, where the file names no endpoint; with the variable, and
/// what to write.
pub(super) fn settings(file: Option<&OtlpUrl>, env: Environment<'_>) -> Result<Otlp, String> {
    let get = |name: &'static str| env(name).filter(|value| !value.trim().is_empty()).map(|value| (name, value));
    let endpoints = ENDPOINTS.map(get);
    let protocols = ["OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"].map(get);
    let headers = ["OTEL_EXPORTER_OTLP_METRICS_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"].map(get);
    let timeouts = ["OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"].map(get);
    let compressions = ["OTEL_EXPORTER_OTLP_METRICS_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION"].map(get);
    let (attributes, service) = (get("OTEL_RESOURCE_ATTRIBUTES"), get("OTEL_SERVICE_NAME"));

    let mut passed_over = PassedOver::default();
    let (url, origin) = match file {
        Some(url) => (url.clone(), Origin::File),
        None => endpoint(endpoints, protocols, &mut passed_over)?,
    };
    let mut resource = passed_over.read([attributes], pairs).unwrap_or_default();
    if let Some((_, name)) = service {
        resource.retain(|(key, _)| key != SERVICE_NAME);
        resource.push((SERVICE_NAME.to_owned(), name));
    }
    let (headers, of_transport) = passed_over.read(headers, fields).unwrap_or_default();
    of_transport.iter().for_each(|what| passed_over.note(what));
    Ok(Otlp {
        url,
        origin,
        headers,
        timeout: passed_over.read(timeouts, milliseconds).unwrap_or(TIMEOUT),
        gzip: passed_over.read(compressions, is_gzip).unwrap_or(true),
        resource,
        passed_over: passed_over.0,
    })
}

/// The attribute that names the service.
const SERVICE_NAME: &str = "service.name";

/// The URL of the environment, that of metrics before that of all signals; or the default.
fn endpoint(endpoints: Pair, protocols: Pair, passed_over: &mut PassedOver) -> Result<(OtlpUrl, Origin), String> {
    let known = passed_over.read(protocols, |(name, protocol)| match protocol.trim() {
        PROTOCOL => Ok(None),
        other if OTHER_PROTOCOLS.contains(&other) => Ok(Some(format!(
            "{name} is `{other}`, and go-metro speaks {PROTOCOL} alone: set `otlp_endpoint`, or {name}={PROTOCOL} with \
             the endpoint of that"
        ))),
        other => Err(format!("{name}: `{other}` is no protocol of OTLP")),
    });
    if let Some(unsupported) = known.flatten() {
        return Err(unsupported);
    }
    for (name, text) in endpoints.into_iter().flatten() {
        let [of_metrics, _] = ENDPOINTS;
        match if name == of_metrics { OtlpUrl::parse(&text) } else { OtlpUrl::below(&text) } {
            Ok(url) => return Ok((url, Origin::Environment(name))),
            Err(Unusable::Malformed(what)) => passed_over.note(&format!("{name}: {what}")),
            Err(Unusable::Unsupported(what)) => return Err(format!("{name}: {what}")),
        }
    }
    Ok((OtlpUrl::below(DEFAULT)?, Origin::Default))
}

/// `key=value,key=value`, with values percent-encoded, as W3C's Baggage has it.
fn pairs((name, text): &Variable) -> Result<Vec<(String, String)>, String> {
    let pair = |part: &str| {
        let (key, value) = part.split_once('=')?;
        let decoded = |text: &str| percent_decode_str(text.trim()).decode_utf8().ok().map(String::from);
        Some((decoded(key).filter(|key| !key.is_empty())?, decoded(value)?))
    };
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts
        // The value may be a secret.
        .map(|part| pair(part).ok_or_else(|| format!("{name} is no list such as key=value,key=value")))
        .collect()
}

/// Fields of the head; and why some were left out.
fn fields(variable: &Variable) -> Result<(Headers, Vec<String>), String> {
    let name = variable.0;
    let (mut headers, mut left_out) = (Headers::default(), Vec::new());
    for (number, (key, value)) in pairs(variable)?.into_iter().enumerate() {
        // Where a name was expected may be a secret.
        let key = HeaderName::from_str(&key)
            .map_err(|_| format!("{name}: the name of header {} is none that there can be", number + 1))?;
        let value = HeaderValue::from_str(&value)
            .map_err(|_| format!("{name}: the value of `{key}` cannot stand in a header"))?;
        if OF_TRANSPORT.contains(&key) {
            left_out.push(format!("{name}: `{key}` follows from what is sent and cannot be set"));
        } else {
            headers.0.push((key, value));
        }
    }
    Ok((headers, left_out))
}

fn milliseconds((name, text): &Variable) -> Result<Duration, String> {
    let time = text.trim().parse().ok().filter(|ms| *ms > 0).map(Duration::from_millis);
    time.ok_or_else(|| format!("{name}: `{text}` is no number of milliseconds above 0"))
}

fn is_gzip((name, text): &Variable) -> Result<bool, String> {
    match text.as_str() {
        "gzip" => Ok(true),
        "none" => Ok(false),
        _ => Err(format!("{name}: `{text}` is neither gzip nor none")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(file: Option<&str>, variables: &[(&str, &str)]) -> Result<Otlp, String> {
        let file = file.map(|text| OtlpUrl::below(text).unwrap());
        let env = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        settings(file.as_ref(), &env)
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
            // Others of this host speak gRPC; the file says where this one sends.
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
            ("https://collector:4318", "needs TLS, which go-metro does not speak; name a collector on this host"),
            ("collector:4318", "does not begin with http://"),
            ("127.0.0.1", "does not begin with http://"),
            ("http://", "is no URL"),
            ("http://user:word@collector:4318", "put credentials into OTEL_EXPORTER_OTLP_HEADERS"),
            ("http://collector:0", "has no valid port"),
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
            ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://u:secret@a", "ENDPOINT: `http://…@a` has a user name"),
        ] {
            // Nor is it sent where the other variable, or nobody, says.
            let all = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://b:1");
            let refused = of(None, &[(variable, value), all]).expect_err(value);
            assert!(refused.contains(what) && !refused.contains("secret"), "{variable}: {refused}");
        }
    }

    #[test]
    fn what_makes_no_sense_in_the_environment_is_passed_over_and_named() {
        let usual = of(None, &[]).unwrap();
        assert_eq!(usual.passed_over, [""; 0]);
        for (variable, value, what) in [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318", "`collector:4318` does not begin with http://"),
            ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://a:0", "`http://a:0` has no valid port"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http", "`http` is no protocol of OTLP"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon", "no number of milliseconds"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "0", "no number of milliseconds"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd", "neither gzip nor none"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "secret", "no list such as key=value"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "Bearer secret=", "the name of header 1 is none that there can be"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=%0d%0aHost: b", "the value of `a` cannot stand in a header"),
            ("OTEL_RESOURCE_ATTRIBUTES", "=x", "no list such as key=value"),
        ] {
            let otlp = of(None, &[(variable, value)]).expect(value);
            let [said] = &*otlp.passed_over else { panic!("{variable}: {:?}", otlp.passed_over) };
            assert!(said.contains(variable) && said.contains(what) && said.ends_with("; it is passed over"), "{said}");
            assert!(!said.contains("secret"), "{said}");
            assert_eq!(Otlp { passed_over: Vec::new(), ..otlp }, usual, "as if it were not set");
        }
        // The one for all signals takes its place.
        let otlp = of(
            None,
            &[
                ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "collector"),
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://b:1"),
                ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "x"),
                ("OTEL_EXPORTER_OTLP_TIMEOUT", "7"),
            ],
        );
        let otlp = otlp.unwrap();
        assert_eq!((otlp.url.to_string().as_str(), otlp.timeout.as_millis()), ("http://b:1/v1/metrics", 7));
        assert_eq!(otlp.passed_over.len(), 2);
    }

    #[test]
    fn fields_that_follow_from_what_is_sent_are_left_out_and_the_others_are_sent() {
        for field in ["Content-Length", "host", "Transfer-Encoding", "Connection", "content-type", "Content-Encoding"] {
            let otlp = of(None, &[("OTEL_EXPORTER_OTLP_HEADERS", &format!("{field}=secret,api-key=a"))]).unwrap();
            assert_eq!(otlp.headers.0.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["api-key"]);
            let [said] = &*otlp.passed_over else { panic!("{field}: {:?}", otlp.passed_over) };
            let name = format!("OTEL_EXPORTER_OTLP_HEADERS: `{}` follows from", field.to_lowercase());
            assert!(said.starts_with(&name) && !said.contains("secret"), "{said}");
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
