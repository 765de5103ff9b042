//! What several tests say.

pub(crate) use testing_lab::agent::Backend;
use testing_lab::agent::{Agent, Sample, samples};
pub(crate) use testing_lab::late::{Late, in_time, timely};
pub(crate) use testing_lab::soon::SOON;
use testing_lab::traffic::{Rounds, Server, connect};
use testing_lab::{INTERFACE, Lab};

/// Arguments that watch host b's addresses on host a's interface.
pub(crate) fn watching(lab: &Lab, backend: Backend) -> Vec<String> {
    let (v4, v6) = (lab.b.v4.to_string(), lab.b.v6.to_string());
    let words = ["run", "--interface", INTERFACE, "--backend", backend.name(), "--target", &v4, "--target", &v6];
    words.map(str::to_owned).to_vec()
}

/// An agent on host a that prints each sample of traffic with host b.
pub(crate) fn sampling(lab: &Lab, backend: Backend) -> Agent {
    let mut args = watching(lab, backend);
    args.extend(["--output", "json", "--samples"].map(str::to_owned));
    Agent::start(&lab.a, args).unwrap()
}

/// Waits until `count` samples satisfy `filter`, then returns all that do.
pub(crate) fn wait_for_samples(agent: &Agent, count: usize, filter: impl Fn(&Sample) -> bool) -> Vec<Sample> {
    let of = |lines: &[String]| samples(lines).unwrap().into_iter().filter(&filter).collect::<Vec<_>>();
    // Whether that suffices is what the caller asserts.
    let _ = agent.wait_for_output(SOON, |lines| of(lines).len() >= count);
    of(&agent.output())
}

/// Drives `count` short rounds from host a to host b over IPv4, on a connection of their own.
pub(crate) fn some_rounds(lab: &Lab, count: usize) -> testing_lab::traffic::Exchange {
    let rounds = Rounds { count, ..Rounds::default() };
    let server = Server::v4(&lab.b, rounds.service()).unwrap();
    rounds.drive(&mut connect(&lab.a, server.address()).unwrap()).unwrap()
}
