//! `go-metro check`: what would keep it from running, one line each, with the remedy.

mod capabilities;
mod otlp;
mod recordings;

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, ToSocketAddrs, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::capture::ebpf::probe;
use crate::capture::{WatchList, interfaces, pcap};
use crate::cgroup::hierarchy::Hierarchy;
use crate::config::{
    Backend, Config, ConfigError, Environment, Instance, Origin, Output, ProcessTags, Selector, Statsd, local_url,
    not_utf8,
};
use crate::groups::Groups;
use crate::netlink::links;
use crate::netlink::sockets::Owners;
use crate::output::dogstatsd::{self, origin};
use crate::privileges;
use crate::status::document::Status as Told;
use crate::status::{beside, client};
use crate::targets::hosts::Hosts;
use crate::targets::{TargetSet, local_addresses};
use crate::terminal::printable;

/// Where the kernel lists the processors that there may be: eBPF's maps have a share for each.
const POSSIBLE_CPUS: &str = "/sys/devices/system/cpu/possible";

/// What to check.
#[derive(Clone, Debug, Default)]
pub(crate) struct CheckOptions {
    /// A configuration file to check with everything it names.
    pub config: Option<PathBuf>,
    /// Interfaces to check without one.
    pub interfaces: Vec<String>,
    /// That other files in the usual places are not read, if there are any.
    pub passed_over: Option<String>,
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

/// Checks and prints; whether nothing failed.
pub(crate) fn run(options: &CheckOptions, environment: Environment<'_>, out: &mut impl Write) -> bool {
    let mut findings = Vec::new();
    let config = configuration(options, environment, &mut findings);
    if let Some(passed_over) = &options.passed_over {
        let fix = Some("remove the ignored file, or name the one to use with --config".to_owned());
        findings.push(finding(Status::Warn, "configuration", passed_over.clone(), fix));
    }
    for detail in not_utf8(|name| std::env::var_os(name)) {
        let fix = Some("fix it where it is set, as in /etc/default/go-metro".to_owned());
        findings.push(finding(Status::Warn, "environment", detail, fix));
    }
    let backend = config.as_ref().map_or(Backend::Auto, |config| config.backend);
    kernel(backend, capabilities::allow_pcap(capabilities::effective()), &mut findings);
    if let Some(problem) = privileges::without_proc() {
        findings.push(finding(Status::Warn, "/proc", problem, Some("mount -t proc proc /proc".to_owned())));
    }
    if backend != Backend::Pcap && !Path::new(POSSIBLE_CPUS).exists() {
        let (status, else_) = match backend {
            Backend::Ebpf => (Status::Fail, "eBPF cannot be used without it"),
            _ => (Status::Warn, "eBPF is not used without it"),
        };
        let fix = Some("mount -t sysfs sysfs /sys".to_owned());
        findings.push(finding(status, "/sys", format!("not mounted; {else_}"), fix));
    }
    findings.extend(capabilities::findings(capabilities::effective(), backend));
    if let Some(config) = &config {
        interfaces_there(config, &mut findings);
        let doubts = config.doubts().into_iter();
        findings.extend(doubts.map(|doubt| finding(Status::Warn, doubt.subject, doubt.what, Some(doubt.fix.into()))));
        only_pcap_can(config, &mut findings);
        filter_compiles(config, &mut findings);
        processes(config, &mut findings);
        targets(config, &mut findings);
        groups(config, &mut findings);
        if config.outputs.contains(&Output::Statsd) {
            statsd(config, &mut findings);
        }
        ports(config, &mut findings);
        findings.extend(otlp::findings(config));
        findings.extend(recordings::findings(config));
        running(config, &mut findings);
    }
    // The reader may go away; the exit status still says it.
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

/// A finding whose parts are a line each, whatever they quote.
fn finding(status: Status, subject: &str, detail: impl Into<String>, fix: Option<String>) -> Finding {
    finding_of_lines(status, subject, &printable(&detail.into()), fix)
}

/// A finding whose detail has lines of its own: a configuration's, or the verifier's.
fn finding_of_lines(status: Status, subject: &str, detail: &str, fix: Option<String>) -> Finding {
    debug_assert!(status == Status::Ok || fix.is_some(), "what is wrong with {subject} comes without its remedy");
    let fix = fix.map(|fix| printable(&fix).into_owned());
    Finding { status, subject: printable(subject).into_owned(), detail: detail.to_owned(), fix }
}

fn configuration(options: &CheckOptions, environment: Environment<'_>, findings: &mut Vec<Finding>) -> Option<Config> {
    let (subject, loaded) = match &options.config {
        Some(path) => ("configuration", Config::load(path, environment)),
        None if !options.interfaces.is_empty() => {
            ("command line", Config::from_cli(&options.interfaces, &[], environment))
        }
        None => {
            let fix = "name a file with --config or an interface with --interface to check those too".to_owned();
            let detail = "no file was named, and none exists in the usual places";
            findings.push(finding(Status::Warn, "configuration", detail, Some(fix)));
            return None;
        }
    };
    match loaded {
        Ok(config) => {
            let place = options.config.as_ref().map_or_else(String::new, |path| format!("{}: ", path.display()));
            let detail = format!("{place}{} instance(s)", config.instances.len());
            findings.push(finding(Status::Ok, subject, detail, None));
            Some(config)
        }
        Err(error) => {
            let fix = match error {
                ConfigError::Unreadable { .. } => "`go-metro config init` writes a file from a few answers",
                _ => "fix what is named above; `go-metro config init -` prints a valid file with every key explained",
            };
            findings.push(finding_of_lines(Status::Fail, subject, &error.to_string(), Some(fix.to_owned())));
            None
        }
    }
}

/// What eBPF needs of the kernel. Where it is forced, nothing may be missing; libpcap needs none of it, and takes its
/// place where it may capture.
fn kernel(backend: Backend, pcap_may: bool, findings: &mut Vec<Finding>) {
    for feature in probe() {
        let (status, fix) = match (feature.available, feature.required) {
            // What is not needed says itself what is done instead.
            (true, _) | (false, false) => (Status::Ok, None),
            (false, true) => without_ebpf(backend, pcap_may),
        };
        findings.push(finding_of_lines(status, feature.name, &feature.detail, fix.map(str::to_owned)));
    }
}

/// What it means that eBPF cannot be used, and what to do.
fn without_ebpf(backend: Backend, pcap_may: bool) -> (Status, Option<&'static str>) {
    match backend {
        Backend::Pcap => (Status::Ok, None),
        Backend::Auto if pcap_may => {
            (Status::Warn, Some("use a newer kernel, or grant more privileges; until then libpcap is used"))
        }
        Backend::Auto => (Status::Warn, Some("use a newer kernel, or grant more privileges")),
        Backend::Ebpf => {
            (Status::Fail, Some("use a newer kernel, grant more privileges, or set `backend: auto` for libpcap"))
        }
    }
}

fn interfaces_there(config: &Config, findings: &mut Vec<Finding>) {
    // As at the start of the daemon: what is named is waited for, unless nothing else is there.
    let live = || config.instances.iter().filter(|instance| instance.pcap.is_none());
    let links = links::links().unwrap_or_else(|error| {
        let fix = Some("free file descriptors and memory".to_owned());
        findings.push(finding(Status::Fail, "interfaces", format!("the kernel does not list them: {error}"), fix));
        Vec::new()
    });
    let is_hopeless = |instance: &Instance| {
        let interface = &instance.interface;
        interface != interfaces::ANY
            && Selector::parse(interface).is_ok_and(|selector| selector.is_name())
            && !links.iter().any(|link| link.is_called(interface))
    };
    let missing = if live().all(is_hopeless) { Status::Fail } else { Status::Warn };
    for instance in live().filter(|instance| instance.interface != interfaces::ANY) {
        let name = &instance.interface;
        if Selector::parse(name).is_ok_and(|selector| !selector.is_name()) {
            findings.push(matches_now(name, &interfaces::matching(name)));
            continue;
        }
        let subject = format!("interface {name}");
        match links.iter().find(|link| link.is_called(name)) {
            Some(link) => {
                let also = if link.name == *name { String::new() } else { format!(", another name of {}", link.name) };
                let detail = |what: &str| format!("{what}{also}");
                findings.push(match link.state {
                    // Loopback and tunnels do not say more than `unknown`.
                    "up" | "unknown" => finding(Status::Ok, &subject, detail(link.state), None),
                    state => {
                        let fix = Some(format!("ip link set {name} up"));
                        finding(Status::Warn, &subject, detail(&format!("is {state}")), fix)
                    }
                });
            }
            None => {
                let fix = match missing {
                    Status::Fail => "`ip link` lists those that exist; the daemon ends if none of the named ones does",
                    _ => "`ip link` lists those that exist; the daemon waits for this one",
                };
                findings.push(finding(missing, &subject, "does not exist", Some(fix.to_owned())));
            }
        }
    }
    for instance in &config.instances {
        if let Some(path) = instance.pcap.as_ref().filter(|path| !path.exists()) {
            let fix = Some("set `pcap` to the absolute path of a capture file that exists".to_owned());
            findings.push(finding(Status::Fail, "capture file", format!("{} does not exist", path.display()), fix));
        }
    }
}

/// What a pattern, `default` or `all` means as things stand.
fn matches_now(interface: &str, names: &[String]) -> Finding {
    let subject = format!("interface {interface}");
    if names.is_empty() {
        let fix = match interface {
            "default" => "`ip route show default` shows no route; the daemon waits for one, or name an interface",
            _ => "`ip link` lists those that exist; matching ones that appear later are watched at once",
        };
        return finding(Status::Warn, &subject, "matches none now", Some(fix.to_owned()));
    }
    finding(Status::Ok, &subject, format!("matches {} now: {}", names.len(), names.join(", ")), None)
}

/// What the configuration asks for that eBPF cannot do.
fn only_pcap_can(config: &Config, findings: &mut Vec<Finding>) {
    let filter = config.narrowing_filter();
    let wishes = [
        (filter.is_some(), "`filter`"),
        (config.instances.iter().any(|instance| instance.interface == interfaces::ANY), "`interface: any`"),
    ];
    let status = match config.backend {
        Backend::Auto => Status::Warn,
        Backend::Ebpf => Status::Fail,
        Backend::Pcap => return,
    };
    for (_, wish) in wishes.iter().filter(|(wished, _)| *wished) {
        let fix = Some(format!("leave {wish} out, or set `backend: pcap`"));
        findings.push(finding(status, "backend", format!("{wish} needs libpcap, which costs more than eBPF"), fix));
    }
}

/// Whether libpcap understands the filter, as at the start of the daemon.
fn filter_compiles(config: &Config, findings: &mut Vec<Finding>) {
    let Some(filter) = &config.filter else { return };
    findings.push(match pcap::check_filter(filter) {
        Ok(()) => finding(Status::Ok, "filter", format!("libpcap understands `{filter}`"), None),
        Err(error) => {
            let fix =
                "write `filter` as pcap-filter(7) describes, or leave it out; `ports` chooses services without it";
            finding(Status::Fail, "filter", error.to_string(), Some(fix.to_owned()))
        }
    });
}

/// Whether the process that owns a connection can be found, where `process_tags` asks for it.
fn processes(config: &Config, findings: &mut Vec<Finding>) {
    if config.process_tags == ProcessTags::Off {
        return;
    }
    let tells_groups = Owners::open().and_then(|mut owners| owners.tells_groups());
    let hierarchy = Hierarchy::mounted();
    let (detail, fix) = match (tells_groups, hierarchy) {
        (Err(error), _) => (
            format!("cannot list the kernel's sockets (sock_diag(7)): {error}"),
            "load the modules tcp_diag and inet_diag",
        ),
        (Ok(false), _) => (
            "the kernel does not report the control groups of sockets".to_owned(),
            "use Linux 5.9 or later, built with control groups",
        ),
        (_, Err(error)) => (format!("/proc/self/mountinfo: {error}"), "mount -t proc proc /proc"),
        (_, Ok(None)) => (
            "control groups of version 2 are not mounted".to_owned(),
            "boot with systemd.unified_cgroup_hierarchy=1, or: mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified",
        ),
        (_, Ok(Some(Hierarchy { root, is_whole: false }))) => (
            format!("{} shows only the control groups of this container", root.display()),
            "mount the host's /sys/fs/cgroup there, read-only",
        ),
        (_, Ok(Some(Hierarchy { root, is_whole: true }))) => {
            let detail = format!("found by the control groups at {}", root.display());
            findings.push(finding(Status::Ok, "process tags", detail, None));
            return;
        }
    };
    let detail = format!("{detail}; connections are tagged `unit:unknown`");
    findings.push(finding(Status::Warn, "process tags", detail, Some(fix.to_owned())));
}

/// Looks up all host names at once, and checks that targets are remote.
fn targets(config: &Config, findings: &mut Vec<Finding>) {
    let names = config.instances.iter().flat_map(|instance| instance.hosts.iter().cloned());
    let hosts = match Hosts::looked_up(names) {
        Ok(hosts) => hosts,
        Err(error) => {
            let fix = Some("free file descriptors and memory, or name addresses in `ips` instead".to_owned());
            findings.push(finding(Status::Fail, "host names", format!("cannot look them up: {error}"), fix));
            return;
        }
    };
    for (name, host) in hosts.iter() {
        let subject = format!("host {name}");
        match &host.error {
            None => {
                let addresses: Vec<String> = host.addresses.iter().map(ToString::to_string).collect();
                findings.push(finding(Status::Ok, &subject, addresses.join(", "), None));
            }
            Some(error) => {
                let fix = "fix the name or the name server; the name is looked up again every dns_refresh_interval";
                findings.push(finding(Status::Warn, &subject, error.clone(), Some(fix.to_owned())));
            }
        }
    }
    targets_fit(config, &hosts, findings);
    let local = local_addresses();
    let live = || config.instances.iter().filter(|instance| instance.pcap.is_none());
    // On loopback local targets are what one asks for. A name without an address may yet turn out to be far away.
    let near = |instance: &Instance| {
        let addresses = instance.hosts.iter().flat_map(|name| hosts.addresses(name));
        let is_known = instance.hosts.iter().all(|name| hosts.addresses(name).next().is_some());
        let targets = TargetSet::new(instance.ips.iter().copied(), addresses);
        instance.interface != "lo" && is_known && targets.is_only(&local)
    };
    // The agent starts as long as one instance has something to measure.
    let status = if live().all(near) { Status::Fail } else { Status::Warn };
    for instance in live().filter(|instance| near(instance)) {
        let fix = "name remote ones; `ips: [\"0.0.0.0/0\", \"::/0\"]` means everything".to_owned();
        let subject = format!("targets of {}", instance.interface);
        findings.push(finding(status, &subject, "all are addresses of this host", Some(fix)));
    }
}

/// Whether remote hosts can be grouped, and by what.
fn groups(config: &Config, findings: &mut Vec<Finding>) {
    if !config.group_by.is_any() {
        return;
    }
    findings.push(match Groups::open(&config.group_by, &Groups::default()) {
        Ok(groups) => finding(Status::Ok, "groups", groups.described().join("; "), None),
        Err(error) => {
            let fix = "name a database of autonomous systems that the daemon's user may read, or leave the key out";
            finding(Status::Fail, "groups", error.to_string(), Some(fix.to_owned()))
        }
    });
}

/// Whether the classifier's tries hold the targets, of which each counts once for each interface.
fn targets_fit(config: &Config, hosts: &Hosts, findings: &mut Vec<Finding>) {
    let status = match config.backend {
        Backend::Pcap => return,
        Backend::Auto => Status::Warn,
        Backend::Ebpf => Status::Fail,
    };
    let watch = |with_hosts: bool| {
        let mut watch = WatchList::new();
        for instance in config.instances.iter().filter(|instance| instance.pcap.is_none()) {
            let names = instance.hosts.iter().filter(|_| with_hosts);
            let addresses = names.flat_map(|name| hosts.addresses(name));
            let nets = TargetSet::new(instance.ips.iter().copied(), addresses);
            watch.entry(instance.interface.clone()).or_default().extend(nets.nets());
        }
        watch
    };
    if let Err(error) = interfaces::fit(&watch(true)) {
        if interfaces::fit(&watch(false)).is_ok() {
            let what = format!("{error}; the addresses of host names beyond that will not be watched");
            let fix = "configure prefixes instead of names or addresses, or fewer interfaces".to_owned();
            return findings.push(finding(Status::Warn, "targets", what, Some(fix)));
        }
        let fix = match status {
            Status::Fail => "configure prefixes instead of addresses, or fewer interfaces",
            _ => "configure prefixes instead of addresses, or fewer interfaces; until then libpcap is used",
        };
        findings.push(finding(status, "targets", error.to_string(), Some(fix.to_owned())));
    }
}

fn statsd(config: &Config, findings: &mut Vec<Finding>) {
    let fix = || {
        Some(
            "start the Datadog Agent, or fix statsd_ip, statsd_port or statsd_socket; reports begin once it listens"
                .to_owned(),
        )
    };
    let subject = format!("DogStatsD {}", config.statsd);
    let reached = match &config.statsd {
        Statsd::Udp { host, port } => reach_udp(host, *port),
        Statsd::Unix(path) => UnixDatagram::unbound().and_then(|socket| socket.connect(path)).map(|()| "listens"),
    };
    let subject = match config.statsd_origin {
        Origin::File => subject,
        Origin::Environment(variable) => format!("{subject} (from {variable})"),
        Origin::Default => format!("{subject} (the default)"),
    };
    if let Statsd::Unix(path) = &config.statsd
        && path.is_dir()
    {
        let fix = Some("name the socket itself, such as the Agent's dsd.socket in that folder".to_owned());
        findings.push(finding(Status::Fail, &subject, "is a folder, not a socket", fix));
        return tags_fit(config, findings);
    }
    match reached {
        Ok(detail) => findings.push(finding(Status::Ok, &subject, detail, None)),
        Err(error) => findings.push(finding(Status::Warn, &subject, error.to_string(), fix())),
    }
    tags_fit(config, findings);
}

/// Whether a datagram holds the lines with the tags of each interface.
fn tags_fit(config: &Config, findings: &mut Vec<Finding>) {
    let room = dogstatsd::datagram_bytes(&config.statsd);
    let origin = origin::fields(&|name| std::env::var(name).ok());
    for instance in &config.instances {
        let bytes = dogstatsd::line_bytes(&[config.tags.as_slice(), &instance.tags].concat(), &origin);
        if bytes > room {
            let detail = format!(
                "a line with the tags of interface {} has up to {bytes} bytes, more than a datagram holds ({room}); no \
                 such line would be sent",
                instance.interface
            );
            let fix = Some("use fewer or shorter tags".to_owned());
            findings.push(finding(Status::Fail, "tags", detail, fix));
        }
    }
}

/// Whether the addresses that are to be listened on are free; a running daemon has them already.
fn ports(config: &Config, findings: &mut Vec<Finding>) {
    if config.outputs.iter().any(|output| output.is_scraped()) {
        let address = config.prometheus_address();
        let url = local_url(address, "/metrics");
        let is_ours = |daemon: &Told| daemon.outputs.iter().any(|output| output.destination == url);
        findings.push(port(config, &format!("Prometheus {url}"), ("prometheus_listen", address), is_ours));
    }
    if let Some(address) = config.web_listen {
        let url = local_url(address, "/");
        let is_ours = |daemon: &Told| daemon.web.as_ref() == Some(&url);
        findings.push(port(config, &format!("web page {url}"), ("web_listen", address), is_ours));
    }
}

/// Whether the address that a key names is free, or has what is ours by the status of a daemon that runs.
fn port(
    config: &Config,
    subject: &str,
    (key, address): (&str, SocketAddr),
    is_ours: impl Fn(&Told) -> bool,
) -> Finding {
    let Err(error) = TcpListener::bind(address) else { return finding(Status::Ok, subject, "free", None) };
    let daemon = || config.status_socket.as_deref().and_then(|socket| client::status(socket).ok());
    if error.kind() == io::ErrorKind::AddrInUse && daemon().is_some_and(|daemon| is_ours(&daemon)) {
        return finding(Status::Ok, subject, "the running daemon listens there", None);
    }
    let fix = match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("stop what listens there (`ss -ltnp sport = :{}`), or set `{key}` to another", address.port())
        }
        io::ErrorKind::AddrNotAvailable => {
            format!("set `{key}` to an address of this host (`ip address` lists them), or to 0.0.0.0 or [::]")
        }
        io::ErrorKind::PermissionDenied => {
            format!("set `{key}` to a port above 1023, or grant CAP_NET_BIND_SERVICE")
        }
        _ => format!("set `{key}` to another address"),
    };
    finding(Status::Fail, subject, error.to_string(), Some(fix))
}

