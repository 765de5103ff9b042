//! A daemon that has nothing to measure.

use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use testing_lab::agent::{Agent, Sample};
use testing_lab::threads::threads;
use testing_lab::{Lab, Link};

use super::support::{Backend, in_time, some_rounds, timely, wait_for_samples, watching};

/// Until what a start leaves to be done is done.
const SETTLED: Duration = Duration::from_secs(4);
const TIME: Duration = Duration::from_secs(6);
/// Wakes of all threads together, a second.
const MOST: f64 = 5.0;

fn wakes(pid: Pid) -> u64 {
    threads(pid).unwrap().iter().map(|thread| thread.wakes().unwrap()).sum()
}

#[test]
fn it_seldom_wakes_and_measures_what_comes_then() {
    in_time("idle", || {
        let lab = Lab::new(Link::Veth).unwrap();
        // As rarely as a configuration's reports; its samples are printed at once.
        let often = ["--output", "json", "--samples", "--interval", "30"].map(str::to_owned);
        let agent = Agent::start(&lab.a, watching(&lab, Backend::Ebpf).into_iter().chain(often)).unwrap();
        thread::sleep(SETTLED);
        let (before, began) = (wakes(agent.pid()), Instant::now());
        thread::sleep(TIME);
        let rate = (wakes(agent.pid()) - before) as f64 / began.elapsed().as_secs_f64();
        println!("{rate:.1} wakes a second");
        timely(rate <= MOST, || format!("{rate:.1} wakes a second"))?;
        some_rounds(&lab, 3);
        assert!(wait_for_samples(&agent, 3, Sample::is_data).len() >= 3);
        assert_eq!(agent.stop().unwrap().status.code(), Some(0));
        Ok(())
    });
}
