//! Text that others chose, in every place that takes some, and a terminal that must not obey any of it: escape
//! sequences that would type, rename the window or clear it, carriage returns, reversed text, and bytes that are no
//! text.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};
use testing_lab::agent::{binary, run_once, shell_word};
use testing_lab::terminal::{Recorder, Terminal};

use super::dns::{Mood, Server};
use super::streams::Daemon;
use super::support::{Conf, SOON, lab, rounds, while_talking};

/// The window's title (OSC), a question that the terminal answers by typing (DSR), a reset (RIS), a carriage return,
/// RIGHT-TO-LEFT OVERRIDE, the same question in one byte of C1, and a byte that is not UTF-8.
const HOSTILE: &[u8] = b"x\x1b]0;pwned\x07\x1b[5n\x1bc\r\xe2\x80\xae\xc2\x9b5n\xff";
/// As much of it as is text.
const TEXT: &str = "x\x1b]0;pwned\x07\x1b[5n\x1bc\r\u{202e}\u{9b}5n";
/// As much of it as the kernel takes for an interface (`dev_valid_name`, net/core/dev.c).
const NAME: &str = "x\x1b[5n\u{202e}\x07";
/// As much of it as has a place in a line of /etc/hosts.
const HOST: &str = "x\x1b]0;pwned\x07\x1b[5n\x1bc\u{202e}\u{9b}5n";

/// Fails if the terminal was made to do anything but place, colour or clear text, or was sent what is not text.
fn assert_tame(bytes: &[u8], what: &str) {
    let shown = bytes.escape_ascii();
    let text = std::str::from_utf8(bytes).unwrap_or_else(|error| panic!("{what}: {error}: {shown}"));
    let mut rest = text;
    while let Some(at) = rest.find('\x1b') {
        let after = &rest[at + 1..];
        let end = after.trim_start_matches(|c: char| matches!(c, '[' | '?' | ';' | '0'..='9'));
        // `top` asks where the cursor is before it clears.
        let tame =
            after.starts_with('[') && end.starts_with(['H', 'J', 'K', 'm', 'h', 'l']) || after.starts_with("[6n");
        assert!(tame, "{what}: {}: {shown}", after.escape_debug().take(20).collect::<String>());
        rest = end;
    }
    let active = |c: char| c.is_control() && !matches!(c, '\n' | '\t' | '\x1b') || matches!(c, '\u{202e}' | '\u{200b}');
    assert!(!text.contains(active), "{what}: {:?}: {shown}", text.chars().find(|c| active(*c)));
}

/// Runs the program on a terminal to its end; what it wrote, which must be tame and have this in it.
fn tame(arguments: &[&OsStr], shows: &str) -> String {
    let mut command = Command::new(binary().unwrap());
    command.args(arguments);
    let what = format!("{arguments:?}");
    let (_, bytes) = Recorder::start(command).unwrap().finish().unwrap();
    assert_tame(&bytes, &what);
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.contains(shows), "{what}: no {shows:?}: {text}");
    text
}

fn os(text: &str) -> &OsStr {
    OsStr::new(text)
}

/// A path in this folder that ends in hostile bytes and then `ending`.
fn path(folder: &Path, ending: &str) -> PathBuf {
    folder.join(OsString::from_iter([OsStr::from_bytes(HOSTILE), os(ending)]))
}

