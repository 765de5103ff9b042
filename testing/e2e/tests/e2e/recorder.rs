//! The recorder: an outlier on a real path becomes a file that Wireshark takes and `go-metro read` finds the same
//! samples in; what is recorded by hand does too.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use testing_lab::agent::{Agent, Sample, binary, read_samples, run_once, samples};
use testing_lab::soon::wait;
use testing_lab::traffic::{Rounds, Server, connect};
use testing_lab::{Lab, Link};

use super::support::{Backend, Late, SOON, in_time, some_rounds, timely};

/// The path as it is, and while it is slow.
const RTT: Duration = Duration::from_millis(5);
/// Shorter than a retransmission timeout, so that nothing is sent again.
const SLOW: Duration = Duration::from_millis(150);
/// What is an outlier then.
const OUTLIER: Duration = Duration::from_millis(100);

/// A daemon that records, and what it is started with.
struct Recording {
    lab: Lab,
    agent: Agent,
    folder: tempfile::TempDir,
}

impl Recording {
    fn start(backend: Backend, settings: &str, record: &str) -> Self {
        let lab = Lab::new(Link::Veth).unwrap();
        lab.path().set_rtt(RTT);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("conf.yaml");
        write_config(folder.path(), backend, settings, record);
        let args = ["run", "-c", path.to_str().unwrap(), "--samples", "--interval", "1"];
        let agent = Agent::start(&lab.a, args).unwrap();
        Self { lab, agent, folder }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("go-metro.sock")
    }

    fn files(&self) -> Vec<PathBuf> {
        files(&self.folder.path().join("recordings"))
    }

    /// Waits for a recording.
    fn first(&self) -> PathBuf {
        wait("a recording appears", SOON, || !self.files().is_empty());
        self.files().remove(0)
    }

    /// Has the daemon go over to what its file says now.
    fn reload(&self) {
        let done = run_once(["reload", "--socket", self.socket().to_str().unwrap()]).unwrap();
        assert_eq!(done.status.code(), Some(0), "{done:?}");
    }

    /// Ends the daemon; the samples that it printed.
    fn stop(self) -> (Vec<Sample>, tempfile::TempDir, Lab) {
        let finished = self.agent.stop().unwrap();
        assert_eq!(finished.status.code(), Some(0), "{:#?}", finished.stderr);
        (finished.samples().unwrap(), self.folder, self.lab)
    }
}

/// `RECORDINGS` stands for the folder of recordings.
fn write_config(folder: &Path, backend: Backend, settings: &str, record: &str) {
    let recordings = folder.join("recordings");
    let record = if record.is_empty() {
        String::new()
    } else {
        format!("  record: {{folder: {}, {record}}}\n", recordings.display())
    };
    let text = format!(
        "init_config:\n  backend: {}\n  outputs: [json]\n  status_socket: {}\n  reverse_dns: false\n\
         {settings}{record}instances:\n  - interface: eth0\n    ips: [10.77.0.0/24, 'fd77::/64']\n",
        backend.name(),
        folder.join("go-metro.sock").display(),
    );
    fs::write(folder.join("conf.yaml"), text).unwrap();
}

/// Whole recordings, the first first.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let all = entries.map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = all.filter(|path| path.extension().is_some_and(|ext| ext == "pcapng")).collect();
    files.sort();
    files
}

/// Rounds on one connection: on the usual path, on a slow one, and on the usual one again.
fn drive(lab: &Lab, to: IpAddr, slow: bool) {
    let rounds = Rounds { count: 20, pause: Duration::from_millis(2), ..Rounds::default() };
    let server = match to {
        IpAddr::V4(_) => Server::v4(&lab.b, rounds.service()).unwrap(),
        IpAddr::V6(_) => Server::v6(&lab.b, rounds.service()).unwrap(),
    };
    let mut stream = connect(&lab.a, server.address()).unwrap();
    rounds.drive(&mut stream).unwrap();
    if slow {
        lab.path().set_rtt(SLOW);
        Rounds { count: 2, ..rounds }.drive(&mut stream).unwrap();
        lab.path().set_rtt(RTT);
    }
    rounds.drive(&mut stream).unwrap();
}

