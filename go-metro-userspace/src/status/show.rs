//! The status document for people.

use std::fmt::Write as _;

use go_metro_common::metric::Text;

use super::document::{Counts, HostStatus, PairName, PeerStatus, PrivilegesStatus, ResponseStatus, State, Status};
use crate::metrics::pair::PEER;
use crate::{metrics, terminal};

/// A page of text; lines end with a newline.
pub(crate) fn page(status: &Status) -> String {
    let mut text = String::new();
    let mut line = |name: &str, what: String| {
        // Writing to a string cannot fail.
        let _ = if what.is_empty() { Ok(()) } else { writeln!(text, "{name:<11} {}", terminal::printable(&what)) };
    };
    let Status { program, backend, flows, rates, packets, samples, drops, .. } = status;
    let state = match status.state {
        State::Ok => "ok".to_owned(),
        State::Degraded => format!("DEGRADED: {}", status.problems.join("; ")),
    };
    line("state", state);
    let config = program.config.as_deref().unwrap_or("no configuration file");
    line(
        "daemon",
        format!(
            "go-metro {}, process {}, up {}, {:.1} MiB, {config}",
            program.version,
            program.pid,
            span(program.uptime_s),
            program.memory_bytes as f64 / f64::from(1 << 20)
        ),
    );
    let why = match &backend.fallback {
        Some(reason) => format!("{}, because: {reason}", backend.name),
        None => format!("{} (wanted: {})", backend.name, backend.wanted),
    };
    line("backend", why);
    let features: Vec<String> =
        status.kernel.features.iter().map(|f| format!("{}{}", if f.available { "" } else { "no " }, f.name)).collect();
    line("kernel", format!("{}: {}", status.kernel.release, features.join(", ")));
    line("sandbox", sandbox(&status.privileges));
    for interface in &status.interfaces {
        let how = match (&interface.hook, interface.ifindex) {
            (Some(hook), Some(index)) => {
                let queue = interface.qdisc.as_ref().map(|qdisc| format!(", qdisc {qdisc}")).unwrap_or_default();
                format!("{hook}, index {index}{queue}{}", if interface.host_end { ", host end" } else { "" })
            }
            _ => "absent; waiting for it".to_owned(),
        };
        line("interface", format!("{}: {how}", interface.name));
    }
    for target in &status.targets {
        let hosts = target.hosts.iter().map(host);
        let all: Vec<String> = target.prefixes.iter().cloned().chain(hosts).collect();
        let off = if target.watching { "" } else { " (off: sampling window)" };
        line("targets", format!("{}: {}{off}", target.interface, shortened(&all)));
    }
    if !status.ports.is_empty() {
        line("ports", status.ports.join(", "));
    }
    for group in &status.groups {
        line("group", group.clone());
    }
    line(
        "rates",
        format!(
            "{:.1} packets/s, {:.1} records/s, {:.1} samples/s over {}",
            rates.packets_per_s,
            rates.records_per_s,
            rates.samples_per_s,
            span(rates.over_s)
        ),
    );
    line(
        "flows",
        [vec![format!("{} of {}", flows.get("now"), flows.get("max"))], words("flows", flows)].concat().join(", "),
    );
    for (group, counts) in [("samples", samples), ("packets", packets), ("drops", drops)] {
        line(group, words(group, counts).join(", "));
    }
    // Of what happened only this: the rest is in the log, or in `problems`.
    line("happened", words("happened", &status.happened).join(", "));
    if status.processes.any() {
        line("processes", words("processes", &status.processes).join(", "));
    }
    if status.recorder.any() {
        line("recorder", words("recorder", &status.recorder).join(", "));
    }
    if let Some(connections) = &status.connections {
        let total = counted(&connections.total);
        line("connections", if total.is_empty() { "none yet".to_owned() } else { total });
        for PeerStatus { pair, counts } in &connections.peers {
            line("peer", format!("{}: {}", named(pair), counted(counts)));
        }
    }
    for ResponseStatus { pair, count, p50_ms, p95_ms } in status.responses.iter().flatten() {
        let took = format!("median {p50_ms:.3} ms, p95 {p95_ms:.3} ms");
        line("response", format!("{}: {count}, {took}", named(pair)));
    }
    for output in &status.outputs {
        line("output", format!("{} {}, {} errors", output.kind, output.destination, output.errors));
    }
    line("web page", status.web.clone().unwrap_or_default());
    let report = status.last_report.as_ref();
    line(
        "report",
        report.map_or("none yet".to_owned(), |last| {
            format!("{} ago: {} pairs in {}", span(last.age_s), last.pairs, span(last.interval_s))
        }),
    );
    let now_ns = program.started_ns as f64 + program.uptime_s * 1e9;
    for message in &status.errors {
        let age = span(message.age_s.unwrap_or((now_ns - message.at_ns as f64) / 1e9));
        line(&message.level, format!("{age} ago: {}", message.text));
    }
    text
}

