//! The OpenTelemetry sink: metrics as protocol buffers over HTTP (OTLP 1), to a collector or another receiver.
//!
//! The metrics are declared in [`crate::metrics`]. [`Totals`] are sent: histograms and counters are cumulative, each
//! with the start time of its series, so that a lost report costs only its resolution and the gauges of its interval.
//! [`request`] makes messages from them, with the attributes of the sender from [`resource`]; [`queue`] has the thread
//! that posts them through [`transport`], and [`tally`] counts and logs what is lost.

mod queue;
mod request;
mod resource;
mod tally;
mod transport;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::naming::OTHER;
use super::totals::{Labelling, Labels, Totals};
use super::{NamedPair, OpenError, Report, Sink, Surroundings};
use crate::config::{Config, MetricName};
use queue::Queue;
use request::{Snapshot, Writer};
use tally::Tally;
use transport::Transport;

/// How series are labelled.
const LABELLING: Labelling =
    Labelling { of: attributes, of_others: || PAIR.map(|key| (key.to_owned(), OTHER.to_owned())).to_vec() };
/// The attributes of every pair: local end, remote end, interface.
const PAIR: [&str; 3] = ["network.local.address", "network.peer.address", "network.interface.name"];
/// The side to which the round trips were measured, if both are.
const SIDE: &str = "go_metro.side";

/// Sends reports to an OTLP receiver, without waiting for it.
pub struct Exporter {
    totals: Totals,
    /// Start times of its series, and of the agent's own counters.
    began: (SystemTime, SystemTime),
    queue: Queue,
    tally: Arc<Tally>,
}

impl Exporter {
    /// A sink for the configured receiver, which need not be running yet.
    ///
    /// # Errors
    ///
    /// The configured endpoint or protocol cannot be used.
    pub fn open(config: &Config, around: &Surroundings<'_>) -> Result<Self, OpenError> {
        let otlp = config.otlp.clone().map_err(OpenError::Otlp)?;
        tracing::info!("reporting to {} every {} s", otlp.url, config.report_interval.as_secs_f64());
        let tally = Arc::new(Tally::new(otlp.url.to_string()));
        let writer = Writer::new(&resource::attributes(&otlp.resource, config.status_socket.as_deref()), otlp.gzip);
        Ok(Self {
            totals: Totals::new(LABELLING, config.max_pairs),
            began: (SystemTime::now(), around.started),
            queue: Queue::start(writer, Transport::new(otlp), tally.clone()),
            tally,
        })
    }
}

/// A pair's attributes. A tag `key:value` becomes an attribute unchanged; a key that is in use already gets the prefix
/// `tag.`, and values of the same key are joined.
fn attributes(pair: &NamedPair) -> Labels {
    let ends = [&pair.src, &pair.dst, &pair.iface];
    let mut all: Labels = PAIR.iter().zip(ends).map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    all.extend(pair.side.map(|side| (SIDE.to_owned(), side.name().to_owned())));
    let own = all.len();
    for tag in pair.tags.iter() {
        let (key, value) = tag.split_once(':').unwrap_or((tag, "true"));
        let is_taken = request::is_ours(key) || all[..own].iter().any(|(known, _)| known == key);
        let key = if is_taken || key.is_empty() { format!("tag.{key}") } else { key.to_owned() };
        match all[own..].iter_mut().find(|(known, _)| *known == key) {
            Some((_, values)) => {
                values.push(',');
                values.push_str(value);
            }
            None => all.push((key, value.to_owned())),
        }
    }
    all
}

impl Sink for Exporter {
    fn destination(&self) -> String {
        self.tally.destination().to_owned()
    }

    fn report(&mut self, report: &Arc<Report>) {
        self.totals.add(report, Instant::now());
        let (series_began, counters_began) = self.began;
        self.queue.push(Snapshot {
            at: report.at,
            series: self.totals.sorted(),
            expired: self.totals.expired(),
            series_began,
            health: report.health,
            counters_began,
        });
    }

    /// Data points that were not accepted.
    fn errors(&self) -> u64 {
        self.tally.lost()
    }

    fn problems(&self) -> Vec<String> {
        self.tally.problem().into_iter().collect()
    }

    fn must_reopen(&self, old: &Config, new: &Config) -> bool {
        (&old.otlp, &old.status_socket) != (&new.otlp, &new.status_socket)
    }

    fn follow(&mut self, config: &Config) {
        self.totals.keep_apart(config.max_pairs);
        if !config.wants(MetricName::Health) {
            self.totals.forget_health();
        }
    }

    fn retry(&mut self) {
        // The failure was logged at the start.
        let _ = self.queue.run();
    }