fn tshark(file: &Path, more: &[&str]) -> Output {
    let mut command = Command::new("tshark");
    command.args(["-n", "-r"]).arg(file).args(["-o", "tcp.check_checksum:FALSE"]).args(more);
    command.output().expect("tshark reads what was recorded; `cargo xtask setup` installs it")
}

/// Fields of frames, a line each.
fn fields(file: &Path, filter: &str, fields: &[&str]) -> Vec<Vec<String>> {
    let mut args = vec!["-Y", filter, "-T", "fields"];
    args.extend(fields.iter().flat_map(|field| ["-e", *field]));
    let output = tshark(file, &args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

/// Wireshark takes the file as it is: nothing malformed, no wrong checksum, no frame that cannot be dissected, and its
/// own round-trip times of the samples are those that were reported.
fn assert_tshark_agrees(file: &Path, reported: &[Sample], least: usize) {
    let checked = tshark(file, &["-o", "ip.check_checksum:TRUE", "-z", "expert", "-q"]);
    let told = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success(), "{checked:?}");
    for bad in ["Malformed", "Errors (", "checksum", "Window is full", "TCP window"] {
        assert!(!told.contains(bad), "{bad}: {told}");
    }
    assert_eq!(fields(file, "!tcp", &["frame.number"]).len(), 0);
    let rtts = fields(
        file,
        "tcp.analysis.ack_rtt",
        &["frame.time_epoch", "tcp.ack_raw", "tcp.analysis.ack_rtt", "tcp.dstport"],
    );
    // In nanoseconds, from text: a double does not hold them.
    let nanoseconds = |text: &str| {
        let (seconds, rest) = text.split_once('.').unwrap();
        format!("{seconds}{rest:0<9}").parse::<u64>().unwrap()
    };
    let mut agree = 0;
    for row in &rtts {
        let [time, ack, rtt, port] = row.as_slice() else { panic!("{row:?}") };
        let (time, rtt) = (nanoseconds(time), nanoseconds(rtt));
        let of = |sample: &&Sample| {
            sample.time_ns == time && sample.ack.to_string() == *ack && sample.local.port().to_string() == *port
        };
        // Times of what the daemon does not measure, tshark tells too.
        let Some(sample) = reported.iter().find(of) else { continue };
        assert_eq!(sample.rtt_ns, rtt, "{sample:?}");
        agree += 1;
    }
    assert!(agree >= least, "{agree} of {}: {rtts:?}", reported.len());
}

fn sorted(mut samples: Vec<Sample>) -> Vec<Sample> {
    samples.sort();
    samples
}

/// What `read` finds from a host.
fn read(file: &Path, local: impl Into<IpAddr>) -> Vec<Sample> {
    sorted(read_samples(file, local.into()).unwrap())
}

#[test]
fn an_outlier_becomes_a_file_whose_samples_are_those_that_were_reported() {
    for (backend, settings) in [(Backend::Ebpf, ""), (Backend::Ebpf, "  workers: 2\n"), (Backend::Pcap, "")] {
        let what = format!("{} {settings}", backend.name());
        let daemon = Recording::start(backend, settings, "memory: 4MiB, threshold: 100ms, after: 1s, every: 60s");
        let (a, b) = (daemon.lab.a.v4, daemon.lab.b.v4);
        drive(&daemon.lab, b.into(), true);
        let file = daemon.first();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "{what}");
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        assert!(name.starts_with("go-metro-2") && name.ends_with(&format!("-{a}-{b}.pcapng")), "{name}");
        let status = testing_lab::agent::status(&daemon.socket()).unwrap();
        assert_eq!(status["recorder"]["written"], 1, "{what}: {status:#}");
        let (reported, _folder, _lab) = daemon.stop();
        let found = read(&file, a);
        let outliers = found.iter().filter(|sample| sample.rtt() >= OUTLIER).count();
        assert!(outliers >= 1 && found.len() > 20, "{what}: {outliers} of {}", found.len());
        // What passed later than the file holds was reported as well.
        let last = found.iter().map(|sample| sample.time_ns).max().unwrap();
        let reported: Vec<Sample> =
            sorted(reported).into_iter().filter(|sample| sample.local.ip() == IpAddr::from(a)).collect();
        let within: Vec<Sample> = reported.iter().filter(|sample| sample.time_ns <= last).cloned().collect();
        assert_eq!(found, within, "{what}");
        assert_tshark_agrees(&file, &reported, 20);
        let told = fields(&file, "frame.comment contains \"a round trip of\"", &["tcp.ack_raw", "frame.comment"]);
        let [row] = told.as_slice() else { panic!("{told:?}") };
        let outlier = reported.iter().find(|sample| sample.ack.to_string() == row[0]).unwrap();
        let ms = format!("{:.6} ms", outlier.rtt_ns as f64 / 1e6);
        assert!(row[1].contains(&ms), "{row:?}");
        let names: BTreeSet<String> =
            fields(&file, "tcp", &["frame.interface_name"]).into_iter().map(|row| row[0].clone()).collect();
        assert_eq!(names, BTreeSet::from(["eth0".to_owned()]), "{what}");
    }
}

