//! Another program on the hook ends the chain before the classifier.

use xtask::lab::agent::Agent;
use xtask::lab::programs::{Hook, Position, Program, attached};

use super::support::{Conf, SOON, USUAL, lab, statsd, wait, wait_until, while_talking};

fn position(lab: &xtask::lab::Lab, hook: Hook, ours: &str) -> Option<usize> {
    attached(&lab.a, hook).unwrap().iter().position(|name| name == ours)
}

#[test]
fn a_program_that_ends_the_chain_before_ours_hides_nothing_for_long() {
    for (hook, ours) in [(Hook::Egress, "gometro_out_eth"), (Hook::Ingress, "gometro_in_eth")] {
        let lab = lab();
        let server = statsd(&lab);
        let conf = Conf::new();
        let socket = conf.folder().join("status.sock").display().to_string();
        conf.write(&["backend: ebpf", &format!("status_socket: {socket}")], USUAL);
        let before =
            (hook == Hook::Egress).then(|| Program::attach(&lab.a, "lab_accept", hook, Position::First).unwrap());
        let mut agent = Agent::start(&lab.a, conf.args()).unwrap();
        let (_after, longest) = while_talking(&lab, || {
            // On the way in ours is the first, until another comes.
            let after =
                (hook == Hook::Ingress).then(|| Program::attach(&lab.a, "lab_accept", hook, Position::First).unwrap());
            assert_eq!(position(&lab, hook, ours), Some(1), "{hook:?}: behind the other");
            agent.wait_for_log("a program before ours ends the chain; moved to its head", SOON).unwrap();
            wait(&format!("{hook:?}: the head of the chain"), SOON, || position(&lab, hook, ours) == Some(0));
            drop(server.take());
            wait_until(&server, "samples", |heard| heard.rtts().len() > 20);
            after
        });
        let heard = wait_until(&server, "true samples", |heard| heard.rtts().len() > 20);
        heard.assert_true_rtts(longest, &format!("{hook:?}"));
        let said = agent.log().iter().filter(|line| line.contains("moved to its head")).count();
        assert_eq!(said, 1, "{hook:?}: said once");
        let status = xtask::lab::agent::status(socket.as_ref()).unwrap();
        let how = status["interfaces"][0]["hook"].as_str().unwrap();
        assert_eq!(how, if hook == Hook::Egress { "tcx, first on egress" } else { "tcx" });
        assert_eq!(status["problems"], serde_json::json!([]), "{hook:?}");
        drop(before);
        assert_eq!(agent.stop().unwrap().status.code(), Some(0), "{hook:?}");
    }
}
