use std::time::Duration;

use super::*;

const NO_ENVIRONMENT: Environment<'static> = &|_| None;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("conf.yaml"), NO_ENVIRONMENT)
}

fn fault(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

/// A fault without its lists of valid keys, which grow; `the_example_loads_and_shows_every_key` reads them.
fn fault_without_lists(text: &str) -> String {
    let fault = fault(text);
    let mut parts = fault.split(" (valid: ");
    let first = parts.next().unwrap().to_owned();
    parts.fold(first, |all, rest| all + rest.split_once(')').unwrap().1)
}

/// Every key of the original, as its own documents write it.
const ORIGINAL: &str = "
init_config:
    snaplen: 512
    idle_ttl: 300
    exp_ttl: 60
    statsd_ip: 127.0.0.1
    statsd_port: 8125
    log_to_file: true
    log_level: info
instances:
    - interface: eth0
      tags:
        - env:prod
        - role:db
      ips:
        - 45.33.125.153
      hosts:
        - app.datadoghq.com
    - interface: lo
      sample: true
      sample_duration: 10
      sample_interval: 50
      ips: [127.0.0.1]
    - interface: file
      pcap: /tmp/capture.pcap
      ips: [10.0.0.1]
";

#[test]
fn the_originals_file_loads_unchanged() {
    let config = parse(ORIGINAL).unwrap();
    assert_eq!((config.snaplen, config.idle_ttl.as_secs(), config.exp_ttl.as_secs()), (512, 300, 60));
    assert_eq!(config.statsd, Statsd::Udp { host: "127.0.0.1".to_owned(), port: 8125 });
    assert!(config.log_to_file);
    let [eth0, lo, file] = config.instances.as_slice() else { panic!("three instances") };
    assert_eq!((eth0.interface.as_str(), eth0.tags.len(), eth0.sampling), ("eth0", 2, None));
    assert_eq!(eth0.ips, ["45.33.125.153/32".parse().unwrap()]);
    assert_eq!(eth0.hosts, ["app.datadoghq.com"]);
    let window = Sampling { on: Duration::from_secs(10), off: Duration::from_secs(50) };
    assert_eq!(lo.sampling, Some(window));
    assert_eq!(file.pcap.as_deref(), Some(Path::new("/tmp/capture.pcap")));
}

#[test]
fn families_of_metrics_are_added_to_the_default_by_name() {
    let metrics = |text: &str| {
        let keys = if text.is_empty() { String::new() } else { format!("metrics: {text}") };
        let file = format!("init_config: {{{keys}}}\ninstances: [{{interface: eth0, ips: [10.0.0.1]}}]\n");
        parse(&file).unwrap().metrics
    };
    assert_eq!(metrics(""), MetricName::usual());
    assert_eq!(metrics("[default]"), MetricName::usual());
    assert_eq!(metrics("[default, health, base, response]"), MetricName::all());
    assert_eq!(metrics("[health]"), [MetricName::Health]);
}

#[test]
fn older_files_of_the_original_call_the_instances_config() {
    let config = parse(
        "init_config:\n    snaplen: 512\nconfig:\n- interface: eth0\n  tags:\n    - foo:bar\n  \
         ips:\n    - 192.168.0.1\n  hosts:\n    - somehost.somedomain.to\n",
    );
    assert_eq!(config.unwrap().instances[0].hosts, ["somehost.somedomain.to"]);
}

#[test]
fn both_names_of_the_closed_flows_lifetime_are_one_setting() {
    let with = |keys: &str| format!("init_config: {{{keys}}}\ninstances: [{{interface: lo, ips: ['::/0']}}]\n");
    assert_eq!(parse(&with("expired_ttl: 7")).unwrap().exp_ttl.as_secs(), 7);
    assert_eq!(parse(&with("exp_ttl: 7, expired_ttl: 7")).unwrap().exp_ttl.as_secs(), 7);
    let fault = fault(&with("exp_ttl: 7, expired_ttl: 8"));
    assert!(fault.contains("two names of the same setting"), "{fault}");
}

#[test]
fn every_key_but_the_interface_and_a_target_has_a_default() {
    for text in [
        "instances:\n  - interface: eth0\n    ips: [10.0.0.0/8]\n",
        "init_config:\ninstances:\n  - {interface: eth0, hosts: [a]}\n",
    ] {
        let config = parse(text).unwrap();
        assert_eq!(config.statsd, Statsd::Udp { host: "127.0.0.1".to_owned(), port: 8125 });
        assert_eq!((config.backend, config.report_interval.as_secs()), (Backend::Auto, 30));
        assert!(!config.log_to_file && config.reverse_dns);
    }
}

#[test]
fn yaml_1_1_booleans_and_quoted_numbers_are_understood() {
    let config = parse(
        "init_config: {log_to_file: yes, statsd_port: '9125', ring_size: 4MiB}\n\
         instances: [{interface: lo, ips: ['::/0']}]\n",
    );
    let config = config.unwrap();
    assert!(config.log_to_file);
    assert_eq!((config.statsd, config.ring_size), (Statsd::Udp { host: "127.0.0.1".to_owned(), port: 9125 }, 4 << 20));
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_nearest_valid_one() {
    let text = "init_config:\n  idle_tll: 3\ninstances: [{interface: lo, ips: ['::1']}]\n";
    let fault_in_init = fault(text);
    assert!(
        fault_in_init.starts_with("conf.yaml:2: init_config: unknown key `idle_tll`; did you mean `idle_ttl`?\n"),
        "{fault_in_init}"
    );
    assert!(fault_in_init.ends_with("\n  2 |   idle_tll: 3\n    |   ^^^^^^^^"), "{fault_in_init}");
    let text = "instances:\n  - interface: lo\n    ips: ['::1']\n  - interface: eth0\n    ips: ['::1']\n    \
                sampel_duration: 3\n";
    assert_eq!(
        fault_without_lists(text),
        "conf.yaml:6: instances[1]: unknown key `sampel_duration`; did you mean `sample_duration`?\n  \
         6 |     sampel_duration: 3\n    |     ^^^^^^^^^^^^^^^"
    );
    let top = fault("instance: []\n");
    assert!(top.starts_with("conf.yaml:1: unknown key `instance`; did you mean `instances`? (valid: init_"), "{top}");
    for (text, home) in [
        ("statsd_ip: 127.0.0.1\ninstances: []\n", "`statsd_ip`; it belongs in `init_config`"),
        ("init_config: {ips: ['::1']}\ninstances: []\n", "`ips`; it belongs in an instance, below `instances`"),
        ("init_config: {watermark: off}\ninstances: []\n", "`watermark`; it belongs in `sampling` of `init_config`"),
    ] {
        assert!(fault(text).contains(home), "{}", fault(text));
    }
}

#[test]
fn a_bad_value_is_named_with_its_line_and_key() {
    let in_init = |line: &str| {
        fault(&format!("init_config:\n  log_to_file: no\n  {line}\ninstances:\n  - {{interface: lo, ips: ['::1']}}\n"))
    };
    let cases = [
        ("statsd_port: 70000", "init_config.statsd_port: expected a whole number from 1 to 65535, found `70000`"),
        ("statsd_port: [1]", "init_config.statsd_port: expected a whole number from 1 to 65535, found a list"),
        ("idle_ttl: 0", "init_config.idle_ttl: 0 s is too short; the smallest is 0.1 s"),
        (
            "idle_ttl: soon",
            "init_config.idle_ttl: expected seconds, or a time such as 500ms, 10s, 5m, 1h or 1d, found `soon`",
        ),
        (
            "log_level: loud",
            "init_config.log_level: expected `trace`, `debug`, `info`, `warning` or `error`, found `loud`",
        ),
        (
            "ring_size: many",
            "init_config.ring_size: expected a number of bytes such as 65536, 512KiB or 8MiB, found `many`",
        ),
        ("reverse_dns: maybe", "init_config.reverse_dns: expected true or false, found `maybe`"),
        ("backend: xdp", "init_config.backend: expected `auto`, `ebpf` or `pcap`, found `xdp`"),
    ];
    for (line, what) in cases {
        let (key, value) = line.split_once(": ").unwrap();
        let (before, carets) = (" ".repeat(key.len() + 2), "^".repeat(value.len()));
        assert_eq!(in_init(line), format!("conf.yaml:3: {what}\n  3 |   {line}\n    |   {before}{carets}"));
    }
    let targets = "instances:\n  - interface: lo\n    ips:\n      - 10.0.0.1\n      - 10.0.0.300\n";
    assert_eq!(
        fault(targets),
        "conf.yaml:5: instances[0].ips[1]: `10.0.0.300` is neither an address nor a prefix such as 10.0.0.0/8\n  \
         5 |       - 10.0.0.300\n    |         ^^^^^^^^^^"
    );
    let name = fault("instances:\n  - interface: lo\n    ips: [db.example]\n");
    assert!(name.contains("host names go into `hosts`"), "{name}");
}

#[test]
fn slips_that_are_easily_made_are_answered_with_what_to_write() {
    let init = |line: &str| fault(&format!("init_config: {{{line}}}\ninstances: [{{interface: lo, ips: ['::1']}}]\n"));
    let instance = |keys: &str| fault(&format!("instances:\n  - {{{keys}}}\n"));
    for (fault, what) in [
        (instance("iface: eth0, ips: ['::1']"), "unknown key `iface`; did you mean `interface`?"),
        (instance("interface: eth0, targets: ['::1']"), "unknown key `targets`; did you mean `ips`?"),
        (instance("interface: eth0, ips: [\"::1]"), "the quote is not closed; write \"::1\""),
        (instance("interface: eth0, ips: [::/0]"), "quote it: \"::/0\""),
        (instance("interface: *, ips: ['::/0']"), "quote it: \"*\""),
        (
            instance("interface: eth0, ips: ['10.0.0.1:5432']"),
            "`10.0.0.1:5432` has a port; write `10.0.0.1` here and `ports: [5432]` in `init_config`",
        ),
        (instance("interface: eth0, ips: ['10.0.0.0/8:443']"), "write `10.0.0.0/8` here and `ports: [443]`"),
        (instance("interface: eth0, ips: ['[fd00::1]:443']"), "write `fd00::1` here and `ports: [443]`"),
        (instance("interface: eth0, ips: ['db.example:5432']"), "write `db.example` in `hosts` and `ports: [5432]`"),
        (instance("interface: eth0, hosts: ['db.example:5432']"), "write `db.example` here and `ports: [5432]`"),
        (instance("interface: eth0, ips: any"), "\"0.0.0.0/0\" and \"::/0\" together mean every address"),
        (instance("interface: eth0, ips: [all]"), "\"0.0.0.0/0\" and \"::/0\" together mean every address"),
        (instance("interface: eth0, ips: 10.0.0.1"), "expected a list, found a string; write `ips: [10.0.0.1]`"),
        (instance("interface: eth0, hosts: [10.0.0.0/8]"), "`10.0.0.0/8` is a prefix; it goes into `ips`"),
        (instance("interface: eth0, hosts: ['https://db.example:443/x']"), "write `db.example`"),
        (instance("interface: eth0, hosts: ['https://user:word@db.example:443/x']"), "write `db.example`"),
        (instance("interface: eth0, hosts: [10.0.0.256]"), "`10.0.0.256` is not a host name"),
        (instance("interface: eth0, ips: ['::1'], tags: [env: prod]"), "write `env:prod`, without the space"),
        (instance("interface: eth0, ips: ['::1'], tags: {env: prod}"), "write `tags: [\"env:prod\"]`"),
        (instance("interface: [eth0, eth1], ips: ['::1']"), "write an instance for each"),
        (instance("interface: 'eth0,eth1', ips: ['::1']"), "it must be one interface or a pattern such as `eth*`"),
        (init("statsd_host: 127.0.0.1"), "unknown key `statsd_host`; did you mean `statsd_ip`?"),
        (init("statsd_ip: '127.0.0.1:8125'"), "write `statsd_ip: 127.0.0.1` and `statsd_port: 8125`"),
        (init("statsd_ip: 10.0.0.256"), "`10.0.0.256` is neither an address nor a host name"),
        (init("sampling: 100ms"), "write `sampling: {per_flow: 100ms}`"),
        (init("ports: [5432-80]"), "`5432-80` ends before it begins; write 80-5432"),
        (init("outputs: []"), "is empty; leave the key out for its default"),
        (init("outputs: [statsd, json, statsd]"), "outputs: names an output twice"),
        (init("metrics: [default, helth]"), "`base`, `health`, `response` or `default`, found `helth`"),
        (init("metrics: []"), "is empty; leave the key out for its default"),
        (init("report_interval: 10x"), "expected seconds, or a time such as 500ms, 10s, 5m, 1h or 1d"),
        (init("report_interval: 1ms"), "init_config.report_interval: 0.001 s is too short; the smallest is 0.1 s"),
        (init("idle_ttl: 0.05"), "init_config.idle_ttl: 0.05 s is too short; the smallest is 0.1 s"),
        (init("statsd_ip: 255.255.255.255"), "init_config.statsd_ip: `255.255.255.255` is a broadcast address"),
        (
            init(&format!("statsd_socket: /{}", "a".repeat(107))),
            "init_config.statsd_socket: is 108 bytes long; the path of a Unix socket has at most 107",
        ),
        (init(&format!("status_socket: /{}", "a".repeat(107))), "init_config.status_socket: is 108 bytes long;"),
        (init("prometheus_listen: 9464"), "`9464` has no address; write 127.0.0.1:9464 for programs on this host, or"),
        (init("prometheus_listen: ':9464'"), "`:9464` has no address; write 127.0.0.1:9464"),
        (
            init("prometheus_listen: 'localhost:9464'"),
            "`localhost:9464` is not an address with a port such as 127.0.0.1:9464",
        ),
        (init("web_listen: ':9465'"), "`:9465` has no address; write 127.0.0.1:9465 for programs on this host, or"),
        (init("web_listen: 'localhost:80'"), "`localhost:80` is not an address with a port such as 127.0.0.1:9465 or"),
        (
            init("web_listen: [a]"),
            "expected an address with a port such as 127.0.0.1:9465 or [::]:9465, or off, found a list",
        ),
        (init("web_listen: 192.0.2.7"), "`192.0.2.7` has no port; write 192.0.2.7:9465"),
        (init("prometheus_listen: '[::1]'"), "`[::1]` has no port; write [::1]:9464"),
        (init("prometheus_listen: '127.0.0.1:70000'"), "`127.0.0.1:70000` has port 70000, which is out of range"),
        (init("prometheus_listen: ':70000'"), "`:70000` has port 70000, which is out of range; use 1 to 65535"),
        (init("web_listen: '[::1]:'"), "`[::1]:` has no port after its colon; use 1 to 65535"),
        (init("web_listen: '[::1]:http'"), "`[::1]:http` has `http` for a port; use 1 to 65535"),
        (instance("interface: eth0, ips: ['10.0.0.1:70000']"), "`10.0.0.1:70000` has port 70000, which is out of"),
        (instance("interface: eth0, hosts: ['db.example:0']"), "`db.example:0` has port 0, which is out of range"),
        (init("statsd_ip: '127.0.0.1:70000'"), "`127.0.0.1:70000` has port 70000, which is out of range"),
        (init("ports: [70000]"), "`70000` is out of range; a port is 1 to 65535"),
        (init("prometheus_listen: '::1'"), "`::1` has no port; write [::1]:9464"),
        (init("web_listen: 'fd00::1:9470'"), "`fd00::1:9470` needs brackets; write [fd00::1]:9470"),
        (init("metrics: [helth]"), "found `helth`; did you mean `health`?"),
        (init("outputs: [promtheus]"), "`otlp` or `json`, found `promtheus`; did you mean `prometheus`?"),
        (init("connect_timeout: 0"), "init_config.connect_timeout: 0 s is too short; the smallest is 0.1 s"),
        (init("connect_timeout: 2h"), "init_config.connect_timeout: 7200 s is too long; the largest is 3600 s"),
        (init("web_history: 5s"), "init_config.web_history: 5 s is too short; the smallest is 10 s"),
        (init("web_history: 2d"), "init_config.web_history: 172800 s is too long; the largest is 86400 s"),
        (init("status_socket: here"), "init_config.status_socket: `here` is not an absolute path; start it with /"),
        (
            init("prometheus_listen: '[::1]:9464', web_listen: '[::1]:9464'"),
            "`web_listen` and `prometheus_listen` are the same address; give each a port of its own",
        ),
    ] {
        assert!(fault.contains(what), "{what} is not in: {fault}");
        // Said once: that the right key is missing goes without saying.
        assert_eq!(fault.matches("conf.yaml:").count(), 1, "{fault}");
    }
    let tab = fault("instances:\n  - interface: lo\n\tips: [a]\n");
    assert!(tab.starts_with("conf.yaml:3: YAML does not allow tabs for indentation; use spaces\n"), "{tab}");
    // An IPv6 address that ends in digits has no port.
    assert!(parse("instances: [{interface: lo, ips: ['fd00::1:443']}]\n").is_ok());
}

#[test]
fn a_page_that_others_can_reach_is_doubted_and_one_for_this_host_is_not() {
    let subjects = |address: &str| {
        let config =
            parse(&format!("init_config: {{web_listen: '{address}'}}\ninstances: [{{interface: lo, ips: ['::1']}}]\n"));
        config.unwrap().doubts().iter().map(|doubt| doubt.subject).collect::<Vec<_>>()
    };
    for own in ["127.0.0.1:9465", "127.9.9.9:1", "[::1]:9465", "[::ffff:127.0.0.1]:9465"] {
        assert!(subjects(own).is_empty(), "{own}");
    }
    for open in ["0.0.0.0:9465", "[::]:9465", "192.0.2.7:9465", "[::ffff:192.0.2.7]:9465"] {
        assert_eq!(subjects(open), ["web"], "{open}");
    }
}

#[test]
fn a_tag_with_a_key_of_ours_is_doubted_where_ours_is_in_use() {
    let said = |init: &str, tags: &str| {
        let text =
            format!("init_config: {{{init}}}\ninstances: [{{interface: lo, ips: ['::1'], tags: ['{tags}', 'a:b']}}]\n");
        let doubts = parse(&text).unwrap().doubts();
        doubts.into_iter().map(|doubt| doubt.what).collect::<Vec<_>>().join("\n")
    };
    for (tag, init) in [
        ("src:a", ""),
        ("dst:a", ""),
        ("iface", ""),
        ("side:a", "sides: both"),
        ("cause:a", "metrics: [default, health]"),
        ("role:a", "metrics: [default, health]"),
        ("port:1", "group_by: {port: service}"),
        ("unit:a", "process_tags: unit"),
        ("pod_uid:a", "process_tags: container"),
    ] {
        let key = tag.split(':').next().unwrap();
        for said in [said(init, tag), said(&format!("tags: ['{tag}', 'c:d'], {init}"), "e:f")] {
            assert!(said.starts_with(&format!("a tag in `tags` has the key `{key}`")), "{tag}, {init}: {said}");
        }
        assert!(init.is_empty() || said("", tag).is_empty(), "{tag}");
    }
    assert!(said("", "dst:a").ends_with("to DogStatsD, and is the label `tag_dst` in Prometheus"));
    let joined = said("group_by: {port: service}", "port:1");
    assert!(joined.ends_with("to DogStatsD, and is joined with it by a comma in Prometheus and OTLP"), "{joined}");
}

#[test]
fn metrics_without_the_usual_ones_are_doubted_where_they_are_missed() {
    let doubted = |init: &str| {
        let text = format!("init_config: {{{init}}}\ninstances: [{{interface: lo, ips: ['::1']}}]\n");
        parse(&text).unwrap().doubts().iter().any(|doubt| doubt.what.contains("DogStatsD gets no round-trip times"))
    };
    assert!(doubted("metrics: [health]") && doubted("metrics: [base, response]"));
    for fine in ["metrics: [default, health]", "metrics: [rtt.avg, health]", "metrics: [health], outputs: [prometheus]"]
    {
        assert!(!doubted(fine), "{fine}");
    }
}

#[test]
fn a_history_without_a_page_is_doubted_and_off_is_no_page() {
    let read = |init: &str| {
        let text = format!("init_config: {{{init}}}\ninstances: [{{interface: lo, ips: ['::1']}}]\n");
        parse(&text).unwrap()
    };
    let doubted = |init: &str| read(init).doubts().iter().map(|doubt| doubt.what.clone()).collect::<String>();
    for without in ["web_history: 1d", "web_history: 60, web_listen: off", "web_history: 60, web_listen: false"] {
        assert!(doubted(without).contains("`web_history` has no effect"), "{without}");
        assert_eq!(read(without).web_listen, None, "{without}");
    }
    for fine in ["web_history: 15m", "web_history: 60, web_listen: '127.0.0.1:9465'"] {
        assert_eq!(doubted(fine), "", "{fine}");
    }
}

#[test]
fn each_fault_has_a_line_for_the_log() {
    let error = parse("init_config: {snaplen: x, colour: red}\ninstances: [{interface: lo}]\n").unwrap_err();
    let lines = error.lines();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines.iter().all(|line| line.starts_with("conf.yaml:") && !line.contains('\n')), "{lines:?}");
}

#[test]
fn what_does_not_fit_together_is_named_with_its_instance() {
    let instance = |keys: &str| fault(&format!("instances:\n  - interface: lo\n    ips: ['::1']\n  - {keys}\n"));
    let cases = [
        ("interface: eth0", "neither `ips` nor `hosts` names a target"),
        ("{interface: file, ips: ['::1']}", "`interface: file` and `pcap: PATH` go together"),
        ("{interface: eth0, pcap: /a, ips: ['::1']}", "`interface: file` and `pcap: PATH` go together"),
        ("{interface: eth0, sample: true, ips: ['::1']}", "`sample: true` needs `sample_duration`"),
        ("{ips: ['::1']}", "`interface` is missing; name one that `ip link` lists"),
    ];
    for (keys, what) in cases {
        let fault = instance(keys);
        assert!(fault.starts_with("conf.yaml:4: instances[1]: ") && fault.contains(what), "{keys}: {fault}");
    }
    let empty = fault("init_config:\ninstances: []\n");
    assert!(empty.starts_with("conf.yaml:2: instances: holds no instance"), "{empty}");
    let missing = fault("init_config: {}\n");
    assert!(missing.starts_with("conf.yaml:1: instances: is missing or empty; name"), "{missing}");
    let scalar = fault("instances: eth0\n");
    assert!(scalar.starts_with("conf.yaml:1: instances: expected a list; write each"), "{scalar}");
    for nothing in ["", "\n", "# nothing yet\n\n"] {
        let fault = fault(nothing);
        assert!(fault.starts_with("conf.yaml:1: instances: is missing or empty; name at least one"), "{fault}");
    }
}

#[test]
fn everything_that_is_wrong_is_told_at_once_in_the_order_of_lines() {
    let text = "\
init_config:
  statsd_port: 0
  statsd_socket: dsd.socket
  colour: red
instances:
  - interface: eth0
    sampel: true
    ips:
      - 10.0.0.1
      - db.example
      - 10.0.0.0/33
  - hosts: [a b]
    sample: yes
    sample_duration: 0
";
    assert_eq!(
        fault_without_lists(text),
        "\
conf.yaml:2: init_config.statsd_port: expected a whole number from 1 to 65535, found `0`
  2 |   statsd_port: 0
    |                ^
conf.yaml:3: init_config.statsd_socket: `dsd.socket` is not an absolute path; start it with /
  3 |   statsd_socket: dsd.socket
    |                  ^^^^^^^^^^
conf.yaml:3: init_config: `statsd_socket` and `statsd_ip`/`statsd_port` exclude each other; keep one
  3 |   statsd_socket: dsd.socket
    |   ^^^^^^^^^^^^^
conf.yaml:4: init_config: unknown key `colour`
  4 |   colour: red
    |   ^^^^^^
conf.yaml:7: instances[0]: unknown key `sampel`; did you mean `sample`?
  7 |     sampel: true
    |     ^^^^^^
conf.yaml:10: instances[0].ips[1]: `db.example` is neither an address nor a prefix such as 10.0.0.0/8; host names \
go into `hosts`
  10 |       - db.example
     |         ^^^^^^^^^^
conf.yaml:11: instances[0].ips[2]: `10.0.0.0/33` is neither an address nor a prefix such as 10.0.0.0/8
  11 |       - 10.0.0.0/33
     |         ^^^^^^^^^^^
conf.yaml:12: instances[1].hosts[0]: `a b` is not a host name
  12 |   - hosts: [a b]
     |             ^^^
conf.yaml:12: instances[1]: `interface` is missing; name one that `ip link` lists
  12 |   - hosts: [a b]
     |     ^^^^^^^^^^^^
conf.yaml:13: instances[1]: `sample: true` needs `sample_duration` (seconds on) and `sample_interval` (seconds off)
  13 |     sample: yes
     |     ^^^^^^
conf.yaml:14: instances[1].sample_duration: `0` is not allowed; use a time above 0
  14 |     sample_duration: 0
     |                      ^"
    );
}

#[test]
fn what_is_wrong_is_marked_as_a_terminal_shows_the_line() {
    let marked = |text: &str| fault(text).lines().skip(1).collect::<Vec<_>>().join("\n");
    assert_eq!(
        marked("instances:\n- {tags: [日本], ips: ['::1'], interface: '', hosts: [a]}\n"),
        "  2 | - {tags: [日本], ips: ['::1'], interface: '', hosts: [a]}\n    \
         |                                           ^^"
    );
    // What is missing is shown where it belongs, what stands on other lines at its key.
    assert_eq!(marked("init_config: {}\n"), "  1 | init_config: {}");
    assert_eq!(marked("instances:\n- interface: a\n  ips:\n    a: b\n  hosts: [c]\n"), "  3 |   ips:\n    |   ^^^");
    assert_eq!(marked("instances:\n  - interface: a\n\tips: [b]\n"), "  3 | \tips: [b]\n    | \t^^^^^^^^");
}

#[test]
fn an_instance_that_stands_twice_is_a_slip_but_other_targets_or_tags_make_it_another() {
    let with = |second: &str| {
        parse(&format!("instances:\n- {{interface: lo, ips: ['::1', 10.0.0.1], tags: [a]}}\n- {second}\n"))
    };
    assert_eq!(
        with("{interface: lo, tags: [a], ips: [10.0.0.1/32, '::1']}").unwrap_err().to_string(),
        "conf.yaml:3: instances[1]: watches the same as instances[0], with the same tags; remove one\n  \
         3 | - {interface: lo, tags: [a], ips: [10.0.0.1/32, '::1']}\n    |   "
            .to_owned()
            + &"^".repeat(53)
    );
    for other in [
        "{interface: eth0, tags: [a], ips: [10.0.0.1, '::1']}",
        "{interface: lo, tags: [b], ips: [10.0.0.1, '::1']}",
        "{interface: lo, tags: [a], ips: ['::1']}",
    ] {
        with(other).unwrap();
    }
}

#[test]
fn what_the_originals_parser_took_for_text_is_text_here() {
    let config = parse("instances: [{interface: lo, pcap: '', ips: ['::1'], tags: [true, 42, a:b]}]\n").unwrap();
    assert_eq!(
        (config.instances[0].tags.as_slice(), &config.instances[0].pcap),
        (&["true", "42", "a:b"].map(String::from)[..], &None)
    );
    let lossy = fault("instances: [{interface: lo, ips: ['::1'], tags: [1.10]}]\n");
    assert!(
        lossy.contains("instances[0].tags[0]: `1.1` is a number and may have lost digits; put quotes around it"),
        "{lossy}"
    );
    let list = fault("instances: [{interface: lo, ips: 10.0.0.1}]\n");
    assert!(list.contains("instances[0].ips: expected a list, found a string; write `ips: [10.0.0.1]`"), "{list}");
}

#[test]
fn times_of_a_window_matter_only_while_sampling() {
    let with = |keys: &str| parse(&format!("instances: [{{interface: lo, ips: ['::1'], {keys}}}]\n"));
    let off = with("sample: off, sample_duration: 0, sample_interval: 0").unwrap();
    assert_eq!(off.instances[0].sampling, None);
    let zero = with("sample: on, sample_duration: 5, sample_interval: 0").unwrap_err().to_string();
    assert!(zero.contains("instances[0].sample_interval: `0` is not allowed; use a time above 0"), "{zero}");
}

#[test]
fn merged_and_shared_parts_of_yaml_are_followed() {
    let text = "instances:\n  - &a {interface: a, ips: &nets [10.0.0.0/8], tags: [x]}\n  \
                - {<<: *a, interface: b}\n  - {interface: c, ips: *nets}\n";
    let config = parse(text).unwrap();
    assert_eq!(config.instances[1].interface, "b");
    assert!(config.instances.iter().all(|instance| instance.ips == ["10.0.0.0/8".parse().unwrap()]));
}

#[test]
fn what_is_no_yaml_is_an_error_with_its_line() {
    let fault = fault("instances:\n  - interface: [\n");
    assert!(fault.starts_with("conf.yaml:3:") || fault.starts_with("conf.yaml:2:"), "{fault}");
    let missing = Config::load(Path::new("/nowhere/conf.yaml"), NO_ENVIRONMENT).unwrap_err().to_string();
    assert!(missing.starts_with("/nowhere/conf.yaml: cannot read the configuration: No such file"), "{missing}");
}

#[test]
fn the_environment_speaks_where_the_file_is_silent() {
    let env = |name: &str| {
        let value = match name {
            "DD_AGENT_HOST" => "agent.example",
            "DD_DOGSTATSD_PORT" => "9999",
            "DD_ENTITY_ID" => "pod-1",
            "DD_ENV" => "prod",
            _ => return None,
        };
        Some(value.to_owned())
    };
    let load = |text: &str| Config::parse(text, Path::new("conf.yaml"), &env).unwrap();
    let silent = load("instances: [{interface: lo, ips: ['::1']}]\n");
    assert_eq!(silent.statsd, Statsd::Udp { host: "agent.example".to_owned(), port: 9999 });
    assert_eq!(silent.statsd_origin, Origin::Environment("DD_AGENT_HOST"));
    assert_eq!(silent.tags, ["env:prod", "dd.internal.entity_id:pod-1"]);
    let spoken = load(
        "init_config: {statsd_ip: 10.0.0.1, statsd_port: 1}\n\
         instances: [{interface: lo, ips: ['::1'], tags: ['env:test']}, {interface: a, ips: ['::1']}]\n",
    );
    assert_eq!(spoken.statsd, Statsd::Udp { host: "10.0.0.1".to_owned(), port: 1 });
    assert_eq!(spoken.statsd_origin, Origin::File);
    assert_eq!(spoken.tags, ["dd.internal.entity_id:pod-1"]);
    assert_eq!(
        (spoken.instances[0].tags.as_slice(), spoken.instances[1].tags.as_slice()),
        (&["env:test".to_owned()][..], &["env:prod".to_owned()][..])
    );
}

#[test]
fn a_receiver_of_otlp_adds_that_output_and_one_that_cannot_be_sent_to_only_a_doubt() {
    const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    let of = |init: &str, url: Option<&str>| {
        let text = format!("init_config: {init}\ninstances: [{{interface: lo, ips: ['::1']}}]\n");
        let env = |name: &str| url.filter(|_| name == ENDPOINT).map(str::to_owned);
        Config::parse(&text, Path::new("c"), &env)
    };
    let (statsd, both) = (&[Output::Statsd][..], &[Output::Statsd, Output::Otlp][..]);
    for (init, url, outputs) in [
        ("{}", None, statsd),
        ("{otlp_endpoint: 'http://a:1'}", None, both),
        ("{}", Some("http://a:1"), both),
        ("{outputs: [statsd]}", Some("http://a:1"), statsd),
        ("{otlp_endpoint: 'http://a:1', outputs: [statsd]}", None, statsd),
        ("{otlp_endpoint: 'http://a:1', prometheus_listen: '[::1]:1', outputs: [otlp]}", None, &both[1..]),
        ("{}", Some("https://a:1"), statsd),
        ("{}", Some("a:1"), statsd),
        // The file says where, the environment's URL is not used.
        ("{otlp_endpoint: 'http://a:1'}", Some("https://a:1"), both),
    ] {
        let config = of(init, url).unwrap();
        assert_eq!(config.outputs, outputs, "{init} {url:?}");
        let is_ignored = init == "{}" && url.is_some_and(|url| !url.starts_with("http://"));
        let is_without_effect = init == "{otlp_endpoint: 'http://a:1', outputs: [statsd]}";
        let doubts = config.doubts();
        let what: Vec<&str> =
            doubts.iter().filter(|doubt| doubt.subject == "OTLP").map(|doubt| doubt.what.as_str()).collect();
        assert_eq!(what.len(), usize::from(is_ignored || is_without_effect), "{what:?}");
        assert_eq!(what.iter().any(|what| what.contains("`outputs` does not name otlp")), is_without_effect);
    }
    let fault = of("{otlp_endpoint: 'https://a:1'}", None).unwrap_err().to_string();
    assert!(fault.contains("c:1: init_config.otlp_endpoint: `https://a:1` needs TLS"), "{fault}");
}

#[test]
fn a_variable_of_otlp_without_effect_is_doubted_if_it_is_a_mistake_and_noted_otherwise() {
    const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    const TIMEOUT: &str = "OTEL_EXPORTER_OTLP_TIMEOUT";
    let of = |init: &str, variable: &str, value: &str| {
        let text = format!("init_config: {init}\ninstances: [{{interface: lo, ips: ['::1']}}]\n");
        let env = |name: &str| (name == variable).then(|| value.to_owned());
        Config::parse(&text, Path::new("c"), &env).unwrap()
    };
    let said = |config: &Config| {
        let doubts: Vec<String> = config.doubts().into_iter().map(|doubt| doubt.what).collect();
        (doubts.join("\n"), config.without_effect().join("\n"))
    };
    for (init, variable, value, doubt, note) in [
        ("{outputs: [otlp]}", TIMEOUT, "x", "OTEL_EXPORTER_OTLP_TIMEOUT is ignored: ", ""),
        ("{outputs: [otlp]}", ENDPOINT, "a:1", "OTEL_EXPORTER_OTLP_ENDPOINT is ignored: ", ""),
        ("{outputs: [statsd]}", ENDPOINT, "a:1", "", "OTEL_EXPORTER_OTLP_ENDPOINT has no effect: `outputs` does"),
        ("{}", ENDPOINT, "a:1", "nothing is sent over OTLP: OTEL_EXPORTER_OTLP_ENDPOINT is ignored: ", ""),
        ("{}", TIMEOUT, "x", "", "OTEL_EXPORTER_OTLP_TIMEOUT has no effect: no endpoint"),
        ("{otlp_endpoint: 'http://a:1'}", ENDPOINT, "a:1", "", "OTEL_EXPORTER_OTLP_ENDPOINT has no effect: `otlp_"),
    ] {
        let (doubts, notes) = said(&of(init, variable, value));
        assert!(doubts.starts_with(doubt) && notes.starts_with(note), "{init} {value}: {doubts} {notes}");
        assert_eq!((doubts.is_empty(), notes.is_empty()), (doubt.is_empty(), note.is_empty()), "{doubts} {notes}");
    }
    for (variable, value) in [("OTEL_SDK_DISABLED", "true"), ("OTEL_METRICS_EXPORTER", "none")] {
        let url = [(ENDPOINT, "http://a:1"), (variable, value)];
        let env = |name: &str| url.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        let text = "instances: [{interface: lo, ips: ['::1']}]\n";
        let config = Config::parse(text, Path::new("c"), &env).unwrap();
        assert_eq!((config.outputs.as_slice(), said(&config).0), (&[Output::Statsd][..], String::new()));
        assert!(said(&config).1.contains(&format!("{variable} switches OTLP off")), "{:?}", said(&config));
    }
    // The command line asks for it: something is sent.
    let mut config = of("{}", ENDPOINT, "a:1");
    config.outputs.push(Output::Otlp);
    assert!(said(&config).0.starts_with("OTEL_EXPORTER_OTLP_ENDPOINT is ignored: "), "{:?}", said(&config));
}

#[test]
fn a_url_in_the_environment_names_either_socket() {
    let with = |url: &'static str| {
        let env = move |name: &str| (name == "DD_DOGSTATSD_URL").then(|| url.to_owned());
        Config::from_cli(&["lo".to_owned()], &[], &env).map(|config| config.statsd)
    };
    let udp = |host: &str, port| Statsd::Udp { host: host.to_owned(), port };
    assert_eq!(with("udp://agent:9000").unwrap(), udp("agent", 9000));
    assert_eq!(with("udp://agent").unwrap(), udp("agent", 8125));
    assert_eq!(with("udp://[::1]:9000").unwrap(), udp("::1", 9000));
    assert_eq!(with("unix:///run/dsd.socket").unwrap(), Statsd::Unix(PathBuf::from("/run/dsd.socket")));
    assert!(
        with("udp://255.255.255.255").unwrap_err().to_string().contains("DD_DOGSTATSD_URL: `255.255.255.255` is a")
    );
    let long: &'static str = format!("unix:///{}", "a".repeat(107)).leak();
    assert!(with(long).unwrap_err().to_string().contains("DD_DOGSTATSD_URL: the path is 108 bytes long"));
    assert!(with("tcp://x").unwrap_err().to_string().contains("use udp://HOST:PORT, unix:///PATH or"));
    assert_eq!(
        with("udp://:8125").unwrap_err().to_string(),
        "DD_DOGSTATSD_URL: `` is neither an address nor a host name"
    );
    assert_eq!(with("unixgram:///run/dsd.socket").unwrap(), Statsd::Unix(PathBuf::from("/run/dsd.socket")));
}