#[test]
fn far_above_the_base_is_an_outlier_too_over_ipv6_and_the_table_names_the_interface() {
    let daemon = Recording::start(Backend::Ebpf, "", "memory: 4MiB, times_base: 8, at_least: 100ms, after: 500ms");
    let (a, b) = (daemon.lab.a.v6, daemon.lab.b.v6);
    drive(&daemon.lab, b.into(), true);
    let file = daemon.first();
    let (reported, _folder, _lab) = daemon.stop();
    let found = read(&file, a);
    assert!(found.len() > 20 && found.iter().all(|sample| reported.contains(sample)), "{found:#?}");
    let text = fs::read(&file).unwrap();
    assert!(String::from_utf8_lossy(&text).contains("at the lowest in ten minutes"));
    assert_tshark_agrees(&file, &reported, 20);
    let table = run_once(["read", file.to_str().unwrap()]).unwrap().stdout.join("\n");
    assert!(table.contains("eth0") && table.contains(&b.to_string()), "{table}");
}

/// A connection that was there before the memory's reach, over a path that loses: nothing is timed that was not
/// reported, and what was is there as far as its segments are.
#[test]
fn a_file_that_begins_within_a_connection_says_nothing_that_was_not_reported() {
    use testing_lab::{Impairment, Way};
    let daemon = Recording::start(
        Backend::Ebpf,
        "",
        "memory: 4MiB, threshold: 100ms, before: 400ms, after: 500ms, every: 1s, files: 3",
    );
    let lossy = |seed| Impairment { loss: 0.02, jitter: RTT / 5, seed, ..Impairment::delay(RTT / 2) };
    daemon.lab.path().impair(Way::AToB, lossy(3));
    daemon.lab.path().impair(Way::BToA, lossy(4));
    let rounds = Rounds { count: 60, request: 20_000, ..Rounds::default() };
    let server = Server::v4(&daemon.lab.b, rounds.service()).unwrap();
    let mut stream = connect(&daemon.lab.a, server.address()).unwrap();
    for _ in 0..3 {
        rounds.drive(&mut stream).unwrap();
        daemon.lab.path().impair(Way::AToB, Impairment::delay(SLOW));
        Rounds { count: 1, ..rounds }.drive(&mut stream).unwrap();
        daemon.lab.path().impair(Way::AToB, lossy(5));
    }
    wait("recordings appear", SOON, || daemon.files().len() >= 2);
    thread::sleep(Duration::from_secs(1));
    let files = daemon.files();
    assert!(files.len() <= 3, "{files:?}");
    let local = daemon.lab.a.v4;
    let (reported, _folder, _lab) = daemon.stop();
    for file in files {
        let found = read(&file, local);
        let unknown: Vec<&Sample> = found.iter().filter(|sample| !reported.contains(sample)).collect();
        assert!(unknown.is_empty(), "{}: {unknown:#?}", file.display());
        let slow = found.iter().filter(|sample| sample.rtt() >= OUTLIER).count();
        assert!(slow >= 1, "{}: the outlier is not in it", file.display());
        let expert = tshark(&file, &["-z", "expert", "-q"]);
        assert!(!String::from_utf8_lossy(&expert.stdout).contains("Malformed"), "{expert:?}");
    }
}

