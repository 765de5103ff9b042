//! Whether metrics can be sent over OTLP, if that output is configured.

use std::io;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use super::{Finding, Status, finding};
use crate::config::{Config, Origin, OtlpUrl, Output};

/// Longest wait for a connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// The variables that have no effect, and whether the receiver can be reached if OTLP is an output.
pub(super) fn findings(config: &Config) -> Vec<Finding> {
    let without_effect = config.without_effect().into_iter().map(|what| finding(Status::Ok, "OTLP", what, None));
    let receiver = config.outputs.contains(&Output::Otlp).then(|| receiver(config));
    without_effect.chain(receiver).collect()
}

fn receiver(config: &Config) -> Finding {
    let otlp = match &config.otlp {
        Ok(otlp) => otlp,
        Err(why) => {
            let fix = "correct the variable, set `otlp_endpoint`, or leave otlp out of `outputs`".to_owned();
            return finding(Status::Fail, "OTLP", why.clone(), Some(fix));
        }
    };
    if cfg!(not(feature = "otlp")) {
        let fix = "build go-metro with the cargo feature `otlp`".to_owned();
        return finding(Status::Fail, "OTLP", "this go-metro was built without OTLP", Some(fix));
    }
    let (subject, fix) = match otlp.origin {
        Origin::File => (format!("OTLP {}", otlp.url), "fix `otlp_endpoint`".to_owned()),
        Origin::Environment(variable) => {
            (format!("OTLP {} (from {variable})", otlp.url), format!("fix {variable}, or set `otlp_endpoint`"))
        }
        Origin::Default => (
            format!("OTLP {} (the default, because `otlp_endpoint` is not set)", otlp.url),
            "set `otlp_endpoint`".to_owned(),
        ),
    };
    match reached(&otlp.url) {
        Ok(()) => finding(Status::Ok, &subject, "accepts connections", None),
        Err(error) => {
            let fix = format!("start the receiver, or {fix}; reports are sent once it listens");
            finding(Status::Warn, &subject, error.to_string(), Some(fix))
        }
    }
}

fn reached(url: &OtlpUrl) -> io::Result<()> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
    for address in (&*url.host, url.port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(_) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::path::Path;

    use super::*;

    fn found(init: &str, variables: &[(&str, &str)]) -> Vec<(Status, String)> {
        let text = format!("init_config: {init}\ninstances: [{{interface: lo, ips: ['::1']}}]\n");
        let env = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        let config = Config::parse(&text, Path::new("c"), &env).unwrap();
        let line = |found: Finding| {
            let fix = found.fix.map(|fix| format!(" ({fix})")).unwrap_or_default();
            (found.status, format!("{}: {}{fix}", found.subject, found.detail))
        };
        findings(&config).into_iter().map(line).collect()
    }

    #[test]
    fn a_receiver_is_connected_to_only_if_otlp_is_an_output() {
        assert!(found("{}", &[]).is_empty());
        let all = found("{outputs: [statsd]}", &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")]);
        let unused = "OTLP: OTEL_EXPORTER_OTLP_ENDPOINT has no effect: `outputs` does not name otlp";
        assert_eq!(all, [(Status::Ok, unused.to_owned())]);
        let there = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", there.local_addr().unwrap());
        let expected = format!("OTLP {url}/v1/metrics (from OTEL_EXPORTER_OTLP_ENDPOINT): accepts connections");
        assert_eq!(found("{}", &[("OTEL_EXPORTER_OTLP_ENDPOINT", &url)]), [(Status::Ok, expected)]);
        drop(there);
        let all = found(&format!("{{otlp_endpoint: '{url}'}}"), &[]);
        let [(Status::Warn, text)] = &*all else { panic!("{all:?}") };
        assert!(text.contains("refused") && text.contains("fix `otlp_endpoint`"), "{text}");
        // A variable that may be meant for other programs is only a warning, among the doubts.
        assert!(found("{}", &[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://a")]).is_empty());
        let all = found("{outputs: [otlp]}", &[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://a")]);
        assert!(matches!(&*all, [(Status::Fail, text)] if text.contains("needs TLS")), "{all:?}");
    }

    #[test]
    fn a_variable_without_effect_and_the_default_receiver_are_named() {
        let timeouts = [("OTEL_EXPORTER_OTLP_TIMEOUT", "1"), ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "2")];
        let all = found("{outputs: [otlp]}", &timeouts);
        let [(Status::Ok, variable), (_, receiver)] = &*all else { panic!("{all:?}") };
        assert!(variable.contains("OTEL_EXPORTER_OTLP_TIMEOUT has no effect: "), "{variable}");
        let default = "http://localhost:4318/v1/metrics (the default, because `otlp_endpoint` is not set)";
        assert!(receiver.contains(default), "{receiver}");
    }
}
