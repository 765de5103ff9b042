//! OTLP receivers that refuse for a while, do not answer, read slowly, or are not there: each costs its own reports at
//! the most, which are counted, and the DogStatsD server gets all of its own in time.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;
use testing_lab::Lab;
use testing_lab::agent::binary;
use testing_lab::late::{in_time, timely};

use super::streams::Daemon;
use super::support::{Conf, SOON, lab, rounds, statsd, wait, wait_until};

const ADDRESS: &str = "127.0.0.1:4318";
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// What a receiver does with a request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Does {
    /// Answers with this status line, and these fields of the head.
    Answer(&'static str, &'static str),
    /// Reads it, and says nothing.
    Nothing,
    /// Reads so many bytes at once, with a pause after each, then takes it.
    ReadSlowly(usize, Duration),
}

/// The head and the body of a request, and when it was complete.
type Heard = (String, Vec<u8>, Instant);

/// A receiver on host a's loopback; stops when dropped.
struct Receiver {
    does: Arc<Mutex<Does>>,
    heard: Arc<Mutex<Vec<Heard>>>,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Receiver {
    fn start(lab: &Lab, does: Does) -> Self {
        let listener = lab.a.enter(|| TcpListener::bind(ADDRESS)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (does, heard, stop) = (Arc::new(Mutex::new(does)), Arc::default(), Arc::<AtomicBool>::default());
        let (mood, hears, stopped) = (Arc::clone(&does), Arc::clone(&heard), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let mut connections = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let Ok((stream, _)) = listener.accept() else {
                    thread::sleep(Duration::from_millis(5));
                    continue;
                };
                stream.set_nonblocking(false).unwrap();
                let (mood, hears, stopped) = (Arc::clone(&mood), Arc::clone(&hears), Arc::clone(&stopped));
                connections.push(thread::spawn(move || converse(stream, &mood, &hears, &stopped)));
            }
            for connection in connections {
                let _ = connection.join();
            }
        });
        Self { does, heard, stop, thread: Some(thread) }
    }

    fn does(&self, does: Does) {
        *self.does.lock().unwrap() = does;
    }

    fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}

/// Answers the requests of one connection, one after the other.
fn converse(mut stream: TcpStream, does: &Mutex<Does>, heard: &Mutex<Vec<Heard>>, stop: &AtomicBool) {
    stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let mut bytes = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let now = *does.lock().unwrap();
        let mut piece = vec![0; if let Does::ReadSlowly(size, _) = now { size } else { 1 << 16 }];
        match stream.read(&mut piece) {
            Ok(0) => return,
            Ok(length) => bytes.extend_from_slice(&piece[..length]),
            Err(_) => continue,
        }
        if let Does::ReadSlowly(_, pause) = now {
            thread::sleep(pause);
        }
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
        if bytes.len() < end + 4 + length {
            continue;
        }
        let rest = bytes.split_off(end + 4 + length);
        let body = std::mem::replace(&mut bytes, rest).split_off(end + 4);
        heard.lock().unwrap().push((head, body, Instant::now()));
        let (status, fields) = match now {
            Does::Answer(status, fields) => (status, fields),
            Does::Nothing => continue,
            Does::ReadSlowly(..) => ("200 OK", ""),
        };
        if write!(stream, "HTTP/1.1 {status}\r\n{fields}Content-Length: 0\r\n\r\n").is_err() {
            return;
        }
    }
}

const TAKES: Does = Does::Answer("200 OK", "Content-Type: application/x-protobuf\r\n");

/// A daemon that reports to a DogStatsD server and by OTLP, and gives a receiver so many milliseconds to answer. The
/// rest of its environment is malformed in part, follows from the request, or has no effect beside the file.
fn daemon(lab: &Lab, conf: &Conf, interval: &str, timeout_ms: &str) -> Daemon {
    let mut command = lab.a.namespace.command(binary().unwrap());
    command.args(["run", "-c", conf.path().to_str().unwrap(), "--output", "otlp,statsd", "--interval", interval]);
    command.env("OTEL_EXPORTER_OTLP_TIMEOUT", timeout_ms).env("OTEL_EXPORTER_OTLP_COMPRESSION", "zip");
    command.env("OTEL_EXPORTER_OTLP_HEADERS", "Content-Length=7,api-key=of%20mine,sesame").env(ENDPOINT, "elsewhere");
    Daemon::spawn(&mut command, conf, Stdio::null(), File::create(log(conf)).unwrap().into())
}

