//! The manifest, the Helm chart and the definition of the image, before the validators of what they are for.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;
use testing_lab::agent;
use testing_support::setup;
use testing_support::workspace::{capture, output, root};
use xtask::dist::{self, chart};

/// The objects of a manifest, by their kind.
pub(crate) fn objects(manifest: &str) -> Vec<Value> {
    const AS_JSON: &str = "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(sys.stdin))))";
    let python = setup::for_manifests("python3").unwrap();
    let mut child =
        Command::new(python).args(["-c", AS_JSON]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), manifest.as_bytes()).unwrap();
    let json = child.wait_with_output().unwrap();
    assert!(json.status.success(), "{manifest}");
    serde_json::from_slice::<Vec<Value>>(&json.stdout).unwrap().into_iter().filter(|object| !object.is_null()).collect()
}

/// The one object of this kind.
pub(crate) fn object(objects: &[Value], kind: &str) -> Value {
    objects.iter().find(|object| object["kind"] == kind).unwrap().clone()
}

/// What the validator says of a manifest, by the schemas of some versions of Kubernetes; it fails where there is
/// anything.
fn validate(manifest: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("manifest.yaml");
    fs::write(&file, manifest).unwrap();
    for version in ["1.25", "1.31", "1.37"] {
        let mut validator = Command::new(setup::for_manifests("kubernetes-validate").unwrap());
        validator.args(["--strict", "--kubernetes-version", version]).arg(&file);
        capture(&mut validator).unwrap_or_else(|error| panic!("{error:#}\n{manifest}"));
    }
}

#[test]
fn the_manifest_is_the_chart_with_its_default_values() {
    let written = fs::read_to_string(chart::manifest()).unwrap();
    assert_eq!(written, chart::rendered_manifest().unwrap(), "run `cargo xtask manifest`");
}

#[test]
fn the_manifest_makes_the_namespace_that_it_is_in() {
    let objects = objects(&fs::read_to_string(chart::manifest()).unwrap());
    let namespace = object(&objects, "Namespace")["metadata"].clone();
    assert_eq!(objects[0]["kind"], "Namespace", "before what is in it");
    assert_eq!(namespace["labels"]["pod-security.kubernetes.io/enforce"], "privileged");
    for object in &objects[1..] {
        assert_eq!(object["metadata"]["namespace"], namespace["name"], "{object}");
    }
}

#[test]
fn the_manifests_are_valid_whatever_is_switched_on() {
    validate(&fs::read_to_string(chart::manifest()).unwrap());
    let all = chart::render(&[
        "datadog.socketDirectory=/var/run/datadog,hostPID=true,prometheus.enabled=false,priorityClassName=high",
        "imagePullSecrets[0].name=key,podLabels.team=net,podAnnotations.note=x,extraEnv[0].name=A,extraEnv[0].value=b",
    ])
    .unwrap();
    validate(&all);
    let pod = object(&objects(&all), "DaemonSet")["spec"]["template"]["spec"].clone();
    assert_eq!(pod["hostPID"], true);
    let env = pod["containers"][0]["env"].as_array().unwrap();
    assert!(env.iter().any(|e| e["name"] == "DD_DOGSTATSD_URL" && e["value"] == "unix:///var/run/datadog/dsd.socket"));
    assert!(!all.contains("9464"), "{all}");
    let all = chart::render(&[
        "fullnameOverride=rtt,datadog.enabled=false,datadog.socketDirectory=/run/x,datadog.autodiscovery=true",
        "serviceAccount.create=true,serviceAccount.annotations.a=b",
        "podMonitor.enabled=true,podMonitor.labels.release=prom",
        "extraArgs[0]=--kernel-rtt,extraVolumes[0].name=v,extraVolumes[0].emptyDir.medium=Memory",
        "extraVolumeMounts[0].name=v,extraVolumeMounts[0].mountPath=/v,securityContext.runAsGroup=0",
    ])
    .unwrap();
    let objects = objects(&all);
    let monitor = object(&objects, "PodMonitor");
    assert_eq!(monitor["metadata"]["labels"]["release"], "prom");
    assert_eq!(monitor["spec"]["podMetricsEndpoints"][0]["port"], "metrics");
    // The validator knows Kubernetes' own kinds alone.
    validate(
        &all.split("\n---\n").filter(|part| !part.contains("kind: PodMonitor")).collect::<Vec<_>>().join("\n---\n"),
    );
    assert!(objects.iter().all(|object| object["metadata"]["name"] == "rtt"), "{all}");
    let template = object(&objects, "DaemonSet")["spec"]["template"].clone();
    assert!(template["metadata"]["annotations"].get("prometheus.io/scrape").is_none(), "the monitor scrapes already");
    let pod = &template["spec"];
    assert_eq!(pod["serviceAccountName"], "rtt");
    let container = &pod["containers"][0];
    for argument in ["--output=prometheus", "--kernel-rtt"] {
        assert!(container["args"].as_array().unwrap().iter().any(|given| given == argument), "{argument}: {all}");
    }
    assert_eq!(container["securityContext"]["runAsGroup"], 0);
    assert!(container["volumeMounts"].as_array().unwrap().iter().any(|mount| mount["mountPath"] == "/v"));
    assert!(!all.contains("DD_DOGSTATSD_URL") && !all.contains("DD_AGENT_HOST") && !all.contains("/run/x"), "{all}");
    // The validator is one.
    let wrong = fs::read_to_string(chart::manifest()).unwrap().replace("hostNetwork: true", "hostNetwork: perhaps");
    assert!(std::panic::catch_unwind(|| validate(&wrong)).is_err());
}