/// Whether a daemon runs already that reports what this configuration would have reported.
fn running(config: &Config, findings: &mut Vec<Finding>) {
    if config.outputs.iter().any(|output| output.is_added_up())
        && let Some(socket) = beside::reporter(config)
    {
        let detail =
            "reports to this DogStatsD server; `go-metro reload` makes it read its file, and a second `run` is refused";
        findings.push(finding(Status::Ok, &format!("daemon at {}", socket.display()), detail, None));
    }
}

/// A closed port refuses the first datagram, and the second send hears of it. The datagram is an empty line, which
/// every server ignores.
fn reach_udp(host: &str, port: u16) -> io::Result<&'static str> {
    let address = (host, port).to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
    let socket = UdpSocket::bind(if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.connect(address)?;
    socket.send(b"\n")?;
    std::thread::sleep(Duration::from_millis(100));
    socket.send(b"\n")?;
    Ok("no datagram was refused (UDP cannot tell more)")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> (bool, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("conf.yaml");
        std::fs::write(&path, text).unwrap();
        let mut out = Vec::new();
        let options = CheckOptions { config: Some(path), ..CheckOptions::default() };
        let fine = run(&options, &|_| None, &mut out);
        (fine, String::from_utf8(out).unwrap())
    }

    #[test]
    fn libpcap_is_promised_only_where_it_may_capture() {
        for pcap_may in [true, false] {
            let (status, fix) = without_ebpf(Backend::Auto, pcap_may);
            assert_eq!((status, fix.unwrap().contains("libpcap")), (Status::Warn, pcap_may));
        }
        assert!(!capabilities::allow_pcap(0));
        assert_eq!(capabilities::allow_pcap(1 << 13), cfg!(feature = "pcap"));
    }

    #[test]
    fn each_thing_is_a_line_and_what_is_wrong_has_a_remedy() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = server.local_addr().unwrap().port();
        let (_, text) = checked(&format!(
            "init_config: {{statsd_port: {port}}}\ninstances: [{{interface: lo, ips: ['::1'], hosts: [localhost]}}]\n"
        ));
        for line in [
            "conf.yaml: 1 instance(s)\n",
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
    fn an_address_for_prometheus_or_browsers_that_cannot_be_had_fails_with_its_own_remedy() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = taken.local_addr().unwrap();
        let told = |address: &str| {
            let init = format!("{{outputs: [prometheus], status_socket: off, prometheus_listen: '{address}'}}");
            checked(&format!("init_config: {init}\ninstances: [{{interface: lo, ips: ['::1']}}]\n"))
        };
        let (fine, absent) = told("192.0.2.7:9464");
        assert!(!fine && absent.contains("FAIL  Prometheus") && absent.contains("an address of this host"), "{absent}");
        let _taken = TcpListener::bind(taken);
        let (fine, used) = told(&taken.to_string());
        assert!(!fine && used.contains("FAIL  Prometheus") && used.contains("stop what listens there"), "{used}");
        let init = format!("{{status_socket: off, web_listen: '{taken}'}}");
        let (fine, used) = checked(&format!("init_config: {init}\ninstances: [{{interface: lo, ips: ['::1']}}]\n"));
        assert!(!fine && used.contains("FAIL  web page") && used.contains("set `web_listen` to another"), "{used}");
    }

    #[test]
    fn targets_that_the_tries_do_not_hold_are_foreseen() {
        let ips: String = (0..=u16::MAX).map(|n| format!("10.0.{}.{},", n >> 8, n & 255)).collect();
        for (backend, told) in [("ebpf", "FAIL  targets: 65537 targets are more"), ("auto", "warn  targets: 65537")] {
            let init = format!("{{backend: {backend}}}");
            let text = format!("init_config: {init}\ninstances: [{{interface: lo, ips: [{ips} 10.1.0.0]}}]\n");
            let text = checked(&text).1;
            assert!(text.contains(told), "{}", text.chars().take(2000).collect::<String>());
        }
    }

    #[test]
    fn names_whose_addresses_are_too_many_are_foreseen() {
        let ips: String = (0..=u16::MAX).map(|n| format!("10.0.{}.{},", n >> 8, n & 255)).collect();
        let text = format!(
            "init_config: {{backend: ebpf}}\ninstances: [{{interface: lo, ips: [{ips}], hosts: [localhost]}}]\n"
        );
        let text = checked(&text).1;
        let told = "warn  targets: 65537 targets are more";
        assert!(text.contains(told) && text.contains("host names"), "{}", text.chars().take(2000).collect::<String>());
    }

    #[test]
    fn a_broken_configuration_fails_with_its_place() {
        let (fine, text) = checked("instances: [{interface: lo}]\n");
        assert!(!fine && text.contains("conf.yaml:1: instances[0]: neither `ips` nor `hosts`"), "{text}");
    }

    #[test]
    fn all_that_is_wrong_with_a_file_is_in_its_line() {
        let (_, text) = checked("instances: [{interface: lo, ip: 3, hosts: 4}]\n");
        assert!(text.contains("unknown key `ip`; did you mean `ips`?") && text.contains("expected a list"), "{text}");
    }

    #[test]
    #[cfg(feature = "pcap")]
    fn a_filter_that_libpcap_does_not_understand_fails_as_it_would_at_the_start() {
        let of = |filter: &str| {
            checked(&format!(
                "init_config: {{backend: pcap, filter: '{filter}'}}\ninstances: [{{interface: lo, ips: ['::/0']}}]\n"
            ))
        };
        let (fine, text) = of("prot 80");
        assert!(!fine && text.contains("FAIL  filter: ") && text.contains("`prot 80`"), "{text}");
        let text = of("port 80").1;
        assert!(text.contains("ok    filter: libpcap understands `port 80`"), "{text}");
    }

    #[test]
    fn targets_that_are_all_local_fail_and_some_that_are_warn() {
        let everything = checked("instances: [{interface: e0, ips: [127.0.0.1]}, {interface: e1, ips: ['::1']}]\n").1;
        assert!(
            everything.contains("FAIL  targets of e0: all are addresses of this host\n      fix: "),
            "{everything}"
        );
        let some = checked("instances: [{interface: e0, ips: [127.0.0.1]}, {interface: e1, ips: [192.0.2.1]}]\n").1;
        assert!(some.contains("warn  targets of e0: all are") && !some.contains("targets of e1"), "{some}");
        let on_loopback = checked("instances: [{interface: lo, ips: [127.0.0.1]}]\n").1;
        assert!(!on_loopback.contains("targets of"), "{on_loopback}");
    }

    #[test]
    fn what_ebpf_cannot_do_fails_where_it_is_forced() {
        let with = |backend: &str| {
            let init = format!("init_config: {{backend: {backend}, filter: port 80}}");
            checked(&format!("{init}\ninstances: [{{interface: any, ips: [192.0.2.1]}}]\n")).1
        };
        let forced = with("ebpf");
        for wish in ["`filter`", "`interface: any`"] {
            assert!(forced.contains(&format!("FAIL  backend: {wish} needs libpcap")), "{forced}");
        }
        assert!(with("auto").contains("warn  backend: `filter` needs libpcap"));
        assert!(!with("pcap").contains("needs libpcap,"));
    }

    #[test]
    fn whether_processes_can_be_told_is_said_where_it_is_asked_for() {
        let told = |key: &str| {
            let init = format!("{{{key} outputs: [json], status_socket: off}}");
            checked(&format!("init_config: {init}\ninstances: [{{interface: lo, ips: ['::1']}}]\n")).1
        };
        assert!(!told("").contains("process tags"));
        let text = told("process_tags: unit,");
        let line = text.lines().find(|line| line.contains("process tags")).unwrap();
        let whole = Hierarchy::mounted().unwrap().is_some_and(|hierarchy| hierarchy.is_whole);
        let can = whole && Owners::open().unwrap().tells_groups().unwrap();
        assert!(line.starts_with(if can { "ok  " } else { "warn" }), "{text}");
    }

    #[test]
    fn a_short_idle_ttl_warns_that_nothing_longer_is_measured() {
        let with = |ttl: &str| {
            checked(&format!("init_config: {{idle_ttl: {ttl}}}\ninstances: [{{interface: lo, ips: ['::1']}}]\n")).1
        };
        let what =
            "warn  flows: `idle_ttl` is 0.5 s: flows that are silent for longer are dropped, so longer round trips";
        let short = with("500ms");
        assert!(short.contains(what), "{short}");
        assert!(!with("1").contains("idle_ttl"));
    }

    #[test]
    fn what_takes_most_of_health_away_warns_where_health_is_counted() {
        let with =
            |init: &str| checked(&format!("init_config: {{{init}}}\ninstances: [{{interface: lo, ips: ['::1']}}]\n")).1;
        let sampled = "warn  health: `sampling.per_flow` leaves most segments in the kernel: most retransmissions";
        let short = "warn  health: `idle_ttl` is 20 s and `connect_timeout` 30 s: ";
        let both = with("metrics: [default, health], sampling: {per_flow: 1rtt}, idle_ttl: 20");
        assert!(both.contains(sampled) && both.contains(short), "{both}");
        let responses = with("metrics: [default, response], sampling: {per_flow: 1rtt}");
        assert!(responses.contains("warn  responses: `sampling.per_flow` leaves most segments"), "{responses}");
        for fine in [
            "sampling: {per_flow: 1rtt}, idle_ttl: 20",
            "metrics: [default, health], sampling: {watermark: 80 %}, idle_ttl: 20, connect_timeout: 20",
        ] {
            assert!(!with(fine).contains("warn  health"), "{fine}");
        }
    }

    #[test]
    fn a_name_that_does_not_resolve_warns_for_it_may_later() {
        let (_, text) = checked("instances: [{interface: lo, ips: ['::1'], hosts: [no-such-host.invalid]}]\n");
        assert!(text.contains("warn  host no-such-host.invalid: "), "{text}");
    }

    #[test]
    fn a_unix_socket_is_tried_and_who_named_the_server_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dsd.socket");
        let file = format!(
            "init_config: {{statsd_socket: {}}}\ninstances: [{{interface: lo, ips: ['::1']}}]\n",
            path.display()
        );
        let absent = checked(&file).1;
        assert!(absent.contains(&format!("warn  DogStatsD unix://{}: No such file", path.display())), "{absent}");
        let _server = UnixDatagram::bind(&path).unwrap();
        let there = checked(&file).1;
        assert!(there.contains(&format!("ok    DogStatsD unix://{}: listens", path.display())), "{there}");
        let in_its_place = folder.path().display().to_string();
        let (fine, a_folder) = checked(&format!(
            "init_config: {{statsd_socket: {in_its_place}}}\ninstances: [{{interface: lo, ips: ['::1']}}]\n"
        ));
        let what = format!("FAIL  DogStatsD unix://{in_its_place}: is a folder, not a socket\n      fix: ");
        assert!(!fine && a_folder.contains(&what), "{a_folder}");
        let port = checked("init_config: {statsd_port: 8127}\ninstances: [{interface: lo, ips: ['::1']}]\n").1;
        assert!(port.contains("DogStatsD udp://127.0.0.1:8127: "), "the port is no default: {port}");
        let default = checked("instances: [{interface: lo, ips: ['::1']}]\n").1;
        assert!(default.contains("DogStatsD udp://127.0.0.1:8125 (the default): "), "{default}");
    }
}
