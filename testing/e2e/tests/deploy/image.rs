//! The image, built as packaging/Containerfile says and run as the DaemonSet says, by a real container runtime.

use std::fs;

use serde_json::Value;
use testing_lab::statsd::Listener;
use xtask::dist::chart;

use super::kubernetes::{object, objects};
use super::machine::{Machine, wait};

/// A clone of the repository, as far as it is needed.
pub(crate) const CONTEXT: &str = "/context";

/// What podman needs on such a machine: storage in files, for its root is an overlay already; no control groups, for
/// the kernel of who runs the tests may have none to give; limits that are not raised, for who runs them may lack the
/// right to.
const CONTAINERS: &str = r#"[containers]
cgroups = "disabled"
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
seccomp_profile = "/etc/containers/seccomp.json"
[engine]
runtime = "crun"
"#;

/// The runtime's default profile, with bpf(2) and perf_event_open(2) as newer ones have them for who has CAP_BPF and
/// CAP_PERFMON. Older ones want CAP_SYS_ADMIN.
pub(crate) const WITH_BPF: &str = r#".syscalls
    |= map(if .action == "SCMP_ACT_ERRNO" then .names -= ["bpf", "perf_event_open"] else . end)
    | .syscalls += [{names: ["bpf", "perf_event_open"], action: "SCMP_ACT_ALLOW"}]"#;
/// The same as older ones have it.
const WITHOUT_BPF: &str = r#".syscalls |= map(.names -= ["bpf"])"#;

/// Has containers run on a machine.
pub(crate) fn allow_containers(machine: &Machine) {
    machine.run(&format!(
        "mkdir -p /etc/containers && printf %s '{CONTAINERS}' > /etc/containers/containers.conf && \
         printf '[storage]\ndriver = \"vfs\"\nrunroot = \"/run/containers\"\ngraphroot = \"/var/lib/containers\"\n' \
         > /etc/containers/storage.conf"
    ));
}

/// Gives it the runtime's default profile, changed so.
pub(crate) fn change_profile(machine: &Machine, change: &str) {
    machine.run(&format!("jq '{change}' /usr/share/containers/seccomp.json > /etc/containers/seccomp.json"));
}

/// A machine where the image runs as the DaemonSet says, with its ConfigMap's file, under a profile changed so.
fn running(profile: &str) -> (Machine, Listener) {
    let machine = Machine::start();
    let server = Listener::udp(&machine.lab.a, 8125).unwrap();
    run_daemonset(&machine, profile, &fs::read_to_string(chart::manifest()).unwrap());
    (machine, server)
}

/// Runs the image on a machine as the DaemonSet of a manifest says.
fn run_daemonset(machine: &Machine, profile: &str, manifest: &str) {
    let objects = objects(manifest);
    allow_containers(machine);
    change_profile(machine, profile);
    machine.run(&format!(
        "mkdir -p {CONTEXT}/target/dist {CONTEXT}/etc && cp -a /mnt/packages/rootfs {CONTEXT}/target/dist && \
         podman build --file /mnt/repository/packaging/Containerfile --target dist --tag go-metro {CONTEXT}"
    ));
    let conf = object(&objects, "ConfigMap")["data"]["conf.yaml"].as_str().unwrap().to_owned();
    machine.run(&format!("printf %s '{conf}' > {CONTEXT}/etc/conf.yaml"));
    machine.run(&run_as(&object(&objects, "DaemonSet")));
}

/// A probe's command, in the container.
fn probe(manifest: &str, probe: &str) -> String {
    let container = object(&objects(manifest), "DaemonSet")["spec"]["template"]["spec"]["containers"][0].clone();
    let command = container[probe]["exec"]["command"].as_array().unwrap().clone();
    command.iter().fold("podman exec go-metro".to_owned(), |line, word| line + " " + word.as_str().unwrap())
}

/// `podman run` with what the DaemonSet's container has; the node's address is the loopback's.
fn run_as(daemonset: &Value) -> String {
    let container = &daemonset["spec"]["template"]["spec"]["containers"][0];
    let context = &container["securityContext"];
    let words =
        |list: &Value| list.as_array().unwrap().iter().map(|w| w.as_str().unwrap().to_owned()).collect::<Vec<_>>();
    let mut run = "podman run --detach --name go-metro --network host".to_owned();
    run += &format!(" --cap-drop {}", words(&context["capabilities"]["drop"]).join(","));
    run += &format!(" --cap-add {}", words(&context["capabilities"]["add"]).join(","));
    if context["readOnlyRootFilesystem"] == true {
        run += " --read-only --read-only-tmpfs=false";
    }
    if context["allowPrivilegeEscalation"] == false {
        run += " --security-opt no-new-privileges";
    }
    for mount in container["volumeMounts"].as_array().unwrap() {
        let path = mount["mountPath"].as_str().unwrap();
        run += &match mount["name"].as_str().unwrap() {
            "config" => format!(" --volume {CONTEXT}/etc:{path}:ro"),
            _ => format!(" --tmpfs {path}"),
        };
    }
    let labels = &daemonset["spec"]["template"]["metadata"]["labels"];
    for variable in container["env"].as_array().unwrap() {
        let value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str().unwrap() {
            "status.hostIP" => "127.0.0.1",
            "metadata.uid" => "0e5c7b9a",
            label => {
                labels[label.strip_prefix("metadata.labels['").unwrap().strip_suffix("']").unwrap()].as_str().unwrap()
            }
        };
        run += &format!(" --env {}={value}", variable["name"].as_str().unwrap());
    }
    run += " go-metro";
    words(&container["args"]).iter().fold(run, |run, arg| run + " " + &arg.replace("$(GO_METRO_HOST_IP)", "127.0.0.1"))
}

