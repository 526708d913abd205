//! How blocks lie in the file: the stream's head, and the head of each block.

use crate::limits::{MAX_PAYLOAD_BYTES, MAX_RAW_BYTES};
use std::io;

/// First bytes of every recording. Not ASCII at its start and with both kinds of line end, so
/// that a transfer as text is noticed at once.
pub(crate) const MAGIC: [u8; 8] = *b"\x8BOLK\r\n\x1A\n";

/// Version of the format that this crate writes, and the newest that it reads.
pub const FORMAT_VERSION: u32 = 1;

/// Length of magic and version.
pub(crate) const STREAM_HEAD_BYTES: usize = 12;

/// First bytes of every block: what a reader looks for after damage.
pub(crate) const MARKER: [u8; 8] = *b"\xF1olk\x00\xB1k\x9E";

/// Length of a block's head.
pub(crate) const BLOCK_HEAD_BYTES: usize = 28;

/// The head of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockHead {
    /// Number of the block, from 0.
    pub(crate) sequence: u32,
    /// Length of the compressed payload.
    pub(crate) payload_bytes: u32,
    /// Length of the payload before compression.
    pub(crate) raw_bytes: u32,
    /// CRC-32 of the compressed payload.
    pub(crate) payload_crc: u32,
}

/// Magic and version, as they start a stream.
pub(crate) fn stream_head() -> [u8; STREAM_HEAD_BYTES] {
    let mut head = [0; STREAM_HEAD_BYTES];
    head[..8].copy_from_slice(&MAGIC);
    head[8..].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    head
}

impl BlockHead {
    /// Length of the whole block.
    pub(crate) fn length(&self) -> usize {
        BLOCK_HEAD_BYTES + self.payload_bytes as usize
    }

    /// The bytes of this head.
    pub(crate) fn to_bytes(self) -> [u8; BLOCK_HEAD_BYTES] {
        let mut bytes = [0; BLOCK_HEAD_BYTES];
        bytes[..8].copy_from_slice(&MARKER);
        bytes[8..12].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.payload_bytes.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.raw_bytes.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.payload_crc.to_le_bytes());
        let crc = crc32fast::hash(&bytes[8..24]);
        bytes[24..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The head that `bytes` hold; `None` where marker or checksum are not those of a head, or
    /// where it asks for more than any block may have.
    ///
    /// The head has a checksum of its own so that a length is believed before the payload has
    /// been read.
    pub(crate) fn from_bytes(bytes: &[u8; BLOCK_HEAD_BYTES]) -> Option<Self> {
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let head = Self {
            sequence: word(8),
            payload_bytes: word(12),
            raw_bytes: word(16),
            payload_crc: word(20),
        };
        let valid = bytes[..8] == MARKER
            && checks(crc32fast::hash(&bytes[8..24]), word(24))
            && head.payload_bytes as usize <= MAX_PAYLOAD_BYTES
            && head.raw_bytes as usize <= MAX_RAW_BYTES;
        valid.then_some(head)
    }
}

/// Whether a checksum is the right one. Under a fuzzer every one is, for it would not get past
/// the first otherwise.
pub(crate) fn checks(found: u32, expected: u32) -> bool {
    cfg!(fuzzing) || found == expected
}

/// Puts a whole block with the content `raw` into `block`.
pub(crate) fn seal(
    compressor: &mut zstd::bulk::Compressor<'_>,
    sequence: u32,
    raw: &[u8],
    block: &mut Vec<u8>,
) -> io::Result<()> {
    let bound = zstd::zstd_safe::compress_bound(raw.len());
    block.resize(BLOCK_HEAD_BYTES + bound, 0);
    let payload_bytes = compressor.compress_to_buffer(raw, &mut block[BLOCK_HEAD_BYTES..])?;
    block.truncate(BLOCK_HEAD_BYTES + payload_bytes);
    let head = BlockHead {
        sequence,
        payload_bytes: payload_bytes as u32,
        raw_bytes: raw.len() as u32,
        payload_crc: crc32fast::hash(&block[BLOCK_HEAD_BYTES..]),
    };
    block[..BLOCK_HEAD_BYTES].copy_from_slice(&head.to_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: BlockHead = BlockHead {
        sequence: 7,
        payload_bytes: 100,
        raw_bytes: 300,
        payload_crc: 0xDEAD_BEEF,
    };

    #[test]
    fn a_head_survives_the_round_trip() {
        assert_eq!(BlockHead::from_bytes(&HEAD.to_bytes()), Some(HEAD));
    }

    #[test]
    fn any_changed_bit_of_a_head_is_noticed() {
        for bit in 0..BLOCK_HEAD_BYTES * 8 {
            let mut bytes = HEAD.to_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(BlockHead::from_bytes(&bytes), None, "bit {bit}");
        }
    }

    #[test]
    fn an_absurd_length_is_refused() {
        let absurd = |payload_bytes, raw_bytes| BlockHead {
            payload_bytes,
            raw_bytes,
            ..HEAD
        };
        for head in [absurd(u32::MAX, 1), absurd(1, u32::MAX)] {
            assert_eq!(BlockHead::from_bytes(&head.to_bytes()), None);
        }
    }
}
