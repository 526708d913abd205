//! Many small pieces of memory in few large calls.
//!
//! Structures that the C library's malloc scattered over a heap are read by the page: the pages
//! that hold any wanted piece, neighbours joined, as many as fit one call. A page is copied in
//! less than a microsecond, so that what is copied in vain costs less than a segment for each
//! piece would. No page is touched that holds nothing wanted: reading one would make it resident.

use onlooker_unwinder::memory::{MAX_SEGMENTS, ReadError, ReadMemory, RemoteAddr, Segment};

use crate::space::PAGE_BYTES;

/// Copied in one call.
const BATCH_BYTES: u64 = 8 << 20;

/// One wanted piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Piece {
    /// First byte.
    pub addr: RemoteAddr,
    /// Length in bytes; more than 8 MiB is never read.
    pub len: u32,
}

impl Piece {
    /// A piece at `addr`.
    #[must_use]
    pub fn new(addr: u64, len: u32) -> Self {
        let addr = RemoteAddr(addr);
        Self { addr, len }
    }

    fn pages(self) -> Option<(u64, u64)> {
        let start = self.addr.0 & !(PAGE_BYTES - 1);
        let end = self.addr.0.checked_add(self.len.into())?;
        let end = end.checked_next_multiple_of(PAGE_BYTES)?;
        (end - start <= BATCH_BYTES).then_some((start, end))
    }
}

/// Reads every piece and hands each to `take` with its index: its bytes, or `None` where they
/// are not readable.
///
/// `pieces` should be sorted by address: then each page is copied once. The order of the calls
/// of `take` is theirs.
///
/// # Errors
/// When the process is gone or may not be read. A piece that is not mapped is no error.
pub fn gather<M: ReadMemory>(
    memory: &mut M,
    pieces: &[Piece],
    mut take: impl FnMut(usize, Option<&[u8]>),
) -> Result<(), ReadError> {
    let mut buf = Vec::new();
    let mut batch = Batch::default();
    let mut from = 0;
    while from < pieces.len() {
        let count = batch.fill(&pieces[from..]);
        if count == 0 {
            take(from, None);
            from += 1;
            continue;
        }
        buf.resize(batch.bytes as usize, 0);
        let got = match memory.read(&batch.segments, &mut buf) {
            Ok(got) => got,
            Err(ReadError::Unmapped(_)) => 0,
            Err(error) => return Err(error),
        };
        let there = &buf[..got.min(buf.len())];
        let whole = batch.places[..count]
            .iter()
            .zip(&pieces[from..])
            .map_while(|(at, piece)| there.get(*at..at + piece.len as usize));
        let mut taken = 0;
        for bytes in whole {
            take(from + taken, Some(bytes));
            taken += 1;
        }
        if taken < count {
            // The kernel stops at the first page that is not there. Whatever follows is asked
            // for again without it.
            take(from + taken, None);
            taken += 1;
        }
        from += taken;
    }
    Ok(())
}

/// The segments of one call, and where each piece lies in what they bring.
#[derive(Default)]
struct Batch {
    segments: Vec<Segment>,
    places: Vec<usize>,
    bytes: u64,
}

impl Batch {
    /// Takes as many pieces as one call may have; returns how many, 0 when the first is absurd.
    fn fill(&mut self, pieces: &[Piece]) -> usize {
        self.segments.clear();
        self.places.clear();
        self.bytes = 0;
        // The pages of the last segment, and where they lie in the buffer.
        let mut last: Option<(u64, u64, u64)> = None;
        for piece in pieces {
            let Some((start, end)) = piece.pages() else {
                break;
            };
            let joined = last.filter(|(from, to, _)| *from <= start && start <= *to);
            let (from, to, at) = match joined {
                Some((from, to, at)) => (from, to.max(end), at),
                None => (start, end, self.bytes),
            };
            let bytes = at + (to - from);
            let segments = self.segments.len() + usize::from(joined.is_none());
            if !self.places.is_empty() && (bytes > BATCH_BYTES || segments > MAX_SEGMENTS) {
                break;
            }
            let segment = Segment {
                addr: RemoteAddr(from),
                len: (to - from) as u32,
            };
            match self.segments.last_mut().filter(|_| joined.is_some()) {
                Some(last) => *last = segment,
                None => self.segments.push(segment),
            }
            self.places.push((at + (piece.addr.0 - from)) as usize);
            self.bytes = bytes;
            last = Some((from, to, at));
        }
        self.places.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use onlooker_unwinder::memory::{Counting, RecordedMemory};
    use proptest::prelude::*;

    fn byte(addr: u64) -> u8 {
        (addr ^ addr >> 8 ^ addr >> 13) as u8
    }

    fn pages(numbers: impl IntoIterator<Item = u64>) -> RecordedMemory {
        let mut memory = RecordedMemory::new();
        for number in numbers {
            let start = number * PAGE_BYTES;
            let page: Vec<u8> = (start..start + PAGE_BYTES).map(byte).collect();
            memory.insert(RemoteAddr(start), &page);
        }
        memory
    }

    #[test]
    fn pieces_of_neighbouring_pages_cost_one_segment() {
        let mut memory = Counting::new(pages([16, 17, 20]));
        let pieces = [(16 << 12, 32), ((17 << 12) - 8, 16), (20 << 12, 8)]
            .map(|(addr, len)| Piece::new(addr, len));
        let mut seen = Vec::new();
        gather(&mut memory, &pieces, |i, bytes| {
            seen.push((i, bytes.map(<[u8]>::len)));
        })
        .unwrap();
        assert_eq!(seen, [(0, Some(32)), (1, Some(16)), (2, Some(8))]);
        let cost = memory.cost(onlooker_unwinder::memory::Class::Other);
        assert_eq!((cost.calls, cost.segments), (1, 2));
    }

    proptest! {
        /// Whatever is mapped and whatever is asked for, each piece is told once, in order, and
        /// has its own bytes exactly when all of its pages are mapped.
        #[test]
        fn every_piece_has_its_own_bytes(
            mapped in prop::collection::btree_set(1_u64..24, 0..16),
            wanted in prop::collection::vec((0_u64..24 << 12, 0_u32..6000), 0..60),
            sorted in any::<bool>(),
        ) {
            let mut memory = pages(mapped.iter().copied());
            let mut pieces: Vec<Piece> =
                wanted.iter().map(|(addr, len)| Piece::new(*addr, *len)).collect();
            if sorted {
                pieces.sort_unstable();
            }
            let mut next = 0;
            gather(&mut memory, &pieces, |i, bytes| {
                assert_eq!(i, next);
                next += 1;
                let (start, end) = pieces[i].pages().unwrap();
                let there = (start / PAGE_BYTES..end / PAGE_BYTES).all(|n| mapped.contains(&n));
                let addr = pieces[i].addr.0;
                let expected: Vec<u8> = (addr..addr + u64::from(pieces[i].len)).map(byte).collect();
                if start < end {
                    assert_eq!(bytes, there.then_some(&expected[..]));
                }
            }).unwrap();
            prop_assert_eq!(next, pieces.len());
        }
    }
}