#[test]
fn the_shortest_times_and_the_longest_path_are_taken() {
    let path = format!("/{}", "a".repeat(106));
    let init = format!("{{report_interval: 100ms, idle_ttl: 0.1, statsd_socket: {path}}}");
    let config = parse(&format!("init_config: {init}\ninstances: [{{interface: lo, ips: ['::1']}}]\n")).unwrap();
    assert_eq!((config.report_interval, config.idle_ttl), (Duration::from_millis(100), Duration::from_millis(100)));
    assert_eq!(config.statsd, Statsd::Unix(PathBuf::from(path)));
    assert_eq!(parse_interval("0.1"), Ok(Duration::from_millis(100)));
}

#[test]
fn a_variable_that_is_not_utf_8_is_named() {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt as _;
    let env = |name: &str| match name {
        "DD_ENV" => Some(OsString::from_vec(b"pr\xffod".to_vec())),
        "DD_SERVICE" => Some(OsString::from("web")),
        _ => None,
    };
    assert_eq!(not_utf8(env), ["environment variable DD_ENV is not UTF-8 and is ignored; set it to plain text"]);
}

#[test]
fn who_named_the_port_of_the_server_is_known() {
    let origin = |init: &str, port: Option<&str>| {
        let text = format!("init_config: {init}\ninstances: [{{interface: lo, ips: ['::1']}}]\n");
        let env = |name: &str| port.filter(|_| name == "DD_DOGSTATSD_PORT").map(str::to_owned);
        Config::parse(&text, Path::new("conf.yaml"), &env).unwrap().statsd_origin
    };
    assert_eq!(origin("{}", None), Origin::Default);
    assert_eq!(origin("{statsd_port: 8127}", None), Origin::File);
    assert_eq!(origin("{}", Some("8127")), Origin::Environment("DD_DOGSTATSD_PORT"));
}