/// The corpus's capture of two interfaces, whose sections and interfaces have hostile names and comments.
fn hostile_capture(to: &Path) {
    let original = testing_support::workspace::root().join("corpus/pcapng-interfaces.pcapng.gz");
    let bytes = Command::new("gzip").arg("-dc").arg(original).output().unwrap().stdout;
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let (mut changed, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let len = u32_at(at + 4) as usize;
        let mut block = bytes[at + 8..at + len - 4].to_vec();
        // opt_comment; if_name and shb_hardware; if_description and shb_os (draft-ietf-opsawg-pcapng, section 4).
        let (fixed, options): (usize, &[u16]) = match u32_at(at) {
            0x0a0d_0d0a => (16, &[1, 2, 3]),
            1 => (8, &[1, 2, 3]),
            6 => (20 + (u32_at(at + 20) as usize).next_multiple_of(4), &[1]),
            _ => (block.len(), &[]),
        };
        let resolution =
            block[fixed..].windows(5).position(|option| option[..4] == [9, 0, 1, 0]).map(|at| block[fixed + at + 4]);
        block.truncate(fixed);
        for option in options {
            block.extend(option.to_le_bytes());
            block.extend((HOSTILE.len() as u16).to_le_bytes());
            block.extend(HOSTILE);
            block.resize(block.len().next_multiple_of(4), 0);
        }
        if let Some(resolution) = resolution {
            block.extend([9, 0, 1, 0, resolution, 0, 0, 0]);
        }
        let whole = block.len() as u32 + 12;
        changed.extend_from_slice(&bytes[at..at + 4]);
        changed.extend(whole.to_le_bytes());
        changed.extend(block);
        changed.extend(whole.to_le_bytes());
        at += len;
    }
    fs::write(to, changed).unwrap();
}

