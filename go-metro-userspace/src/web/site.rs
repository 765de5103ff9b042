//! The history and those who follow it, behind the answers to a browser.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::json;
use tokio::sync::mpsc;

use super::history::{History, MOST_BYTES};
use super::{Question, Reply, api, page};
use crate::config::LONGEST_HISTORY_S;
use crate::status::Live;
use crate::{privileges, threads};

/// Seconds that wait to be added.
const BACKLOG: usize = 4;
/// Events that wait for one who follows and reads slowly; the next ones are left out.
const BEHIND: usize = 4;
/// Answers that are kept for the next who asks the same in the same second.
const MOST_MADE: usize = 8;
/// The span of lists and courses where none is asked for, in seconds.
const SPAN: u64 = 60;

/// Most characters of a key that an error repeats.
const LONGEST_KEY: usize = 100;

/// Where the paths are listed.
const INDEX: &str = "/api/v1";
const INDEX_FOLDER: &str = "/api/v1/";

/// What all who look share.
pub(crate) struct Site {
    history: Mutex<History>,
    followers: Mutex<Vec<mpsc::Sender<Bytes>>>,
    /// Answers of the newest second.
    made: Mutex<(u64, Vec<(Question, Reply)>)>,
    closed: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Site {
    /// Begins to keep what comes from the daemon, for so long.
    ///
    /// # Errors
    ///
    /// There can be no more threads.
    pub(crate) fn start(keeps: Duration) -> io::Result<(Arc<Self>, mpsc::Sender<Arc<Live>>)> {
        let site = Arc::new(Self::new(keeps));
        let (sender, mut seconds) = mpsc::channel::<Arc<Live>>(BACKLOG);
        let adds = Arc::downgrade(&site);
        threads::spawn("web-history", move || {
            privileges::give_up_all();
            while let Some(live) = seconds.blocking_recv() {
                let Some(site) = adds.upgrade().filter(|site| !site.closed.load(Ordering::Relaxed)) else { return };
                site.add(&live, Instant::now());
            }
        })?;
        Ok((site, sender))
    }

    fn new(keeps: Duration) -> Self {
        Self {
            history: Mutex::new(History::new(keeps, MOST_BYTES)),
            followers: Mutex::default(),
            made: Mutex::default(),
            closed: AtomicBool::new(false),
        }
    }

    /// Goes back so far from now on.
    pub(crate) fn keep(&self, keeps: Duration) {
        lock(&self.history).keep(keeps);
    }

    /// Keeps nothing any more: the daemon is rid of it at its next second.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.hang_up();
    }

    /// Ends what is followed; who goes on to follow comes again.
    pub(crate) fn hang_up(&self) {
        lock(&self.followers).clear();
    }

    /// A file of the page.
    pub(crate) fn file(&self, path: &str, gzip: bool) -> Option<Reply> {
        let file = page::at(path)?;
        Some(Reply { status: 200, content_type: file.content_type, body: file.bytes(gzip), is_gzip: gzip })
    }

    /// A document of the history. It may take a while; who asks the same in the same second gets the same.
    pub(crate) fn answer(&self, question: &Question) -> Reply {
        let newest = lock(&self.history).newest().map_or(0, |second| second.number);
        let known = |made: &(u64, Vec<(Question, Reply)>)| {
            let same = made.1.iter().find(|(asked, _)| asked == question);
            same.filter(|_| made.0 == newest).map(|(_, reply)| reply.clone())
        };
        if let Some(reply) = known(&lock(&self.made)) {
            return reply;
        }
        let reply = self.make(question, Instant::now());
        let mut made = lock(&self.made);
        if made.0 != newest {
            *made = (newest, Vec::new());
        }
        if made.1.len() < MOST_MADE && reply.status == 200 {
            made.1.push((question.clone(), reply.clone()));
        }
        reply
    }

    /// The answer to a query that a path does not take, and to one for a path that there is not.
    pub(crate) fn refuse(&self, path: &str, query: &str) -> Option<Reply> {
        Asked::parse(path, query).err()
    }

