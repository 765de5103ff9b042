//! Recordings that cannot be written: counted and shown, while measuring goes on; and what comes back by itself.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use testing_lab::Lab;
use testing_lab::agent::{Agent, run_once};

use super::support::{Conf, SOON, SmallDisk, USUAL, lab, rounds, statsd, wait, wait_until};

/// Whatever passes is an outlier.
fn conf(folder: &Path, more: &str) -> Conf {
    let conf = Conf::new();
    write_conf(&conf, folder, more);
    conf
}

fn write_conf(conf: &Conf, folder: &Path, more: &str) {
    let record = format!(
        "record: {{memory: 1MiB, threshold: 1ms, after: 100ms, every: 100ms, folder: {}{more}}}",
        folder.display()
    );
    conf.write(&[&conf.status_line(), &record], USUAL);
}

fn recordings(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("go-metro-")).collect()
}

#[test]
fn a_full_disk_costs_recordings_and_nothing_else_until_it_has_room() {
    let lab = lab();
    let server = statsd(&lab);
    let disk = SmallDisk::mount();
    let conf = conf(disk.path(), "");
    let agent = Agent::start(&lab.a, conf.args()).unwrap();
    let ballast = disk.path().join("ballast");
    let _ = fs::write(&ballast, vec![0; 128 << 10]);
    wait("the disk is full", SOON, || {
        rounds(&lab, 20);
        conf.problems().contains("a recording could not be written") && conf.problems().contains("No space left")
    });
    // Nothing is left of what did not fit, and what was measured arrives.
    assert!(recordings(disk.path()).is_empty(), "{:?}", recordings(disk.path()));
    wait_until(&server, "samples and failures", |heard| {
        heard.rtts().len() >= 20 && heard.count("go_metro.recordings") > 0
    });
    fs::remove_file(&ballast).unwrap();
    wait("it records again", SOON, || {
        rounds(&lab, 20);
        !recordings(disk.path()).is_empty() && !conf.problems().contains("recording")
    });
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
}

#[test]
fn a_folder_that_goes_away_is_a_problem_and_one_that_cannot_be_is_said_at_the_start() {
    let lab = lab();
    let folder = tempfile::tempdir().unwrap();
    let recordings = folder.path().join("recordings");
    let running = conf(&recordings, "");
    let agent = Agent::start(&lab.a, running.args()).unwrap();
    // What is there in its place is no folder.
    fs::remove_dir(&recordings).unwrap();
    fs::write(&recordings, "no folder").unwrap();
    wait("it cannot be written", SOON, || {
        rounds(&lab, 10);
        running.problems().contains("a recording could not be written")
    });
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));

    let wrong = conf(&recordings.join("below"), "");
    let mut command = lab.a.namespace.command(testing_lab::agent::binary().unwrap());
    let ended = command.args(wrong.args()).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(!ended.status.success() && said.contains("record.folder"), "{said}");
}

/// What writes recordings has no capability, so it has not root's right to the files of others.
#[test]
fn a_start_as_root_notices_that_the_folder_is_another_users() {
    let lab = lab();
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
    chown(folder.path(), Some(4242), None).unwrap();
    let conf = conf(folder.path(), "");
    let said = refused_start(&lab, &conf);
    // Said before the start, too, in the same words.
    let checked = checked(&conf);
    assert!(checked.contains(&format!("FAIL  recordings in {}: ", folder.path().display())), "{checked}");
    let place = folder.path().display();
    for part in [
        "it belongs to user 4242, mode 0700, and recordings are written by user root (0) without root's right to",
        &format!("fix: as root: chown 0 {place} && chmod u+rwx {place}"),
        "record.folder",
    ] {
        assert!(said.contains(part) && checked.contains(part), "{part}: {said}\n{checked}");
    }
}

/// What a daemon says that does not start.
fn refused_start(lab: &Lab, conf: &Conf) -> String {
    let mut agent = Agent::spawn(&lab.a, conf.args()).unwrap();
    assert!(agent.ready().is_err(), "it starts");
    let refused = agent.finish().unwrap();
    assert!(!refused.status.success(), "{:?}", refused.stderr);
    refused.stderr.join("\n")
}

fn checked(conf: &Conf) -> String {
    run_once(["check", "-c", conf.path().to_str().unwrap()]).unwrap().stdout.join("\n")
}

/// Another owner could not write there either.
#[test]
fn a_folder_that_nobody_can_write_is_not_to_be_given_to_another_user() {
    let lab = lab();
    let disk = SmallDisk::mount();
    let below = disk.path().join("below");
    fs::create_dir(&below).unwrap();
    chown(&below, Some(4242), None).unwrap();
    disk.forbid_writing();
    for folder in [below, disk.path().join("absent")] {
        let conf = conf(&folder, "");
        let (said, checked) = (refused_start(&lab, &conf), checked(&conf));
        for text in [&said, &checked] {
            assert!(text.contains("is on a file system that is mounted read-only"), "{text}");
            assert!(text.contains("fix: mount it read-write") && text.contains("record.folder"), "{text}");
            assert!(!text.contains("chown"), "{text}");
        }
    }
}

