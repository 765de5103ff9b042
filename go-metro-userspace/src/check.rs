//! `go-metro check`: what would keep it from running, one line each, with the remedy.

use std::io::{self, Write};
use std::net::{ToSocketAddrs, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

use crate::capture::ebpf::probe;
use crate::config::{Config, Environment, Statsd};

/// What to check.
#[derive(Clone, Debug, Default)]
pub struct CheckOptions {
    /// A configuration file to check with everything it names.
    pub config: Option<PathBuf>,
    /// Interfaces to check without one.
    pub interfaces: Vec<String>,
}

/// How serious a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Ok,
    /// It runs, but not as well as it could.
    Warn,
    /// It does not run.
    Fail,
}

/// One line.
struct Finding {
    status: Status,
    subject: String,
    detail: String,
    fix: Option<String>,
}

/// Capabilities by their number: include/uapi/linux/capability.h.
const CAPABILITIES: [(u32, &str, Status, &str); 3] = [
    (13, "CAP_NET_RAW", Status::Warn, "libpcap, the fallback, needs it"),
    (12, "CAP_NET_ADMIN", Status::Warn, "attaching the classifier needs it; without it libpcap is used"),
    (39, "CAP_BPF", Status::Warn, "loading the classifier needs it; without it libpcap is used"),
];
/// It stands for CAP_BPF in older kernels, and for nearly everything else.
const CAP_SYS_ADMIN: u32 = 21;

/// Checks and prints; whether nothing failed.
pub fn run(options: &CheckOptions, environment: Environment<'_>, out: &mut impl Write) -> bool {
    let mut findings = Vec::new();
    let config = configuration(options, environment, &mut findings);
    kernel(&mut findings);
    capabilities(&mut findings);
    if let Some(config) = &config {
        interfaces(config, &mut findings);
        names(config, &mut findings);
        statsd(config, &mut findings);
    }
    // Whoever reads it may go away; the exit status tells all the same.
    let _ = findings.iter().try_for_each(|finding| print(finding, out));
    findings.iter().all(|finding| finding.status != Status::Fail)
}

fn print(finding: &Finding, out: &mut impl Write) -> io::Result<()> {
    let status = match finding.status {
        Status::Ok => "ok  ",
        Status::Warn => "warn",
        Status::Fail => "FAIL",
    };
    write!(out, "{status}  {}: {}", finding.subject, finding.detail)?;
    match &finding.fix {
        Some(fix) => writeln!(out, "\n      fix: {fix}"),
        None => writeln!(out),
    }
}

fn finding(status: Status, subject: &str, detail: impl Into<String>, fix: Option<String>) -> Finding {
    Finding { status, subject: subject.to_owned(), detail: detail.into(), fix }
}

fn configuration(options: &CheckOptions, environment: Environment<'_>, findings: &mut Vec<Finding>) -> Option<Config> {
    let (subject, loaded) = match &options.config {
        Some(path) => ("configuration", Config::load(path, environment)),
        None if !options.interfaces.is_empty() => {
            ("command line", Config::from_cli(&options.interfaces, &[], environment))
        }
        None => {
            let fix = "name a file with --config or an interface with --interface to check those too".to_owned();
            findings.push(finding(Status::Ok, "configuration", "none was named", Some(fix)));
            return None;
        }
    };
    match loaded {
        Ok(config) => {
            let detail = format!("{} instance(s)", config.instances.len());
            findings.push(finding(Status::Ok, subject, detail, None));
            Some(config)
        }
        Err(error) => {
            findings.push(finding(Status::Fail, subject, error.to_string(), None));
            None
        }
    }
}

fn kernel(findings: &mut Vec<Finding>) {
    for feature in probe() {
        let status = if feature.available { Status::Ok } else { Status::Warn };
        let fix = (!feature.available)
            .then(|| "a newer kernel, or more privileges; libpcap serves where eBPF cannot".to_owned());
        findings.push(finding(status, feature.name, feature.detail.clone(), fix));
    }
}

fn capabilities(findings: &mut Vec<Finding>) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    let has = |number: u32| effective & (1 << number) != 0;
    for (number, name, status, why) in CAPABILITIES {
        if has(number) || (name == "CAP_BPF" && has(CAP_SYS_ADMIN)) {
            findings.push(finding(Status::Ok, name, "present", None));
        } else {
            let program =
                std::env::current_exe().map_or_else(|_| "go-metro".to_owned(), |path| path.display().to_string());
            let fix = format!("run as root, or: setcap cap_bpf,cap_net_admin,cap_net_raw,cap_perfmon+ep {program}");
            findings.push(finding(status, name, format!("missing; {why}"), Some(fix)));
        }
    }
    if !has(13) && !has(39) && !has(CAP_SYS_ADMIN) {
        let fix = "run as root, or give the program the capabilities above".to_owned();
        findings.push(finding(Status::Fail, "privileges", "neither eBPF nor libpcap can capture", Some(fix)));
    }
}