/// A pair of hosts: `10.0.0.1 (web.service) to db:5432 (remote) on eth0`.
fn named(PairName { src, process, dst, iface, side }: &PairName) -> String {
    let note = |note: &Option<String>| note.as_ref().map(|note| format!(" ({note})")).unwrap_or_default();
    format!("{src}{} to {dst}{} on {iface}", note(process), note(side))
}

/// What was counted of connections, as far as there was any: `12 retransmits (8 fast, 4 timeout)`.
fn counted(counts: &Counts) -> String {
    let words = |name: &str| name.replace('_', " ");
    let named = PEER.iter().map(|metric| (metric, metric.json_name()));
    let counted = named.filter(|(_, name)| counts.get(name) > 0).map(|(metric, name)| {
        let each: Vec<String> =
            counts.each(&name).into_iter().map(|(cause, count)| format!("{count} {}", words(cause))).collect();
        let each = if each.is_empty() { String::new() } else { format!(" ({})", each.join(", ")) };
        let unit = if metric.is_time() { "ms " } else { "" };
        format!("{} {unit}{}{each}", counts.get(&name), words(metric.name))
    });
    counted.collect::<Vec<_>>().join(", ")
}

/// The numbers of a group that people are shown, each with its words.
fn words(group: &str, counts: &Counts) -> Vec<String> {
    let mut words = Vec::new();
    for meta in metrics::declared().filter(|meta| meta.status.split('.').next() == Some(group)) {
        let field = meta.status.rsplit('.').next().unwrap_or_default();
        match meta.text {
            Text::Always(what) => words.push(format!("{} {what}", counts.get(field))),
            Text::IfAny(what) if counts.get(field) > 0 => words.push(format!("{} {what}", counts.get(field))),
            Text::Labels => words.extend(meta.labels.iter().map(|label| format!("{} {label}", counts.get(label)))),
            Text::IfAny(_) | Text::Absent => {}
        }
    }
    words
}

/// Nothing of a daemon that does not tell.
fn sandbox(privileges: &PrivilegesStatus) -> String {
    let PrivilegesStatus { off, unknown, capabilities, no_new_privs, seccomp, landlock } = privileges;
    if landlock.is_empty() {
        return String::new();
    }
    let capabilities = if capabilities.len() > 8 {
        format!("{} capabilities", capabilities.len())
    } else if capabilities.is_empty() {
        "no capability".to_owned()
    } else {
        capabilities.join(", ")
    };
    if let Some(why) = off {
        return format!("OFF ({why}); {capabilities}");
    }
    let is = |there: bool, name: &str| if there { name.to_owned() } else { format!("no {name}") };
    let files = match landlock.as_str() {
        "full" => "Landlock",
        "part" => "Landlock in part",
        _ => "no Landlock",
    };
    if *unknown {
        return format!("unknown, as /proc is not mounted; {files}");
    }
    format!("{capabilities}; {}, {}, {files}", is(*no_new_privs, "no_new_privs"), is(*seccomp, "seccomp"))
}

fn host(host: &HostStatus) -> String {
    let age = host.age_s.map_or_else(|| "never answered".to_owned(), |age| format!("{} old", span(age)));
    let trouble = host.error.as_ref().map_or_else(String::new, |error| format!("; {error}"));
    format!("{} [{}; {age}{trouble}]", host.name, shortened(&host.addresses))
}

/// The first few of many.
fn shortened(all: &[String]) -> String {
    const SHOWN: usize = 8;
    let more = all.len().saturating_sub(SHOWN);
    let mut text = all[..all.len() - more].join(", ");
    if more > 0 {
        let _ = write!(text, ", and {more} more");
    }
    text
}

