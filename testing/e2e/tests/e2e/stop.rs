//! The end: whatever was measured until then is in a report, and the accounts close.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use testing_lab::agent::Agent;
use testing_lab::traffic::{Rounds, Server, connect};
use testing_lab::{Lab, Link};

use super::support::{Backend, SOON, watching};

/// Connections that talk while the agent is stopped.
const TALKERS: usize = 6;

fn sum(of: &Value) -> u64 {
    of.as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum()
}

#[test]
fn every_sample_until_a_stop_under_load_is_in_the_last_report_and_the_accounts_close_for_both_sides_too() {
    for (backend, sides) in Backend::BOTH.into_iter().flat_map(|backend| [(backend, "remote"), (backend, "both")]) {
        let what = format!("{backend:?}, sides {sides}");
        let lab = Lab::new(Link::Veth).unwrap();
        lab.path().set_rtt(Duration::from_millis(2));
        let mut args = watching(&lab, backend);
        args.extend(["--output", "json", "--samples", "--interval", "3600", "--sides", sides].map(str::to_owned));
        let agent = Agent::start(&lab.a, args).unwrap();
        let stop = AtomicBool::new(false);
        let rounds = Rounds { count: 1, ..Rounds::default() };
        let server = Server::v4(&lab.b, rounds.service()).unwrap();
        let finished = thread::scope(|scope| {
            for _ in 0..TALKERS {
                scope.spawn(|| {
                    let mut stream = connect(&lab.a, server.address()).unwrap();
                    while !stop.load(Ordering::Relaxed) {
                        rounds.drive(&mut stream).unwrap();
                    }
                });
            }
            let enough = |lines: &[String]| lines.len() > 700;
            let busy = agent.wait_for_output(SOON, enough);
            let finished = agent.stop();
            stop.store(true, Ordering::Relaxed);
            assert!(busy, "{what}: no load");
            finished.unwrap()
        });
        assert_eq!(finished.status.code(), Some(0), "{what}");
        let samples = finished.samples().unwrap();
        let values: Vec<Value> = finished.stdout.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let health: Vec<&Value> = values.iter().map(|value| &value["health"]).filter(|v| v.is_object()).collect();
        assert_eq!(health.len(), 1, "{what}: one report");
        let health = health[0];
        println!("{what}: {} samples; {health}", samples.len());
        let number = |name: &str| health[name].as_u64().unwrap();
        assert!(samples.len() > 100, "{what}");
        assert_eq!(number("dropped_samples"), 0, "{what}");
        assert_eq!(samples.len() as u64, number("samples"), "{what}: printed, and in the report's total");
        let in_pairs: u64 = values
            .iter()
            .flat_map(|value| [&value["data"]["count"], &value["connect"]["count"]])
            .filter_map(Value::as_u64)
            .sum();
        assert_eq!(in_pairs + number("folded_samples"), number("samples"), "{what}: in the report's pairs");
        assert!(samples.iter().all(|sample| sample.side.is_some()), "{what}: each tells its side");
        assert_eq!(
            number("records"),
            number("sent") + number("samples") + sum(&health["rejected"]) + sum(&health["quiet"]),
            "{what}"
        );
        assert_eq!(
            number("segments") + number("second_sides"),
            number("records") + number("repeats") + number("thinned") + number("lost"),
            "{what}"
        );
        assert_eq!(number("second_sides") > 0, sides == "both", "{what}");
    }
}