#[test]
fn no_capture_argument_or_configuration_moves_a_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let capture = path(folder.path(), ".pcapng");
    hostile_capture(&capture);
    let shown = r"x\u{1b}]0;pwned\u{7}\u{1b}[5n\u{1b}c\r\u{202e}\u{9b}5n";
    for (arguments, shows) in [
        (&[][..], "10.77.0.1"),
        (&["-o", "csv"], "10.77.0.1"),
        (&["-o", "json"], "10.77.0.1"),
        (&["--samples"], "rtt_ns"),
        (&["--samples", "-o", "csv"], "rtt_ns"),
        (&["--explain"], "10.77.0.1"),
        (&["--explain=all"], "rtt_ns"),
        (&["--local", "192.0.2.1"], shown),
    ] {
        let arguments: Vec<&OsStr> =
            [os("read"), capture.as_os_str()].into_iter().chain(arguments.iter().map(|word| os(word))).collect();
        tame(&arguments, shows);
    }
    // Drawings are opened by others, which obey what they find.
    for ending in ["svg", "html"] {
        let drawing = folder.path().join("drawing").with_extension(ending);
        tame(&[os("read"), capture.as_os_str(), os("--plot"), drawing.as_os_str()], "10.77.0.1");
        assert_tame(&fs::read(&drawing).unwrap(), ending);
    }
    let absent = folder.path().join("absent").join(format!("{TEXT}.svg"));
    tame(&[os("read"), capture.as_os_str(), os("--plot"), absent.as_os_str()], "pwned");
    let cut = path(folder.path(), ".cut");
    fs::write(&cut, &fs::read(&capture).unwrap()[..2000]).unwrap();
    tame(&[os("read"), cut.as_os_str()], "pwned");

    let hostile = OsStr::from_bytes(HOSTILE);
    let missing = path(folder.path(), ".none");
    let (text, empty) = (path(folder.path(), ".txt"), path(folder.path(), ".yaml"));
    fs::write(&text, HOSTILE).unwrap();
    fs::write(&empty, "").unwrap();
    for arguments in [
        &[hostile][..],
        &[os("read"), hostile],
        &[os("read"), text.as_os_str()],
        &[os("read"), os("--local"), hostile, text.as_os_str()],
        &[os("read"), os("--plot"), hostile, text.as_os_str()],
        &[os("run"), os("--interval"), hostile],
        &[os("run"), os("--output"), hostile],
        &[os("run"), os("-i"), hostile],
        &[os("run"), os("-i"), os(TEXT), os("--status-socket"), os("off")],
        &[os("run"), os("-c"), missing.as_os_str()],
        &[os("run"), os("-c"), text.as_os_str()],
        &[os("check"), os("-c"), missing.as_os_str()],
        &[os("check"), os("-c"), text.as_os_str()],
        &[os("check"), os("-i"), os(TEXT)],
        &[os("status"), os("-s"), missing.as_os_str()],
        &[os("top"), os("-s"), missing.as_os_str()],
        &[os("reload"), os("-s"), missing.as_os_str()],
        &[os("config"), os("init"), empty.as_os_str()],
        &[os("config"), os("init"), os("--force"), empty.as_os_str(), os("-y"), os("-i"), os("lo")],
        &[os("config"), os("init"), os("-"), os("-i"), os(TEXT), os("--tag"), os(TEXT), os("-t"), os(TEXT)],
        &[os("config"), os("init"), os("-"), os("-i"), os("lo"), os("--tag"), os(TEXT), os("--statsd"), os(TEXT)],
        &[os("completions"), hostile],
        &[os("man"), os(&format!("/dev/null/{TEXT}"))],
    ] {
        tame(arguments, "");
    }

    // Every place of a file, and the words for what is wrong with them.
    let in_yaml = r#""x\e]0;pwned\a\e[5n\ec\r\u202e\u009b5n""#;
    let keys = [
        "tags",
        "statsd_ip",
        "statsd_socket",
        "filter",
        "status_socket",
        "prometheus_listen",
        "backend",
        "log_level",
        "outputs",
    ];
    let mut files: Vec<String> = keys
        .map(|key| {
            let value = if matches!(key, "tags" | "outputs") { format!("[{in_yaml}]") } else { in_yaml.to_owned() };
            format!("init_config: {{{key}: {value}}}\ninstances: [{{interface: lo, ips: ['::/0']}}]\n")
        })
        .to_vec();
    files.extend([
        format!("init_config: {{{in_yaml}: 1}}\ninstances: [{{interface: lo, ips: ['::/0'], {in_yaml}: 1}}]\n"),
        format!("instances: [{{interface: {in_yaml}, ips: ['::/0'], tags: [{in_yaml}]}}]\n"),
        format!("instances: [{{interface: lo, ips: [{in_yaml}]}}]\n"),
        format!("instances: [{{interface: lo, hosts: [{in_yaml}]}}]\n"),
        format!("instances: [{{pcap: {in_yaml}, ips: ['::/0']}}]\n"),
        format!("{in_yaml}: 1\n"),
        format!("init_config: *{TEXT}\n"),
        format!(
            "init_config: {{log_to_file: true, log_file: {in_yaml}}}\n\
                 instances: [{{interface: nosuch0, ips: ['::/0']}}]\n"
        ),
    ]);
    let conf = path(folder.path(), ".conf");
    for file in files {
        fs::write(&conf, &file).unwrap();
        for verb in ["check", "run"] {
            // It may run: then it is stopped once it says so, or nothing.
            let mut command = Command::new(binary().unwrap());
            command.arg(verb).arg("-c").arg(&conf).current_dir(folder.path());
            if verb == "run" {
                command.args(["--duration", "0.2"]);
            }
            let (_, bytes) = Recorder::start(command).unwrap().finish().unwrap();
            assert_tame(&bytes, &format!("{verb} of {file}"));
            assert!(!bytes.is_empty(), "{verb} of {file}");
        }
    }
}

