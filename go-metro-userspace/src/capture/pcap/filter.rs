//! The kernel's part of libpcap's work: a filter in its language, built from the targets.
//!
//! The filter only saves work; what passes it is compared with the targets again. So where it would be too long for the
//! kernel, or a link type has no VLANs, a coarser one serves.

use ipnet::IpNet;
use pcap::{Active, Capture};

/// Most instructions of a classic BPF program: `BPF_MAXINSNS` of include/uapi/linux/bpf_common.h.
const MOST_INSTRUCTIONS: usize = 4096;

/// Most targets in a filter: libpcap's compiler recurses for each, three times over with the tags.
const MOST_TARGETS: usize = 200;

/// TCP, also behind IPv6 extension headers, where `tcp` alone does not look: hop-by-hop, routing, fragment,
/// authentication, destination and mobility.
const TCP: &str = "(ip proto 6 or (ip6 and (ip6[6] = 6 or ip6[6] = 0 or ip6[6] = 43 or ip6[6] = 44 or ip6[6] = 51 or \
                   ip6[6] = 60 or ip6[6] = 135)))";

/// Frames with a VLAN tag still in them, where libpcap's `vlan` does not look: behind a cooked header.
///
/// The kernel's filter sees the tag's own protocol. But what may have been in the ring when the filter was set, with
/// the block that is being filled, libpcap filters once more itself (`blocks_to_filter_in_userland` of pcap-linux.c).
/// There a cooked header names the protocol behind all tags (Linux 6.10 and later, see `decode/link.rs`), while the
/// packet begins with the rest of a tag: where an IP header has its length or flow label it has an ethertype, and a
/// length that is not the packet's.
const TAGGED: &str = "(ether proto 0x8100 or ether proto 0x88a8 or ether proto 0x9100 or \
                      (ip and (ip[2:2] = 0x0800 or ip[2:2] = 0x8100 or ip[2:2] = 0x88a8 or ip[2:2] = 0x9100) and \
                      ip[2:2] != len) or \
                      (ip6 and (ip6[2:2] = 0x86dd or ip6[2:2] = 0x8100 or ip6[2:2] = 0x88a8 or ip6[2:2] = 0x9100) and \
                      ip6[4:2] + 40 != len))";

/// What packets must be like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish<'a> {
    /// From or to one of these.
    pub(super) nets: &'a [IpNet],
    /// Another condition, in libpcap's language.
    pub(super) extra: Option<&'a str>,
    /// On an interface of one of these indices; any if there are none. Only the cooked header of `any` tells (libpcap
    /// 1.10).
    pub(super) ports: &'a [u32],
}

