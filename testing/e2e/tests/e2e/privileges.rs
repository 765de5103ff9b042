//! With as few rights as it takes, and with fewer still once it runs.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use testing_lab::agent::{Agent, Sample, binary, run_once};
use testing_lab::threads::threads;
use testing_lab::{Lab, Link};

use super::support::{SOON, some_rounds, wait_for_samples};

// include/uapi/linux/capability.h
const DAC_OVERRIDE: u64 = 1 << 1;
const NET_BIND_SERVICE: u64 = 1 << 10;
const NET_ADMIN: u64 = 1 << 12;
const NET_RAW: u64 = 1 << 13;

/// `go-metro` for an ordinary user, who need not be able to read where it was built.
struct Installed(tempfile::TempDir);

impl Installed {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::copy(binary().unwrap(), folder.path().join("go-metro")).unwrap();
        Self(folder)
    }

    fn folder(&self) -> &Path {
        self.0.path()
    }

    /// To be run on host a as a user with exactly these capabilities, such as `+net_raw`.
    fn command(&self, lab: &Lab, capabilities: &str) -> Command {
        let only = format!("-all,{capabilities}");
        let mut command = lab.a.namespace.command("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
        command.args(["--inh-caps", &only, "--ambient-caps", &only, "--bounding-set", &only]);
        command.arg(self.folder().join("go-metro"));
        command
    }
}

/// What every thread of a process may do: permitted capabilities, whether it can gain any, whether its calls are
/// filtered.
fn rights(pid: Pid) -> Vec<(u64, u32, u32)> {
    let rights = threads(pid).unwrap().into_iter().map(|thread| {
        let number = |name| u32::try_from(thread.number(name, 10).unwrap()).unwrap();
        (thread.number("CapPrm", 16).unwrap(), number("NoNewPrivs"), number("Seccomp"))
    });
    rights.collect()
}

/// Asserts that no thread may do more than this, and that the process is confined.
fn assert_confined(agent: &Agent, most: u64) {
    let rights = rights(agent.pid());
    assert!(rights.len() >= 2, "{rights:?}");
    for (permitted, no_new_privs, filtered) in &rights {
        assert_eq!(permitted & !most, 0, "{permitted:#x} may do more than {most:#x}");
        assert_eq!((*no_new_privs, *filtered), (1, 2));
    }
    assert!(rights.iter().any(|(permitted, ..)| *permitted == most), "{rights:?}: what is needed is there");
}

/// Waits until it has begun to capture on an interface for the so manieth time.
fn captures_again(agent: &Agent, interface: &str, times: usize) {
    let deadline = Instant::now() + SOON;
    let line = format!("capturing on {interface}");
    let begun = || agent.log().iter().filter(|said| said.contains(&line)).count();
    while begun() < times && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(begun(), times, "{:?}", agent.log());
}

/// It measures, attaches to an interface that returns, and takes other targets.
fn works(lab: &Lab, mut agent: Agent, conf: &Path, most: u64) {
    agent.ready().unwrap();
    some_rounds(lab, 10);
    assert!(wait_for_samples(&agent, 10, Sample::is_data).len() >= 10, "{:?}", agent.log());
    assert_confined(&agent, most);

    let a = &lab.a.namespace;
    a.ip("link add extra0 type veth peer name extra1\nlink set extra0 up").unwrap();
    agent.wait_for_log("capturing on extra0", SOON).unwrap();
    a.ip("link delete extra0").unwrap();
    a.ip("link add extra0 type veth peer name extra1\nlink set extra0 up").unwrap();
    captures_again(&agent, "extra0", 2);

    let text = fs::read_to_string(conf).unwrap();
    fs::write(conf, text.replace("10.77.0.2", "10.77.0.0/24")).unwrap();
    agent.signal(Signal::SIGHUP).unwrap();
    agent.wait_for_log("configuration reloaded", SOON).unwrap();
    thread::sleep(Duration::from_millis(300));
    some_rounds(lab, 10);
    assert!(wait_for_samples(&agent, 20, Sample::is_data).len() >= 20, "{:?}", agent.log());
    let finished = agent.stop().unwrap();
    assert_eq!(finished.status.code(), Some(0));
    assert!(!finished.stderr.iter().any(|line| line.contains("cannot read the counters")), "{:?}", finished.stderr);
}