#[test]
fn what_is_recorded_by_hand_is_what_passed_meanwhile_with_or_without_memory_for_it() {
    for record in ["", "memory: 2MiB"] {
        let daemon = Recording::start(Backend::Ebpf, "", record);
        let (a, b) = (daemon.lab.a.v4, daemon.lab.b.v4);
        let file = daemon.folder.path().join("by-hand.pcapng");
        let socket = daemon.socket();
        let mut by_hand = Command::new(binary().unwrap());
        by_hand.args(["record", "--pair", &b.to_string(), "--for", "3s", "--socket"]).arg(&socket);
        let by_hand = by_hand.arg("--write").arg(&file).spawn().unwrap();
        thread::sleep(Duration::from_millis(500));
        drive(&daemon.lab, b.into(), false);
        let ended = by_hand.wait_with_output().unwrap();
        assert!(ended.status.success());
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        // Nothing of others passed.
        let elsewhere = daemon.folder.path().join("nothing.pcapng");
        let nothing = run_once([
            "record",
            "--pair",
            "192.0.2.9",
            "--for",
            "200ms",
            "--write",
            elsewhere.to_str().unwrap(),
            "--socket",
            socket.to_str().unwrap(),
        ])
        .unwrap();
        assert!(nothing.stderr.concat().contains("there was no measured segment of it"), "{nothing:?}");
        assert!(!elsewhere.exists());
        let status = testing_lab::agent::status(&socket).unwrap();
        assert!(status["recorder"]["records"].as_u64() > Some(40), "{status:#}");
        wait("what has nothing is not counted as written", SOON, || {
            let recorder = &testing_lab::agent::status(&socket).unwrap()["recorder"];
            recorder["written"] == 1 && recorder["empty"] == 1
        });
        let (reported, _folder, _lab) = daemon.stop();
        let found = read(&file, a);
        assert!(found.len() >= 40, "{} samples", found.len());
        assert_eq!(found, sorted(reported), "{record}");
        assert_tshark_agrees(&file, &found, 40);
    }
}

impl Recording {
    /// Somebody records by hand, for a minute, what passes to host b; and where it is written.
    fn by_hand(&self) -> (Agent, PathBuf) {
        self.by_hand_with(&[])
    }

    /// Waits until some of what somebody records by hand is there, while it goes on.
    fn is_fetched(&self) {
        let part = self.folder.path().join(&self.unfinished()[0]);
        wait("it is fetched while it goes on", SOON, || fs::metadata(&part).unwrap().len() > 8_000);
    }

    /// As [`Self::by_hand`], with these arguments too.
    fn by_hand_with(&self, more: &[&str]) -> (Agent, PathBuf) {
        let file = self.folder.path().join("by-hand.pcapng");
        let mut command = Command::new(binary().unwrap());
        command.args(["record", "--for", "60s", "--pair"]).arg(self.lab.b.v4.to_string()).args(more);
        command.arg("--socket").arg(self.socket()).arg("--write").arg(&file);
        let by_hand = Agent::spawn_command(&mut command).unwrap();
        wait("a file is begun", SOON, || !self.unfinished().is_empty());
        thread::sleep(Duration::from_millis(500));
        (by_hand, file)
    }

