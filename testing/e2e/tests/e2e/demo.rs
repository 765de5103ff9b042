//! `cargo xtask demo`: what a stranger sees first, and what it leaves behind when it is cut short.

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use testing_lab::agent::{BINARY_VARIABLE, binary};

/// How long an end may take on a busy machine; the demo itself takes 20 seconds.
const LIMIT: Duration = Duration::from_secs(120);

fn demo() -> Child {
    let mut command = Command::new(testing_e2e::xtask());
    command.arg("demo").env(BINARY_VARIABLE, binary().unwrap());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).spawn().unwrap()
}

/// Waits for its end: its exit status, what it printed on standard error, and that its lab is gone.
fn end(mut demo: Child) -> (Option<i32>, String) {
    let deadline = Instant::now() + LIMIT;
    let status = loop {
        if let Some(status) = demo.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            killpg(Pid::from_raw(demo.id().cast_signed()), Signal::SIGKILL).unwrap();
            panic!("the demo does not end");
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let mut said = String::new();
    demo.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    let of_it = format!("gm-{}-", demo.id());
    if let Ok(namespaces) = Path::new("/run/netns").read_dir() {
        let left: Vec<_> = namespaces.map(|entry| entry.unwrap().file_name()).collect();
        assert!(!left.iter().any(|name| name.to_string_lossy().starts_with(&of_it)), "{left:?}");
    }
    (status.code(), said)
}

#[test]
fn a_demo_whose_reader_goes_away_ends_quietly() {
    let mut demo = demo();
    let lines: Vec<String> =
        BufReader::new(demo.stdout.take().unwrap()).lines().take(5).map(|line| line.unwrap()).collect();
    assert_eq!(lines.len(), 5);
    assert_eq!(end(demo), (Some(141), String::new()));
}

#[test]
fn on_the_lossy_path_of_a_demo_what_was_sent_again_is_what_the_kernel_counts() {
    let mut demo = demo();
    let lines: Vec<String> = BufReader::new(demo.stdout.take().unwrap()).lines().map(|line| line.unwrap()).collect();
    assert_eq!(end(demo), (Some(0), String::new()), "{lines:#?}");
    let at_the_end = lines.iter().position(|line| line.starts_with("── at the end")).unwrap();
    println!("{}", lines[at_the_end..].join("\n"));
    let all = lines[at_the_end..].iter().find(|line| line.starts_with("all ")).unwrap();
    let [ours, theirs] = [1, 2].map(|word| all.split_whitespace().nth(word).unwrap().parse::<u64>().unwrap());
    assert!(ours > 20 && ours == theirs, "{all}");
}

#[test]
fn every_picture_of_a_demo_is_whole_and_an_interruption_ends_it_quietly() {
    let mut demo = demo();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines().map(|line| line.unwrap());
    for _ in 0..2 {
        assert!(lines.any(|line| line.starts_with("── after ")));
        let header = lines.next().unwrap();
        assert!(header.starts_with("src "), "{header:?}");
        let row = lines.next().unwrap();
        assert!(row.starts_with("10.77.0.1 "), "{row:?}");
    }
    killpg(Pid::from_raw(demo.id().cast_signed()), Signal::SIGINT).unwrap();
    let rest: Vec<String> = lines.collect();
    assert!(!rest.iter().any(|line| line.contains("That was a lab")), "{rest:?}");
    assert_eq!(end(demo), (Some(130), String::new()));
}