/// Where its log is.
fn log(conf: &Conf) -> PathBuf {
    conf.folder().join("log")
}

/// How many lines of its log have this.
fn logged(conf: &Conf, what: &str) -> usize {
    fs::read_to_string(log(conf)).unwrap().lines().filter(|line| line.contains(what)).count()
}

fn conf() -> Conf {
    Conf::usual(&[&format!("otlp_endpoint: http://{ADDRESS}")])
}

fn lost(status: &Value) -> u64 {
    status["drops"]["otlp_lost"].as_u64().unwrap()
}

fn problems(status: &Value) -> String {
    status["problems"].to_string()
}

#[test]
fn a_receiver_that_refuses_for_a_while_gets_the_same_report_again_when_it_asked_for_it() {
    let lab = lab();
    let server = statsd(&lab);
    let receiver = Receiver::start(&lab, Does::Answer("503 Service Unavailable", "Retry-After: 2\r\n"));
    let conf = conf();
    // One report, and the last one on the way out.
    let daemon = daemon(&lab, &conf, "4", "10000");
    wait("a first try", 3 * SOON, || !receiver.heard().is_empty());
    receiver.does(TAKES);
    let refused = daemon.wait("it is said", |status| status["state"] == "degraded");
    let expected = format!("otlp http://{ADDRESS}/v1/metrics: 503 Service Unavailable; it is tried again");
    assert!(problems(&refused).contains(&expected), "{refused}");
    daemon.wait("it is well again", |status| status["state"] == "ok");
    let heard = receiver.heard();
    let [(head, body, at), (head_again, again, later), ..] = &*heard else { panic!("{heard:?}") };
    assert!(head.starts_with("post /v1/metrics http/1.1\r\nhost: 127.0.0.1:4318\r\n"), "{head}");
    for field in ["content-type: application/x-protobuf", "content-encoding: gzip", "api-key: of mine"] {
        assert!(head.lines().any(|line| line == field), "{field} is not in {head}");
    }
    assert!(body.starts_with(&[0x1f, 0x8b]) && (head, body) == (head_again, again), "the same request");
    assert!(*later - *at >= Duration::from_secs(2), "it came back after {:?}", *later - *at);
    daemon.signal(Signal::SIGHUP);
    let status = daemon.wait("a reload", |status| status["happened"]["reloads"] == 1);
    wait("the reload is logged", SOON, || logged(&conf, "configuration reloaded") > 0);
    for said in [
        "OTEL_EXPORTER_OTLP_HEADERS: item 1 (`Content-Length`) follows from the request and cannot be set; item 3 is \
         not of the form key=value; the other items are sent",
        "OTEL_EXPORTER_OTLP_COMPRESSION is ignored: `zip` is neither gzip nor none",
        "OTEL_EXPORTER_OTLP_ENDPOINT has no effect: `otlp_endpoint` takes precedence",
        "/v1/metrics accepts reports again",
    ] {
        assert_eq!(logged(&conf, said), 1, "{said}");
    }
    assert_eq!(logged(&conf, "sesame"), 0, "it may be a secret");
    assert_eq!(lost(&status), 0, "{status}");
    let longest = rounds(&lab, 10);
    wait_until(&server, "samples", |h| h.rtts().len() >= 10).assert_true_rtts(longest, "503");
    let before = receiver.heard().len();
    assert_eq!(daemon.stop().0, Some(0));
    assert!(receiver.heard().len() > before, "the last report is posted on the way out");
}