#[test]
fn a_reload_that_a_folder_is_in_the_way_of_is_refused_with_its_reason_and_one_fix() {
    let lab = lab();
    let disk = SmallDisk::mount();
    fs::set_permissions(disk.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let conf = conf(disk.path(), "");
    let agent = Agent::start(&lab.a, conf.args()).unwrap();
    disk.forbid_writing();
    let refused = run_once(["reload", "--socket", conf.socket().to_str().unwrap()]).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let problems = conf.problems();
    for part in ["the last reload was refused: no recording can be made in ", "; reload again once that is fixed"] {
        assert!(problems.contains(part), "{problems}");
    }
    assert_eq!(problems.matches("mount it read-write").count(), 1, "{problems}");
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
}

#[test]
fn a_folder_that_is_removed_is_made_again_where_the_daemon_may() {
    let lab = lab();
    // In the folder of the status socket, which the daemon may write in.
    let conf = Conf::new();
    let recordings = conf.folder().join("recordings");
    write_conf(&conf, &recordings, "");
    let agent = Agent::start(&lab.a, conf.args()).unwrap();
    fs::remove_dir(&recordings).unwrap();
    wait("it is made again", SOON, || {
        rounds(&lab, 10);
        recordings.is_dir() && !self::recordings(&recordings).is_empty()
    });
    assert_eq!(fs::metadata(&recordings).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(!conf.problems().contains("recording"), "{}", conf.problems());
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
}

#[test]
fn a_folder_that_is_removed_where_the_daemon_is_confined_costs_recordings_until_a_restart() {
    let lab = lab();
    let above = tempfile::tempdir().unwrap();
    let folder = above.path().join("recordings");
    let conf = conf(&folder, "");
    let agent = Agent::start(&lab.a, conf.args()).unwrap();
    let is_confined = conf.status()["privileges"]["landlock"] != "off";
    fs::remove_dir(&folder).unwrap();
    if is_confined {
        let fails = |what| {
            let failed = || conf.status()["recorder"]["failed"].as_u64().unwrap();
            let before = failed();
            wait(what, SOON, || {
                rounds(&lab, 10);
                failed() > before
            });
            let problems = conf.problems();
            assert!(problems.contains("until it is restarted"), "{problems}");
        };
        fails("it cannot be made again");
        fs::create_dir(&folder).unwrap();
        fails("another of its name is out of reach");
        assert!(recordings(&folder).is_empty());
    } else {
        println!("no Landlock in this kernel: it is made again");
    }
    let agent = if is_confined {
        assert_eq!(agent.stop().unwrap().status.code(), Some(0));
        Agent::start(&lab.a, conf.args()).unwrap()
    } else {
        agent
    };
    wait("it records", SOON, || {
        rounds(&lab, 10);
        folder.is_dir() && !recordings(&folder).is_empty()
    });
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
}

#[test]
fn check_says_that_recordings_may_take_more_room_than_there_is() {
    let disk = SmallDisk::mount();
    fs::set_permissions(disk.path(), fs::Permissions::from_mode(0o700)).unwrap();
    for (size, expected) in [("", "warn  "), (", size: 32KiB", "ok    ")] {
        let conf = conf(disk.path(), size);
        let checked = checked(&conf);
        let line = format!("{expected}recordings in {}: ", disk.path().display());
        assert!(checked.lines().any(|said| said.starts_with(&line) && said.contains("are free")), "{checked}");
    }
}

#[test]
fn a_reload_to_a_folder_that_was_not_writable_at_the_start_is_refused_with_its_reason() {
    let lab = lab();
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let conf = conf(one.path(), "");
    let agent = Agent::start(&lab.a, conf.args()).unwrap();
    let text = fs::read_to_string(conf.path()).unwrap();
    let moved = text.replace(one.path().to_str().unwrap(), other.path().to_str().unwrap());
    fs::write(conf.path(), moved).unwrap();
    let refused = run_once(["reload", "--socket", conf.socket().to_str().unwrap()]).unwrap();
    let said = refused.stderr.concat();
    assert!(refused.status.code() == Some(1) && said.contains("record.folder"), "{said}");
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
}

#[test]
fn who_records_by_hand_and_goes_away_leaves_nothing_behind_and_too_many_are_refused() {
    let lab = lab();
    let conf = Conf::usual(&[]);
    conf.write(&[&conf.status_line()], USUAL);
    let agent = Agent::start(&lab.a, conf.args()).unwrap();
    let socket = conf.socket();
    let record = |seconds: &str| {
        let mut command = Command::new(testing_lab::agent::binary().unwrap());
        command.args(["record", "--pair", "10.77.0.2", "--for", seconds, "--write", "-", "--socket"]).arg(&socket);
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        command
    };
    let memory = || conf.status()["program"]["memory_bytes"].as_u64().unwrap();
    let before = memory();
    let mut all = Vec::new();
    wait("one too many is refused", SOON, || {
        all.push(record("60s").spawn().unwrap());
        let another = record("100ms").output().unwrap();
        let said = String::from_utf8_lossy(&another.stderr).into_owned();
        assert!(!said.contains("does not answer"), "its own reason is said: {said}");
        said.contains("recordings are being made")
    });
    for waiting in &mut all {
        // One that was refused has ended.
        let _ = waiting.kill();
        waiting.wait().unwrap();
    }
    wait("their places are free", SOON, || {
        rounds(&lab, 5);
        let ended = record("300ms").output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        ended.status.success() || said.contains("there was no measured segment")
    });
    // What one has had is what the next has.
    for _ in 0..8 {
        let _ = record("100ms").output().unwrap();
        std::thread::sleep(Duration::from_millis(1100));
    }
    let after = memory();
    assert!(after < before + (80 << 20), "{before} bytes before, {after} after");
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
}
