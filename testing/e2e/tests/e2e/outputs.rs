//! Several outputs at once, each read by a consumer that others wrote.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use statsdproxy::types::Metric;
use testing_lab::agent::Agent;
use testing_lab::prometheus::Prometheus;
use testing_lab::statsd::Listener;
use testing_lab::{Host, Lab, Link};

use super::support::{SOON, some_rounds};

/// What a server on host a answers; the head and the body.
fn get(host: &Host, port: u16, path: &str, accept: &str) -> (String, String) {
    let mut answer = String::new();
    host.enter(|| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\nAccept: {accept}\r\n\r\n").unwrap();
        stream.read_to_string(&mut answer).unwrap();
    });
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// What a program says of its standard input.
fn piped(command: &mut Command, input: &str) -> (bool, String) {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn several_outputs_at_once_are_understood_by_consumers_that_others_wrote() {
    let lab = Lab::new(Link::Veth).unwrap();
    lab.path().set_rtt(Duration::from_millis(25));
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("conf.yaml");
    let text = format!(
        "init_config:\n  status_socket: off\n  report_interval: 1\n  reverse_dns: false\n  \
         prometheus_listen: 127.0.0.1:9464\n  \
         outputs: [statsd, prometheus, json]\ninstances:\n  - interface: eth0\n    ips: [{}]\n    tags: [env:test]\n",
        lab.b.v4
    );
    fs::write(&config, text).unwrap();
    let server = Listener::udp(&lab.a, 8125).unwrap();
    let mut command = lab.a.namespace.command(testing_lab::agent::binary().unwrap());
    command.args(["run".as_ref(), "-c".as_ref(), config.as_os_str()]).env("DD_EXTERNAL_ENV", "it-false,cn-app");
    let mut agent = Agent::spawn_command(&mut command).unwrap();
    agent.ready().unwrap();
    let scraper = Prometheus::start(&lab.a, folder.path(), 9464, None).unwrap();
    some_rounds(&lab, 40);
    assert!(server.wait_for("system.net.tcp.rtt.dist", SOON), "nothing came to the statsd server");

    // Sentry's statsd proxy reads DogStatsD's tags and types.
    let datagrams = server.datagrams();
    let lines = datagrams.iter().flat_map(|datagram| datagram.bytes.split(|byte| *byte == b'\n'));
    let metrics: Vec<Metric> = lines.filter(|line| !line.is_empty()).map(|line| Metric::new(line.to_vec())).collect();
    let dist = metrics.iter().find(|metric| metric.name() == Some(b"system.net.tcp.rtt.dist")).unwrap();
    let tags: Vec<(String, String)> = dist
        .tags_iter()
        .map(|tag| [tag.name(), tag.value().unwrap()].map(|part| String::from_utf8_lossy(part).into_owned()).into())
        .collect();
    let expected = [("src", "10.77.0.1"), ("dst", "10.77.0.2"), ("env", "test"), ("iface", "eth0")];
    assert_eq!(tags, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    assert_eq!(dist.ty(), Some(b"d".as_slice()));
    assert!(metrics.iter().all(|metric| metric.raw.ends_with(b"|e:it-false,cn-app")), "{metrics:?}");

    // jq reads the JSON lines; the rounds may be spread over several.
    let counted = |lines: &[String]| {
        let lines = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter_map(|line| line["data"]["count"].as_u64()).sum::<u64>()
    };
    assert!(agent.wait_for_output(SOON, |lines| counted(lines) >= 40), "{:?}", agent.output());
    let (well, said) = piped(
        Command::new("jq").args([
            "--slurp",
            "--exit-status",
            "[.[] | select(.dst == \"10.77.0.2\") | .data.count] | add >= 40",
        ]),
        &agent.output().join("\n"),
    );
    assert!(well, "{said}");

    // promtool reads and lints the page; OpenMetrics comes to a client that asks for it.
    let (head, page) = get(&lab.a, 9464, "/metrics", "*/*");
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    let (well, said) = piped(Command::new("promtool").args(["check", "metrics"]), &page);
    assert!(well && said.trim().is_empty(), "{said}\n{page}");
    let (head, page) = get(&lab.a, 9464, "/metrics", "application/openmetrics-text;version=1.0.0");
    assert!(
        head.contains("application/openmetrics-text; version=1.0.0") && page.ends_with("# EOF\n"),
        "{head}\n{page}"
    );
    let (head, body) = get(&lab.a, 9464, "/healthz", "*/*");
    assert!(head.contains("200 OK") && body == "ok\n", "{head}\n{body}");
    assert!(get(&lab.a, 9464, "/v1/status", "*/*").0.contains("404"), "the port tells about the host");

    // Prometheus itself scrapes it and knows the quantiles.
    let median = scraper
        .value("histogram_quantile(0.5, sum by (le, dst) (go_metro_tcp_rtt_seconds_bucket{env=\"test\"}))", 3 * SOON)
        .unwrap();
    // In seconds; a busy machine adds to it.
    assert!((0.020..0.2).contains(&median), "{median} s");
    // What it scraped last may be from before the last of them.
    let count = scraper
        .value("go_metro_tcp_rtt_seconds_count{src=\"10.77.0.1\",dst=\"10.77.0.2\",iface=\"eth0\"} >= 40", 3 * SOON)
        .unwrap();
    assert!((40.0..=41.0).contains(&count), "{count} samples");
    drop(scraper);
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
}

/// A capture's file, drawn, and looked at in a browser where there is one.
#[test]
fn a_plot_opens_in_a_browser_and_csv_is_for_other_programs() {
    let folder = tempfile::tempdir().unwrap();
    let capture = testing_support::workspace::root().join("corpus/delayed-acks.pcap.gz");
    let page = folder.path().join("rtt.html");
    let words = [
        "read".as_ref(),
        capture.as_os_str(),
        "--format".as_ref(),
        "csv".as_ref(),
        "--plot".as_ref(),
        page.as_os_str(),
    ];
    let finished = testing_lab::agent::run_once(words).unwrap();
    assert!(finished.status.success(), "{finished:?}");
    assert!(finished.stdout[0].starts_with("src,dst,iface,side,kind,samples,last_ms"), "{finished:?}");
    assert!(finished.stdout[1].starts_with("10.77.0.1,10.77.0.2,0,remote,data,96,25.854000,"), "{finished:?}");
    let Some(browser) = testing_support::setup::browser() else {
        println!("no browser here: the page was written and not looked at");
        return;
    };
    let url = format!("file://{}", page.display());
    let profile = format!("--user-data-dir={}", folder.path().join("profile").display());
    let dump = Command::new(browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            &profile,
            "--virtual-time-budget=2000",
            "--dump-dom",
            &url,
        ])
        .output()
        .unwrap();
    let dom = String::from_utf8_lossy(&dump.stdout);
    for part in ["<td>10.77.0.2</td>", "class=\"outlier\"", "96 samples", "p99 65.12"] {
        assert!(dom.contains(part), "{part} is not in what the browser shows:\n{dom}");
    }
}

#[test]
fn a_plot_of_groups_has_the_marks_that_one_of_hosts_has() {
    let folder = tempfile::tempdir().unwrap();
    let capture = testing_support::workspace::root().join("corpus/loss-sack.pcap.gz");
    let drawn = |words: &[&str]| {
        let drawing = folder.path().join("rtt.svg");
        let all = ["read", capture.to_str().unwrap(), "--plot", drawing.to_str().unwrap()];
        let finished = testing_lab::agent::run_once(all.iter().chain(words)).unwrap();
        assert!(finished.status.success(), "{finished:?}");
        fs::read_to_string(drawing).unwrap()
    };
    let marks = |drawing: &str| drawing.matches("class=\"again ").count();
    let of_hosts = drawn(&[]);
    let of_groups = drawn(&["--group-by", "ipv4_prefix=24"]);
    assert!(marks(&of_hosts) > 3 && of_groups.contains("10.77.0.0/24"), "{of_groups}");
    assert_eq!(marks(&of_hosts), marks(&of_groups), "{of_groups}");
}

/// Measures a page as it is laid out: what sticks out, labels over each other, letters too small to read.
const MEASURE: &str = "<script>addEventListener('load',()=>{const bad=[],root=document.documentElement;\
if(root.scrollWidth>innerWidth)bad.push('wider than the screen: '+root.scrollWidth);\
for(const table of document.querySelectorAll('.scroll'))if(innerWidth>=1400&&table.scrollWidth>table.clientWidth)\
bad.push('a column behind a scroll bar: '+table.scrollWidth+' of '+table.clientWidth);\
for(const svg of document.querySelectorAll('svg')){const all=[...svg.querySelectorAll('text')]\
.map(e=>[e.textContent,e.getBoundingClientRect()]).filter(([,b])=>b.width>0);\
all.forEach(([text,a],i)=>{if(a.height<10)bad.push('small: '+text);all.slice(0,i).forEach(([other,b])=>{\
if(a.left<b.right&&b.left<a.right&&a.top+3<b.bottom&&b.top+3<a.bottom)bad.push(text+' over '+other)})})}\
parent.postMessage('measured '+innerWidth+' '+getComputedStyle(root).backgroundColor+' ['+bad.join('; \
')+']','*')})</script>";

/// What shows a page `width` wide, since no window of the browser is narrower than 500, and has what it measured in its
/// title.
fn framed(page: &Path, width: u32) -> String {
    format!(
        "<!doctype html><style>:root{{color-scheme:light \
         dark}}body{{margin:0}}iframe{{border:0;width:{width}px;height:1100px}}</style>\
         <title>nothing</title><script>onmessage=event=>document.title=event.data</script><iframe \
         src=\"file://{}\"></iframe>",
        page.display()
    )
}

/// A capture of three round trips between two hosts whose addresses are as long as addresses get: pcap, raw IPv6.
fn long_addresses(path: &Path) {
    let mut out: Vec<u8> =
        [0xa1b2_c3d4_u32, 2 | 4 << 16, 0, 0, 65_535, 101].iter().flat_map(|word| word.to_le_bytes()).collect();
    let end = |last: u8| {
        (0..8_u16).flat_map(|k| (0xfd15 ^ (k * 0x1111) ^ u16::from(last)).to_be_bytes()).collect::<Vec<u8>>()
    };
    let mut frame = |at_us: u32, is_local: bool, seq: u32, ack: u32, payload: u16| {
        let length = 60 + u32::from(payload);
        [1_700_000_000, at_us, 60, length].iter().for_each(|word: &u32| out.extend(word.to_le_bytes()));
        out.extend([&[0x60, 0, 0, 0][..], &(20 + payload).to_be_bytes(), &[6, 64]].concat());
        let (from, to, ports) = if is_local { (1, 2, [40_000_u16, 443]) } else { (2, 1, [443, 40_000]) };
        out.extend([end(from), end(to)].concat());
        out.extend(ports.iter().flat_map(|port| port.to_be_bytes()));
        out.extend(seq.to_be_bytes().into_iter().chain(ack.to_be_bytes()));
        out.extend([0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0]);
    };
    for k in 0..3 {
        frame(k * 400_000, true, 1 + k * 100, 1, 100);
        frame(k * 400_000 + 151_000 + k * 1000, false, 1, 101 + k * 100, 0);
    }
    fs::write(path, out).unwrap();
}

/// The pictures stay in `target/pictures`, to be looked at.
#[test]
fn a_plot_is_readable_on_narrow_and_wide_screens_in_both_schemes() {
    let Some(browser) = testing_support::setup::browser() else {
        println!("no browser here: nothing was looked at");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let pictures = testing_support::workspace::root().join("target/pictures");
    fs::create_dir_all(&pictures).unwrap();
    let long = folder.path().join("long.pcap");
    long_addresses(&long);
    for name in ["delayed-acks", "big-tcp-ipv6", "loss-sack", "long-addresses"] {
        let in_corpus = testing_support::workspace::root().join(format!("corpus/{name}.pcap.gz"));
        let capture = if name == "long-addresses" { long.clone() } else { in_corpus };
        let page = folder.path().join(format!("{name}.html"));
        let words = ["read".as_ref(), capture.as_os_str(), "--plot".as_ref(), page.as_os_str()];
        assert!(testing_lab::agent::run_once(words).unwrap().status.success());
        let text = fs::read_to_string(&page).unwrap();
        if name == "long-addresses" {
            let whole = "title=\"fd17:ec06:df35:ce24:b953:a842:9b71:8a60\"";
            assert!(text.contains(whole) && text.contains("<td>3<td>151.000"), "{text}");
        }
        fs::write(&page, text.replace("</body>", &format!("{MEASURE}</body>"))).unwrap();
        for (width, scheme, background) in [
            (400, 0, "rgb(22, 26, 32)"),
            (400, 1, "rgb(255, 255, 255)"),
            (1400, 0, "rgb(22, 26, 32)"),
            (1400, 1, "rgb(255, 255, 255)"),
        ] {
            let frame = folder.path().join("frame.html");
            fs::write(&frame, framed(&page, width)).unwrap();
            let look = |what: &str| {
                let profile = folder.path().join("profile");
                let done = Command::new(&browser)
                    .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"])
                    .args([
                        "--disable-component-update",
                        "--disable-sync",
                        "--no-first-run",
                        "--virtual-time-budget=2000",
                    ])
                    .arg(format!("--user-data-dir={}", profile.display()))
                    .arg(format!("--blink-settings=preferredColorScheme={scheme}"))
                    .arg(format!("--window-size={width},1100"))
                    .args([what, &format!("file://{}", frame.display())])
                    .output()
                    .unwrap();
                String::from_utf8_lossy(&done.stdout).into_owned()
            };
            let scheme = ["dark", "light"][scheme];
            let picture = pictures.join(format!("{name}-{width}-{scheme}.png"));
            look(&format!("--screenshot={}", picture.display()));
            println!("{}", picture.display());
            assert!(fs::metadata(&picture).unwrap().len() > 5_000, "{}", picture.display());
            let dom = look("--dump-dom");
            let wanted = format!("<title>measured {width} {background} []</title>");
            let title = dom.lines().find(|line| line.contains("<title>")).unwrap_or_default();
            assert!(title.contains(&wanted), "{name}, {width}, {scheme}: {title}");
        }
    }
}

#[test]
fn a_file_from_flags_is_taken_and_a_page_and_a_script_are_made_for_each_verb() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let done = |words: &[&str]| {
        let finished = testing_lab::agent::run_once(words).unwrap();
        assert!(finished.status.success(), "{words:?}: {finished:?}");
        finished.stdout.join("\n")
    };
    let (config, man) = (path("etc/conf.yaml"), path("man"));
    done(&[
        "config",
        "init",
        &config,
        "--interface",
        "lo",
        "--target",
        "10.0.0.0/8",
        "--statsd",
        "127.0.0.1:9125",
        "--tag",
        "env:test",
        "--metrics",
        "default,health",
    ]);
    assert!(fs::read_to_string(&config).unwrap().contains("\n  metrics: ["), "{config}");
    let checked = testing_lab::agent::run_once(["check", "-c", &config]).unwrap();
    assert!(
        checked.stdout[0].contains("ok    configuration: ") && checked.stdout[0].contains("1 instance"),
        "{checked:?}"
    );
    let again = testing_lab::agent::run_once(["config", "init", &config, "--interface", "lo"]).unwrap();
    assert!(again.status.code() == Some(2) && again.stderr[0].contains("--force"), "{again:?}");
    let schema: Value = serde_json::from_str(&done(&["config", "schema"])).unwrap();
    assert_eq!(schema["properties"]["init_config"]["properties"]["report_interval"]["default"], 30);
    done(&["man", &man]);
    for page in ["go-metro.1", "go-metro-run.1", "go-metro-top.1", "go-metro-config-init.1"] {
        let text = fs::read_to_string(format!("{man}/{page}")).unwrap();
        assert!(text.contains(".SH SYNOPSIS"), "{page}: {text}");
    }
}