fn interfaces(config: &Config, findings: &mut Vec<Finding>) {
    for instance in config.instances.iter().filter(|instance| instance.pcap.is_none() && instance.interface != "any") {
        let name = &instance.interface;
        let subject = format!("interface {name}");
        match std::fs::read_to_string(format!("/sys/class/net/{name}/operstate")) {
            // Loopback and tunnels do not say more than `unknown`.
            Ok(state) if matches!(state.trim(), "up" | "unknown") => {
                findings.push(finding(Status::Ok, &subject, state.trim(), None));
            }
            Ok(state) => {
                let fix = Some(format!("ip link set {name} up"));
                findings.push(finding(Status::Warn, &subject, format!("is {}", state.trim()), fix));
            }
            Err(_) => {
                let fix = Some("`ip link` lists those that exist; it is waited for if it comes later".to_owned());
                findings.push(finding(Status::Fail, &subject, "does not exist", fix));
            }
        }
    }
    for instance in &config.instances {
        if let Some(path) = instance.pcap.as_ref().filter(|path| !path.exists()) {
            findings.push(finding(Status::Fail, "capture file", format!("{} does not exist", path.display()), None));
        }
    }
}

fn names(config: &Config, findings: &mut Vec<Finding>) {
    for host in config.instances.iter().flat_map(|instance| &instance.hosts) {
        let subject = format!("host {host}");
        match (host.as_str(), 0).to_socket_addrs() {
            Ok(addresses) => {
                let mut addresses: Vec<String> = addresses.map(|address| address.ip().to_string()).collect();
                addresses.dedup();
                findings.push(finding(Status::Ok, &subject, addresses.join(", "), None));
            }
            Err(error) => {
                let fix = Some(
                    "mend the name or the name server; it is looked up again every dns_refresh_interval".to_owned(),
                );
                findings.push(finding(Status::Warn, &subject, error.to_string(), fix));
            }
        }
    }
}

fn statsd(config: &Config, findings: &mut Vec<Finding>) {
    let fix = || {
        Some(
            "start the Datadog Agent, or mend statsd_ip, statsd_port or statsd_socket; reports begin once it listens"
                .to_owned(),
        )
    };
    let (subject, reached) = match &config.statsd {
        Statsd::Udp { host, port } => (format!("DogStatsD udp://{host}:{port}"), reach_udp(host, *port)),
        Statsd::Unix(path) => {
            let reached = UnixDatagram::unbound().and_then(|socket| socket.connect(path));
            (format!("DogStatsD unix://{}", path.display()), reached.map(|()| "listens"))
        }
    };
    match reached {
        Ok(detail) => findings.push(finding(Status::Ok, &subject, detail, None)),
        Err(error) => findings.push(finding(Status::Warn, &subject, error.to_string(), fix())),
    }
}

/// A closed port refuses the first datagram, and the second send hears of it. The datagram is an empty line, which every server ignores.
fn reach_udp(host: &str, port: u16) -> io::Result<&'static str> {
    let address = (host, port).to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
    let socket = UdpSocket::bind(if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.connect(address)?;
    socket.send(b"\n")?;
    std::thread::sleep(Duration::from_millis(100));
    socket.send(b"\n")?;
    Ok("nothing refuses datagrams (UDP cannot tell more)")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> (bool, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("conf.yaml");
        std::fs::write(&path, text).unwrap();
        let mut out = Vec::new();
        let options = CheckOptions { config: Some(path), interfaces: vec![] };
        let fine = run(&options, &|_| None, &mut out);
        (fine, String::from_utf8(out).unwrap())
    }

    #[test]
    fn each_thing_is_a_line_and_what_is_wrong_has_a_remedy() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = server.local_addr().unwrap().port();
        let (_, text) = checked(&format!(
            "init_config: {{statsd_port: {port}}}\ninstances: [{{interface: lo, ips: ['::1'], hosts: [localhost]}}]\n"
        ));
        for line in [
            "ok    configuration: 1 instance(s)",
            "ok    interface lo: ",
            "ok    host localhost: ",
            "ok    DogStatsD udp://127.0.0.1",
        ] {
            assert!(text.contains(line), "{line} in:\n{text}");
        }
        drop(server);
        let (fine, text) = checked(&format!(
            "init_config: {{statsd_port: {port}}}\ninstances: [{{interface: nosuch0, ips: ['::1']}}]\n"
        ));
        assert!(!fine);
        assert!(text.contains("FAIL  interface nosuch0: does not exist\n      fix: "), "{text}");
        assert!(text.contains("warn  DogStatsD udp://127.0.0.1") && text.contains("refused"), "{text}");
    }

    #[test]
    fn a_broken_configuration_fails_with_its_place() {
        let (fine, text) = checked("instances: [{interface: lo}]\n");
        assert!(!fine && text.contains("conf.yaml:1: instances[0]: neither `ips` nor `hosts`"), "{text}");
    }
}
