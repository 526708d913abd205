//! Finding blocks in a stream of bytes, damaged or not.

use super::error::BlockProblem;
use crate::frame::{BLOCK_HEAD_BYTES, BlockHead, MARKER, checks};
use std::io::{self, Read};

/// Bytes that are asked for at once.
const READ_BYTES: usize = 256 << 10;

/// A window that slides over the input. It holds at most one block and what was read ahead, and
/// grows with what really comes, not with what a length says.
pub(super) struct Scanner<R> {
    input: R,
    buffer: Vec<u8>,
    /// Where the current position is in `buffer`.
    start: usize,
    offset: u64,
    ended: bool,
}

impl<R: Read> Scanner<R> {
    pub(super) fn new(input: R) -> Self {
        Self {
            input,
            buffer: Vec::new(),
            start: 0,
            offset: 0,
            ended: false,
        }
    }

    /// The current position in the input.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// What lies ahead: at least `bytes`, or all that is left.
    pub(super) fn ahead(&mut self, bytes: usize) -> io::Result<&[u8]> {
        let have = self.buffer.len() - self.start;
        if have < bytes && !self.ended {
            self.buffer.drain(..self.start);
            self.start = 0;
            let want = (bytes - have).max(READ_BYTES) as u64;
            let got = (&mut self.input).take(want).read_to_end(&mut self.buffer)?;
            self.ended = (got as u64) < want;
        }
        Ok(&self.buffer[self.start..])
    }

    /// Goes on by `bytes` of what lies ahead.
    pub(super) fn advance(&mut self, bytes: usize) {
        let bytes = bytes.min(self.buffer.len() - self.start);
        self.start += bytes;
        self.offset += bytes as u64;
    }

    /// The head of the block that begins here, once its payload has passed the checksum;
    /// `None` at the end of the input. Does not move.
    pub(super) fn block(&mut self) -> io::Result<Result<Option<BlockHead>, BlockProblem>> {
        let ahead = self.ahead(BLOCK_HEAD_BYTES)?;
        if ahead.is_empty() {
            return Ok(Ok(None));
        }
        let Some(bytes) = ahead.first_chunk() else {
            let begins = ahead.starts_with(&MARKER[..ahead.len().min(MARKER.len())]);
            let missing = (BLOCK_HEAD_BYTES - ahead.len()) as u64;
            return Ok(Err(if begins {
                BlockProblem::Truncated { missing }
            } else {
                BlockProblem::NoBlock
            }));
        };
        let Some(head) = BlockHead::from_bytes(bytes) else {
            return Ok(Err(BlockProblem::NoBlock));
        };
        let length = head.length();
        let ahead = self.ahead(length)?;
        let Some(payload) = ahead.get(BLOCK_HEAD_BYTES..length) else {
            let missing = (length - ahead.len()) as u64;
            return Ok(Err(BlockProblem::Truncated { missing }));
        };
        let (expected, found) = (head.payload_crc, crc32fast::hash(payload));
        if !checks(found, expected) {
            return Ok(Err(BlockProblem::Checksum { expected, found }));
        }
        Ok(Ok(Some(head)))
    }

    /// The payload of a block that [`block`](Scanner::block) has found here.
    pub(super) fn payload(&self, head: BlockHead) -> &[u8] {
        &self.buffer[self.start..][BLOCK_HEAD_BYTES..head.length()]
    }

    /// Goes on to the next place, at least a byte away, where a block may begin, or to the end.
    pub(super) fn skip(&mut self) -> io::Result<()> {
        self.advance(1);
        loop {
            let ahead = self.ahead(MARKER.len())?;
            let at = ahead.windows(MARKER.len()).position(|at| at == MARKER);
            if let Some(at) = at {
                self.advance(at);
                return Ok(());
            }
            // A marker may have begun in the last bytes; at the very end a beginning is no use.
            let left = ahead.len();
            if left < MARKER.len() {
                self.advance(left);
                return Ok(());
            }
            self.advance(left - MARKER.len() + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_next_marker_across_reads() {
        for before in [1, 7, READ_BYTES - 3, READ_BYTES, 3 * READ_BYTES + 5] {
            let mut bytes = vec![MARKER[0]; before];
            bytes.extend(MARKER);
            bytes.extend([0; 3]);
            let mut scanner = Scanner::new(&bytes[..]);
            scanner.skip().unwrap();
            assert_eq!(scanner.offset(), before as u64);
            scanner.skip().unwrap();
            assert_eq!(scanner.offset(), bytes.len() as u64);
            assert_eq!(scanner.block().unwrap(), Ok(None));
        }
    }

    #[test]
    fn a_block_is_found_only_whole() {
        let payload = b"anything";
        let head = BlockHead {
            sequence: 0,
            payload_bytes: 8,
            raw_bytes: 0,
            payload_crc: crc32fast::hash(payload),
        };
        let mut bytes = head.to_bytes().to_vec();
        bytes.extend(payload);
        for end in 1..bytes.len() {
            let found = Scanner::new(&bytes[..end]).block().unwrap();
            let missing = if end < BLOCK_HEAD_BYTES {
                BLOCK_HEAD_BYTES - end
            } else {
                bytes.len() - end
            };
            let missing = missing as u64;
            assert_eq!(found, Err(BlockProblem::Truncated { missing }));
        }
        let mut scanner = Scanner::new(&bytes[..]);
        assert_eq!(scanner.block().unwrap(), Ok(Some(head)));
        assert_eq!(scanner.payload(head), payload);
    }
}