#[test]
fn no_interface_host_or_daemon_moves_a_terminal() {
    let lab = lab();
    let names = Server::start(&lab.a, Mood::Addresses(vec![]));
    names.call_all(&TEXT.as_bytes()[..TEXT.len().min(63)]);
    names.hosts_file(format!("10.77.0.2 {HOST}\n").as_bytes());
    let ip = |arguments: &[&OsStr]| {
        let mut command = Command::new("ip");
        command.args(["-n", lab.a.namespace.name()]).args(arguments);
        assert!(command.status().unwrap().success(), "{command:?}");
    };
    ip(&[os("link"), os("set"), os("eth0"), os("down")]);
    ip(&[os("link"), os("set"), os("eth0"), os("name"), os(NAME)]);
    ip(&[os("link"), os("set"), os(NAME), os("up")]);
    ip(&[os("link"), os("set"), os(NAME), os("alias"), OsStr::from_bytes(HOSTILE)]);
    ip(&[os("link"), os("property"), os("add"), os("dev"), os(NAME), os("altname"), os(NAME.trim_end_matches('\x07'))]);
    ip(&[os("link"), os("add"), OsStr::from_bytes(b"o\x1b[5n\xff"), os("type"), os("veth")]);
    ip(&[os("link"), os("set"), OsStr::from_bytes(b"o\x1b[5n\xff"), os("up")]);

    let conf = Conf::new();
    conf.write_text(
        "init_config: {reverse_dns: true, tags: [\"a:\\e[5n\\r\\u202e\"], dns_refresh_interval: 1}\ninstances:\n  \
         - interface: all\n    \
         ips: [10.77.0.0/24]\n    tags: [\"b:\\e[5n\\r\\u202e\"]\n",
    );
    let on_terminal = |arguments: &[&OsStr]| {
        let mut command = names.command(&binary().unwrap());
        command.args(arguments);
        Recorder::start(command).unwrap()
    };
    let file = conf.path();
    let run = |more: &[&str]| {
        let mut arguments =
            vec![os("run"), os("-c"), file.as_os_str(), os("--interval"), os("0.3"), os("--status-socket"), os("off")];
        arguments.extend(more.iter().map(|word| os(word)));
        on_terminal(&arguments)
    };
    // What is seen of it, and that nothing else is.
    let watch = |terminal: Recorder, shows: &str, what: &str| {
        let deadline = Instant::now() + SOON;
        while !String::from_utf8_lossy(&terminal.seen()).contains(shows) {
            assert!(Instant::now() < deadline, "{what}: no {shows:?}: {}", terminal.seen().escape_ascii());
            rounds(&lab, 3);
        }
        let (_, bytes) = terminal.stop().unwrap();
        assert_tame(&bytes, what);
    };
    // A name server's and /etc/hosts' names of that kind are not believed at all.
    let shown = r"x\u{1b}[5n\u{202e}\u{7}";
    let in_json = r#""iface":"x\u001b[5n\u202e\u0007""#;
    watch(run(&["-o", "table"]), shown, "a table");
    watch(run(&["-o", "json"]), in_json, "JSON");
    watch(run(&["-o", "json", "--samples"]), "rtt_ns", "samples");
    watch(run(&["-o", "statsd"]), r"o\\x1b[5n", "the log");
    watch(on_terminal(&[os("top"), os("-i"), os(NAME)]), shown, "top");
    let check = on_terminal(&[os("check"), os("-c"), file.as_os_str()]).finish().unwrap().1;
    assert_tame(&check, "check");

    // What a daemon says of all that.
    let mut command = names.command(&binary().unwrap());
    command.args(conf.args());
    let daemon = Daemon::spawn(&mut command, &conf, Stdio::null(), Stdio::null());
    let socket = conf.folder().join("go-metro.sock");
    let document = while_talking(&lab, || {
        daemon
            .wait("a report", |status| status["last_report"]["pairs"] != json!(0) && status["last_report"].is_object())
    })
    .0;
    for arguments in [&["status", "-s"][..], &["status", "--json", "-s"]] {
        let arguments: Vec<&OsStr> = arguments.iter().map(|word| os(word)).chain([socket.as_os_str()]).collect();
        tame(&arguments, "5n");
    }
    watch(on_terminal(&[os("top"), os("-s"), socket.as_os_str()]), shown, "top of a daemon");
    let live = while_talking(&lab, || second_with_flows(&socket)).0;
    assert_eq!(daemon.stop().0, Some(0));

    // A daemon that is none.
    let forged = conf.folder().join("forged.sock");
    forge(&forged, &hostile(document), &hostile(live));
    for arguments in [&["status", "-s"][..], &["status", "--json", "-s"], &["status", "--probe", "ready", "-s"]] {
        let arguments: Vec<&OsStr> = arguments.iter().map(|word| os(word)).chain([forged.as_os_str()]).collect();
        tame(&arguments, "");
    }
    watch(on_terminal(&[os("top"), os("-s"), forged.as_os_str()]), r"x\u{1b}]0;pwned", "top of a forger");
    let refusing = conf.folder().join("refusing.sock");
    let listener = UnixListener::bind(&refusing).unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = BufReader::new(stream.try_clone().unwrap()).read_line(&mut String::new());
            let _ = stream.write_all(&[b"HTTP/1.0 500 ", HOSTILE.strip_suffix(b"\xff").unwrap(), b"\r\n\r\n"].concat());
        }
    });
    for verb in ["status", "top", "reload"] {
        tame(&[os(verb), os("-s"), refusing.as_os_str()], "pwned");
    }
    // The forged document was one.
    let forged = run_once(["status", "-s", forged.to_str().unwrap()]).unwrap();
    assert!(forged.status.code() < Some(2), "{forged:?}");
}