    /// Files that are not whole.
    fn unfinished(&self) -> Vec<String> {
        let names = fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.map(|name| name.into_string().unwrap()).filter(|name| name.ends_with(".part")).collect()
    }
}

#[test]
fn a_recording_by_hand_that_is_interrupted_has_what_passed_until_then() {
    // The threads that look a name up stay.
    for (signal, more) in [
        (Signal::SIGINT, &[][..]),
        (Signal::SIGTERM, &[]),
        (Signal::SIGINT, &["--pair", "localhost"]),
        (Signal::SIGTERM, &["--pair", "localhost"]),
    ] {
        let daemon = Recording::start(Backend::Ebpf, "", "");
        let (by_hand, file) = daemon.by_hand_with(more);
        drive(&daemon.lab, daemon.lab.b.v4.into(), false);
        // What acknowledges the FIN is still on its way.
        thread::sleep(Duration::from_millis(200));
        by_hand.signal(signal).unwrap();
        let ended = by_hand.finish().unwrap();
        let said = ended.stderr.join("\n");
        assert_eq!(ended.status.code(), Some(0), "{signal}: {said}");
        let bytes = fs::metadata(&file).unwrap().len();
        assert!(said.contains(" packets, ") && said.contains(&format!(" {bytes} bytes")), "{signal}: {said}");
        assert_eq!(daemon.unfinished(), [""; 0], "{signal}");
        let (reported, _folder, lab) = daemon.stop();
        let found = read(&file, lab.a.v4);
        assert_eq!(found, sorted(reported), "{signal}");
        assert_tshark_agrees(&file, &found, 40);
    }
}

#[test]
fn a_second_interrupt_gives_a_recording_up_and_leaves_nothing() {
    in_time("a second interrupt", try_a_second_interrupt);
}

fn try_a_second_interrupt() -> Result<(), Late> {
    let daemon = Recording::start(Backend::Ebpf, "", "");
    let (by_hand, file) = daemon.by_hand();
    drive(&daemon.lab, daemon.lab.b.v4.into(), false);
    // It does not answer to the first.
    daemon.agent.freeze().unwrap();
    by_hand.signal(Signal::SIGINT).unwrap();
    // Two that wait at the same time are one (signal(7)).
    wait("the first one is taken", SOON, || !by_hand.awaits(Signal::SIGINT).unwrap());
    by_hand.signal(Signal::SIGINT).unwrap();
    let ended = by_hand.finish().unwrap();
    daemon.agent.signal(Signal::SIGCONT).unwrap();
    let said = ended.stderr.join("\n");
    // After three seconds without an answer the first one has ended it: then there is nothing to give up.
    timely(!said.contains("the recording ends with what has come"), || said.clone())?;
    assert_eq!(ended.status.signal(), Some(Signal::SIGINT as i32), "{said}");
    assert!(!file.exists() && daemon.unfinished().is_empty(), "{:?}", daemon.unfinished());
    Ok(())
}

#[test]
fn one_interrupt_ends_a_recording_with_what_has_come_where_the_daemon_does_not_answer() {
    let daemon = Recording::start(Backend::Ebpf, "", "");
    let (by_hand, file) = daemon.by_hand();
    drive(&daemon.lab, daemon.lab.b.v4.into(), false);
    daemon.is_fetched();
    daemon.agent.freeze().unwrap();
    by_hand.signal(Signal::SIGINT).unwrap();
    let ended = by_hand.finish().unwrap();
    daemon.agent.signal(Signal::SIGCONT).unwrap();
    let said = ended.stderr.join("\n");
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("the recording ends with what has come") && said.contains("is kept: "), "{said}");
    assert!(file.exists() && daemon.unfinished().is_empty(), "{:?}", daemon.unfinished());
}

