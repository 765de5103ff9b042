//! What has come of a recording that is fetched while it goes on: whole blocks, so that one that is cut off is a file
//! all the same.

use bytes::Buf as _;

use super::file::{ENHANCED_PACKET, INTERFACE_STATISTICS};

/// Type and length: what a block begins with.
const HEAD: usize = 8;
/// Lengths of blocks: what frames one, and more than any that is written here has.
const LENGTHS: std::ops::RangeInclusive<usize> = 12..=1 << 20;

/// Blocks so far.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    /// The beginning of one.
    rest: Vec<u8>,
    /// Packets in them.
    pub(crate) packets: u64,
    /// How long they are together.
    pub(crate) bytes: u64,
    /// Whether the last one is what a recording ends with.
    pub(crate) is_whole: bool,
}

impl Blocks {
    /// Takes what came; the blocks that are whole with it. None if that is no recording.
    pub(crate) fn add(&mut self, came: &[u8]) -> Option<Vec<u8>> {
        self.rest.extend_from_slice(came);
        let mut whole = 0;
        while let Some(mut head) = self.rest.get(whole..whole + HEAD) {
            let (kind, length) = (head.get_u32_le(), head.get_u32_le() as usize);
            if !LENGTHS.contains(&length) {
                return None;
            }
            if self.rest.len() < whole + length {
                break;
            }
            whole += length;
            self.packets += u64::from(kind == ENHANCED_PACKET);
            self.is_whole = kind == INTERFACE_STATISTICS;
        }
        self.bytes += whole as u64;
        Some(self.rest.drain(..whole).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(kind: u32, body: usize) -> Vec<u8> {
        let length = (12 + body as u32).to_le_bytes();
        [&kind.to_le_bytes()[..], &length, &vec![7; body], &length].concat()
    }

    #[test]
    fn what_comes_in_any_pieces_is_handed_on_in_whole_blocks() {
        let packets = [block(ENHANCED_PACKET, 100), block(ENHANCED_PACKET, 8)].concat();
        let bytes = [block(1, 20), packets, block(INTERFACE_STATISTICS, 4)].concat();
        for size in [1, 7, 32, bytes.len()] {
            let (mut blocks, mut out) = (Blocks::default(), Vec::new());
            for piece in bytes.chunks(size) {
                out.extend(blocks.add(piece).unwrap());
                let ends = [0, 32, 32 + 112, 32 + 112 + 20, bytes.len()];
                assert!(ends.contains(&out.len()), "{size}: {}", out.len());
                assert_eq!(blocks.is_whole, out.len() == bytes.len());
            }
            assert_eq!(out, bytes);
            assert_eq!((blocks.packets, blocks.bytes), (2, bytes.len() as u64));
        }
        // Nothing of one that is cut off.
        let mut blocks = Blocks::default();
        let cut = &bytes[..bytes.len() - 1];
        assert_eq!(blocks.add(cut).unwrap().len(), 32 + 112 + 20);
        assert!(!blocks.is_whole);
    }

    #[test]
    fn what_is_no_recording_is_none() {
        assert_eq!(Blocks::default().add(b"HTTP/1.0 200 OK"), None);
        assert_eq!(Blocks::default().add(&[0; 8]), None);
    }
}
