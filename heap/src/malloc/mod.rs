//! glibc's malloc by the headers of its chunks (`malloc/malloc.c`): the `brk` heap, the heaps of
//! thread arenas, and chunks that have a mapping of their own.
//!
//! A heap is walked from chunk to chunk and must end at its end, so nothing of a version's
//! arena structures needs to be known. Chunks in thread caches look as if they were in use; they are
//! told by the key that the cache writes into them (2.29+) and the link before it.
//! Chunks in fast bins have no key, and only a link where their user had its first word.

mod cached;
mod heap;

use onlooker_unwinder::memory::{Lookup, RemoteAddr};

use crate::pymalloc::Arena;
use crate::space::{PAGE_BYTES, Space};
pub use cached::may_be_in_fast_bin;
use heap::{Walked, thread_heap};

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
    /// How far the chunks lead. What is behind is not counted.
    pub walked_end: u64,
    /// Whether they lead to the end.
    pub closed: bool,
}

impl Heap {
    /// Bytes that no chunk was found in.
    #[must_use]
    pub fn unwalked_bytes(&self) -> u64 {
        if self.closed {
            0
        } else {
            self.end.saturating_sub(self.walked_end)
        }
    }
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Malloc {
    /// Chunks that have a mapping of their own.
    mapped: Vec<Chunk>,
    heaps: Vec<Walked>,
}

impl Malloc {
    /// Walks all regions, which must be in order; pymalloc's arenas in them are passed over.
    #[must_use]
    pub fn walk<B: AsRef<[u8]>>(space: &Space<B>, regions: &[Region], arenas: &[Arena]) -> Self {
        let mut this = Self::default();
        for region in regions {
            if region.is_brk {
                let walked = Walked::new(space, region.start, region.end, true);
                this.heaps.push(walked);
            } else {
                this.region(space, region, arenas);
            }
        }
        this
    }

    fn region<B: AsRef<[u8]>>(&mut self, space: &Space<B>, region: &Region, arenas: &[Arena]) {
        let mut at = region.start;
        while at < region.end {
            let next = arenas.partition_point(|arena| arena.end() <= at);
            if let Some(arena) = arenas.get(next).filter(|arena| arena.start <= at) {
                at = arena.end();
            } else if let Some(end) = thread_heap(space, at) {
                self.heaps.push(Walked::new(space, at, end, false));
                at = end;
            } else if let Some(chunk) = mapped_chunk(space, at, region.end) {
                self.mapped.push(chunk);
                at = at.saturating_add(chunk.bytes);
            } else {
                let next = space.next_present(at.saturating_add(PAGE_BYTES));
                at = next.unwrap_or(u64::MAX);
            }
        }
    }

    /// Where the `brk` heap ends, as far as it was seen to grow.
    #[must_use]
    pub fn brk_end(&self) -> Option<u64> {
        let heaps = self.heaps.iter().filter(|heap| heap.is_brk);
        heaps.map(|heap| heap.end.max(heap.at)).max()
    }

    /// What is worth to be copied again: address and length. A heap that leads into memory that is
    /// swapped out or was left out wants nothing, for that does not come.
    #[must_use]
    pub fn wanted<B: AsRef<[u8]>>(&self, space: &Space<B>) -> Vec<(RemoteAddr, u64)> {
        let heaps = self.heaps.iter();
        heaps
            .filter(|heap| !heap.closed && !heap.is_absent(space))
            .flat_map(Walked::wanted)
            .collect()
    }

    /// Goes on where a heap did not close. `brk` is where the `brk` heap lies by now.
    pub fn again<B: AsRef<[u8]>>(&mut self, space: &Space<B>, brk: Option<(u64, u64)>) {
        for heap in self.heaps.iter_mut().filter(|heap| !heap.closed) {
            let end = if heap.is_brk {
                brk.filter(|(start, _)| *start == heap.start)
                    .map(|(_, end)| end)
            } else {
                thread_heap(space, heap.start)
            };
            heap.again(space, end.unwrap_or(heap.end));
        }
    }

    /// All chunks by address, those in thread caches marked as free, and the heaps that they are of.
    #[must_use]
    pub fn finish<B: AsRef<[u8]>>(self, space: &Space<B>) -> (Vec<Chunk>, Vec<Heap>) {
        let mut chunks = self.mapped;
        let mut heaps = Vec::with_capacity(self.heaps.len());
        for walked in self.heaps {
            heaps.push(Heap {
                start: walked.start,
                end: walked.end.max(walked.at),
                walked_end: walked.at,
                closed: walked.closed,
            });
            chunks.extend(walked.chunks);
        }
        chunks.sort_unstable_by_key(|chunk| chunk.addr.0);
        // Of two that overlap neither may be one; they come from memory of several instants.
        chunks.dedup_by(|next, chunk| next.addr.0 - chunk.addr.0 < chunk.bytes);
        cached::mark(space, &mut chunks);
        (chunks, heaps)
    }
}

fn header<B: AsRef<[u8]>>(space: &Space<B>, at: u64) -> Option<(u64, u64)> {
    let word = space.u64(RemoteAddr(at.checked_add(8)?))?;
    Some((word & !FLAGS, word & FLAGS))
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
