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
    validate(&chart::render(values).unwrap());
    rendered(values)
}

/// The same, which it has not: it takes seconds.
fn rendered(values: &[&str]) -> Value {
    object(&objects(&chart::render(values).unwrap()), "DaemonSet")
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

/// The variable of the container with this name.
fn variable(daemonset: &Value, name: &str) -> Option<Value> {
    let env = at(daemonset, "/spec/containers/0/env");
    env.as_array().unwrap().iter().find(|variable| variable["name"] == name).cloned()
}

/// Whether the container has an argument.
fn has_argument(daemonset: &Value, argument: &str) -> bool {
    at(daemonset, "/spec/containers/0/args").as_array().unwrap().iter().any(|given| given == argument)
}

#[test]
fn the_page_for_browsers_is_served_where_the_values_or_the_configuration_have_it() {
    let port = |daemonset: &Value| {
        let ports = at(daemonset, "/spec/containers/0/ports");
        ports.as_array().unwrap().iter().find(|port| port["name"] == "web").map(|port| port["hostPort"].clone())
    };
    assert_eq!(port(&rendered(&[])), None);
    // With all that the values can add at once.
    daemonset(&["web.enabled=true,record.enabled=true,otlp.endpoint=http://a:1,otlp.headers.secret=b"]);
    daemonset(&["web.enabled=true,record.enabled=true,record.hostPath=/var/lib/rtt,prometheus.enabled=false"]);
    let on = rendered(&["web.enabled=true"]);
    assert!(has_argument(&on, "--web-listen=127.0.0.1:9465") && port(&on) == Some(9465.into()), "{on}");
    let alone = rendered(&["web.enabled=true,web.address=$(GO_METRO_HOST_IP),web.port=8080,prometheus.enabled=false"]);
    assert!(has_argument(&alone, "--web-listen=$(GO_METRO_HOST_IP):8080"), "{alone}");
    assert_eq!(at(&alone, "/spec/containers/0/ports").as_array().unwrap().len(), 1);
    let file = rendered(&["config.init_config.web_listen=127.0.0.1:9500,web.enabled=true"]);
    assert!(port(&file) == Some(9500.into()) && !file.to_string().contains("--web-listen"), "{file}");
    for off in ["off", "false"] {
        let off = rendered(&[&format!("config.init_config.web_listen={off},web.enabled=true")]);
        assert!(port(&off).is_none() && !off.to_string().contains("--web-listen"), "{off}");
    }
    for (refused, word) in [
        ("web.enabled=true,web.port=9464", "set web.port to another"),
        ("extraArgs[0]=--web-listen=[::]:9", "web.address and web.port"),
    ] {
        let error = chart::render(&[refused]).expect_err(refused).to_string();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn metrics_go_by_otlp_where_the_values_or_the_configuration_say_beside_the_others_or_alone() {
    const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    const TO_NODE: &str = "otlp.endpoint=http://$(GO_METRO_HOST_IP):4318";
    assert!(!rendered(&[]).to_string().contains("OTEL_"));
    let beside = rendered(&[TO_NODE]);
    assert_eq!(variable(&beside, ENDPOINT).unwrap()["value"], "http://$(GO_METRO_HOST_IP):4318");
    // Kubernetes knows only variables before it.
    let names = at(&beside, "/spec/containers/0/env");
    let place = |name: &str| names.as_array().unwrap().iter().position(|variable| variable["name"] == name).unwrap();
    assert!(place("GO_METRO_HOST_IP") < place(ENDPOINT));
    for name in ["GO_METRO_NODE_NAME", "GO_METRO_POD_NAME", "DD_ENTITY_ID"] {
        assert!(place(name) < place("OTEL_RESOURCE_ATTRIBUTES"), "{name}");
    }
    assert_eq!(variable(&beside, "OTEL_EXPORTER_OTLP_HEADERS"), None);
    assert!(!beside.to_string().contains("--output"), "the file's, and this one: {beside}");
    let with_secret = rendered(&[TO_NODE, "otlp.headers.secret=collector,otlp.headers.key=token"]);
    let headers = variable(&with_secret, "OTEL_EXPORTER_OTLP_HEADERS").unwrap();
    let expected = serde_json::json!({"name": "collector", "key": "token"});
    assert_eq!(headers["valueFrom"]["secretKeyRef"], expected);

    let file = "config.init_config.otlp_endpoint=http://127.0.0.1:4318";
    for endpoint in [TO_NODE, file] {
        let two = rendered(&[endpoint, "datadog.enabled=false"]);
        assert!(has_argument(&two, "--output=prometheus,otlp"), "{two}");
        let alone = rendered(&[endpoint, "datadog.enabled=false,prometheus.enabled=false"]);
        assert!(has_argument(&alone, "--output=otlp"), "{alone}");
    }
    assert_eq!(variable(&rendered(&[TO_NODE, file]), ENDPOINT), None, "the file says where");
    let without = "config.init_config.outputs={statsd}";
    let error = chart::render(&[TO_NODE, without]).expect_err("no effect").to_string();
    assert!(error.contains("config.init_config.outputs does not name otlp"), "{error}");
    rendered(&[TO_NODE, "config.init_config.outputs={statsd,otlp}"]);
    rendered(&[TO_NODE, without, "datadog.enabled=false"]);
}

#[test]
fn recordings_have_a_volume_and_the_daemon_takes_what_the_values_make_of_its_file() {
    let conf = |values: &[&str]| {
        let manifest = chart::render(values).unwrap();
        object(&objects(&manifest), "ConfigMap")["data"]["conf.yaml"].as_str().unwrap().to_owned()
    };
    let volume = |values: &[&str]| {
        let daemonset = rendered(values);
        let part = |path: &str| {
            let all = at(&daemonset, path);
            all.as_array().unwrap().iter().find(|one| one["name"] == "recordings").cloned()
        };
        let mount = part("/spec/containers/0/volumeMounts").map(|mount| mount["mountPath"].clone());
        mount.zip(part("/spec/volumes"))
    };
    assert!(!conf(&[]).contains("record:") && volume(&[]).is_none());
    let (path, pods_own) = volume(&["record.enabled=true"]).unwrap();
    assert_eq!((path, &pods_own["emptyDir"]["sizeLimit"]), ("/var/lib/go-metro".into(), &"256Mi".into()));
    let (_, nodes) = volume(&["record.enabled=true,record.hostPath=/var/lib/rtt"]).unwrap();
    assert_eq!(nodes["hostPath"], serde_json::json!({"path": "/var/lib/rtt", "type": "DirectoryOrCreate"}));
    // What the configuration says alone has one too, where it says.
    let (path, _) = volume(&["config.init_config.record.memory=1MiB,config.init_config.record.folder=/data/"]).unwrap();
    assert_eq!(path, "/data");
    assert!(volume(&["config.init_config.record.files=3"]).is_none(), "nothing is recorded");
    let own = "extraVolumes[0].name=v,extraVolumes[0].emptyDir.medium=Memory,extraVolumeMounts[0].name=v";
    assert!(volume(&["record.enabled=true", own, "extraVolumeMounts[0].mountPath=/var/lib/go-metro"]).is_none());
    let refused = "record.enabled=true,config.init_config.record.folder=/etc/x";
    assert!(chart::render(&[refused]).expect_err(refused).to_string().contains("record.folder"));

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("conf.yaml");
    for (values, lines) in [
        (&["record.enabled=true"][..], &["memory: 64MiB", "threshold: 500ms"][..]),
        (&["record.enabled=true,record.threshold="], &["memory: 64MiB"]),
        (
            &["record.enabled=true,record.memory=16MiB", "config.init_config.record.threshold=2s"],
            &["memory: 16MiB", "threshold: 2s"],
        ),
    ] {
        let text = conf(values);
        let written: Vec<&str> = text.lines().map(str::trim).collect();
        assert!(lines.iter().all(|line| written.contains(line)), "{text}");
        assert_eq!(text.contains("threshold"), lines.len() > 1, "{text}");
        fs::write(&file, text).unwrap();
        let said = output(Command::new(agent::binary().unwrap()).args(["check", "--config"]).arg(&file)).unwrap();
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(said.contains("ok    configuration: "), "{said}");
    }
    // Pods are replaced when it changes.
    let checksum = |values: &[&str]| at(&rendered(values), "/metadata/annotations/checksum~1config");
    assert_ne!(checksum(&[]), checksum(&["record.enabled=true"]));
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
        ("otlp.endpoint=collector:4318", "endpoint"),
        ("web.port=0", "port"),
        ("web.listen=127.0.0.1:1", "listen"),
        ("record.memory=much", "memory"),
        ("record.hostPath=var", "hostPath"),
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