/// A second of a daemon in which something was measured.
fn second_with_flows(socket: &Path) -> Value {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.write_all(b"GET /v1/live HTTP/1.0\r\n\r\n").unwrap();
    let lines = BufReader::new(stream).lines().map(Result::unwrap).filter(|line| line.starts_with('{'));
    let mut seconds = lines.map(|line| serde_json::from_str::<Value>(&line).unwrap());
    seconds.find(|second| second["flows"].as_array().is_some_and(|flows| !flows.is_empty())).unwrap()
}

/// The same document with hostile strings, but for those that must be words of ours.
fn hostile(document: Value) -> Value {
    match document {
        Value::Object(all) => {
            let kept = |name: &str| matches!(name, "state" | "version" | "local" | "remote" | "summary");
            all.into_iter()
                .map(|(name, value)| if kept(&name) { (name, value) } else { (name, hostile(value)) })
                .collect()
        }
        Value::Array(all) if all.is_empty() => Value::Array(all),
        Value::Array(all) => all.into_iter().map(hostile).collect(),
        Value::String(_) => TEXT.into(),
        other => other,
    }
}

/// Answers at this socket with these documents, with carriage returns where JSON lets them be.
fn forge(socket: &Path, status: &Value, live: &Value) {
    let listener = UnixListener::bind(socket).unwrap();
    let raw = |document: &Value| {
        let text = serde_json::to_string(document).unwrap().replace("\\r", "\r");
        // A string has them escaped, or it is none.
        text.replace('\r', "\\r").replace(",\"", ",\r\"")
    };
    let (status, live) = (raw(status), raw(live));
    let answer = move |mut stream: UnixStream| {
        let mut request = String::new();
        let _ = BufReader::new(stream.try_clone().unwrap()).read_line(&mut request);
        let is_live = request.contains("live");
        let body = if is_live { format!("{live}\n").repeat(3) } else { status.clone() };
        let _ = stream.write_all(format!("HTTP/1.0 200 OK\r\n\r\n{body}").as_bytes());
        if is_live {
            thread::sleep(SOON);
        }
    };
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = answer.clone();
            thread::spawn(move || answer(stream));
        }
    });
}

#[test]
fn the_end_of_the_input_ends_the_questions_and_writes_nothing() {
    let (lab, folder) = (lab(), tempfile::tempdir().unwrap());
    lab.a.namespace.ip("route add default dev eth0").unwrap();
    let file = folder.path().join("conf.yaml");
    let line = format!("{} config init {}; echo ended with $?; sleep 60", shell_word().unwrap(), file.display());
    let terminal = Terminal::start(&lab.a, (132, 30), &line).unwrap();
    terminal.wait_for(3 * SOON, |screen| screen.contains("Interfaces to watch [eth0]:")).unwrap();
    terminal.press(&["C-d"]).unwrap();
    let screen = terminal.wait_for(3 * SOON, |screen| screen.contains("ended with ")).unwrap();
    assert!(screen.contains("no answer; nothing was written") && screen.contains("ended with 1"), "{screen}");
    assert!(!screen.contains("Remote addresses"), "{screen}");
    assert!(!file.exists());
}