    fn make(&self, question: &Question, now: Instant) -> Reply {
        let asked = match Asked::parse(&question.path, &question.query) {
            Ok(asked) => asked,
            Err(refused) => return refused,
        };
        let history = lock(&self.history);
        let over = Duration::from_secs(asked.seconds).min(history.keeps());
        let document = match (question.path.as_str(), asked.pair) {
            (INDEX | INDEX_FOLDER, _) => api::document(&api::Index::new(&history)),
            ("/api/v1/pairs", _) => api::pairs(&history, over, asked.course, now),
            ("/api/v1/history", Some(pair)) => match api::history(&history, pair, over, now) {
                Some(document) => document,
                None => return refused(404, "no such pair: /api/v1/pairs has those of the last minutes"),
            },
            ("/api/v1/history", None) => return refused(400, "write ?pair=ID, with an id of /api/v1/pairs"),
            _ => return no_such_path(),
        };
        drop(history);
        Reply::json(200, document, question.gzip)
    }

    /// The newest second, and each that comes.
    pub(crate) fn follow(&self) -> mpsc::Receiver<Bytes> {
        let (sender, receiver) = mpsc::channel(BEHIND);
        // A browser that lost the connection comes again after so many milliseconds.
        let _ = sender.try_send(Bytes::from_static(b"retry: 2000\n\n"));
        if !self.closed.load(Ordering::Relaxed) {
            lock(&self.followers).push(sender);
        }
        receiver
    }

    fn add(&self, live: &Live, now: Instant) {
        let mut history = lock(&self.history);
        history.add(live, now);
        let mut followers = lock(&self.followers);
        if followers.is_empty() {
            return;
        }
        let Some(event) = history.newest().map(|second| Bytes::from(api::event(&history, second, live))) else {
            return;
        };
        drop(history);
        // One that is behind misses a second, and no more.
        followers.retain(|to| !matches!(to.try_send(event.clone()), Err(mpsc::error::TrySendError::Closed(_))));
    }
}

/// What is behind `?`.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    seconds: u64,
    pair: Option<u32>,
    course: bool,
}

impl Asked {
    /// What a path is asked for; else the answer to that.
    fn parse(path: &str, query: &str) -> Result<Self, Reply> {
        let keys = match api::PATHS.iter().find(|(its, _)| *its == path) {
            Some((_, keys)) => *keys,
            None if [INDEX, INDEX_FOLDER].contains(&path) => &[],
            None => return Err(no_such_path()),
        };
        Self::of(keys, path, query).map_err(|why| refused(400, &why))
    }

    fn of(keys: &[&str], path: &str, query: &str) -> Result<Self, String> {
        let mut asked = Self { seconds: SPAN, pair: None, course: false };
        let mut known = Vec::new();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            if !keys.contains(&key) {
                return Err(format!("there is no key {}: {}", shortened(key), taken(path, keys)));
            }
            if known.contains(&key) {
                return Err(format!("the key {key} is given twice: {}", taken(path, keys)));
            }
            known.push(key);
            match key {
                "seconds" => {
                    let seconds = value.parse().ok().filter(|seconds| (1..=LONGEST_HISTORY_S).contains(seconds));
                    asked.seconds =
                        seconds.ok_or_else(|| format!("seconds takes a whole number from 1 to {LONGEST_HISTORY_S}"))?;
                }
                "pair" => {
                    let number: u64 = value.parse().map_err(|_| "pair takes a number".to_owned())?;
                    asked.pair = Some(u32::try_from(number).map_err(|_| "no such pair".to_owned())?);
                }
                _ => {
                    asked.course = match value {
                        "0" => false,
                        "1" => true,
                        _ => return Err("course takes 0 or 1".to_owned()),
                    }
                }
            }
        }
        Ok(asked)
    }
}

