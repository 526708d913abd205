//! Pieces of the target's memory, and the lookup in them.

use std::cell::Cell;
use std::collections::BTreeMap;

use onlooker_unwinder::memory::{Lookup, RemoteAddr};

/// Size of a page, the unit of residency.
pub const PAGE_BYTES: u64 = 4096;

/// One contiguous piece of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First address in the target.
    pub start: u64,
    /// Length in bytes.
    pub len: u64,
    /// Where its bytes begin in the storage.
    pub at: u64,
}

impl Range {
    /// Address after the last byte.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.start.saturating_add(self.len)
    }
}

/// Why pieces are no space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the piece of memory at {start:#x} overlaps another one or lies outside of the storage")]
pub struct BadRange {
    /// Its address.
    pub start: u64,
}

/// Memory of a target: large pieces in one storage (a buffer or a mapped image), and small ones
/// that were found to be needed later.
#[derive(Debug)]
pub struct Space<B> {
    /// By address, without overlap.
    ranges: Vec<Range>,
    bytes: B,
    /// What is not here and not zeros: start and end, by address.
    absent: Vec<(u64, u64)>,
    small: BTreeMap<u64, Box<[u8]>>,
    /// Index of the range that was used last: most lookups stay in it.
    last: Cell<usize>,
}

impl<B: AsRef<[u8]>> Space<B> {
    /// A space of `ranges`, which must be in order of their addresses.
    ///
    /// # Errors
    /// When they overlap, are not in order, or lie outside of the storage.
    pub fn new(ranges: Vec<Range>, bytes: B) -> Result<Self, BadRange> {
        let available = bytes.as_ref().len() as u64;
        let mut end = 0;
        for range in &ranges {
            let inside = range
                .at
                .checked_add(range.len)
                .is_some_and(|to| to <= available);
            let whole = range.start.checked_add(range.len).is_some();
            if !inside || !whole || range.start < end {
                return Err(BadRange { start: range.start });
            }
            end = range.end();
        }
        Ok(Self {
            ranges,
            bytes,
            absent: Vec::new(),
            small: BTreeMap::new(),
            last: Cell::new(0),
        })
    }

    /// The large pieces, by address.
    #[must_use]
    pub fn ranges(&self) -> &[Range] {
        &self.ranges
    }

    /// The bytes of each large piece, by address.
    pub fn large(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let bytes = self.bytes.as_ref();
        self.ranges.iter().filter_map(|range| {
            let bytes = bytes.get(range.at as usize..(range.at + range.len) as usize)?;
            Some((range.start, bytes))
        })
    }

    /// The small pieces, by address.
    pub fn small(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.small.iter().map(|(addr, bytes)| (*addr, &**bytes))
    }

    /// Adds a small piece; lookups look there when no large piece has what they want.
    pub fn add(&mut self, addr: RemoteAddr, bytes: Box<[u8]>) {
        self.small.insert(addr.0, bytes);
    }