/// Another process of the same user may not read its memory: neither before nor after it has given up what that process
/// has not.
fn nobody_else_can_look_inside(lab: &Lab, mut agent: Agent, conf: &Path) {
    agent.ready().unwrap();
    let reads = |file: &Path| {
        let mut command = lab.a.namespace.command("setpriv");
        command.args([
            "--reuid",
            "65534",
            "--regid",
            "65534",
            "--clear-groups",
            "--bounding-set",
            "-all",
            "head",
            "-c1",
        ]);
        command.arg(file).output().unwrap().status.success()
    };
    assert!(reads(conf), "it can read what is its own");
    for thread in threads(agent.pid()).unwrap() {
        let environment = Path::new("/proc").join(thread.id.to_string()).join("environ");
        assert!(!reads(&environment), "{}", environment.display());
    }
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
}

/// A configuration in `folder` that watches host b on eth0 and on an interface that comes later.
fn configure(folder: &Path, backend: &str) -> std::path::PathBuf {
    let conf = folder.join("conf.yaml");
    let text = format!(
        "init_config:\n  backend: {backend}\n  reverse_dns: false\ninstances:\n  - interface: eth0\n    \
         ips: [10.77.0.2]\n  \
         - interface: extra0\n    ips: [10.77.0.2]\n"
    );
    fs::write(&conf, text).unwrap();
    conf
}

fn sampling(command: &mut Command, conf: &Path) -> Agent {
    command.args(["run", "--output", "json", "--samples", "-c"]).arg(conf);
    Agent::spawn_command(command).unwrap()
}

#[test]
fn an_ordinary_user_with_three_capabilities_measures_by_ebpf_and_keeps_one() {
    let lab = Lab::new(Link::Veth).unwrap();
    let program = Installed::new();
    let conf = configure(program.folder(), "ebpf");
    let agent = sampling(&mut program.command(&lab, "+bpf,+net_admin,+perfmon"), &conf);
    nobody_else_can_look_inside(&lab, agent, &conf);
    let agent = sampling(&mut program.command(&lab, "+bpf,+net_admin,+perfmon"), &conf);
    works(&lab, agent, &conf, NET_ADMIN);
}

#[test]
fn cap_net_raw_alone_is_enough_for_libpcap() {
    let lab = Lab::new(Link::Veth).unwrap();
    let program = Installed::new();
    let conf = configure(program.folder(), "pcap");
    let agent = sampling(&mut program.command(&lab, "+net_raw"), &conf);
    works(&lab, agent, &conf, NET_RAW);
}

#[test]
fn root_gives_up_all_but_what_capturing_needs_and_the_way_to_other_users_files() {
    for (backend, needed) in [("ebpf", NET_ADMIN), ("pcap", NET_RAW)] {
        let lab = Lab::new(Link::Veth).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let conf = configure(folder.path(), backend);
        let agent = sampling(&mut lab.a.namespace.command(binary().unwrap()), &conf);
        works(&lab, agent, &conf, needed | DAC_OVERRIDE | NET_BIND_SERVICE);
    }
}

#[test]
fn a_missing_capability_is_named_with_its_remedy_and_libpcap_measures_instead() {
    let lab = Lab::new(Link::Veth).unwrap();
    let program = Installed::new();
    for (capabilities, missing) in [
        ("+bpf,+net_admin,+net_raw", "without CAP_PERFMON"),
        ("+bpf,+perfmon,+net_raw", "without CAP_NET_ADMIN"),
        ("+net_admin,+perfmon,+net_raw", "without CAP_BPF"),
    ] {
        let conf = configure(program.folder(), "auto");
        let mut agent = sampling(&mut program.command(&lab, capabilities), &conf);
        agent.ready().unwrap();
        let log = agent.log();
        let why = log.iter().find(|line| line.contains("using libpcap instead of eBPF")).unwrap();
        assert!(why.contains(missing) && why.contains("setcap cap_bpf,cap_net_admin,cap_perfmon+ep /"), "{why}");
        some_rounds(&lab, 5);
        assert!(wait_for_samples(&agent, 5, Sample::is_data).len() >= 5, "{:?}", agent.log());
        assert_confined(&agent, NET_RAW);
        assert_eq!(agent.stop().unwrap().status.code(), Some(0));
    }
    // Nothing is enough for nothing.
    let conf = configure(program.folder(), "auto");
    let finished = sampling(&mut program.command(&lab, "-net_raw"), &conf).finish().unwrap();
    assert_eq!(finished.status.code(), Some(1));
    let said = finished.stderr.join("\n");
    assert!(said.contains("setcap cap_net_raw+ep"), "{said}");
}

