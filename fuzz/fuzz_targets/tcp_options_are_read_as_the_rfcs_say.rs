//! Whatever a TCP header's options: the decoder reads of them what a slow, obvious reader finds, and notices the same
//! faults.
#![no_main]

use go_metro::capture::decode::{LinkType, Origin, Packet, decode};
use go_metro_common::segment::Bits;
use libfuzzer_sys::fuzz_target;

/// What a list of options says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    timestamps: Option<(u32, u32)>,
    bits: u8,
    malformed: bool,
}

fn word(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |word, byte| word << 8 | u32::from(*byte))
}

/// RFC 9293 section 3.2, RFC 7323 section 3.2, RFC 2018 sections 2 and 3, RFC 2883 section 4.
fn slowly(list: &[u8], ack: u32) -> Said {
    let (mut said, mut at) = (Said::default(), 0);
    while at < list.len() && list[at] != 0 {
        if list[at] == 1 {
            at += 1;
            continue;
        }
        let length = list.get(at + 1).map_or(0, |length| usize::from(*length));
        if length < 2 || at + length > list.len() {
            said.malformed = true;
            return said;
        }
        let data = &list[at + 2..at + length];
        match (list[at], data.len()) {
            (8, 8) => said.timestamps = Some((word(&data[..4]), word(&data[4..]))),
            (4, 0) => said.bits |= Bits::SACK_PERMITTED,
            (5, 8 | 16 | 24 | 32) => {
                for (block, edges) in data.chunks(8).enumerate() {
                    let above = word(&edges[..4]).wrapping_sub(ack);
                    if above != 0 && above < 1 << 31 {
                        said.bits |= Bits::SACK_ABOVE;
                    } else if block == 0 {
                        said.bits |= Bits::DSACK;
                    }
                }
            }
            _ => {}
        }
        at += length;
    }
    said
}

// Four bytes of acknowledgement number, then options.
fuzz_target!(|data: &[u8]| {
    let Some((ack, options)) = data.split_at_checked(4) else { return };
    let mut options = options[..options.len().min(40)].to_vec();
    options.resize(options.len().next_multiple_of(4), 0);
    let header = 20 + options.len();
    let mut packet = vec![0x45, 0, 0, (20 + header) as u8, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    packet.extend([0x9c, 0x40, 0, 80, 0, 0, 0, 1]);
    packet.extend(ack);
    packet.extend([(header as u8 / 4) << 4, 0x10, 1, 0, 0, 0, 0, 0]);
    packet.extend(&options);
    let wire_len = packet.len() as u32;
    let packet = Packet { bytes: &packet, wire_len, link_type: LinkType::Raw, origin: Origin::Live };
    let decoded = decode(packet).expect("a sound header");
    let bits = decoded.header.bits;
    let timestamps = bits.any(Bits::TIMESTAMPS).then_some((decoded.header.tsval, decoded.header.tsecr));
    let bits = bits.0 & (Bits::SACK_PERMITTED | Bits::SACK_ABOVE | Bits::DSACK);
    assert_eq!(Said { timestamps, bits, malformed: decoded.bad_option }, slowly(&options, word(ack)));
});
