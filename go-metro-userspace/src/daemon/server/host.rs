//! By which names clients may come, and whose page may have them ask.
//!
//! A page elsewhere can have its own name lead to an address of this host (DNS rebinding) and would then be of one
//! origin with what is served here: its browser still sends that name as `Host`.

use std::net::{IpAddr, SocketAddr};

use hyper::header::{HOST, HeaderMap, HeaderValue, ORIGIN};
use hyper::http::uri::Authority;
use hyper::{Request, StatusCode, Version};

/// What browsers say of the page that has them ask (W3C Fetch Metadata).
const SEC_FETCH_SITE: &str = "sec-fetch-site";
/// The port that URLs leave out (RFC 9110 section 4.2.1).
const DEFAULT_PORT: &str = ":80";

/// Why a request is refused: the status, and a line to whom it comes from.
pub(super) type Refusal = (StatusCode, &'static str);

/// A browser sends one `Host`.
const ONE_HOST: Refusal = (StatusCode::BAD_REQUEST, "exactly one Host header is required\n");
/// The answer to a name by which another's page may have come.
const OTHER_NAME: Refusal =
    (StatusCode::MISDIRECTED_REQUEST, "not a name of this host: use its address, localhost or its own name\n");
/// The answer to what is asked for by another's page.
pub(super) const FOREIGN: Refusal = (StatusCode::FORBIDDEN, "requests from other sites' pages are refused\n");

/// The names by which clients may come: addresses, `localhost`, and this host's own name.
pub(super) struct OwnNames(String);

impl OwnNames {
    /// This host's.
    pub(super) fn of_this_host() -> Self {
        let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        Self(name.unwrap_or_default())
    }

    /// This host's, for scrapers of a port at this address; none where any name will do. Only programs of this host
    /// reach a loopback address, and they need no other name. Elsewhere scrapers come by names that are not known here:
    /// a service's, an alias, that of a load balancer.
    pub(super) fn for_scrapers(address: SocketAddr) -> Option<Self> {
        address.ip().to_canonical().is_loopback().then(Self::of_this_host)
    }

    /// Why a request is refused that came by another name; none if it may have come by its own.
    pub(super) fn refuse<B>(&self, request: &Request<B>) -> Option<Refusal> {
        let mut hosts = request.headers().get_all(HOST).iter();
        let host = match (hosts.next().map(HeaderValue::to_str), hosts.next()) {
            // As clients of HTTP/1.0 may, and no browser does (RFC 9112 section 3.2).
            (None, None) if request.version() == Version::HTTP_10 => None,
            (Some(Ok(host)), None) => Some(host),
            _ => return Some(ONE_HOST),
        };
        let named = request.uri().authority().map(Authority::as_str);
        let is_own = host.into_iter().chain(named).all(|name| is_own(name, &self.0));
        (!is_own).then_some(OTHER_NAME)
    }
}

/// Whether a browser says that a page of another origin has it ask. `Sec-Fetch-Site` comes with every request, but to
/// loopback addresses and over https alone; `Origin` to every address (Fetch, "Origin header"), but not with what a
/// page cannot read. Either is enough.
pub(super) fn is_foreign(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    headers.get_all(SEC_FETCH_SITE).iter().any(|site| site != "same-origin" && site != "none")
        || headers.get_all(ORIGIN).iter().any(|origin| !is_origin_of(origin, host))
}

/// Whether an `Origin` is that of what is served here under this `Host`: there is no TLS, so its scheme is http.
fn is_origin_of(origin: &HeaderValue, host: &str) -> bool {
    let authority = |text: &str| text.strip_suffix(DEFAULT_PORT).unwrap_or(text).to_ascii_lowercase();
    let origin = origin.to_str().ok().and_then(|origin| origin.strip_prefix("http://"));
    origin.is_some_and(|origin| authority(origin) == authority(host))
}

/// Whether a `Host` (RFC 9110 section 7.2) is one by which nobody else's page can come here: an address, `localhost` or
/// a name below it, or this host's own name. The port does not matter: a tunnel may have another one.
fn is_own(host: &str, own_name: &str) -> bool {
    let name = match host.strip_prefix('[') {
        // An IPv6 address in brackets.
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) if is_port(port) => return matches!(address.parse(), Ok(IpAddr::V6(_))),
            _ => return false,
        },
        None => match host.split_once(':') {
            Some((name, port)) if is_port(&format!(":{port}")) => name,
            Some(_) => return false,
            None => host,
        },
    };
    if matches!(name.parse(), Ok(IpAddr::V4(_))) {
        return true;
    }
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    // A name below localhost is loopback in browsers whatever a name server says (RFC 6761 section 6.3).
    name == "localhost" || name.ends_with(".localhost") || (!name.is_empty() && name.eq_ignore_ascii_case(own_name))
}