#[test]
fn what_had_come_of_a_recording_is_kept_when_the_daemon_goes_away() {
    let daemon = Recording::start(Backend::Ebpf, "", "");
    let (by_hand, file) = daemon.by_hand();
    drive(&daemon.lab, daemon.lab.b.v4.into(), false);
    daemon.is_fetched();
    wait("all is printed", SOON, || samples(&daemon.agent.output()).unwrap().len() >= 40);
    let reported = daemon.agent.kill().unwrap().samples().unwrap();
    let ended = by_hand.finish().unwrap();
    let said = ended.stderr.join("\n");
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("the daemon went away") && said.contains("is kept: "), "{said}");
    let found = read(&file, daemon.lab.a.v4);
    assert!(found.len() >= 20 && found.iter().all(|sample| reported.contains(sample)), "{found:#?}");
    let expert = tshark(&file, &["-z", "expert", "-q"]);
    assert!(expert.status.success() && !String::from_utf8_lossy(&expert.stderr).contains("cut short"), "{expert:?}");
}

#[test]
fn both_sides_are_read_as_they_were_measured() {
    let daemon = Recording::start(Backend::Ebpf, "  sides: both\n", "memory: 4MiB, threshold: 100ms, after: 1s");
    drive(&daemon.lab, daemon.lab.b.v4.into(), true);
    let file = daemon.first();
    let (reported, _folder, _lab) = daemon.stop();
    // Without --local and --sides: as it was measured.
    let found = run_once(["read", file.to_str().unwrap(), "--samples"]).unwrap().samples().unwrap();
    let last = found.iter().map(|sample| sample.time_ns).max().unwrap();
    let within = reported.into_iter().filter(|sample| sample.time_ns <= last).collect();
    assert!(found.iter().any(Sample::is_local) && found.iter().any(|sample| !sample.is_local()));
    assert_eq!(sorted(found), sorted(within));
}

#[test]
fn a_reload_switches_it_on_and_off_and_a_pair_has_one_file_in_a_while() {
    let daemon = Recording::start(Backend::Ebpf, "", "memory: 4MiB, threshold: 100ms, after: 300ms, every: 300s");
    let to = daemon.lab.b.v4.into();
    drive(&daemon.lab, to, true);
    daemon.first();
    drive(&daemon.lab, to, true);
    let status = || testing_lab::agent::status(&daemon.socket()).unwrap();
    wait("another is skipped", SOON, || status()["recorder"]["skipped"].as_u64() > Some(0));
    assert_eq!(daemon.files().len(), 1);
    write_config(daemon.folder.path(), Backend::Ebpf, "", "");
    daemon.reload();
    drive(&daemon.lab, to, true);
    thread::sleep(Duration::from_secs(2));
    assert_eq!((daemon.files().len(), &status()["recorder"]["written"]), (1, &1.into()));
    write_config(daemon.folder.path(), Backend::Ebpf, "", "memory: 2MiB, threshold: 100ms, after: 300ms, every: 1s");
    daemon.reload();
    drive(&daemon.lab, to, true);
    wait("it records again", SOON, || daemon.files().len() == 2);
    let (reported, folder, lab) = daemon.stop();
    for file in files(&folder.path().join("recordings")) {
        assert!(read(&file, lab.a.v4).iter().all(|sample| reported.contains(sample)));
    }
}

/// Whether its records stay where they are or are copied: small memory has smaller parts.
#[test]
fn an_outlier_that_waits_is_recorded_although_a_reload_changes_the_memory() {
    for memory in ["8MiB", "2MiB", "1MiB"] {
        let record = |memory: &str| format!("memory: {memory}, threshold: 100ms, after: 2s, every: 60s");
        let daemon = Recording::start(Backend::Ebpf, "", &record("4MiB"));
        let local = daemon.lab.a.v4;
        drive(&daemon.lab, daemon.lab.b.v4.into(), true);
        write_config(daemon.folder.path(), Backend::Ebpf, "", &record(memory));
        daemon.reload();
        let file = daemon.first();
        let (reported, _folder, _lab) = daemon.stop();
        let found = read(&file, local);
        assert!(found.len() > 20 && found.iter().all(|sample| reported.contains(sample)), "{memory}: {found:#?}");
        assert!(found.iter().any(|sample| sample.rtt() >= OUTLIER), "{memory}: the outlier is not in it");
    }
}