/// Which keys a path takes, in words.
fn taken(path: &str, keys: &[&str]) -> String {
    if keys.is_empty() { format!("{path} takes none") } else { format!("{path} takes {}", keys.join(" and ")) }
}

/// A key as an error repeats it: in ASCII, and at most so long that the error stays legible.
fn shortened(key: &str) -> String {
    let mut escaped = key.chars().flat_map(char::escape_default);
    let shown: String = escaped.by_ref().take(LONGEST_KEY).collect();
    if escaped.next().is_some() { shown + "..." } else { shown }
}

fn no_such_path() -> Reply {
    let paths = api::PATHS.map(|(path, _)| path).join(", ");
    refused(404, &format!("there is no such path; the paths are {INDEX}, {paths}"))
}

/// Why there is no document.
fn refused(status: u16, why: &str) -> Reply {
    Reply::json(status, api::document(&json!({"version": api::VERSION, "error": why})), false)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use go_metro_rtt::{Cause, Connect, PeerHealth, Role};
    use serde_json::Value;

    use super::super::examples::{counted, flow, second};
    use super::*;
    use crate::output::examples::summary;

    fn asked(site: &Site, path: &str, query: &str) -> (u16, Value) {
        let question = Question { path: path.to_owned(), query: query.to_owned(), gzip: false };
        let reply = site.answer(&question);
        assert!(!reply.is_gzip && reply.content_type == "application/json");
        (reply.status, serde_json::from_slice(&reply.body).unwrap())
    }

    /// A site with ten seconds of two pairs; the second one measured nothing lately.
    fn site() -> Site {
        let site = Site::new(Duration::from_secs(900));
        let start = Instant::now();
        for k in 0..10_u32 {
            let mut flows = vec![flow(1, "db.example", &[20_000, 24_000, 22_000])];
            flows.extend((k < 5).then(|| flow(2, "<b>&\"x", &[5_000 + u64::from(k)])));
            let mut live = second(flows);
            live.at_ns += u64::from(k) * 1_000_000_000;
            if k == 7 {
                let mut health = PeerHealth { segments: 100, ..PeerHealth::default() };
                health.retransmits[Cause::Fast as usize] = 3;
                health.resets[0] = 1;
                live.pairs.push(counted(1, "db.example", health));
            }
            site.add(&live, start + Duration::from_secs(u64::from(k)));
        }
        site
    }

    #[test]
    fn pairs_have_what_they_had_over_the_span_under_the_names_of_the_json_output() {
        let (status, told) = asked(&site(), "/api/v1/pairs", "seconds=60&course=1");
        assert_eq!(
            (status, &told["version"], &told["second"], &told["left_out"]),
            (200, &1.into(), &10.into(), &0.into())
        );
        let rows = told["pairs"].as_array().unwrap();
        assert_eq!(rows.len(), 2);
        let db = &rows[0];
        assert_eq!((&db["dst"], &db["src"], &db["iface"]), (&"db.example".into(), &"10.0.0.1".into(), &"eth0".into()));
        assert_eq!((&db["data"]["count"], &db["data"]["min_ms"]), (&30.into(), &20.0.into()));
        assert_eq!((&db["data"]["last_ms"], &db["data"]["max_ms"]), (&22.0.into(), &24.0.into()));
        assert_eq!(
            (&db["data"]["avg_ms"], &db["data"]["jitter_ms"], &db["connect"]),
            (&22.0.into(), &3.0.into(), &Value::Null)
        );
        assert_eq!((&db["base_ms"], &db["side"]), (&20.0.into(), &"remote".into()));
        let queueing = db["queueing_ms"].as_f64().unwrap();
        assert!((queueing - 2.0).abs() < 0.001, "{queueing}");
        assert_eq!((&db["peer"]["retransmits"]["fast"], &db["peer"]["segments"]), (&3.into(), &100.into()));
        assert_eq!(rows[1]["dst"], "<b>&\"x", "a name is text, whatever is in it");
        let course = db["course_ms"].as_array().unwrap();
        assert_eq!((course.len(), course.iter().filter(|ms| **ms == 22.0).count()), (60, 10));
        assert!(course[49].is_null() && course[50] == 22.0);
        assert!(rows[1]["course_ms"][59].is_null() && rows[1]["course_ms"][54] == 5.004);
    }

    #[test]
    fn of_too_many_pairs_the_least_active_are_left_out_and_failed_connections_are_activity() {
        let site = Site::new(Duration::from_secs(900));
        let start = Instant::now();
        let one_sample = |hosts: std::ops::Range<u32>| {
            second(hosts.map(|host| flow(host, &format!("{host}.example"), &[20_000])).collect())
        };
        site.add(&one_sample(0..2000), start);
        let mut newer = one_sample(2000..4096);
        let mut refused = PeerHealth::default();
        refused.connects[Role::Client as usize][Connect::Refused as usize] = 3;
        newer.pairs.push(counted(9999, "refusing.example", refused));
        site.add(&newer, start + Duration::from_secs(1));

        let (_, told) = asked(&site, "/api/v1/pairs", "");
        let listed: BTreeSet<&str> =
            told["pairs"].as_array().unwrap().iter().map(|pair| pair["dst"].as_str().unwrap()).collect();
        assert_eq!((&told["left_out"], listed.len()), (&1.into(), 4096));
        assert_eq!(told["pairs"][0]["dst"], "refusing.example");
        assert!((2000..4096).all(|host| listed.contains(&*format!("{host}.example"))), "the most recent are listed");
    }

    #[test]
    fn the_course_of_a_pair_has_each_second_and_a_distribution_of_all_its_samples() {
        let site = site();
        let (_, pairs) = asked(&site, "/api/v1/pairs", "");
        let id = &pairs["pairs"][0]["id"];
        let (status, told) = asked(&site, "/api/v1/history", &format!("pair={id}&seconds=900"));
        assert_eq!((status, &told["sums"]["dst"]), (200, &"db.example".into()), "{told}");
        let seconds = &told["seconds"];
        for (name, column) in seconds.as_object().unwrap() {
            assert_eq!(column.as_array().unwrap().len(), 10, "{name}");
        }
        assert_eq!((&seconds["p50_ms"][0], &seconds["max_ms"][9]), (&22.0.into(), &24.0.into()));
        assert_eq!(
            (&seconds["retransmits"][7], &seconds["resets"][7], &seconds["resets"][8]),
            (&3.into(), &1.into(), &0.into())
        );
        assert_eq!(seconds["at_ms"][1].as_u64().unwrap() - seconds["at_ms"][0].as_u64().unwrap(), 1000);
        let bars = told["distribution"]["data"].as_array().unwrap();
        assert_eq!(bars.iter().map(|bar| bar[2].as_u64().unwrap()).sum::<u64>(), 30);
        assert_eq!(told["distribution"]["connect"], serde_json::json!([]));
        let (_, short) = asked(&site, "/api/v1/history", &format!("pair={id}&seconds=3"));
        let count = short["seconds"]["count"].as_array().unwrap().len();
        // The clock of the test goes on, that of its seconds began before.
        assert!(count >= 3, "{short}");
    }

    /// The fields that a table of docs/web.md with this heading has.
    fn documented(heading: &str) -> BTreeSet<String> {
        let page = include_str!("../../../docs/web.md");
        let heading = format!("| {heading} | |");
        let rows = page.lines().skip_while(|line| *line != heading).skip(2).take_while(|line| line.starts_with('|'));
        let names = |row: &'static str| row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2);
        rows.flat_map(names).map(str::to_owned).collect()
    }

    #[test]
    fn the_page_about_it_has_each_field_that_is_sent_and_no_other() {
        let site = site();
        let mut events = site.follow();
        // A pair of handshakes alone: an event has the field that says so nowhere else.
        let mut handshake = flow(9, "new.example", &[1]);
        handshake.summary = summary(&[], &[30_000]);
        site.add(&second(vec![handshake, flow(1, "db.example", &[20_000])]), Instant::now());
        assert!(events.try_recv().is_ok(), "when to come again");
        let event = String::from_utf8(events.try_recv().unwrap().to_vec()).unwrap();
        let event: Value = serde_json::from_str(event.split_once("\ndata: ").unwrap().1).unwrap();

        let (_, index) = asked(&site, "/api/v1", "");
        let (_, pairs) = asked(&site, "/api/v1/pairs", "course=1&seconds=900");
        let (_, history) = asked(&site, "/api/v1/history", &format!("pair={}", pairs["pairs"][0]["id"]));
        let (_, error) = asked(&site, "/api/v1/nothing", "");
        let by_name = |name: &str| pairs["pairs"].as_array().unwrap().iter().find(|row| row["dst"] == name).unwrap();
        let (data, connect) = (&by_name("db.example")["data"], &by_name("new.example")["connect"]);
        let is_handshake = |had: &&Value| had["connect"] == true;
        let had = event["pairs"].as_array().unwrap().iter().find(is_handshake).unwrap();
        for (heading, sent) in [
            ("field of `/api/v1`", &index),
            ("field of `/api/v1/pairs`", &pairs),
            ("field of `/api/v1/history`", &history),
            ("field of a pair", &pairs["pairs"][0]),
            ("field of `data`, `connect`", data),
            ("field of `data`, `connect`", connect),
            ("field of `peer`", &by_name("db.example")["peer"]),
            ("field of `distribution`", &history["distribution"]),
            ("column of `seconds`", &history["seconds"]),
            ("field of an event", &event),
            ("field of an event's pair", had),
            ("field of `counters`", &event["counters"]),
        ] {
            let sent: BTreeSet<String> = sent.as_object().unwrap().keys().cloned().collect();
            assert_eq!(documented(heading), sent, "{heading}");
        }
        // In prose.
        let of_error: BTreeSet<&str> = error.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(of_error, BTreeSet::from(["error", "version"]));
        for path in index["paths"].as_array().unwrap() {
            assert!(documented("path").iter().any(|known| known.split('?').next() == path.as_str()), "{path}");
        }
    }

    #[test]
    fn what_cannot_be_asked_for_is_refused_with_a_hint() {
        let site = site();
        let (long, shown) = ("k".repeat(5000), format!("no key {}...: ", "k".repeat(100)));
        for (path, query, status, hint) in [
            ("/api/v1/history", "", 400, "?pair=ID"),
            ("/api/v1/history", "pair=99", 404, "/api/v1/pairs"),
            ("/api/v1/history", "pair=x", 400, "takes a number"),
            ("/api/v1/history", "pair=99999999999", 400, "no such pair"),
            ("/api/v1/pairs", "seconds=0", 400, "seconds takes a whole number from 1 to 86400"),
            ("/api/v1/pairs", "seconds=86401", 400, "from 1 to 86400"),
            ("/api/v1/pairs", "seconds=-1", 400, "from 1 to 86400"),
            ("/api/v1/pairs", "seconds=99999999999999999999", 400, "from 1 to 86400"),
            ("/api/v1/pairs", "course=yes", 400, "course takes 0 or 1"),
            ("/api/v1/pairs", "course", 400, "course takes 0 or 1"),
            ("/api/v1/pairs", "\u{1b}[1m", 400, "no key \\u{1b}[1m: /api/v1/pairs takes"),
            ("/api/v1/pairs", &long, 400, &shown),
            ("/api/v1/pairs", "since=3", 400, "no key since: /api/v1/pairs takes seconds and course"),
            ("/api/v1/pairs", "pair=1", 400, "no key pair: /api/v1/pairs takes seconds and course"),
            ("/api/v1/pairs", "seconds=9&seconds=9", 400, "seconds is given twice: /api/v1/pairs takes seconds and"),
            ("/api/v1/history", "pair=1&course=1", 400, "no key course: /api/v1/history takes pair and seconds"),
            ("/api/v1", "seconds=60", 400, "no key seconds: /api/v1 takes none"),
            ("/api/v1/pairs/", "", 404, "the paths are /api/v1, /api/v1/status, /api/v1/pairs, /api/v1/history, "),
            ("/api/v2/pairs", "", 404, "/api/v1"),
            ("/api/v2/pairs", "since=3", 404, "/api/v1"),
        ] {
            let (told, document) = asked(&site, path, query);
            assert_eq!(told, status, "{path}?{query}");
            assert!(document["error"].as_str().unwrap().contains(hint), "{document}");
        }
        let (status, index) = asked(&site, "/api/v1", "");
        assert_eq!((status, &index["history_s"]), (200, &900.0.into()));
    }

    #[test]
    fn who_asks_the_same_in_the_same_second_gets_the_same_and_a_new_second_is_seen_at_once() {
        let site = site();
        let question = Question { path: "/api/v1/pairs".to_owned(), query: String::new(), gzip: true };
        let (first, again) = (site.answer(&question), site.answer(&question));
        assert_eq!(first.body.as_ptr(), again.body.as_ptr());
        for seconds in 1..100 {
            site.answer(&Question { query: format!("seconds={seconds}"), ..question.clone() });
        }
        assert!(lock(&site.made).1.len() <= MOST_MADE);
        site.add(&second(vec![flow(3, "new.example", &[1])]), Instant::now());
        let (_, told) = asked(&site, "/api/v1/pairs", "");
        assert_eq!((&told["second"], told["pairs"].as_array().unwrap().len()), (&11.into(), 3));
    }

    #[test]
    fn who_follows_gets_each_second_as_an_event_and_one_who_does_not_read_costs_a_few() {
        let site = site();
        let (mut reads, mut idles) = (site.follow(), site.follow());
        assert_eq!(reads.try_recv().unwrap(), "retry: 2000\n\n");
        for _ in 0..20 {
            site.add(&second(vec![flow(1, "db.example", &[20_000])]), Instant::now());
            let event = String::from_utf8(reads.try_recv().unwrap().to_vec()).unwrap();
            let data = event.split_once("\ndata: ").unwrap().1;
            assert!(
                event.starts_with("id: ") && event.ends_with("}\n\n") && !data.trim_end().contains('\n'),
                "{event}"
            );
            let told: Value = serde_json::from_str(data).unwrap();
            assert_eq!((&told["pairs"][0]["p50_ms"], &told["interfaces"][0]), (&20.0.into(), &"eth0".into()));
        }
        let waiting = std::iter::from_fn(|| idles.try_recv().ok()).count();
        assert_eq!(waiting, BEHIND);
        drop(reads);
        site.add(&second(Vec::new()), Instant::now());
        assert_eq!(lock(&site.followers).len(), 1);
        site.close();
        assert!(idles.try_recv().is_ok() && idles.try_recv().is_err() && idles.is_closed());
        assert!(site.follow().is_closed(), "nobody follows what is closed");
    }

    #[test]
    fn seconds_come_from_the_daemon_until_the_site_is_closed() {
        let (site, daemon) = Site::start(Duration::from_secs(60)).unwrap();
        let mut events = site.follow();
        daemon.blocking_send(Arc::new(second(vec![flow(1, "db.example", &[20_000])]))).unwrap();
        assert!(events.blocking_recv().unwrap().starts_with(b"retry"));
        assert!(events.blocking_recv().unwrap().starts_with(b"id: 1\nevent: second\n"));
        site.close();
        // The thread sees it at the next second, and the daemon at the one after.
        let closed = || {
            daemon
                .try_send(Arc::new(second(Vec::new())))
                .is_err_and(|error| matches!(error, mpsc::error::TrySendError::Closed(_)))
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        while !closed() {
            assert!(Instant::now() < deadline, "the daemon goes on to tell");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
