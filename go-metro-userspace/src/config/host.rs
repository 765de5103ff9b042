//! Hosts as people write them: a name, an address, a prefix, with a port or without; and as programs open them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

/// A host name without the dot at its end (RFC 1123 section 2.1; underscores occur). Its last part is never a number:
/// that would be a mistyped address.
pub fn host_name(text: &str) -> Option<String> {
    let name = text.trim().trim_end_matches('.');
    let part = |part: &str| {
        (1..=63).contains(&part.len()) && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    };
    let ends_in_a_number = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|c| c.is_ascii_digit()));
    (name.len() <= 253 && name.split('.').all(part) && !ends_in_a_number).then(|| name.to_owned())
}

/// An address in its usual form, or a host name.
pub(super) fn host(text: &str) -> Option<String> {
    text.trim().parse::<IpAddr>().ok().map(|address| address.to_string()).or_else(|| host_name(text))
}

/// `HOST`, `HOST:PORT`, `[ADDRESS]` or `[ADDRESS]:PORT`: the host without brackets, and what stands behind its colon.
/// An IPv6 address without brackets has no port (RFC 3986 section 3.2.2).
pub fn split_port(text: &str) -> (&str, Option<&str>) {
    let text = text.trim();
    if let Some((address, rest)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return match rest.strip_prefix(':') {
            // Neither an address nor a name contains a bracket.
            None if !rest.is_empty() => (text, None),
            port => (address, port),
        };
    }
    match text.rsplit_once(':').filter(|_| text.parse::<IpAddr>().is_err()) {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    }
}

/// The number of the port that stands behind a host's colon.
///
/// # Errors
///
/// What is wrong with it, as a sentence continues after the text that contains it.
pub(super) fn port_number(port: &str) -> Result<u16, String> {
    const RANGE: &str = "use 1 to 65535";
    // `parse` takes a sign as well.
    let is_number = port.bytes().all(|c| c.is_ascii_digit());
    match port.parse() {
        Ok(port @ 1..) if is_number => Ok(port),
        _ if port.is_empty() => Err(format!("has no port after its colon; {RANGE}")),
        _ if is_number => Err(format!("has port {port}, which is out of range; {RANGE}")),
        _ => Err(format!("has `{port}` for a port; {RANGE}")),
    }
}

/// [`split_port`], with the host as `read` has it and the port as a number.
///
/// # Errors
///
/// What is wrong with the text: `no_host` says what it is where its host cannot be read.
pub fn host_and_port<T>(
    text: &str,
    read: impl FnOnce(&str) -> Option<T>,
    no_host: &str,
) -> Result<(T, Option<u16>), String> {
    let (name, port) = split_port(text);
    let host = read(name).ok_or_else(|| format!("`{text}` {no_host}"))?;
    let Some(port) = port else { return Ok((host, None)) };
    let port = port_number(port).map_err(|what| format!("`{text}` {what}"))?;
    if name.contains(':') && !text.trim().starts_with('[') {
        return Err(format!("`{text}` needs brackets; write [{name}]:{port}"));
    }
    Ok((host, Some(port)))
}

/// An address, prefix or host name with a number behind its colon: both; or what is wrong with the number as a port.
pub(super) fn with_port(text: &str) -> Option<Result<(&str, u16), String>> {
    let (name, port) = split_port(text);
    let port = port.filter(|port| !port.is_empty() && port.bytes().all(|c| c.is_ascii_digit()))?;
    let port = port_number(port).map_err(|what| format!("`{text}` {what}"));
    (network(name).is_some() || host_name(name).is_some()).then(|| port.map(|port| (name, port)))
}

/// The host in `SCHEME://HOST/...`.
pub(super) fn host_of_url(text: &str) -> Option<String> {
    let (_, rest) = text.trim().split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    // Behind a user name and password (RFC 3986 section 3.2).
    host_name(split_port(authority.rsplit('@').next()?).0)
}

/// The URL of what listens at an address, for programs of this host: where it listens on all addresses, by that of
/// loopback, as no browser opens 0.0.0.0 or [::].
#[must_use]
pub fn local_url(address: SocketAddr, path: &str) -> String {
    let ip = match address.ip().to_canonical() {
        IpAddr::V4(all) if all.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(all) if all.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    format!("http://{}{path}", SocketAddr::new(ip, address.port()))
}

/// For the log: that URL, and whether it is one of many.
#[must_use]
pub fn listening(address: SocketAddr, path: &str) -> String {
    let is_all = address.ip().to_canonical().is_unspecified();
    local_url(address, path) + if is_all { ", and at every other address of this host" } else { "" }
}

/// Bits in front of the IPv4 address in an IPv4-mapped IPv6 address.
pub const MAPPED_BITS: u8 = 96;

/// An address or a prefix, its host bits cleared. IPv4 mapped into IPv6 (`::ffff:a.b.c.d`, RFC 4291 section 2.5.5.2) is
/// IPv4, which is what is on the wire.
#[must_use]
pub fn network(text: &str) -> Option<IpNet> {
    let text = text.trim();
    let address = || text.parse::<IpAddr>().ok().map(|address| IpNet::from(address.to_canonical()));
    let net = text.parse::<IpNet>().ok().map(|net| net.trunc()).or_else(address)?;
    let mapped = net.addr().to_canonical();
    match net.prefix_len().checked_sub(MAPPED_BITS) {
        Some(bits) if net.addr().is_ipv6() && mapped.is_ipv4() => IpNet::new(mapped, bits).ok(),
        _ => Some(net),
    }
}

/// Every address.
pub(super) const EVERYTHING: [&str; 2] = ["0.0.0.0/0", "::/0"];

/// Whether this is how people write "every address".
pub(super) fn is_everything(text: &str) -> bool {
    ["any", "all", "*", "everything"].iter().any(|word| text.trim().eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_one_that_a_browser_of_this_host_opens() {
        for (address, url) in [
            ("127.0.0.1:9465", "http://127.0.0.1:9465/"),
            ("0.0.0.0:9465", "http://127.0.0.1:9465/"),
            ("[::]:9465", "http://[::1]:9465/"),
            ("[::1]:80", "http://[::1]:80/"),
            ("[::ffff:0.0.0.0]:9465", "http://127.0.0.1:9465/"),
            ("[::ffff:192.0.2.7]:9465", "http://192.0.2.7:9465/"),
            ("192.0.2.7:1", "http://192.0.2.7:1/"),
        ] {
            let (address, text) = (address.parse().unwrap(), address);
            assert_eq!(local_url(address, "/"), url, "{text}");
            let is_one_of_many = ["0.0.0.0", "[::]"].iter().any(|all| text.contains(all));
            assert_eq!(listening(address, "/") != url, is_one_of_many, "{text}");
        }
    }

    #[test]
    fn a_port_stands_behind_the_last_colon_but_not_in_an_address() {
        for (text, host, port) in [
            ("agent", "agent", None),
            ("agent:9125", "agent", Some("9125")),
            ("10.0.0.0/8:443", "10.0.0.0/8", Some("443")),
            ("::1", "::1", None),
            ("fd00::1:443", "fd00::1:443", None),
            ("[::1]", "::1", None),
            ("[::1]:8125", "::1", Some("8125")),
            (":8125", "", Some("8125")),
            ("agent:", "agent", Some("")),
            ("[::1]8125", "[::1]8125", None),
            ("[::1", "[:", Some("1")),
        ] {
            assert_eq!(split_port(text), (host, port), "{text}");
        }
    }
}
