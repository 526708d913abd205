//! glibc's malloc by the headers of its chunks (`malloc/malloc.c`): the `brk` heap, the heaps of
//! thread arenas, and chunks that have a mapping of their own.
//!
//! A heap is walked from chunk to chunk and must end exactly at its end, so nothing of a version's
//! arena structures needs to be known. Chunks in thread caches look as if they were in use; they are
//! told by the key that the cache writes into them (2.29+) and the mangled link before it (2.32+).
//! Chunks in fast bins have no key, and only a link where their user had its first word.

use onlooker_unwinder::memory::{Lookup, RemoteAddr};
use rustc_hash::FxHashMap;

use crate::pymalloc::Arena;
use crate::space::{PAGE_BYTES, Space};

const PREV_INUSE: u64 = 1;
const IS_MMAPPED: u64 = 2;
const FLAGS: u64 = 7;
/// Header of a chunk: its predecessor's size, its own size and flags.
const HEADER_BYTES: u64 = 16;
const ALIGNMENT: u64 = 16;
const SMALLEST_BYTES: u64 = 32;
/// `HEAP_MAX_SIZE`: heaps of thread arenas are aligned to it.
const THREAD_HEAP_BYTES: u64 = 64 << 20;
/// The first chunk of a heap lies behind `heap_info` and `malloc_state`, which differ by version.
const MAX_FIRST_OFFSET: u64 = 0xa00;
/// `tcache` keeps chunks of at most this size (more from 2.42 on, where asked to).
const LARGEST_CACHED_BYTES: u64 = 0x410;
/// Fast bins do.
const LARGEST_FAST_BYTES: u64 = 0x80;

/// One chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// What `malloc` returned.
    pub addr: RemoteAddr,
    /// Its size with its header; one of its own mapping has whole pages.
    pub bytes: u64,
    /// Whether it is in use, as far as its neighbours and the thread caches tell.
    pub in_use: bool,
}

/// A piece of memory where malloc may have chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// First address.
    pub start: u64,
    /// Address after the last one.
    pub end: u64,
    /// Whether it is the `brk` heap.
    pub is_brk: bool,
}

/// A heap whose chunks were walked, or were to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heap {
    /// First address.
    pub start: u64,
    /// Address after the last one.
    pub end: u64,
    /// Whether the walk came exactly to its end. If not, its chunks are not counted.
    pub closed: bool,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Malloc {
    /// By address.
    pub chunks: Vec<Chunk>,
    /// Heaps with many chunks.
    pub heaps: Vec<Heap>,
}

impl Malloc {
    /// Walks all regions, which must be in order; pymalloc's arenas in them are passed over.
    #[must_use]
    pub fn walk<B: AsRef<[u8]>>(space: &Space<B>, regions: &[Region], arenas: &[Arena]) -> Self {
        let mut this = Self::default();
        for region in regions {
            if region.is_brk {
                this.heap(space, region.start, region.end, 0);
            } else {
                this.region(space, region, arenas);
            }
        }
        this.chunks.sort_unstable_by_key(|chunk| chunk.addr.0);
        this.mark_cached(space);
        this
    }

    fn region<B: AsRef<[u8]>>(&mut self, space: &Space<B>, region: &Region, arenas: &[Arena]) {
        let mut at = region.start;
        while at < region.end {
            let next = arenas.partition_point(|arena| arena.end() <= at);
            if let Some(arena) = arenas.get(next).filter(|arena| arena.start <= at) {
                at = arena.end();
            } else if let Some(end) = thread_heap(space, at, region.end) {
                self.heap(space, at, end, ALIGNMENT);
                at = end;
            } else if let Some(chunk) = mapped_chunk(space, at, region.end) {
                self.chunks.push(chunk);
                at = at.saturating_add(chunk.bytes);
            } else {
                at = next_present(space, at + PAGE_BYTES);
            }
        }
    }

    /// The chunks of a heap, from the first place from which they lead to its end.
    fn heap<B: AsRef<[u8]>>(&mut self, space: &Space<B>, start: u64, end: u64, skip: u64) {
        let before = self.chunks.len();
        let closed = (skip..=MAX_FIRST_OFFSET)
            .step_by(ALIGNMENT as usize)
            .any(|offset| {
                self.chunks.truncate(before);
                chain(space, start + offset, end, &mut self.chunks)
            });
        if !closed {
            self.chunks.truncate(before);
        }
        self.heaps.push(Heap { start, end, closed });
    }