/// Sets the narrowest filter that works.
///
/// # Errors
///
/// libpcap's words when even the coarsest is refused.
pub(super) fn apply(capture: &mut Capture<Active>, wish: &Wish<'_>) -> Result<(), pcap::Error> {
    let mut refused = None;
    for candidate in candidates(wish) {
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
fn candidates(wish: &Wish<'_>) -> Vec<String> {
    let extra = wish.extra.map(|extra| format!(" and ({extra})")).unwrap_or_default();
    let on = ports(wish.ports);
    let narrow = format!("({TCP} and {}{extra})", targets(wish.nets));
    let coarse = format!("({TCP}{extra})");
    let by = |filter: &str| match on.as_str() {
        "" => [tagged_too(filter), format!("{filter} or {TAGGED}")],
        on => [format!("{on} and ({})", tagged_too(filter)), format!("{on} and ({filter} or {TAGGED})")],
    };
    let mut candidates = by(&coarse).to_vec();
    if wish.nets.len() <= MOST_TARGETS {
        candidates.splice(0..0, by(&narrow));
    }
    candidates.push(coarse);
    candidates
}

fn ports(indices: &[u32]) -> String {
    let all: Vec<String> = indices.iter().map(|index| format!("ifindex {index}")).collect();
    if all.is_empty() { String::new() } else { format!("({})", all.join(" or ")) }
}

/// The filter for untagged, tagged and doubly tagged packets. `vlan` moves every offset behind it in the expression, in
/// whatever branch, so the untagged alternative comes first and the others nest.
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
        let candidate = candidates(&Wish { nets: &nets, extra, ports: &[] }).into_iter().next().unwrap();
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
        let of = |nets: &[IpNet]| candidates(&Wish { nets, extra: None, ports: &[] });
        let chosen = of(&nets).into_iter().find(short).unwrap();
        assert!(!chosen.contains("host") && chosen.contains("vlan"));
        assert!(of(&nets[..MOST_TARGETS])[0].contains("host") && short(&of(&nets[..MOST_TARGETS])[0]));
    }

    #[test]
    fn a_cooked_header_tells_the_interface_and_lets_tags_pass() {
        let nets = ["10.0.0.7/32".parse().unwrap()];
        let capture = Capture::dead(Linktype(276)).unwrap();
        let mut all = candidates(&Wish { nets: &nets, extra: None, ports: &[3, 5] }).into_iter();
        let filter = all.find_map(|candidate| capture.compile(&candidate, true).ok()).unwrap();
        // LINKTYPE_LINUX_SLL2: protocol, reserved, interface, device type, packet type, address.
        let cooked = |protocol: u16, ifindex: u32, rest: &[u8]| {
            [&protocol.to_be_bytes()[..], &[0, 0], &ifindex.to_be_bytes(), &[0, 1, 0, 6], &[0; 8], rest].concat()
        };
        let ip = |remote| frame(0, false, 6, remote).split_off(14);
        for ifindex in [3, 5] {
            assert!(filter.filter(&cooked(0x0800, ifindex, &ip(7))));
            assert!(!filter.filter(&cooked(0x0800, ifindex, &ip(8))), "another host");
            assert!(filter.filter(&cooked(0x8100, ifindex, &[0, 5, 8, 0])), "with a tag");
        }
        assert!(!filter.filter(&cooked(0x0800, 4, &ip(7))), "another interface");
    }

    #[test]
    fn what_libpcap_filters_itself_behind_two_tags_passes() {
        let nets = ["10.0.0.7/32".parse().unwrap(), "2001:db8::7/128".parse().unwrap()];
        // LINKTYPE_LINUX_SLL (protocol last) and LINKTYPE_LINUX_SLL2 (protocol first), both of what is sent.
        let sll = |protocol: u16, rest: &[u8]| {
            [&[0, 4, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0][..], &protocol.to_be_bytes(), rest].concat()
        };
        let sll2 = |protocol: u16, rest: &[u8]| {
            [&protocol.to_be_bytes()[..], &[0, 0, 0, 0, 0, 2, 0, 1, 4, 6, 0, 0, 0, 0, 0, 0, 0, 0], rest].concat()
        };
        for (link_type, cooked) in [(113, &sll as &dyn Fn(u16, &[u8]) -> Vec<u8>), (276, &sll2)] {
            let capture = Capture::dead(Linktype(link_type)).unwrap();
            let mut all = candidates(&Wish { nets: &nets, extra: None, ports: &[] }).into_iter();
            let filter = all.find_map(|candidate| capture.compile(&candidate, true).ok()).unwrap();
            for (v6, protocol) in [(false, 0x0800_u16), (true, 0x86dd)] {
                let passes = |tag: &[u8], remote| {
                    filter.filter(&cooked(protocol, &[tag, &frame(0, v6, 6, remote).split_off(14)].concat()))
                };
                assert!(passes(&[], 7) && !passes(&[], 8));
                // A tag, one with a priority by which it looks like the first byte of an IP header, and two.
                let [high, low] = protocol.to_be_bytes();
                assert!(passes(&[0, 42, high, low], 7));
                assert!(passes(&[0x45, 42, high, low], 7) && passes(&[0x60, 42, high, low], 7));
                assert!(passes(&[0, 43, 0x81, 0, 0, 42, high, low], 7));
            }
        }
    }
}