    fn finish(self: Box<Self>, limit: Duration) {
        if !self.queue.finish(limit) {
            tracing::warn!("the last report over OTLP may be incomplete: the receiver did not take all of it in time");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read as _, Write as _};
    use std::net::TcpListener;
    use std::path::Path;
    use std::thread;

    use go_metro_rtt::Side;
    use opentelemetry_proto::tonic::collector::metrics::v1::{
        ExportMetricsPartialSuccess, ExportMetricsServiceResponse,
    };
    use prost::Message as _;
    use tokio::sync::Notify;

    use super::*;
    use crate::output::examples::{pair, report};

    /// Waits until this is so, for half a minute at most.
    fn wait(is_so: impl Fn() -> bool) {
        let soon = Instant::now() + Duration::from_secs(30);
        while !is_so() && Instant::now() < soon {
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// A sink for a receiver on this port.
    fn exporter(port: u16) -> Exporter {
        let init = format!("{{otlp_endpoint: 'http://127.0.0.1:{port}/base'}}");
        let text = format!("init_config: {init}\ninstances: [{{interface: lo, ips: ['::1']}}]\n");
        let config = Config::parse(&text, Path::new("c"), &|_| None).unwrap();
        let serve = |_, _| Err(io::Error::other("nobody is served"));
        let around = Surroundings { closed: &Arc::new(Notify::new()), started: SystemTime::now(), serve: &serve };
        Exporter::open(&config, &around).unwrap()
    }

    /// Takes one request and answers it; its first line.
    fn answer(listener: &TcpListener, status: &str, body: &[u8]) -> String {
        let (mut stream, _) = listener.accept().unwrap();
        let mut bytes = Vec::new();
        loop {
            let mut piece = [0; 4096];
            let length = stream.read(&mut piece).unwrap();
            assert!(length > 0, "the request is cut short");
            bytes.extend_from_slice(&piece[..length]);
            let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_ascii_lowercase();
            let length: usize =
                head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
            if bytes.len() >= end + 4 + length {
                let kind = "Content-Type: application/x-protobuf";
                write!(stream, "HTTP/1.1 {status}\r\n{kind}\r\nContent-Length: {}\r\n\r\n", body.len()).unwrap();
                stream.write_all(body).unwrap();
                return head.lines().next().unwrap().to_owned();
            }
        }
    }

    #[test]
    fn what_a_receiver_says_it_has_refused_is_lost_and_the_rest_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sink = exporter(listener.local_addr().unwrap().port());
        let server = thread::spawn(move || {
            let partial = ExportMetricsPartialSuccess { rejected_data_points: 3, error_message: "too\nold".to_owned() };
            let refused = ExportMetricsServiceResponse { partial_success: Some(partial) }.encode_to_vec();
            [answer(&listener, "200 OK", &refused), answer(&listener, "200 OK", &[])]
        });
        let tally = sink.tally.clone();
        sink.report(&Arc::new(report(vec![pair("db", &[20_000], &[])])));
        wait(|| tally.lost() > 0);
        let problem = "the receiver refused a part: too old; data points lost: 3";
        assert_eq!((tally.lost(), tally.problem().as_deref()), (3, Some(problem)));
        sink.report(&Arc::new(report(vec![])));
        Box::new(sink).finish(Duration::from_secs(30));
        assert_eq!(server.join().unwrap(), ["post /base/v1/metrics http/1.1"; 2]);
        assert_eq!((tally.lost(), tally.problem()), (3, None));
    }

    #[test]
    fn what_is_no_receiver_takes_nothing_and_one_that_may_expect_tls_is_named() {
        // A page of another server, and an alert of TLS (RFC 8446 section 6).
        let page = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>";
        for (response, problem) in [
            (&page[..], "the URL does not lead to an OTLP receiver; data points lost: "),
            (b"\x15\x03\x01\x00\x02\x02\x46", "it may expect TLS, which go-metro does not support"),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let mut sink = exporter(listener.local_addr().unwrap().port());
            let server = thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let _ = stream.read(&mut [0; 4096]).unwrap();
                stream.write_all(response).unwrap();
                // Until the other end has read it.
                let _ = stream.read_to_end(&mut Vec::new());
            });
            sink.report(&Arc::new(report(vec![pair("db", &[20_000], &[])])));
            wait(|| sink.tally.problem().is_some());
            let said = sink.tally.problem().unwrap_or_default();
            assert!(said.contains(problem), "{said}");
            server.join().unwrap();
        }
    }

    #[test]
    fn nobody_is_waited_for_at_the_end_longer_than_there_is_time() {
        // It accepts, and says nothing.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sink = exporter(listener.local_addr().unwrap().port());
        let tally = sink.tally.clone();
        sink.report(&Arc::new(report(vec![pair("db", &[20_000], &[])])));
        let began = Instant::now();
        Box::new(sink).finish(Duration::from_millis(300));
        assert!(began.elapsed() < Duration::from_secs(9), "its own limit is ten seconds");
        wait(|| tally.lost() > 0);
        assert!(tally.lost() > 0, "what was on its way is counted");
    }

    #[test]
    fn a_receiver_that_says_to_come_back_at_once_is_given_time_all_the_same() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sink = exporter(listener.local_addr().unwrap().port());
        let server = thread::spawn(move || {
            let at_once = "503 Service Unavailable\r\nRetry-After: 0";
            [at_once, at_once, "200 OK"].map(|status| {
                answer(&listener, status, &[]);
                Instant::now()
            })
        });
        sink.report(&Arc::new(report(vec![pair("db", &[20_000], &[])])));
        let tries = server.join().unwrap();
        // A fifth less than a second, then two: the pauses without it.
        for (between, least) in [(tries[1] - tries[0], 790), (tries[2] - tries[1], 1_590)] {
            assert!(between >= Duration::from_millis(least), "{between:?}");
        }
        assert_eq!(sink.tally.lost(), 0);
    }

    #[test]
    fn tags_are_attributes_as_they_are_and_none_takes_the_place_of_ours() {
        let mut pair = pair("db", &[1], &[]);
        pair.side = Some(Side::Local);
        pair.tags = ["env:test", "k8s.pod.name:a:b", "odd", "env:more", "network.transport:udp", ":x"]
            .map(str::to_owned)
            .into();
        let all = attributes(&pair);
        let shown: Vec<_> = all.iter().map(|(key, value)| (&**key, &**value)).collect();
        let expected = [
            ("network.local.address", "10.42.31.222"),
            ("network.peer.address", "db"),
            ("network.interface.name", "va"),
            ("go_metro.side", "local"),
            ("env", "test,more"),
            ("k8s.pod.name", "a:b"),
            ("odd", "true"),
            ("tag.network.transport", "udp"),
            ("tag.", "x"),
        ];
        assert_eq!(shown, expected);
    }
}
