//! What several tests say.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use testing_lab::Lab;
use testing_lab::agent::{Agent, binary};
pub(crate) use testing_lab::soon::SOON;
use testing_lab::traffic::{Rounds, Server, connect, end_with_reset};
use testing_support::workspace::{capture, root};

/// A file of the repository.
pub(crate) fn file(path: &str) -> PathBuf {
    root().join(path)
}

/// Its text.
pub(crate) fn text(path: &str) -> String {
    fs::read_to_string(file(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// It, parsed.
pub(crate) fn json(path: &str) -> Value {
    serde_json::from_str(&text(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A metric as it is declared.
#[derive(serde::Deserialize)]
pub(crate) struct Declared {
    pub(crate) dogstatsd: Option<String>,
    pub(crate) is_distribution: bool,
    pub(crate) datadog_type: String,
    pub(crate) prometheus: Option<String>,
    pub(crate) prometheus_type: String,
}

/// Every metric that the program declares.
pub(crate) fn declared() -> Vec<Declared> {
    let listing = capture(Command::new(binary().unwrap()).arg("metrics")).unwrap();
    serde_json::from_str(&listing).unwrap()
}

/// Every string below one of these keys, anywhere in a document.
pub(crate) fn strings(document: &Value, keys: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    match document {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value.as_str() {
                    Some(text) if keys.contains(&key.as_str()) => found.push(text.to_owned()),
                    _ => found.extend(strings(value, keys)),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| found.extend(strings(value, keys))),
        _ => {}
    }
    found
}

/// Whether the maker's own code knows all of a file, and what it says if not.
pub(crate) fn validated(kind: &str, file: &Path) -> Result<(), String> {
    let programs = testing_support::setup::for_dashboards().unwrap();
    let mut command = Command::new(programs.join("python"));
    let said = command.arg(root().join("testing/support/python/validate.py")).arg(kind).arg(file).output().unwrap();
    if said.status.success() {
        return Ok(());
    }
    Err(format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr)))
}

/// Fails, naming what is in one of two sets alone.
pub(crate) fn assert_same(here: &str, ours: &BTreeSet<String>, there: &str, theirs: &BTreeSet<String>) {
    let only = |a: &BTreeSet<String>, b: &BTreeSet<String>| a.difference(b).cloned().collect::<Vec<_>>().join(", ");
    let (left, right) = (only(ours, theirs), only(theirs, ours));
    assert!(left.is_empty() && right.is_empty(), "only in {here}: [{left}]; only in {there}: [{right}]");
}

/// An agent with every part of it turned on, and this setting; and the folder with its file.
pub(crate) fn with_everything(lab: &Lab, setting: &str) -> (Agent, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("conf.yaml");
    let text = format!(
        "init_config: {{report_interval: 1, kernel_rtt: true, metrics: [default, health, base, response], \
         status_socket: off, {setting}}}\ninstances: [{{interface: eth0, ips: [{}]}}]\n",
        lab.b.v4
    );
    fs::write(&file, text).unwrap();
    (Agent::start(&lab.a, ["run", "-c", file.to_str().unwrap()]).unwrap(), folder)
}

/// A connection that both ends close, and one that is reset by the end that began it.
pub(crate) fn close_and_reset(lab: &Lab) {
    let rounds = Rounds { count: 1, ..Rounds::default() };
    let server = Server::v4(&lab.b, rounds.service()).unwrap();
    let [closed, stream] = [(); 2].map(|()| connect(&lab.a, server.address()).unwrap());
    for stream in [&closed, &stream] {
        rounds.drive(&mut stream.try_clone().unwrap()).unwrap();
    }
    drop(closed);
    end_with_reset(&stream).unwrap();
}

/// A connection whose other end has no room for a while.
pub(crate) fn fill_window(lab: &Lab) {
    let listener = lab.b.enter(|| TcpListener::bind((lab.b.v4, 0))).unwrap();
    let mut near = connect(&lab.a, listener.local_addr().unwrap()).unwrap();
    let (mut far, _) = listener.accept().unwrap();
    let writer = thread::spawn(move || near.write_all(&[0; 256 << 10]));
    thread::sleep(Duration::from_millis(400));
    let mut buffer = vec![0; 1 << 20];
    while far.read(&mut buffer).unwrap() > 0 {}
    writer.join().unwrap().unwrap();
}

/// Both ends understand the network's marks from now on.
pub(crate) fn use_ecn(lab: &Lab) {
    for host in [&lab.a, &lab.b] {
        host.namespace.sysctl("net/ipv4/tcp_ecn", "1").unwrap();
    }
}

/// Connections one after the other, ten rounds each, until `done` says so.
pub(crate) fn talk_until(lab: &Lab, mut done: impl FnMut() -> bool) {
    let rounds = Rounds { count: 10, pause: Duration::from_millis(10), ..Rounds::default() };
    let server = Server::v4(&lab.b, rounds.service()).unwrap();
    while !done() {
        rounds.drive(&mut connect(&lab.a, server.address()).unwrap()).unwrap();
    }
}