/// Whether this is nothing, or a colon and a port.
fn is_port(text: &str) -> bool {
    text.is_empty() || text.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(version: Version, uri: &str, headers: &[(&str, &str)]) -> Request<()> {
        let builder = Request::builder().version(version).uri(uri);
        headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value)).body(()).unwrap()
    }

    #[test]
    fn a_request_that_came_by_another_name_is_refused_and_one_without_any_only_of_http_1_1() {
        let own = OwnNames("web-7".to_owned());
        let refused = |version, uri: &str, headers: &[(&str, &str)]| {
            own.refuse(&request(version, uri, headers)).map_or(0, |(status, _)| status.as_u16())
        };
        let new = Version::HTTP_11;
        for (version, uri, headers, status) in [
            (new, "/", &[("host", "localhost:9465")][..], 0),
            (new, "/", &[("host", "web-7")], 0),
            (new, "/", &[("host", "evil.example")], 421),
            (new, "http://evil.example/", &[("host", "localhost")], 421),
            (new, "http://localhost/", &[("host", "localhost")], 0),
            (new, "/", &[], 400),
            (new, "/", &[("host", "localhost"), ("host", "localhost")], 400),
            (Version::HTTP_10, "/", &[], 0),
            (Version::HTTP_10, "/", &[("host", "evil.example")], 421),
            (Version::HTTP_10, "http://evil.example/", &[], 421),
        ] {
            assert_eq!(refused(version, uri, headers), status, "{version:?} {uri} {headers:?}");
        }
    }

    #[test]
    fn scrapers_need_a_name_of_this_host_where_only_programs_of_this_host_come() {
        for (address, is_held) in [
            ("127.0.0.1:9464", true),
            ("127.9.9.9:1", true),
            ("[::1]:9464", true),
            ("[::ffff:127.0.0.1]:9464", true),
            ("0.0.0.0:9464", false),
            ("[::]:9464", false),
            ("192.0.2.7:9464", false),
        ] {
            assert_eq!(OwnNames::for_scrapers(address.parse().unwrap()).is_some(), is_held, "{address}");
        }
    }

    #[test]
    fn a_page_of_another_origin_is_known_by_either_header_and_the_own_one_is_not_refused() {
        let foreign = |headers: &[(&str, &str)]| is_foreign(request(Version::HTTP_11, "/", headers).headers());
        for own in [
            &[("host", "localhost:9465")][..],
            &[("host", "localhost:9465"), ("origin", "http://localhost:9465")],
            &[("host", "LocalHost:9465"), ("origin", "http://localhost:9465")],
            &[("host", "192.0.2.7"), ("origin", "http://192.0.2.7")],
            &[("host", "192.0.2.7:80"), ("origin", "http://192.0.2.7")],
            &[("host", "[::1]:9465"), ("origin", "http://[::1]:9465"), ("sec-fetch-site", "same-origin")],
            &[("host", "localhost"), ("sec-fetch-site", "none")],
        ] {
            assert!(!foreign(own), "{own:?}");
        }
        for other in [
            &[("host", "192.0.2.7:9465"), ("origin", "http://evil.example")][..],
            &[("host", "192.0.2.7:9465"), ("origin", "http://192.0.2.7")],
            &[("host", "192.0.2.7:9465"), ("origin", "http://192.0.2.7:9466")],
            &[("host", "192.0.2.7:9465"), ("origin", "https://192.0.2.7:9465")],
            // A page in a frame of its own, or of a file.
            &[("host", "192.0.2.7:9465"), ("origin", "null")],
            &[("host", "a"), ("origin", "http://a"), ("origin", "http://b")],
            &[("origin", "http://192.0.2.7:9465")],
            &[("host", "localhost"), ("sec-fetch-site", "cross-site")],
            &[("host", "localhost"), ("sec-fetch-site", "same-site")],
            &[("host", "localhost"), ("origin", "http://localhost"), ("sec-fetch-site", "cross-site")],
        ] {
            assert!(foreign(other), "{other:?}");
        }
    }

    #[test]
    fn addresses_localhost_and_this_hosts_name_are_its_own_and_other_names_are_not() {
        for own in [
            "127.0.0.1:9465",
            "127.0.0.1",
            "192.0.2.7:80",
            "[::1]:9465",
            "[2001:db8::7]",
            "localhost",
            "LocalHost:8080",
            "localhost.:9465",
            "metro.localhost:9465",
            "web-7:9465",
            "WEB-7",
        ] {
            assert!(is_own(own, "web-7"), "{own}");
        }
        for other in [
            "",
            ":9465",
            "evil.example",
            "evil.example:9465",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "evil.example:9465:1",
            "127.0.0.1:port",
            "[127.0.0.1]:9465",
            "[::1",
            "[::1]evil.example",
            "web-7.evil.example",
            "notlocalhost",
        ] {
            assert!(!is_own(other, "web-7"), "{other}");
        }
        assert!(!is_own("", ""), "a host without a name");
    }
}
