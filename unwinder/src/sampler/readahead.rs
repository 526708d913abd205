//! How much more to read around a miss.
//!
//! Chunks of a deep stack lie side by side, the newest lowest, so a cold read goes on past the
//! newest chunk and finds most of the chain at once. Generators and frame objects come from
//! the same pools, so the page around one often holds the next. Read-ahead stays inside the
//! anonymous mapping of the address that was missed.

use crate::memory::RemoteAddr;

const PAGE: u64 = 4096;
/// `DATA_STACK_CHUNK_SIZE` (Include/internal/pycore_pystate.h, 3.11 – 3.15).
const CHUNK_BYTES: u64 = 16 << 10;
/// What is known to be enough for a thousand ordinary frames, and small enough for the budget
/// of a cold read (live bytes plus 192 KiB) when only one chunk is used.
const FIRST_CHUNKS_BYTES: u64 = 168 << 10;
/// Guess for a frame before any was seen.
const FRAME_BYTES_GUESS: u64 = 200;
/// No single miss fetches more; longer pieces come in several rounds, so that a torn size
/// never decides how much is allocated.
pub(super) const MAX_FETCH_BYTES: u64 = 1 << 20;
/// Around a frame object of 3.8 – 3.10.
const OBJECT_WINDOW_BYTES: u64 = 16 << 10;
/// Around a frame outside of the chunks: first its page; where one leads to the next, the window
/// doubles with each that was missed (their pools lie in one arena).
const MAX_FRAME_WINDOW_BYTES: u64 = 64 << 10;

/// Private anonymous writable mappings of the target, by address.
#[derive(Clone, Debug, Default)]
pub struct Mappings {
    ranges: Vec<(u64, u64)>,
}

impl Mappings {
    /// From (start, end) pairs in any order. Those that touch become one: the kernel keeps
    /// neighbours apart that were faulted in apart, and the chunks of a stack are such.
    #[must_use]
    pub fn new(mut pairs: Vec<(u64, u64)>) -> Self {
        pairs.sort_unstable();
        let mut ranges: Vec<(u64, u64)> = Vec::with_capacity(pairs.len());
        for (start, end) in pairs {
            match ranges.last_mut() {
                Some(last) if start <= last.1 => last.1 = last.1.max(end),
                _ => ranges.push((start, end)),
            }
        }
        Self { ranges }
    }

    /// Whether one mapping holds all from `from` to `to`.
    pub(super) fn holds(&self, from: u64, to: u64) -> bool {
        let at = self.ranges.partition_point(|(start, _)| *start <= from);
        at.checked_sub(1).is_some_and(|i| to <= self.ranges[i].1)
    }

    /// The mapping that holds `addr`; its own page where none is known.
    fn around(&self, addr: RemoteAddr) -> (u64, u64) {
        let at = self.ranges.partition_point(|(start, _)| *start <= addr.0);
        match at.checked_sub(1).map(|i| self.ranges[i]) {
            Some((start, end)) if addr.0 < end => (start, end),
            _ => {
                let page = addr.0 & !(PAGE - 1);
                (page, page.saturating_add(PAGE))
            }
        }
    }
}

fn clip(from: u64, to: u64, need: (RemoteAddr, u64), mapping: (u64, u64)) -> (RemoteAddr, u32) {
    let need_end = need.0.0.saturating_add(need.1);
    let from = from.max(mapping.0).min(need.0.0);
    // What is needed may cross into a neighbouring mapping; what is ahead may not.
    let to = to.min(mapping.1).max(need_end);
    let len = to.saturating_sub(from).min(MAX_FETCH_BYTES.max(need.1));
    (RemoteAddr(from), u32::try_from(len).unwrap_or(u32::MAX))
}

/// The newest chunk of a thread of which nothing is known but a hint of its depth, and where
/// older ones lie if they lie beside it. Between the two are slots that no frame uses now.
pub(super) fn first_chunks(
    maps: &Mappings,
    addr: RemoteAddr,
    live: u64,
    depth: Option<u32>,
) -> ((RemoteAddr, u32), Option<(RemoteAddr, u32)>) {
    let guess = match depth {
        Some(depth) => u64::from(depth) * FRAME_BYTES_GUESS + CHUNK_BYTES,
        None => FIRST_CHUNKS_BYTES,
    };
    let mapping = maps.around(addr);
    let end = addr.0.saturating_add(guess.min(FIRST_CHUNKS_BYTES));
    let live_end = addr.0.saturating_add(live.max(PAGE));
    let older = addr.0.saturating_add(CHUNK_BYTES);
    if live_end >= older || end.min(mapping.1) <= older {
        let whole = clip(addr.0, end.max(live_end), (addr, PAGE), mapping);
        return (whole, None);
    }
    let newest = clip(addr.0, live_end, (addr, PAGE), mapping);
    let ahead = clip(older, end, (RemoteAddr(older), 0), mapping);
    (newest, Some(ahead))
}

/// The next run of older chunks, when `counted` frames took `counted_bytes` so far.
pub(super) fn next_chunks(
    maps: &Mappings,
    addr: RemoteAddr,
    depth: Option<u32>,
    counted: u64,
    counted_bytes: u64,
) -> (RemoteAddr, u32) {
    let per_frame = counted_bytes
        .checked_div(counted)
        .unwrap_or(FRAME_BYTES_GUESS)
        .max(80);
    let left = match depth {
        // A torn depth and a torn size may be anything: only the bound of one fetch counts.
        Some(depth) => u64::from(depth)
            .saturating_sub(counted)
            .saturating_mul(per_frame)
            .min(MAX_FETCH_BYTES),
        None => 48 << 10,
    };
    // Every chunk begins with a header and ends in a tail too short for one more frame.
    let tail = per_frame.min(CHUNK_BYTES);
    let len = left + (left / CHUNK_BYTES + 2) * tail;
    clip(
        addr.0,
        addr.0.saturating_add(len),
        (addr, PAGE),
        maps.around(addr),
    )
}

