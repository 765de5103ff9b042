//! The examples run, and print what README.md shows.

#![allow(clippy::unwrap_used)]
#![allow(clippy::duplicate_mod, reason = "two examples share a decoder")]

#[allow(dead_code, reason = "an example with a `main` of its own")]
#[path = "../examples/file.rs"]
mod file;
#[allow(dead_code, reason = "an example with a `main` of its own")]
#[path = "../examples/live.rs"]
mod live;
#[allow(dead_code, reason = "an example with a `main` of its own")]
#[path = "../examples/segments.rs"]
mod segments;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// What README.md shows below a command.
fn shown(command: &str) -> &'static str {
    let (_, after) = include_str!("../README.md").split_once(&format!("$ {command}\n")).unwrap();
    after.split_once("```").unwrap().0
}

#[test]
fn segments_made_by_hand_give_what_the_readme_shows() {
    let mut out = Vec::new();
    segments::run(&mut out).unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), shown("cargo run --quiet --example segments"));
}

#[test]
fn a_capture_file_gives_what_the_readme_shows() {
    let mut out = Vec::new();
    file::run(include_bytes!("../examples/request.pcap"), &mut out).unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), shown("cargo run --quiet --example file -- examples/request.pcap"));
    assert!(file::run(b"neither", &mut Vec::new()).is_err());
}

#[test]
fn a_connection_over_loopback_is_measured_live() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, over) = (listener.local_addr().unwrap().port(), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut server = listener.accept().unwrap().0;
            let mut byte = [0];
            while server.read(&mut byte).unwrap() > 0 {
                server.write_all(&byte).unwrap();
            }
        });
        scope.spawn(|| {
            let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
            while !over.load(Ordering::Relaxed) {
                client.write_all(&[0]).unwrap();
                client.read_exact(&mut [0]).unwrap();
                thread::sleep(Duration::from_millis(10));
            }
        });
        let mut out = Vec::new();
        let result = live::run(&mut out, |sample| sample.flow.remote.port != port);
        over.store(true, Ordering::Relaxed);
        match result {
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => println!("skipped: {error}"),
            result => {
                result.unwrap();
                assert!(String::from_utf8(out).unwrap().contains(&format!("to 127.0.0.1:{port}: ")));
            }
        }
    });
}