#[test]
fn a_reload_that_needs_what_was_given_up_changes_nothing_and_says_to_restart() {
    let lab = Lab::new(Link::Veth).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let conf = configure(folder.path(), "ebpf");
    let mut agent = sampling(&mut lab.a.namespace.command(binary().unwrap()), &conf);
    agent.ready().unwrap();
    let text = fs::read_to_string(&conf).unwrap();
    fs::write(&conf, text.replace("backend: ebpf", "backend: ebpf\n  sides: both")).unwrap();
    agent.signal(Signal::SIGHUP).unwrap();
    agent
        .wait_for_log("restart to change sides: reopening the source needs privileges that were dropped", SOON)
        .unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let socket = elsewhere.path().join("go-metro.sock");
    fs::write(&conf, text.replace("backend: ebpf", &format!("backend: ebpf\n  status_socket: {}", socket.display())))
        .unwrap();
    agent.signal(Signal::SIGHUP).unwrap();
    agent.wait_for_log("restart to change status_socket: ", SOON).unwrap();
    some_rounds(&lab, 10);
    assert!(wait_for_samples(&agent, 10, Sample::is_data).len() >= 10, "{:?}", agent.log());
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
}

#[test]
fn a_reload_can_add_health_but_not_response_and_does_not_log_what_takes_no_effect() {
    let lab = Lab::new(Link::Veth).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let conf = configure(folder.path(), "auto");
    let mut agent = sampling(&mut lab.a.namespace.command(binary().unwrap()), &conf);
    agent.ready().unwrap();
    let text = fs::read_to_string(&conf).unwrap();
    let measure = |agent: &Agent, metrics: &str| {
        fs::write(&conf, text.replace("backend: auto", &format!("backend: auto\n  metrics: [{metrics}]"))).unwrap();
        agent.signal(Signal::SIGHUP).unwrap();
    };
    measure(&agent, "default, health");
    agent.wait_for_log("configuration reloaded", SOON).unwrap();
    let before = agent.log().len();
    measure(&agent, "default, health, response");
    agent
        .wait_for_log("restart to change `response` of `metrics`: reopening the source needs privileges", SOON)
        .unwrap();
    let log = agent.log();
    assert!(log[before..].iter().all(|line| line.contains("SIGHUP: ")), "{:#?}", &log[before..]);
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
}

#[test]
fn libpcap_can_be_opened_anew_by_a_reload() {
    let lab = Lab::new(Link::Veth).unwrap();
    let program = Installed::new();
    let conf = configure(program.folder(), "pcap");
    let mut agent = sampling(&mut program.command(&lab, "+net_raw"), &conf);
    agent.ready().unwrap();
    let text = fs::read_to_string(&conf).unwrap();
    fs::write(&conf, text.replace("backend: pcap", "backend: pcap\n  filter: tcp port 1")).unwrap();
    agent.signal(Signal::SIGHUP).unwrap();
    captures_again(&agent, "eth0", 2);
    some_rounds(&lab, 5);
    thread::sleep(Duration::from_millis(300));
    assert_eq!(wait_for_samples(&agent, 0, |_| true), [], "of port 1 alone there are none");
    fs::write(&conf, text).unwrap();
    agent.signal(Signal::SIGHUP).unwrap();
    captures_again(&agent, "eth0", 3);
    some_rounds(&lab, 10);
    assert!(wait_for_samples(&agent, 10, Sample::is_data).len() >= 10, "{:?}", agent.log());
    assert_confined(&agent, NET_RAW);
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
}