#[test]
fn the_daemonset_s_container_measures_with_ebpf_and_four_capabilities() {
    let (machine, server) = running(WITH_BPF);
    let go_metro = "podman exec go-metro go-metro";
    machine.measures_by(go_metro);
    assert!(machine.run(&format!("{go_metro} status")).contains("backend     ebpf"));
    assert_eq!(machine.run("curl --silent http://127.0.0.1:9464/healthz"), "ok");
    let process =
        machine.run("grep -E '^(CapPrm|CapBnd|NoNewPrivs|Seccomp):' /proc/$(pgrep --exact go-metro)/task/*/status -h");
    for line in ["CapBnd:\t000000c000003000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(process.lines().any(|found| found == line), "{line}: {process}");
    }
    // By then it has given up all but one of them, or two, and only the threads that capture and attach have those.
    let kept: Vec<&str> =
        process.lines().filter(|line| line.starts_with("CapPrm:") && !line.ends_with("\t0000000000000000")).collect();
    let allowed = ["CapPrm:\t0000000000001000", "CapPrm:\t0000008000001000"];
    assert!((1..=2).contains(&kept.len()) && kept.iter().all(|line| allowed.contains(line)), "{process}");
    machine.run("podman stop --time 5 go-metro");
    let metric = wait("the last report", || {
        server.metrics().unwrap().into_iter().find(|metric| metric.name == "system.net.tcp.rtt.dist")
    });
    assert_eq!(metric.tag("service"), Some("go-metro"));
    assert_eq!(metric.tag("dd.internal.entity_id"), Some("0e5c7b9a"));
    // The label is empty unless it is set.
    assert_eq!(metric.tag("env"), None);
}

#[test]
fn the_container_is_ready_without_any_dogstatsd_server() {
    let machine = Machine::start();
    let manifest = chart::render(&["extraArgs[0]=--interval=0.2"]).unwrap();
    run_daemonset(&machine, WITH_BPF, &manifest);
    wait("it is ready", || machine.can(&probe(&manifest, "readinessProbe")).then_some(()));
    machine.measures_by("podman exec go-metro go-metro");
    // Reports are refused by now: degraded, which is no reason to restart it or to keep it out of service.
    wait("it is degraded", || {
        let status = machine.try_run("podman exec go-metro go-metro status");
        (status.status.code() == Some(1)).then_some(())
    });
    assert!(machine.can(&probe(&manifest, "readinessProbe")));
    assert!(machine.can(&probe(&manifest, "livenessProbe")));
    // A daemon that hangs is not alive.
    machine.run("kill -STOP $(pgrep --exact go-metro)");
    assert!(!machine.can(&probe(&manifest, "livenessProbe")));
}

#[test]
fn probes_succeed_where_the_configuration_moves_the_status_socket() {
    let machine = Machine::start();
    let manifest = chart::render(&["config.init_config.status_socket=/run/rtt/socket"]).unwrap();
    run_daemonset(&machine, WITH_BPF, &manifest);
    wait("it is ready", || machine.can(&probe(&manifest, "readinessProbe")).then_some(()));
    assert!(machine.can(&probe(&manifest, "livenessProbe")));
    machine.run("podman rm --force --time 5 go-metro");

    let manifest =
        chart::render(&["config.init_config.status_socket=off,config.init_config.prometheus_listen=127.0.0.1:9500"])
            .unwrap();
    run_daemonset(&machine, WITH_BPF, &manifest);
    let daemonset = object(&objects(&manifest), "DaemonSet");
    let asked = &daemonset["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]["httpGet"];
    let word = |name: &str| asked[name].as_str().unwrap().to_owned();
    let url = format!("http://{}:{}{}", word("host"), asked["port"], word("path"));
    wait("it is ready", || machine.can(&format!("curl --silent --fail {url}")).then_some(()));
}

#[test]
fn with_dogstatsd_switched_off_the_container_serves_prometheus_alone() {
    let machine = Machine::start();
    let manifest = chart::render(&["datadog.enabled=false,extraArgs[0]=--interval=0.2"]).unwrap();
    run_daemonset(&machine, WITH_BPF, &manifest);
    wait("it is ready", || machine.can(&probe(&manifest, "readinessProbe")).then_some(()));
    machine.measures_by("podman exec go-metro go-metro");
    let status = machine.run("podman exec go-metro go-metro status");
    assert!(status.starts_with("state       ok") && !status.contains("statsd"), "{status}");
    assert!(machine.run("curl --silent http://127.0.0.1:9464/metrics").contains("go_metro_tcp_rtt_seconds_count"));
}

#[test]
fn without_bpf_in_the_runtime_s_profile_it_measures_with_libpcap_and_says_why() {
    let (machine, _server) = running(WITHOUT_BPF);
    let go_metro = "podman exec go-metro go-metro";
    machine.measures_by(go_metro);
    assert!(machine.run(&format!("{go_metro} status")).contains("backend     pcap, because: "));
}