    /// Bytes of the large pieces.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        self.bytes.as_ref().len() as u64
    }

    /// The same memory for another thread: a space remembers where it looked last.
    pub(crate) fn share(&self) -> Space<&[u8]> {
        Space {
            ranges: self.ranges.clone(),
            bytes: self.bytes.as_ref(),
            absent: self.absent.clone(),
            small: self.small.clone(),
            last: Cell::new(0),
        }
    }

    /// Says of memory that it is not zeros though it is not here: it was swapped out, or left out.
    /// `absent` are start and end, in order and without overlap.
    pub fn set_absent(&mut self, absent: Vec<(u64, u64)>) {
        self.absent = absent;
    }

    /// What was said so of.
    #[must_use]
    pub fn absent(&self) -> &[(u64, u64)] {
        &self.absent
    }

    /// Whether some of the bytes from `start` to `end` are swapped out or were left out.
    #[must_use]
    pub fn is_absent(&self, start: u64, end: u64) -> bool {
        let first = self.absent.partition_point(|(_, to)| *to <= start);
        self.absent.get(first).is_some_and(|(from, _)| *from < end)
    }

    #[inline]
    fn range_at(&self, addr: u64) -> Option<&Range> {
        let last = self.ranges.get(self.last.get())?;
        if addr >= last.start && addr < last.end() {
            return Some(last);
        }
        let after = self.ranges.partition_point(|range| range.start <= addr);
        let index = after.checked_sub(1)?;
        let range = self.ranges.get(index).filter(|range| addr < range.end())?;
        self.last.set(index);
        Some(range)
    }

    /// The bytes from `addr` to the end of its piece; empty where nothing is.
    #[inline]
    #[must_use]
    pub fn tail(&self, addr: RemoteAddr) -> &[u8] {
        self.range_at(addr.0)
            .and_then(|range| {
                let from = (range.at + (addr.0 - range.start)) as usize;
                self.bytes
                    .as_ref()
                    .get(from..(range.at + range.len) as usize)
            })
            .unwrap_or_default()
    }

    /// The first address from `at` on of which something is in a large piece.
    #[must_use]
    pub fn next_present(&self, at: u64) -> Option<u64> {
        let next = self.ranges.partition_point(|range| range.end() <= at);
        self.ranges.get(next).map(|range| range.start.max(at))
    }

    /// `len` bytes at `addr`, with zeros where nothing is: a page that was never touched reads
    /// as zeros in the target too (but see [`Self::is_absent`]). `None` when nothing at all is there.
    pub fn zeroed<'a>(
        &'a self,
        addr: RemoteAddr,
        len: usize,
        scratch: &'a mut Vec<u8>,
    ) -> Option<&'a [u8]> {
        let whole = self.tail(addr);
        if whole.len() >= len {
            return whole.get(..len);
        }
        scratch.clear();
        scratch.resize(len, 0);
        let mut any = false;
        let mut at = 0;
        while at < len {
            let here = addr.0.wrapping_add(at as u64);
            let tail = self.tail(RemoteAddr(here));
            let step = if tail.is_empty() {
                (PAGE_BYTES - here % PAGE_BYTES) as usize
            } else {
                let step = tail.len().min(len - at);
                scratch[at..at + step].copy_from_slice(&tail[..step]);
                any = true;
                step
            };
            at += step;
        }
        any.then_some(&scratch[..])
    }

    /// How many of the bytes from `start` to `end` are here.
    #[must_use]
    pub fn resident(&self, start: u64, end: u64) -> u64 {
        let first = self.ranges.partition_point(|range| range.end() <= start);
        let ranges = self.ranges[first..].iter();
        ranges
            .take_while(|range| range.start < end)
            .map(|range| range.end().min(end).saturating_sub(range.start.max(start)))
            .sum()
    }
}

impl<B: AsRef<[u8]>> Lookup for Space<B> {
    #[inline]
    fn bytes(&self, addr: RemoteAddr, len: usize) -> Option<&[u8]> {
        if let Some(bytes) = self.tail(addr).get(..len) {
            return Some(bytes);
        }
        let (start, piece) = self.small.range(..=addr.0).next_back()?;
        let from = usize::try_from(addr.0 - start).ok()?;
        piece.get(from..from.checked_add(len)?)
    }
}