#[test]
fn the_first_loss_is_logged_with_its_cause_and_all_of_it_when_reports_are_taken_again() {
    let lab = lab();
    let _server = statsd(&lab);
    let receiver = Receiver::start(&lab, Does::Answer("503 Service Unavailable", ""));
    let conf = conf();
    let began = Instant::now();
    // More reports come than may wait.
    let daemon = daemon(&lab, &conf, "0.3", "10000");
    daemon.wait("reports are lost", |status| lost(status) > 0);
    for said in ["503 Service Unavailable; it is tried again", "503 Service Unavailable; data points lost: "] {
        // Not after a minute, when a trouble that goes on is logged again.
        wait(said, Duration::from_secs(10), || logged(&conf, said) > 0);
        assert!(logged(&conf, said) == 1 || began.elapsed() > Duration::from_secs(60), "{said}");
    }
    receiver.does(TAKES);
    let status = daemon.wait("it is well again", |status| status["state"] == "ok");
    let said = format!("{ADDRESS}/v1/metrics accepts reports again; data points lost meanwhile: {}", lost(&status));
    wait(&said, SOON, || logged(&conf, &said) == 1);
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn what_a_receiver_refuses_for_good_is_lost_at_once_and_counted() {
    let lab = lab();
    let server = statsd(&lab);
    let receiver = Receiver::start(&lab, Does::Answer("400 Bad Request", "Content-Type: text/plain\r\n"));
    let conf = conf();
    let daemon = daemon(&lab, &conf, "0.5", "10000");
    let status = daemon.wait("two are lost", |status| lost(status) > 0 && receiver.heard().len() >= 2);
    assert!(problems(&status).contains("400 Bad Request"), "{status}");
    let heard = receiver.heard();
    assert!(heard.windows(2).all(|two| two[0].1 != two[1].1), "none is sent twice");
    wait_until(&server, "the counter", |h| h.count("go_metro.otlp_lost") > 0 && h.count("go_metro.send_errors") == 0);
    receiver.does(TAKES);
    let status = daemon.wait("it is well again", |status| status["state"] == "ok");
    let shown = lost(&status);
    assert_eq!(lost(&daemon.status().unwrap()), shown, "nothing is lost any more");
    wait("it is logged", SOON, || logged(&conf, "/v1/metrics accepts reports again") > 0);
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn a_receiver_that_never_answers_costs_its_own_reports_and_holds_up_nothing() {
    in_time("a stop beside a mute receiver", || {
        let lab = lab();
        let server = statsd(&lab);
        let receiver = Receiver::start(&lab, Does::Nothing);
        let conf = conf();
        let daemon = daemon(&lab, &conf, "0.3", "700");
        let status = daemon.wait("reports are lost", |status| lost(status) > 0);
        assert!(problems(&status).contains("no answer within 700ms"), "{status}");
        // More reports than wait come and go meanwhile; none of them is kept.
        drop(server.take());
        let longest = rounds(&lab, 20);
        let heard = wait_until(&server, "samples", |h| h.rtts().len() >= 20 && h.count("go_metro.otlp_lost") > 0);
        heard.assert_true_rtts(longest, "a mute receiver");
        assert_eq!(heard.count("go_metro.send_errors"), 0);
        // It is not waited for at the end either.
        let (code, took) = daemon.stop();
        assert_eq!(code, Some(0));
        drop(receiver);
        timely(took < Duration::from_secs(1), || format!("it took {took:?}"))
    });
}

#[test]
fn a_receiver_that_reads_slowly_gets_all_of_it_and_one_that_comes_late_what_is_new() {
    let lab = lab();
    let server = statsd(&lab);
    let conf = conf();
    let daemon = daemon(&lab, &conf, "1", "10000");
    // Nobody is there yet.
    let status = daemon.wait("it is said", |status| problems(status).contains("Connection refused"));
    assert!(problems(&status).contains("127.0.0.1:4318"), "{status}");
    let receiver = Receiver::start(&lab, Does::ReadSlowly(32, Duration::from_millis(5)));
    daemon.wait("it is well again", |status| status["state"] == "ok" && receiver.heard().len() >= 2);
    let before = lost(&daemon.status().unwrap());
    drop(server.take());
    let longest = rounds(&lab, 10);
    wait_until(&server, "samples", |h| h.rtts().len() >= 10).assert_true_rtts(longest, "a slow receiver");
    let heard = receiver.heard().len();
    let status = daemon.wait("more is taken", |_| receiver.heard().len() > heard + 1);
    assert_eq!((lost(&status), &status["state"]), (before, &Value::from("ok")), "{status}");
    assert_eq!(daemon.stop().0, Some(0));
}
