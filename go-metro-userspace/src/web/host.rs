//! Which names a browser may have come by. A page elsewhere can have its own name lead to this address (DNS rebinding)
//! and would then be of one origin with what is served here: its browser still sends that name as `Host`.

use std::net::IpAddr;

/// Whether a `Host` (RFC 9110 section 7.2) is one by which nobody else's page can come here: an address, `localhost` or
/// a name below it, or this host's own name. The port does not matter: a tunnel may have another one.
pub(super) fn is_own(host: &str, own_name: &str) -> bool {
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