impl Space<Vec<u8>> {
    /// Takes over memory that was copied anew, in place of what was here and beside it. What is
    /// new is a piece of its own, so nothing is found that lies across its borders.
    pub fn put(&mut self, addr: RemoteAddr, new: &[u8]) {
        let end = addr.0.saturating_add(new.len() as u64);
        let part = |from: u64, to: u64| &new[(from - addr.0) as usize..(to - addr.0) as usize];
        let mut gaps = Vec::new();
        let mut from = addr.0;
        let first = self.ranges.partition_point(|range| range.end() <= addr.0);
        for range in self.ranges[first..].iter().take_while(|r| r.start < end) {
            if from < range.start {
                gaps.push((from, range.start));
                from = range.start;
            }
            let to = range.end().min(end);
            let at = (range.at + (from - range.start)) as usize;
            self.bytes[at..at + (to - from) as usize].copy_from_slice(part(from, to));
            from = to;
        }
        if from < end {
            gaps.push((from, end));
        }
        for (from, to) in gaps {
            let range = Range {
                start: from,
                len: to - from,
                at: self.bytes.len() as u64,
            };
            self.bytes.extend_from_slice(part(from, to));
            let place = self.ranges.partition_point(|other| other.start < from);
            self.ranges.insert(place, range);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space() -> Space<Vec<u8>> {
        let bytes: Vec<u8> = (0..32).collect();
        let range = |start, len, at| Range { start, len, at };
        Space::new(vec![range(0x1000, 16, 0), range(0x3000, 16, 16)], bytes).unwrap()
    }

    #[test]
    fn looks_up_within_a_piece_only() {
        let mut space = space();
        assert_eq!(space.bytes(RemoteAddr(0x3004), 2), Some(&[20, 21][..]));
        assert_eq!(space.bytes(RemoteAddr(0x100e), 4), None);
        assert_eq!(space.bytes(RemoteAddr(0xfff), 1), None);
        space.add(RemoteAddr(0x9000), Box::new([7, 8, 9]));
        assert_eq!(space.bytes(RemoteAddr(0x9001), 2), Some(&[8, 9][..]));
        assert_eq!(space.bytes(RemoteAddr(0x9001), 3), None);
    }

    #[test]
    fn memory_that_is_not_there_reads_as_zeros() {
        let space = space();
        let mut scratch = Vec::new();
        let bytes = space.zeroed(RemoteAddr(0x100e), 4, &mut scratch).unwrap();
        assert_eq!(bytes, [14, 15, 0, 0]);
        assert!(space.zeroed(RemoteAddr(0x5000), 4, &mut scratch).is_none());
        assert_eq!(space.resident(0x1008, 0x3004), 12);
    }

    #[test]
    fn new_memory_replaces_the_old_and_fills_gaps() {
        let mut space = space();
        let new: Vec<u8> = (100..=255).cycle().take(0x2010).collect();
        space.put(RemoteAddr(0x1008), &new);
        assert_eq!(
            space.bytes(RemoteAddr(0x1004), 8),
            Some(&[4, 5, 6, 7, 100, 101, 102, 103][..])
        );
        assert_eq!(space.bytes(RemoteAddr(0x1010), 1), Some(&[108][..]));
        for (addr, byte) in (0x1008_u64..).zip(&new) {
            assert_eq!(
                space.bytes(RemoteAddr(addr), 1),
                Some(&[*byte][..]),
                "{addr:#x}"
            );
        }
        assert_eq!(space.ranges().len(), 4);
        assert_eq!(space.resident(0, u64::MAX), 0x3018 - 0x1000);
        assert_eq!(space.len_bytes(), 0x3018 - 0x1000);
    }

    #[test]
    fn what_is_absent_is_not_zeros() {
        let mut space = space();
        space.set_absent(vec![(0x5000, 0x6000), (0x8000, 0x9000)]);
        for (start, end, absent) in [
            (0x1000, 0x5000, false),
            (0x4fff, 0x5001, true),
            (0x6000, 0x8000, false),
            (0x8fff, 0x9000, true),
            (0x9000, u64::MAX, false),
        ] {
            assert_eq!(space.is_absent(start, end), absent, "{start:#x}");
        }
    }

    #[test]
    fn pieces_that_overlap_or_are_not_stored_are_refused() {
        let range = |start, len, at| Range { start, len, at };
        for ranges in [
            vec![range(0, 8, 0), range(4, 8, 8)],
            vec![range(0, 8, 30)],
            vec![range(u64::MAX - 3, 8, 0)],
            vec![range(0, 8, u64::MAX)],
        ] {
            assert!(Space::new(ranges, vec![0; 32]).is_err());
        }
    }
}