/// A span in the unit that suits it.
fn span(seconds: f64) -> String {
    let whole = seconds.max(0.0) as u64;
    match whole {
        0..=59 => format!("{:.1} s", seconds.max(0.0)),
        60..=3599 => format!("{} min {:02} s", whole / 60, whole % 60),
        3600..=86_399 => format!("{} h {:02} min", whole / 3600, whole / 60 % 60),
        _ => format!("{} d {:02} h", whole / 86_400, whole / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use go_metro_rtt::{Cause, Connect, PeerHealth, Role};

    use super::*;

    #[test]
    fn the_line_of_the_sandbox_says_what_is_in_force_and_what_is_not() {
        let mut privileges = PrivilegesStatus {
            capabilities: vec!["CAP_NET_ADMIN".to_owned()],
            no_new_privs: true,
            seccomp: true,
            landlock: "full".to_owned(),
            ..PrivilegesStatus::default()
        };
        assert_eq!(sandbox(&privileges), "CAP_NET_ADMIN; no_new_privs, seccomp, Landlock");
        (privileges.seccomp, privileges.landlock) = (false, "off".to_owned());
        assert_eq!(sandbox(&privileges), "CAP_NET_ADMIN; no_new_privs, no seccomp, no Landlock");
        privileges.unknown = true;
        assert_eq!(sandbox(&privileges), "unknown, as /proc is not mounted; no Landlock");
        privileges.off = Some("sandbox: off".to_owned());
        assert_eq!(sandbox(&privileges), "OFF (sandbox: off); CAP_NET_ADMIN");
        assert_eq!(sandbox(&PrivilegesStatus::default()), "", "an older daemon");
    }

    #[test]
    fn what_was_counted_of_connections_is_told_by_cause_as_far_as_there_was_any() {
        let mut health = PeerHealth { segments: 800, spurious: 1, zero_window_ns: 2_500_000, ..PeerHealth::default() };
        health.retransmits[Cause::Timeout as usize] = 2;
        health.retransmits[Cause::TailProbe as usize] = 5;
        for role in Role::ALL {
            health.connects[role as usize][Connect::Established as usize] = 2;
        }
        let counts = Counts::of_peer(&health);
        assert_eq!(
            counted(&counts),
            "800 segments, 7 retransmits (5 tail probe, 2 timeout), 1 spurious retransmits, \
             4 connects (4 established), 3 ms zero window"
        );
        // As it comes over the socket.
        let told = serde_json::to_value(&counts).unwrap();
        assert_eq!((&told["connects"]["established"], &told["connects"]["refused"]), (&4.into(), &0.into()));
        assert_eq!(serde_json::from_value::<Counts>(told).unwrap(), counts);
    }

    #[test]
    fn a_pair_is_named_with_its_process_and_side_in_text_and_json() {
        let bare = PairName {
            src: "10.0.0.1".to_owned(),
            process: None,
            dst: "db:5432".to_owned(),
            iface: "eth0".to_owned(),
            side: None,
        };
        assert_eq!(named(&bare), "10.0.0.1 to db:5432 on eth0");
        let whole = PairName { process: Some("web.service".to_owned()), side: Some("remote".to_owned()), ..bare };
        assert_eq!(named(&whole), "10.0.0.1 (web.service) to db:5432 (remote) on eth0");
        let told = ResponseStatus { pair: whole, count: 3, p50_ms: 4.0, p95_ms: 9.0 };
        let json = serde_json::to_value(&told).unwrap();
        assert_eq!(
            (&json["dst"], &json["process"], &json["count"]),
            (&"db:5432".into(), &"web.service".into(), &3.into())
        );
        assert_eq!(serde_json::from_value::<ResponseStatus>(json).unwrap(), told);
    }

    #[test]
    fn of_what_happened_only_connections_of_clients_that_were_closed_are_told() {
        let counts = Counts::default().with("reloads", 2).with("clients_closed", 0);
        assert_eq!(words("happened", &counts), [""; 0]);
        let told = words("happened", &counts.with("clients_closed", 48));
        assert_eq!(told, ["48 clients' connections closed to make room"]);
    }

    #[test]
    fn spans_are_told_in_their_unit_and_long_lists_are_cut() {
        assert_eq!(
            [0.04, 59.9, 61.0, 3_700.0, 200_000.0].map(span),
            ["0.0 s", "59.9 s", "1 min 01 s", "1 h 01 min", "2 d 07 h"]
        );
        let many: Vec<String> = (0..10).map(|k| k.to_string()).collect();
        assert_eq!(shortened(&many), "0, 1, 2, 3, 4, 5, 6, 7, and 2 more");
        assert_eq!(shortened(&many[..2]), "0, 1");
    }
}
