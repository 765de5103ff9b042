//! The kernel's part of libpcap's work: a filter in its language, built from the targets.
//!
//! The filter only saves work; what passes it is compared with the targets again. So where it would be too long for the kernel, or a link
//! type has no VLANs, a coarser one serves.

use ipnet::IpNet;
use pcap::{Active, Capture};

/// Most instructions of a classic BPF program: `BPF_MAXINSNS` of include/uapi/linux/bpf_common.h.
const MOST_INSTRUCTIONS: usize = 4096;

/// Most targets in a filter: libpcap's compiler recurses for each, three times over with the tags.
const MOST_TARGETS: usize = 200;

/// TCP, also behind IPv6 extension headers, where `tcp` alone does not look: hop-by-hop, routing, fragment, authentication,
/// destination and mobility.
const TCP: &str = "(ip proto 6 or (ip6 and (ip6[6] = 6 or ip6[6] = 0 or ip6[6] = 43 or ip6[6] = 44 or ip6[6] = 51 or \
                   ip6[6] = 60 or ip6[6] = 135)))";

/// Sets the narrowest filter that works.
///
/// # Errors
///
/// libpcap's words when even the coarsest is refused.
pub(super) fn apply(capture: &mut Capture<Active>, nets: &[IpNet], extra: Option<&str>) -> Result<(), pcap::Error> {
    let mut refused = None;
    for candidate in candidates(nets, extra) {
        match capture.compile(&candidate, true) {
            Ok(program) if program.get_instructions().len() <= MOST_INSTRUCTIONS => {
                return capture.filter(&candidate, true);
            }
            Ok(_) => {}
            Err(error) => refused = Some(error),
        }
    }
    refused.map_or(Ok(()), Err)
}

/// Filters from narrow to coarse.
fn candidates(nets: &[IpNet], extra: Option<&str>) -> Vec<String> {
    let extra = extra.map(|extra| format!(" and ({extra})")).unwrap_or_default();
    let narrow = format!("({TCP} and {}{extra})", targets(nets));
    let coarse = format!("({TCP}{extra})");
    let mut candidates = vec![tagged_too(&coarse), coarse];
    if nets.len() <= MOST_TARGETS {
        candidates.splice(0..0, [tagged_too(&narrow), narrow]);
    }
    candidates
}

/// The filter for untagged, tagged and doubly tagged packets. `vlan` moves every offset behind it in the expression, in whatever
/// branch, so the untagged alternative comes first and the others nest.
fn tagged_too(filter: &str) -> String {
    format!("{filter} or (vlan and ({filter} or (vlan and {filter})))")
}

fn targets(nets: &[IpNet]) -> String {
    let all: Vec<String> = nets
        .iter()
        .map(|net| match net {
            IpNet::V4(net) if net.prefix_len() == 0 => "ip".to_owned(),
            IpNet::V6(net) if net.prefix_len() == 0 => "ip6".to_owned(),
            net if net.prefix_len() == net.max_prefix_len() => format!("host {}", net.addr()),
            net => format!("net {}", net.trunc()),
        })
        .collect();
    // Nothing is watched: no packet has a length below 0.
    if all.is_empty() { "(less 0)".to_owned() } else { format!("({})", all.join(" or ")) }
}

#[cfg(test)]
mod tests {
    use pcap::{BpfProgram, Linktype};

    use super::*;

    fn compiled(nets: &[&str], extra: Option<&str>) -> BpfProgram {
        let nets: Vec<IpNet> = nets.iter().map(|net| net.parse().unwrap()).collect();
        let capture = Capture::dead(Linktype::ETHERNET).unwrap();
        let candidate = candidates(&nets, extra).into_iter().next().unwrap();
        capture.compile(&candidate, true).unwrap()
    }

    fn frame(tags: usize, v6: bool, next: u8, remote: u8) -> Vec<u8> {
        let mut bytes = vec![0; 12];
        for _ in 0..tags {
            bytes.extend([0x81, 0, 0, 42]);
        }
        if v6 {
            bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, next, 64]);
            bytes.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
            bytes.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, remote]);
        } else {
            bytes.extend([8, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, next, 0, 0, 192, 0, 2, 1, 10, 0, 0, remote]);
        }
        bytes.extend([0; 40]);
        bytes
    }

    #[test]
    fn targets_pass_untagged_and_tagged_and_nothing_else_does() {
        let filter = compiled(&["10.0.0.7/32", "2001:db8::7/128"], None);
        for tags in 0..=2 {
            assert!(filter.filter(&frame(tags, false, 6, 7)), "{tags} tags");
            assert!(filter.filter(&frame(tags, true, 6, 7)), "{tags} tags");
            assert!(filter.filter(&frame(tags, true, 60, 7)), "behind an extension header");
            assert!(!filter.filter(&frame(tags, false, 6, 8)), "another host");
            assert!(!filter.filter(&frame(tags, false, 17, 7)), "UDP");
            assert!(!filter.filter(&frame(tags, true, 17, 7)), "UDP");
        }
    }

    #[test]
    fn prefixes_everything_and_nothing_can_be_said() {
        let prefix = compiled(&["10.0.0.0/29"], None);
        assert!(prefix.filter(&frame(0, false, 6, 7)) && !prefix.filter(&frame(0, false, 6, 8)));
        let everything = compiled(&["0.0.0.0/0", "::/0"], None);
        assert!(everything.filter(&frame(1, false, 6, 99)) && everything.filter(&frame(1, true, 6, 99)));
        let nothing = compiled(&[], None);
        assert!(!nothing.filter(&frame(0, false, 6, 7)));
    }

    #[test]
    fn the_configured_filter_must_pass_as_well() {
        let filter = compiled(&["10.0.0.7/32"], Some("dst host 10.0.0.9"));
        assert!(!filter.filter(&frame(0, false, 6, 7)));
    }

    #[test]
    fn too_many_targets_leave_a_coarser_filter() {
        let nets: Vec<IpNet> =
            (0..3000_u32).map(|k| IpNet::from(std::net::IpAddr::V4((0x0a00_0000 + 7 * k).into()))).collect();
        let capture = Capture::dead(Linktype::ETHERNET).unwrap();
        let short = |candidate: &String| {
            capture.compile(candidate, true).is_ok_and(|program| program.get_instructions().len() <= MOST_INSTRUCTIONS)
        };
        let chosen = candidates(&nets, None).into_iter().find(short).unwrap();
        assert!(!chosen.contains("host") && chosen.contains("vlan"));
        assert!(
            candidates(&nets[..MOST_TARGETS], None)[0].contains("host")
                && short(&candidates(&nets[..MOST_TARGETS], None)[0])
        );
    }
}
