//! A service chosen by its ports: what is left out is in no output and in no count but its own.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::PathBuf;
use std::process::Command;

/// What `go-metro read` of a capture with two servers on two ports prints.
fn read(arguments: &[&str]) -> String {
    let capture: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../corpus/clean.pcap.gz"].iter().collect();
    let done = Command::new(env!("CARGO_BIN_EXE_go-metro")).arg("read").arg(capture).args(arguments).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

/// The number behind a line of the account.
fn count(account: &str, what: &str) -> u64 {
    let line = account.lines().find(|line| line.trim_start().starts_with(what));
    line.map_or(0, |line| line.split_whitespace().last().unwrap().parse().unwrap())
}

#[test]
fn what_is_of_other_ports_is_counted_apart_and_nowhere_else() {
    let ports = |line: &str| {
        let sample: serde_json::Value = serde_json::from_str(line).unwrap();
        ["local", "remote"].map(|end| sample[end].as_str().unwrap().rsplit(':').next().unwrap().to_owned())
    };
    let all = read(&["--samples"]);
    let server = ports(all.lines().next().unwrap()).into_iter().min_by_key(String::len).unwrap();
    let chosen: Vec<&str> = all.lines().filter(|line| ports(line).contains(&server)).collect();
    assert!(!chosen.is_empty() && chosen.len() < all.lines().count(), "{} of port {server}", chosen.len());
    assert_eq!(read(&["--samples", "--port", &server]).lines().collect::<Vec<_>>(), chosen);

    let account = read(&["--explain", "--port", &server]);
    let trailer = account.lines().find(|line| line.contains(" packets, ")).unwrap();
    assert!(trailer.contains(&format!(" 2 flows, {} samples", chosen.len())), "{trailer}");
    let classes = ["exact", "partial", "timestamp"].map(|class| count(&account, &format!("sample: {class}")));
    assert_eq!(classes.iter().sum::<u64>(), chosen.len() as u64, "{account}");
    let of = |what| count(&account, what);
    assert!(of("of other ports") > 0, "{account}");
    let parts = of("of other ports") + of("sent") + of("received, nothing") + of("received, acknowledging");
    assert_eq!(of("segments, as"), parts, "{account}");
}