#[test]
fn the_command_line_alone_is_enough() {
    let config = Config::from_cli(&["eth0".to_owned(), "eth1".to_owned()], &[], NO_ENVIRONMENT).unwrap();
    assert_eq!(config.instances.len(), 2);
    assert_eq!(config.instances[1].ips, ["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()]);
    let targets = ["10.0.0.0/8", "2001:db8::1", "db.example"].map(str::to_owned);
    let config = Config::from_cli(&["eth0".to_owned()], &targets, NO_ENVIRONMENT).unwrap();
    assert_eq!(
        (config.instances[0].ips.len(), config.instances[0].hosts.as_slice()),
        (2, &["db.example".to_owned()][..])
    );
    let wrong = Config::from_cli(&["eth0".to_owned()], &["10.0.0.300".to_owned()], NO_ENVIRONMENT).unwrap_err();
    assert!(wrong.to_string().contains("--target 10.0.0.300: neither an address"), "{wrong}");
}

#[test]
fn the_example_loads_and_shows_every_key() {
    let example = include_str!("../../../conf.yaml.example");
    let path = Path::new("conf.yaml.example");
    let config = Config::parse(example, path, NO_ENVIRONMENT).unwrap();
    let keys = |message: String| {
        let valid = message.split_once("(valid: ").unwrap().1.split(')').next().unwrap().to_owned();
        valid.split(", ").map(str::to_owned).collect::<Vec<_>>()
    };
    let init = keys(fault("init_config: {x: 1}\ninstances: []\n"));
    let instance = keys(fault("instances: [{x: 1}]\n"));
    // What is commented out in `init_config` shows the default, but for keys that have an example instead: switched on,
    // it changes nothing.
    let switched_on = |line: &str| {
        let setting = line.strip_prefix("  # ").filter(|rest| {
            let key = rest.split(':').next().unwrap_or("");
            Config::KEYS.iter().any(|known| known.name == key && (known.example)().is_null())
        });
        setting.map_or_else(|| line.to_owned(), |setting| format!("  {setting}"))
    };
    let (section, instances) = example.split_once("\ninstances:").unwrap();
    let section: Vec<String> = section.lines().map(switched_on).collect();
    let all = Config::parse(&format!("{}\ninstances:{instances}", section.join("\n")), path, NO_ENVIRONMENT).unwrap();
    assert_eq!(all.statsd_origin, Origin::File);
    assert_eq!(Config { statsd_origin: Origin::Default, ..all }, config);
    for key in init.iter().chain(&instance) {
        let shown = example.lines().any(|line| {
            let line = line.trim_start_matches(['#', ' ', '-']);
            line.strip_prefix(key.as_str()).is_some_and(|rest| rest.starts_with(':'))
        });
        assert!(shown, "conf.yaml.example does not show `{key}`");
    }
}

#[test]
fn a_byte_order_mark_and_an_empty_document_behind_are_no_part_of_the_file() {
    let usual = "init_config: {report_interval: 7}\ninstances: [{interface: e, ips: [10.0.0.1]}]\n";
    for text in [
        format!("\u{feff}{usual}"),
        format!("\u{feff}---\n{usual}"),
        format!("---\r\n{usual}---\r\n"),
        format!("{usual}---\n# the end\n\n...\n"),
        format!("{usual}---"),
    ] {
        let config = Config::parse(&text, Path::new("conf.yaml"), NO_ENVIRONMENT).unwrap();
        assert_eq!((config.report_interval.as_secs(), config.instances.len()), (7, 1), "{text:?}");
    }
    // Places stay what an editor shows.
    let wrong = fault("\u{feff}---\ninstances:\n  - interface: e\n    ips: [10.0.0.300]\n---\n");
    assert!(wrong.starts_with("conf.yaml:4:") && wrong.contains("10.0.0.300"), "{wrong}");
    let two = fault(&format!("{usual}---\n{usual}"));
    assert!(two.contains("more than one document"), "{two}");
}

#[test]
fn ipv4_mapped_into_ipv6_is_ipv4() {
    for (text, meant) in [
        ("::ffff:10.1.2.3/112", "10.1.0.0/16"),
        ("::ffff:10.1.2.3/128", "10.1.2.3/32"),
        ("::ffff:10.1.2.3", "10.1.2.3/32"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::ffff:0:0/95", "::fffe:0:0/95"),
        ("::/0", "::/0"),
        ("2001:db8::1/112", "2001:db8::/112"),
    ] {
        assert_eq!(network(text), Some(meant.parse().unwrap()), "{text}");
    }
}

#[test]
fn twenty_thousand_instances_are_read_and_a_twin_among_them_is_found() {
    let instance = |n: u32| format!("  - {{interface: lo, ips: [{}], tags: ['t:{n}']}}\n", std::net::Ipv4Addr::from(n));
    let mut text = "instances:\n".to_owned();
    (0..20_000).for_each(|n| text.push_str(&instance(n)));
    assert_eq!(parse(&text).unwrap().instances.len(), 20_000);
    text.push_str(&instance(7));
    let refused = fault(&text);
    assert!(refused.contains("instances[20000]") && refused.contains("watches the same as instances[7]"), "{refused}");
}

#[test]
fn what_an_error_quotes_breaks_no_line() {
    let active = "a\\nb\\e[2J\\u202e://u:s3cret\\n@h:x";
    let environment = |name: &'static str| move |asked: &str| (asked == name).then(|| "a\nb\u{1b}[2J".to_owned());
    let mut errors = 0;
    let mut look_at = |what: &str, read: Result<Config, ConfigError>| {
        let lines = match read {
            Ok(config) => config.doubts().into_iter().map(|doubt| doubt.what).collect(),
            Err(error) => {
                errors += 1;
                error.lines()
            }
        };
        for line in lines {
            assert!(!line.contains(|c: char| c.is_control() || c == '\u{202e}'), "{what}: {line:?}");
            assert!(!line.contains("s3cret"), "{what}: {line:?}");
        }
    };
    let of = |init: &str, instance: &str| {
        parse(&format!("init_config: {{{init}}}\ninstances: [{{interface: lo, {instance}}}]\n"))
    };
    for key in Config::KEYS {
        look_at(key.name, of(&format!("{}: \"{active}\"", key.name), "ips: ['::1']"));
        look_at(key.name, of(&format!("{}: [\"{active}\"]", key.name), "ips: ['::1']"));
    }
    for key in Instance::KEYS {
        look_at(key.name, of("", &format!("{}: [\"{active}\"]", key.name)));
    }
    look_at("a key", of(&format!("\"{active}\": 1"), "ips: ['::1']"));
    for name in Config::KEYS.iter().flat_map(|key| key.environment) {
        let text = "init_config: {outputs: [statsd, otlp]}\ninstances: [{interface: lo, ips: ['::1']}]\n";
        look_at(name, Config::parse(text, Path::new("c"), &environment(name)));
    }
    look_at("--target", Config::from_cli(&["lo".to_owned()], &["a\nb".to_owned()], &|_| None));
    assert!(errors > 30, "{errors} errors");
    let lines = of("otlp_endpoint: \"http://a\\nb:1\"", "ips: ['::1']").unwrap_err().lines();
    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    let what = "init_config.otlp_endpoint: `http://a\\nb:1` is not a URL; write http://HOST:PORT";
    assert!(line.ends_with(what), "{line}");
}