/// Live slots of a chunk whose header is known: all of them, at most [`MAX_FETCH_BYTES`] up to
/// the frame that was missed (a walk goes from high to low addresses).
pub(super) fn chunk_body(start: u64, live_end: u64, need: (RemoteAddr, u64)) -> (RemoteAddr, u32) {
    let need_end = need.0.0.saturating_add(need.1);
    let to = live_end
        .min(start.saturating_add(MAX_FETCH_BYTES))
        .max(need_end);
    let from = start.max(to.saturating_sub(MAX_FETCH_BYTES)).min(need.0.0);
    (
        RemoteAddr(from),
        u32::try_from(to - from).unwrap_or(u32::MAX),
    )
}

/// A frame outside the chunks that is none of the known ones: its neighbourhood, when `before`
/// such frames were missed in the same sample.
pub(super) fn frame_window(
    maps: &Mappings,
    need: (RemoteAddr, u64),
    before: u32,
) -> (RemoteAddr, u32) {
    let doubled = PAGE.checked_shl(before).unwrap_or(u64::MAX);
    aligned(maps, need, doubled.clamp(PAGE, MAX_FRAME_WINDOW_BYTES))
}

/// An entry frame above one that was seen: older ones lie higher on the C stack.
pub(super) fn entry_frames(
    maps: &Mappings,
    need: (RemoteAddr, u64),
    len: u64,
) -> (RemoteAddr, u32) {
    clip(
        need.0.0,
        need.0.0.saturating_add(len),
        need,
        maps.around(need.0),
    )
}

/// A frame object of 3.8 – 3.10: the pools around it.
pub(super) fn frame_objects(maps: &Mappings, need: (RemoteAddr, u64)) -> (RemoteAddr, u32) {
    aligned(maps, need, OBJECT_WINDOW_BYTES)
}

/// The window of so many bytes, a power of two, in which `need` begins.
fn aligned(maps: &Mappings, need: (RemoteAddr, u64), bytes: u64) -> (RemoteAddr, u32) {
    let start = need.0.0 & !(bytes - 1);
    clip(
        start,
        start.saturating_add(bytes),
        need,
        maps.around(need.0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_ahead_stays_in_the_mapping() {
        let maps = Mappings::new(vec![(0x9000, 0xb000), (0x1000, 0x5000)]);
        assert_eq!(
            first_chunks(&maps, RemoteAddr(0x2000), 0x100, Some(5000)),
            ((RemoteAddr(0x2000), 0x3000), None)
        );
        let need = (RemoteAddr(0x9010), 0x60);
        assert_eq!(frame_objects(&maps, need), (RemoteAddr(0x9000), 0x2000));
    }

    #[test]
    fn mappings_that_touch_are_one() {
        let maps = Mappings::new(vec![(0x2000, 0x6000), (0x1000, 0x2000), (0x7000, 0x8000)]);
        let need = (RemoteAddr(0x1000), 0x60);
        assert_eq!(
            entry_frames(&maps, need, 1 << 16),
            (RemoteAddr(0x1000), 0x5000)
        );
    }

    #[test]
    fn a_range_that_crosses_a_hole_is_in_no_mapping() {
        let maps = Mappings::new(vec![(0x1000, 0x2000), (0x3000, 0x5000)]);
        assert!(maps.holds(0x1000, 0x2000) && maps.holds(0x3008, 0x5000));
        assert!(!maps.holds(0x1800, 0x3800) && !maps.holds(0x3000, 0x5001));
        assert!(!maps.holds(0x800, 0x900));
    }

    #[test]
    fn an_unknown_mapping_is_one_page() {
        let maps = Mappings::default();
        let first = first_chunks(&maps, RemoteAddr(0x2000), 0x100, None);
        assert_eq!(first, ((RemoteAddr(0x2000), 0x1000), None));
    }

    #[test]
    fn unused_slots_of_the_newest_chunk_are_left_out() {
        let maps = Mappings::new(vec![(0x1000, 0x100_0000)]);
        let (newest, ahead) = first_chunks(&maps, RemoteAddr(0x4000), 0x1200, Some(5000));
        assert_eq!(newest, (RemoteAddr(0x4000), 0x1200));
        assert_eq!(ahead, Some((RemoteAddr(0x8000), 152 << 10)));
    }

    #[test]
    fn what_is_needed_is_always_inside() {
        let maps = Mappings::new(vec![(0x1000, 0x2000)]);
        for start in [0x1000_u64, 0x1fc0, 0x1ff8, 0x5000, u64::MAX - 200] {
            let need = (RemoteAddr(start), 88);
            for (addr, len) in [
                frame_window(&maps, need, 0),
                frame_window(&maps, need, 70),
                frame_objects(&maps, need),
                entry_frames(&maps, need, 4096),
                chunk_body(0x1000, 0x1008, need),
            ] {
                assert!(
                    addr.0 <= start && addr.0 + u64::from(len) >= start + 88,
                    "{start:#x}"
                );
            }
        }
    }

    #[test]
    fn no_size_that_was_read_decides_how_much_is_fetched() {
        let need = (RemoteAddr(0x10_0000), 88);
        let (_, len) = chunk_body(0x10_0000, 0x4000_0000, need);
        assert!(u64::from(len) <= MAX_FETCH_BYTES);
        let maps = Mappings::new(vec![(0, u64::MAX)]);
        let (_, len) = next_chunks(&maps, RemoteAddr(0x1000), Some(u32::MAX), 1, 1 << 40);
        assert!(u64::from(len) <= MAX_FETCH_BYTES);
    }
}
