//! The log file: nowhere to write it, no space for it, moved away. The daemon measures on.

use std::fs;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::support::{Conf, SOON, SmallDisk, lab, rounds, start, statsd, wait, wait_until};

#[test]
fn a_log_file_that_cannot_be_written_is_replaced_by_standard_error() {
    let lab = lab();
    let server = statsd(&lab);
    let conf = Conf::usual(&["log_to_file: true", "log_file: /proc/nowhere/go-metro.log"]);
    let agent = start(&lab, &conf);
    let log = agent.log();
    assert!(log.iter().any(|line| line.contains("cannot log to /proc/nowhere/go-metro.log")), "{log:?}");
    let longest = rounds(&lab, 10);
    let heard = wait_until(&server, "samples", |heard| heard.rtts().len() >= 10);
    heard.assert_true_rtts(longest, "without its log file");
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
}

#[test]
fn a_full_disk_costs_lines_of_the_log_which_are_counted_and_nothing_else() {
    let lab = lab();
    let server = statsd(&lab);
    let disk = SmallDisk::mount();
    let file = disk.path().join("go-metro.log");
    let conf = Conf::usual(&["log_to_file: true", "log_max_size: 1MiB", &format!("log_file: {}", file.display())]);
    // It logs to the file alone, so that its reports tell that it runs.
    let agent = testing_lab::agent::Agent::spawn(&lab.a, conf.args()).unwrap();
    wait_until(&server, "a report", |heard| heard.gauge("go_metro.interfaces") == Some(1.0));
    assert!(fs::read_to_string(&file).unwrap().contains("capturing on eth0"));

    let ballast = disk.path().join("ballast");
    let _ = fs::write(&ballast, vec![0; 1 << 20]);
    // Each reload that is refused is a line of the log.
    conf.write_text(&format!("nonsense: {}\n", "x".repeat(1000)));
    let lost = wait_until_after(&server, "lines that are lost and counted", || {
        agent.signal(Signal::SIGHUP).unwrap();
    });
    assert!(lost > 0);
    let longest = rounds(&lab, 10);
    wait_until(&server, "samples", |heard| heard.rtts().len() >= 10).assert_true_rtts(longest, "with a full disk");

    fs::remove_file(&ballast).unwrap();
    let size = || fs::metadata(&file).unwrap().len();
    let before = size();
    agent.signal(Signal::SIGHUP).unwrap();
    wait("the log goes on once there is space", SOON, || size() > before);
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
}

/// Does something again and again until lines of the log are lost.
fn wait_until_after(server: &testing_lab::statsd::Listener, what: &str, mut again: impl FnMut()) -> u64 {
    let mut lost = 0;
    wait(what, SOON, || {
        again();
        std::thread::sleep(Duration::from_millis(50));
        lost = super::support::Heard::by(server).count("go_metro.log_lines_lost");
        lost > 0
    });
    lost
}

#[test]
fn a_log_file_that_is_moved_away_or_deleted_is_made_anew() {
    let lab = lab();
    let server = statsd(&lab);
    let conf = Conf::new();
    let file = conf.folder().join("go-metro.log");
    let init = ["log_to_file: true", &format!("log_file: {}", file.display())];
    conf.write(&init, super::support::USUAL);
    let agent = testing_lab::agent::Agent::spawn(&lab.a, conf.args()).unwrap();
    wait_until(&server, "a report", |heard| heard.gauge("go_metro.interfaces") == Some(1.0));
    for fault in ["moved", "deleted"] {
        if fault == "moved" {
            fs::rename(&file, conf.folder().join("go-metro.log.old")).unwrap();
        } else {
            fs::remove_file(&file).unwrap();
        }
        agent.signal(Signal::SIGHUP).unwrap();
        wait(fault, SOON, || fs::read_to_string(&file).is_ok_and(|text| text.contains("configuration reloaded")));
    }
    let heard = wait_until(&server, "both reloads", |heard| heard.count("go_metro.reloads") == 2);
    assert_eq!(heard.count("go_metro.log_lines_lost"), 0);
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
}
