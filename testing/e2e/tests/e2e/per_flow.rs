//! Flows that are thinned in the kernel (`sampling: {per_flow: ...}`), over a path that loses, reorders and doubles
//! frames both ways: every sample against the path's record, and against an agent beside it that takes all.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use testing_lab::agent::Sample;
use testing_lab::traffic::{DELAYED_ACK, Rounds};
use testing_lab::{Impairment, Way};
use testing_truth::oracle::live::Live;

use super::court::Verdicts;
use super::support::{Backend, Late, in_time, timely};
use super::truth::{error, quantiles};
use super::wire::{
    RTT, TRAFFIC, agent_with, by_kind, connections_for, finish, impair, lab, say, usual_of, while_driving,
};

/// One sample in each round trip, or in a time that is longer, in nanoseconds.
const PER_FLOW: [(&str, u64); 2] = [("1rtt", 0), ("50ms", 50_000_000)];
/// How long an agent runs that starts while all of that goes on.
const GLANCE: Duration = Duration::from_millis(600);
/// Between what two agents' hooks say of one packet, unless the kernel loses its processor between them.
const APART: Duration = Duration::from_millis(2);
/// Share of those samples that are due that a thinned flow must have.
const LEAST: f64 = 0.7;

/// What the connections do: single segments, whose acknowledgements a receiver keeps back; requests of some segments;
/// transfers of many round trips; and nearly data without end.
fn rounds() -> Vec<Rounds> {
    let requests = [2_896, 20_000, 60_000].map(|request| Rounds { request, pause: 2 * RTT, ..Rounds::default() });
    let single = Rounds { request: 500, response: 0, pause: DELAYED_ACK, ..Rounds::default() };
    let bulk = Rounds { request: 128 << 10, response: 0, pause: RTT, ..Rounds::default() };
    requests.into_iter().chain([single, bulk]).map(|rounds| Rounds { count: 1, ..rounds }).collect()
}

/// What names a sample.
type Key = (SocketAddr, SocketAddr, u32);

fn key(sample: &Sample) -> Key {
    (sample.local, sample.remote, sample.ack)
}

/// How many samples are due of all these: one of a flow, and another once what it timed is acknowledged and the time is
/// over.
fn due(all: &[Sample], every_ns: u64) -> usize {
    let mut flows: BTreeMap<(SocketAddr, SocketAddr), Vec<(u64, u64)>> = BTreeMap::new();
    for sample in all.iter().filter(|sample| sample.is_data()) {
        flows.entry((sample.local, sample.remote)).or_default().push((sample.time_ns - sample.rtt_ns, sample.rtt_ns));
    }
    let of_flow = |mut sent: Vec<(u64, u64)>| {
        sent.sort_unstable();
        let mut next = 0;
        let is_due = |(at, rtt): &(u64, u64)| {
            let is_due = *at >= next;
            if is_due {
                next = at + every_ns.max(*rtt);
            }
            is_due
        };
        sent.iter().copied().filter(is_due).count()
    };
    flows.into_values().map(of_flow).sum()
}

fn try_thinned_flows() -> Result<(), Late> {
    let lab = lab();
    let sampling = |per_flow: &str| format!("sampling: {{per_flow: {per_flow}, watermark: off}}");
    let start = |per_flow: &str| agent_with(&lab, Backend::Ebpf, &sampling(per_flow));
    let (all, thinned) = (start("off"), PER_FLOW.map(|per_flow| (start(per_flow.0), per_flow)));
    let (_servers, streams) = connections_for(&lab, &rounds());
    let usual = usual_of(&streams);
    let faults = |seed| Impairment {
        loss: 0.01,
        reorder: 0.01,
        duplicate: 0.01,
        jitter: RTT / 10,
        seed,
        ..Impairment::delay(RTT / 2)
    };
    impair(&lab, faults(31), faults(32));
    let mut glances = Vec::new();
    while_driving(streams, || {
        for (per_flow, _) in PER_FLOW {
            let glance = start(per_flow);
            thread::sleep(GLANCE);
            glances.push(finish(glance, &format!("{per_flow}, started meanwhile")));
        }
        thread::sleep(TRAFFIC);
    });
    let (name, all, lost) = finish(all, "all");
    let thinned = thinned.map(|(agent, (per_flow, every_ns))| (finish(agent, per_flow), every_ns));
    let live = Live::new(&lab.path().passages());
    println!("{:?}, back {:?}", lab.path().counters(Way::AToB), lab.path().counters(Way::BToA));
    say(&name, &all, &Verdicts::of(&live, &all));
    timely(lost == 0, || format!("{name}: {lost} records lost"))?;
    let by_key: HashMap<Key, &Sample> = all.iter().map(|sample| (key(sample), sample)).collect();
    for ((name, samples, lost), every_ns) in thinned {
        let verdicts = Verdicts::of(&live, &samples);
        say(&name, &samples, &verdicts);
        timely(lost == 0, || format!("{name}: {lost} records lost"))?;
        verdicts.assert_true(|_| RTT);
        let [middle, most, max] = quantiles(verdicts.proofs.iter().map(error).collect(), [0.5, 0.99, 1.0]);
        let due = due(&all, every_ns);
        let recall = samples.iter().filter(|sample| sample.is_data()).count() as f64 / due as f64;
        println!("{name}: {recall:.2} of {due} due; error in us: p50 {middle:.1}, p99 {most:.1}, max {max:.1}");
        // One that would not have been taken without thinning is none that the engine knows enough of; but where a
        // retransmission left while the acknowledgement came in, on two processors, two classifiers may see either
        // first.
        let (same, others): (Vec<&Sample>, Vec<&Sample>) =
            samples.iter().partition(|sample| by_key.contains_key(&key(sample)));
        for other in others {
            let near = live.sent_again_near(other);
            println!("{name}: none of all, while it was sent again: {near:?}: {other:?}\n{:#?}", live.around(other));
            assert!(near.is_some_and(|near| near < APART), "{name}: of all there is none of this: {other:#?}");
        }
        let apart = |sample: &&Sample| by_key[&key(sample)].rtt_ns.abs_diff(sample.rtt_ns) > APART.as_nanos() as u64;
        let apart: Vec<&Sample> = same.into_iter().filter(apart).collect();
        timely(apart.is_empty(), || format!("{name}: others than of all: {apart:#?}"))?;
        timely(samples.len() > 300 && samples.len() < all.len(), || format!("{name}: {} samples", samples.len()))?;
        timely(recall >= LEAST, || format!("{name}: {recall:.2} of {due} due"))?;
        timely(most < 1000.0, || format!("{name}: one in a hundred is {most} us off"))?;
    }
    for (name, samples, lost) in &glances {
        let (usual, others) = by_kind(&usual, samples);
        let verdicts = Verdicts::of(&live, &usual);
        say(name, &usual, &verdicts);
        say(&format!("{name}, no timestamps or no SACK"), &others, &Verdicts::of(&live, &others));
        if *lost == 0 {
            verdicts.assert_true(|_| RTT);
        }
    }
    Ok(())
}

#[test]
fn of_thinned_flows_over_a_faulty_path_every_sample_is_true_and_one_of_all() {
    in_time("thinned flows", try_thinned_flows);
}