#[test]
fn an_outlier_whose_records_are_gone_makes_no_file_and_is_counted_apart() {
    let record = "memory: 4MiB, threshold: 100ms, after: 10s, every: 60s";
    let daemon = Recording::start(Backend::Ebpf, "", record);
    drive(&daemon.lab, daemon.lab.b.v4.into(), true);
    // The daemon hears of outliers each second.
    thread::sleep(Duration::from_secs(2));
    // Records start over with other workers, and no more of the pair come.
    write_config(daemon.folder.path(), Backend::Ebpf, "  workers: 2\n", record);
    daemon.reload();
    let recorder = || testing_lab::agent::status(&daemon.socket()).unwrap()["recorder"].clone();
    wait("it is counted", SOON, || recorder()["empty"] == 1);
    assert_eq!((&recorder()["written"], daemon.files()), (&0.into(), Vec::new()));
    let said = daemon.agent.log().join("\n");
    assert!(said.contains("an outlier is not recorded") && said.contains("raise `record.memory`"), "{said}");
    daemon.stop();
}

/// The arguments of runs that leave recordings to the daemon, and why each does.
const BESIDE: [(&[&str], &str); 3] = [
    (&["--output", "json", "--samples", "--status-socket", "off"], "standard output alone"),
    (&["--samples", "--duration", "60"], "ends after --duration"),
    (&["--samples", "--status-socket", "off"], "a daemon answers at"),
];

#[test]
fn a_run_for_a_moment_or_beside_the_daemon_leaves_its_folder_alone() {
    let daemon = Recording::start(Backend::Ebpf, "", "memory: 4MiB, threshold: 100ms, after: 300ms, every: 300s");
    let conf = daemon.folder.path().join("conf.yaml");
    let runs = BESIDE.map(|(more, why)| {
        let args = ["run", "-c", conf.to_str().unwrap(), "--interval", "1"];
        (Agent::start(&daemon.lab.a, args.iter().chain(more)).unwrap(), why)
    });
    drive(&daemon.lab, daemon.lab.b.v4.into(), true);
    daemon.first();
    for (run, why) in runs {
        let has_outlier = |lines: &[String]| samples(lines).unwrap().iter().any(|sample| sample.rtt() >= OUTLIER);
        assert!(run.wait_for_output(SOON, has_outlier), "{why}: {:?}", run.log());
        // By then it would have written.
        thread::sleep(Duration::from_secs(1));
        let log = run.stop().unwrap().stderr;
        let said: Vec<&String> = log.iter().filter(|line| line.contains("`record` is left to the daemon")).collect();
        assert!(matches!(said.as_slice(), [line] if line.contains(why)), "{why}: {log:#?}");
    }
    assert_eq!(daemon.files().len(), 1, "{:?}", daemon.files());
    daemon.stop();
}

#[test]
fn there_are_no_more_files_and_bytes_than_are_allowed_and_no_other_file_is_touched() {
    let daemon =
        Recording::start(Backend::Ebpf, "", "memory: 2MiB, threshold: 1ms, after: 100ms, every: 200ms, files: 3");
    let recordings = daemon.folder.path().join("recordings");
    let other = recordings.join("other.pcapng");
    fs::write(&other, "mine").unwrap();
    let mut seen = BTreeSet::new();
    for _ in 0..8 {
        some_rounds(&daemon.lab, 3);
        thread::sleep(Duration::from_millis(1200));
        let now = files(&recordings);
        assert!(now.len() <= 4, "{now:?}");
        seen.extend(now);
    }
    assert!(seen.len() > 5, "{seen:?}");
    assert_eq!(fs::read_to_string(&other).unwrap(), "mine");
    let newest = seen.iter().rfind(|file| **file != other).unwrap();
    assert!(newest.exists(), "the oldest make room");
    daemon.stop();
}
