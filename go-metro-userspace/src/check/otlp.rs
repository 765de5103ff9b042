//! Whether metrics can be sent by OTLP, where they are to be.

use std::io;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use super::{Finding, Status, finding};
use crate::config::{Config, Origin, OtlpUrl, Output};

/// Longest wait for a connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is found of the receiver; nothing where none is wanted.
pub(super) fn findings(config: &Config) -> Option<Finding> {
    if !config.outputs.contains(&Output::Otlp) {
        return None;
    }
    let otlp = match &config.otlp {
        Ok(otlp) => otlp,
        Err(why) => {
            let fix = "correct the variable, or leave `otlp` out of `outputs`".to_owned();
            return Some(finding(Status::Fail, "OTLP", why.clone(), Some(fix)));
        }
    };
    if cfg!(not(feature = "otlp")) {
        let fix = "build it with cargo's feature `otlp`".to_owned();
        return Some(finding(Status::Fail, "OTLP", "this go-metro was built without it", Some(fix)));
    }
    let subject = match otlp.origin {
        Origin::File => format!("OTLP {}", otlp.url),
        Origin::Environment(variable) => format!("OTLP {} (from {variable})", otlp.url),
        Origin::Default => format!("OTLP {} (the default)", otlp.url),
    };
    Some(match reached(&otlp.url) {
        Ok(()) => finding(Status::Ok, &subject, "accepts connections", None),
        Err(error) => {
            let fix = "start the receiver, or fix `otlp_endpoint`; reports begin once it listens".to_owned();
            finding(Status::Warn, &subject, error.to_string(), Some(fix))
        }
    })
}

fn reached(url: &OtlpUrl) -> io::Result<()> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
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

    fn found(init: &str, variables: &[(&str, &str)]) -> Option<(Status, String)> {
        let text = format!("init_config: {init}\ninstances: [{{interface: lo, ips: ['::1']}}]\n");
        let env = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        let config = Config::parse(&text, Path::new("c"), &env).unwrap();
        findings(&config).map(|found| (found.status, format!("{}: {}", found.subject, found.detail)))
    }

    #[test]
    fn a_receiver_is_looked_for_where_one_is_wanted() {
        assert_eq!(found("{}", &[]), None);
        assert_eq!(found("{outputs: [statsd]}", &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")]), None);
        let there = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", there.local_addr().unwrap());
        let expected = format!("OTLP {url}/v1/metrics (from OTEL_EXPORTER_OTLP_ENDPOINT): accepts connections");
        assert_eq!(found("{}", &[("OTEL_EXPORTER_OTLP_ENDPOINT", &url)]), Some((Status::Ok, expected)));
        drop(there);
        let (status, text) = found(&format!("{{otlp_endpoint: '{url}'}}"), &[]).unwrap();
        assert!(status == Status::Warn && text.contains("refused"), "{text}");
        let (status, text) = found("{outputs: [otlp]}", &[("OTEL_EXPORTER_OTLP_TIMEOUT", "x")]).unwrap();
        assert!(status == Status::Fail && text.contains("OTEL_EXPORTER_OTLP_TIMEOUT"), "{text}");
        // What others of this host are told is only a doubt.
        assert_eq!(found("{}", &[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://a")]), None);
    }
}