/// The DaemonSet of the chart with these values, which the validator has seen.
fn daemonset(values: &[&str]) -> Value {
    let manifest = chart::render(values).unwrap();
    validate(&manifest);
    object(&objects(&manifest), "DaemonSet")
}

/// A path in it, from its pods' template on.
fn at(daemonset: &Value, path: &str) -> Value {
    daemonset["spec"]["template"].pointer(path).cloned().unwrap_or_default()
}

#[test]
fn probes_ask_where_the_configuration_has_the_daemon_answer() {
    let asks = |daemonset: &Value| {
        let container = at(daemonset, "/spec/containers/0");
        let part = |probe: &Value, name: &str| probe.get(name).cloned().unwrap_or_default();
        let of = |probe: &str| container.get(probe).map(|probe| (part(probe, "exec"), part(probe, "httpGet")));
        (of("livenessProbe"), of("readinessProbe"))
    };
    let program =
        |probe: &str| serde_json::json!({"command": ["/usr/bin/go-metro", "status", format!("--probe={probe}")]});
    let (alive, ready) = asks(&daemonset(&[]));
    assert_eq!(alive.unwrap().0, program("alive"));
    assert_eq!(ready.unwrap().0, program("ready"));

    let other = daemonset(&["config.init_config.status_socket=/run/rtt/socket"]);
    let (alive, ready) = asks(&other);
    for probe in [alive, ready] {
        assert_eq!(probe.unwrap().0["command"][3], "--socket=/run/rtt/socket");
    }
    // The root is read-only: a socket needs a volume.
    let mounts = |daemonset: &Value| {
        let mounts = at(daemonset, "/spec/containers/0/volumeMounts");
        mounts.as_array().unwrap().iter().map(|mount| mount["mountPath"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(mounts(&other), ["/etc/go-metro", "/run/rtt"]);

    // As `--set` gives it, and as YAML reads the word `off`.
    for off in ["config.init_config.status_socket=off", "config.init_config.status_socket=false"] {
        let served = daemonset(&[off]);
        let (alive, ready) = asks(&served);
        assert_eq!(alive.unwrap().1, serde_json::json!({"path": "/healthz", "port": 9464}));
        assert_eq!(ready.unwrap().1, serde_json::json!({"path": "/healthz", "port": 9464}));
        assert_eq!(mounts(&served), ["/etc/go-metro"]);
        assert_eq!(asks(&daemonset(&[off, "prometheus.enabled=false"])), (None, None), "nothing can be asked");
    }
    for (refused, word) in [
        ("extraArgs[0]=--status-socket=off", "config.init_config.status_socket"),
        ("extraArgs[0]=--prometheus-listen=[::]:9", "prometheus.port"),
        ("config.init_config.status_socket=/etc/go-metro/socket", "/run/go-metro/other.sock"),
    ] {
        let error = chart::render(&[refused]).expect_err(refused).to_string();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn where_the_configuration_has_prometheus_served_is_where_it_scrapes() {
    let daemonset = daemonset(&["config.init_config.prometheus_listen=0.0.0.0:9500", "datadog.autodiscovery=true"]);
    let text = daemonset.to_string();
    assert!(text.contains("9500") && !text.contains("9464") && !text.contains("--prometheus-listen"), "{text}");
    assert_eq!(at(&daemonset, "/metadata/annotations/prometheus.io~1port"), "9500");
    assert_eq!(at(&daemonset, "/spec/containers/0/ports/0/containerPort"), 9500);
    assert_eq!(at(&daemonset, "/spec/containers/0/ports/0/hostPort"), 9500);

    // Only the node itself reaches its loopback: the kubelet does, Prometheus does not.
    let off = "config.init_config.status_socket=off";
    let daemonset = self::daemonset(&["config.init_config.prometheus_listen=127.0.0.1:9500", off]);
    assert_eq!(at(&daemonset, "/metadata/annotations/prometheus.io~1scrape"), Value::Null);
    assert_eq!(at(&daemonset, "/spec/containers/0/livenessProbe/httpGet/host"), "127.0.0.1");
    for (values, word) in [
        (["config.init_config.prometheus_listen=127.0.0.1:9500", "podMonitor.enabled=true"], "does not reach"),
        (["config.init_config.prometheus_listen=0.0.0.0:9500", "prometheus.enabled=false"], "enable the other"),
    ] {
        let error = chart::render(&values).expect_err(word).to_string();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn an_image_is_named_by_its_digest_where_there_is_one() {
    let digest = format!("sha256:{}", "0a".repeat(32));
    let image = |more: &[&str]| at(&daemonset(more), "/spec/containers/0/image");
    let given = format!("image.digest={digest}");
    assert_eq!(image(&[&given]), format!("go-metro@{digest}"));
    assert_eq!(image(&[&given, "image.tag=edge"]), format!("go-metro:edge@{digest}"));
    assert_eq!(image(&["image.tag=edge"]), "go-metro:edge");
    assert!(chart::render(&["image.digest=sha256:12"]).expect_err("too short").to_string().contains("digest"));
}

#[test]
fn the_chart_passes_helm_s_lint_and_its_schema_refuses_what_is_wrong() {
    capture(chart::helm().unwrap().args(["lint", "--strict"]).arg(chart::directory())).unwrap();
    for (wrong, word) in [
        ("image.tga=1", "tga"),
        ("prometheus.port=70000", "port"),
        ("config.instances=null", "instances"),
        ("datadog.socketDirectory=var", "socketDirectory"),
        // The program's own schema.
        ("config.init_config.report_intervall=10", "report_intervall"),
        ("config.init_config.backend=xdp", "backend"),
        ("config.instances[0].interfaces=eth0", "interfaces"),
    ] {
        let error = chart::render(&[wrong]).expect_err(wrong).to_string();
        assert!(error.contains("schema") && error.contains(word), "{wrong}: {error}");
    }
    let error = chart::render(&["datadog.enabled=false,prometheus.enabled=false"]).expect_err("no output").to_string();
    assert!(error.contains("results would go nowhere"), "{error}");
}

#[test]
fn the_chart_can_be_packed_in_the_version_of_the_program() {
    let out = tempfile::tempdir().unwrap();
    let packed = chart::pack(out.path(), None).unwrap();
    let said = capture(chart::helm().unwrap().args(["show", "chart"]).arg(packed)).unwrap();
    for line in [format!("version: {}", dist::version()), format!("appVersion: {}", dist::version())] {
        assert!(said.lines().any(|said| said == line), "{said}");
    }
}

#[test]
fn a_pod_has_no_more_rights_than_it_needs() {
    let manifest = fs::read_to_string(chart::manifest()).unwrap();
    let pod = object(&objects(&manifest), "DaemonSet")["spec"]["template"]["spec"].clone();
    let context = &pod["containers"][0]["securityContext"];
    assert_eq!(context["capabilities"]["drop"], serde_json::json!(["ALL"]));
    assert_eq!(context["capabilities"]["add"], serde_json::json!(["BPF", "NET_ADMIN", "NET_RAW", "PERFMON"]));
    assert_eq!(context["privileged"], false);
    assert_eq!(context["allowPrivilegeEscalation"], false);
    assert_eq!(context["readOnlyRootFilesystem"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert!(pod.get("hostPID").is_none() && pod.get("hostIPC").is_none());
    assert!(pod["volumes"].as_array().unwrap().iter().all(|volume| volume.get("hostPath").is_none()));
}

#[test]
fn the_daemon_takes_the_configuration_and_the_agent_the_annotation() {
    let objects = objects(&fs::read_to_string(chart::manifest()).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("conf.yaml");
    fs::write(&file, object(&objects, "ConfigMap")["data"]["conf.yaml"].as_str().unwrap()).unwrap();
    let said = output(Command::new(agent::binary().unwrap()).args(["check", "--config"]).arg(&file)).unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("ok    configuration: "), "{said}");

    // Off by default: what DogStatsD gets would be reported twice.
    let annotations = object(&objects, "DaemonSet")["spec"]["template"]["metadata"]["annotations"].clone();
    assert!(annotations.as_object().unwrap().keys().all(|key| !key.starts_with("ad.datadoghq.com")), "{annotations}");

    // JSON in an annotation, under the container's name, of the check that reads OpenMetrics.
    let objects = self::objects(&chart::render(&["datadog.autodiscovery=true"]).unwrap());
    let template = object(&objects, "DaemonSet")["spec"]["template"].clone();
    let name = template["spec"]["containers"][0]["name"].as_str().unwrap();
    let annotation = &template["metadata"]["annotations"][format!("ad.datadoghq.com/{name}.checks")];
    let checks: Value = serde_json::from_str(annotation.as_str().unwrap()).unwrap();
    let instance = &checks["openmetrics"]["instances"][0];
    assert_eq!(instance["openmetrics_endpoint"], "http://%%host%%:9464/metrics");
    assert_eq!(instance["metrics"], serde_json::json!([".+"]));
    // Round-trip times go to DogStatsD; only the daemon's health is left for the check.
    assert_eq!(instance["exclude_metrics"], serde_json::json!(["^go_metro_(tcp|kernel)_.*"]));
}

#[test]
fn the_image_s_definition_passes_its_linter() {
    let mut linter = Command::new(setup::for_manifests("hadolint").unwrap());
    assert_eq!(capture(linter.arg(root().join("packaging/Containerfile"))).unwrap(), "");
}