#[test]
fn the_status_says_what_is_in_force_and_the_sandbox_can_be_turned_off() {
    let lab = Lab::new(Link::Veth).unwrap();
    for off in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let (conf, socket) = (configure(folder.path(), "ebpf"), folder.path().join("go-metro.sock"));
        let more = format!("backend: ebpf\n  status_socket: {}\n  sandbox: {}", socket.display(), !off);
        fs::write(&conf, fs::read_to_string(&conf).unwrap().replace("backend: ebpf", &more)).unwrap();
        let mut command = lab.a.namespace.command(binary().unwrap());
        let mut agent = sampling(&mut command, &conf);
        agent.ready().unwrap();
        let ask = |how: &[&str]| {
            let words = ["status", "--socket", socket.to_str().unwrap()];
            run_once(words.iter().chain(how)).unwrap().stdout.join("\n")
        };
        let told: serde_json::Value = serde_json::from_str(&ask(&["--json"])).unwrap();
        let privileges = &told["privileges"];
        if off {
            assert_eq!((&privileges["off"], &privileges["seccomp"]), (&"sandbox: off".into(), &false.into()));
            assert!(privileges["capabilities"].as_array().unwrap().len() > 20, "all of root's: {privileges}");
            assert!(rights(agent.pid()).iter().all(|(_, no_new_privs, filtered)| (*no_new_privs, *filtered) == (0, 0)));
            // With all its rights it can be reloaded into whatever is wanted.
            let text = fs::read_to_string(&conf).unwrap();
            fs::write(&conf, text.replace("sandbox: false", "sandbox: false\n  sides: both")).unwrap();
            agent.signal(Signal::SIGHUP).unwrap();
            agent.wait_for_log("configuration reloaded", SOON).unwrap();
        } else {
            let expected = serde_json::json!(["CAP_DAC_OVERRIDE", "CAP_NET_BIND_SERVICE", "CAP_NET_ADMIN"]);
            assert_eq!(privileges["capabilities"], expected);
            assert_eq!((&privileges["no_new_privs"], &privileges["seccomp"]), (&true.into(), &true.into()));
            assert!(privileges["off"].is_null(), "{privileges}");
            assert!(["full", "part", "off"].contains(&privileges["landlock"].as_str().unwrap()), "{privileges}");
            let page = ask(&[]);
            let line = page.lines().find(|line| line.starts_with("sandbox ")).unwrap();
            assert!(line.contains("CAP_NET_ADMIN; no_new_privs, seccomp, "), "{line}");
        }
        assert_eq!(agent.stop().unwrap().status.code(), Some(0));
    }
}

#[test]
fn it_listens_at_no_port_but_the_one_that_the_configuration_names() {
    let lab = Lab::new(Link::Veth).unwrap();
    for (more, expected) in [
        ("", vec![]),
        ("\n  prometheus_listen: 127.0.0.1:9464", vec!["0100007F:24F8"]),
        ("\n  web_listen: 127.0.0.1:9465", vec!["0100007F:24F9"]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let conf = folder.path().join("conf.yaml");
        let text = "init_config:\n  status_socket: off\n  reverse_dns: false";
        fs::write(&conf, format!("{text}{more}\ninstances:\n  - interface: eth0\n    ips: [10.77.0.2]\n")).unwrap();
        let mut agent = Agent::start(&lab.a, ["run", "-c", conf.to_str().unwrap()]).unwrap();
        agent.wait_for_log("capturing on eth0", SOON).unwrap();
        let listens: Vec<String> = ["tcp", "tcp6"]
            .iter()
            .map(|family| fs::read_to_string(format!("/proc/{}/net/{family}", agent.pid())).unwrap())
            .flat_map(|table| {
                // TCP_LISTEN of include/net/tcp_states.h.
                let fields = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
                let listening = fields.filter(|fields| fields[3] == "0A").map(|fields| fields[1].to_owned());
                listening.collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(listens, expected, "{more}");
        assert_eq!(agent.stop().unwrap().status.code(), Some(0));
    }
}

#[test]
fn a_capture_is_read_without_rights_and_drawn_where_it_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let capture = testing_support::workspace::root().join("corpus/clean.pcap.gz");
    for there in [false, true] {
        let drawing = folder.path().join(format!("{there}.svg"));
        if there {
            fs::write(&drawing, "old").unwrap();
        }
        let words = ["read".as_ref(), capture.as_os_str(), "--plot".as_ref(), drawing.as_os_str()];
        let finished = run_once(words).unwrap();
        assert_eq!(finished.status.code(), Some(0), "{finished:?}");
        assert!(fs::read_to_string(&drawing).unwrap().starts_with("<svg"), "{there}");
    }
}