    /// Marks chunks that lie in a thread cache as free.
    fn mark_cached<B: AsRef<[u8]>>(&mut self, space: &Space<B>) {
        let starts = &self.chunks;
        let is_start = |addr: u64| starts.binary_search_by_key(&addr, |c| c.addr.0).is_ok();
        let mut keys: FxHashMap<u64, u32> = FxHashMap::default();
        let mut linked = Vec::new();
        for (index, chunk) in self.chunks.iter().enumerate() {
            if !chunk.in_use || chunk.bytes > LARGEST_CACHED_BYTES {
                continue;
            }
            let words = chunk.addr.offset(8).and_then(|second| {
                let first = space.u64(chunk.addr)?;
                Some((first, space.u64(second)?))
            });
            let Some((link, key)) = words else { continue };
            let next = link ^ (chunk.addr.0 >> 12);
            if next == 0 || is_start(next) {
                *keys.entry(key).or_default() += 1;
                linked.push((index, key));
            }
        }
        // One key for the whole process: the one that links go with most often.
        let key = keys
            .iter()
            .max_by_key(|(_, count)| **count)
            .map(|(k, _)| *k);
        for (index, its_key) in linked {
            let chunk = &mut self.chunks[index];
            if Some(its_key) == key {
                chunk.in_use = false;
            }
        }
    }
}

/// Whether a chunk in use may lie in a fast bin: its first word is a mangled link to another chunk.
#[must_use]
pub fn may_be_in_fast_bin(chunks: &[Chunk], chunk: &Chunk, first_word: u64) -> bool {
    let next = first_word ^ (chunk.addr.0 >> 12);
    chunk.bytes <= LARGEST_FAST_BYTES
        && (next == 0 || chunks.binary_search_by_key(&next, |c| c.addr.0).is_ok())
}

fn header<B: AsRef<[u8]>>(space: &Space<B>, at: u64) -> Option<(u64, u64)> {
    let word = space.u64(RemoteAddr(at.checked_add(8)?))?;
    Some((word & !FLAGS, word & FLAGS))
}

/// Chunks from `at` on; whether they end at `end`.
fn chain<B: AsRef<[u8]>>(space: &Space<B>, at: u64, end: u64, chunks: &mut Vec<Chunk>) -> bool {
    let mut at = at;
    let mut open = false;
    while at < end {
        let Some((size, flags)) = header(space, at) else {
            return false;
        };
        if open && let Some(last) = chunks.last_mut() {
            last.in_use = flags & PREV_INUSE != 0;
        }
        // What is left of a heap that its arena has left behind ends in a chunk of no size.
        if size == 0 && end - at <= 2 * SMALLEST_BYTES && open {
            return true;
        }
        let sane = size >= HEADER_BYTES
            && size.is_multiple_of(ALIGNMENT)
            && size <= end - at
            && flags & IS_MMAPPED == 0;
        if !sane {
            return false;
        }
        chunks.push(Chunk {
            addr: RemoteAddr(at + HEADER_BYTES),
            bytes: size,
            // The last one is the top: what malloc has not given out yet.
            in_use: false,
        });
        open = true;
        at += size;
    }
    open
}

/// The end of a thread arena's heap that begins at `at`: `heap_info` has a pointer to the arena,
/// which lies just behind the first heap's, the previous heap, and the size.
fn thread_heap<B: AsRef<[u8]>>(space: &Space<B>, at: u64, limit: u64) -> Option<u64> {
    if !at.is_multiple_of(THREAD_HEAP_BYTES) {
        return None;
    }
    let word = |offset| space.u64(RemoteAddr(at + offset));
    let (arena, previous, size) = (word(0)?, word(8)?, word(16)?);
    let behind = arena % THREAD_HEAP_BYTES;
    let first = arena - behind == at;
    let sane = (16..MAX_FIRST_OFFSET).contains(&behind)
        && first == (previous == 0)
        && previous.is_multiple_of(THREAD_HEAP_BYTES)
        && size.is_multiple_of(PAGE_BYTES)
        && (PAGE_BYTES..=THREAD_HEAP_BYTES).contains(&size)
        && at + size <= limit;
    sane.then_some(at + size)
}

/// A chunk with a mapping of its own that begins at `at`. Its size is that of the mapping, up to
/// glibc 2.41; newer ones leave out the header of a next chunk, which there is none of (seen in 2.43).
fn mapped_chunk<B: AsRef<[u8]>>(space: &Space<B>, at: u64, limit: u64) -> Option<Chunk> {
    let before = space.u64(RemoteAddr(at))?;
    let (size, flags) = header(space, at)?;
    let bytes = size.checked_next_multiple_of(PAGE_BYTES)?;
    let sane = before == 0
        && flags == IS_MMAPPED
        && bytes >= PAGE_BYTES
        && (bytes == size || bytes - size == HEADER_BYTES)
        && bytes <= limit - at;
    sane.then_some(Chunk {
        addr: RemoteAddr(at + HEADER_BYTES),
        bytes,
        in_use: true,
    })
}

/// The first page from `at` on of which something is here.
fn next_present<B: AsRef<[u8]>>(space: &Space<B>, at: u64) -> u64 {
    let ranges = space.ranges();
    let next = ranges.partition_point(|range| range.end() <= at);
    ranges
        .get(next)
        .map_or(u64::MAX, |range| range.start.max(at))
}
