//! The static binary where there is nothing but busybox: no C library, no loader, no modules for names.

use std::fs;
use std::path::Path;
use std::time::Duration;

use testing_lab::agent::{Agent, Backend, samples};
use testing_lab::traffic::{Rounds, Server};
use testing_lab::{Lab, Link};
use testing_support::workspace::root;

use super::machine::{RTT, wait};

/// Round trips that are measured.
const ROUNDS: usize = 20;

/// Lays a root with busybox, a name in `/etc/hosts`, and the binary.
fn lay(place: &Path, binary: &Path) {
    for directory in ["bin", "etc", "proc", "run", "sys", "tmp"] {
        fs::create_dir(place.join(directory)).unwrap();
    }
    fs::copy(testing_support::setup::static_busybox().expect("a static busybox"), place.join("bin/busybox")).unwrap();
    fs::copy(binary, place.join("bin/go-metro")).unwrap();
    fs::write(place.join("etc/hosts"), "10.77.0.2 far\n").unwrap();
}

/// The agent in that root, on a host of the lab.
fn agent(lab: &Lab, place: &Path, backend: Backend) -> Agent {
    let script = "mount -t proc proc \"$0/proc\"; mount -t sysfs sys \"$0/sys\"; \
                  exec chroot \"$0\" /bin/busybox sh -c 'exec go-metro \"$@\"' sh \"$@\"";
    let mut command = lab.a.namespace.command("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-ec", script]).arg(place);
    command.args(["run", "--interface", "eth0", "--target", "far", "--backend", backend.name()]);
    command.args(["--output", "json", "--samples"]).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let mut agent = Agent::spawn_command(&mut command).unwrap();
    agent.ready().unwrap();
    agent
}

#[test]
fn a_static_binary_measures_in_a_root_with_nothing_but_busybox() {
    let binary = root().join(format!("target/dist/go-metro-{}", std::env::consts::ARCH));
    if !binary.exists() {
        println!("skipped: there is no {}; `cargo xtask dist --static` makes it", binary.display());
        return;
    }
    for backend in Backend::BOTH {
        let lab = Lab::new(Link::Veth).unwrap();
        lab.path().set_rtt(RTT);
        let place = tempfile::tempdir().unwrap();
        lay(place.path(), &binary);
        let agent = agent(&lab, place.path(), backend);
        let rounds = Rounds { count: ROUNDS, ..Rounds::default() };
        let server = Server::v4(&lab.b, rounds.service()).unwrap();
        rounds.run(&lab.a, server.address()).unwrap();
        let measured = || samples(&agent.output()).unwrap();
        wait("the round trips are measured", || (measured().len() >= ROUNDS).then_some(()));
        // A busy machine makes some of them longer, and none shorter.
        let shortest = measured().iter().map(testing_lab::agent::Sample::rtt).min().unwrap();
        assert!(shortest >= RTT && shortest < RTT + Duration::from_millis(5), "{backend:?}: {shortest:?}");
        let log = agent.log().join("\n");
        assert!(log.contains(&format!("backend: {}", backend.name())), "{log}");
        assert_eq!(agent.stop().unwrap().status.code(), Some(0));
    }
}
