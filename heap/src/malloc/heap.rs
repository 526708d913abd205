//! One heap, walked from chunk to chunk.
//!
//! A heap that changes while it is copied breaks the chain somewhere: a chunk that was split or
//! merged has another size than its neighbour was copied for. The walk keeps what it has, asks for
//! some memory around the break, and goes on from a chunk before it.

use onlooker_unwinder::memory::{Lookup, RemoteAddr};

use super::{ALIGNMENT, Chunk, HEADER_BYTES, IS_MMAPPED, MAX_FIRST_OFFSET, PREV_INUSE, header};
use super::{SMALLEST_BYTES, THREAD_HEAP_BYTES};
use crate::space::{PAGE_BYTES, Space};

/// Bytes behind a break that are copied again, and chunks before it; more if that did not help.
const BEHIND_BYTES: u64 = 64 << 10;
const BEFORE_CHUNKS: usize = 16;
const MOST_BEFORE: usize = 16 << 10;
/// More than `brk` moves while a heap is copied.
const MAX_GROWTH: u64 = 1 << 30;
/// So many chunks in a row are no accident.
const SURE_CHUNKS: usize = 1024;

/// A heap and the chunks of it that were met.
#[derive(Clone, Debug)]
pub(super) struct Walked {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) is_brk: bool,
    pub(super) chunks: Vec<Chunk>,
    /// Where the next chunk begins, or should.
    pub(super) at: u64,
    pub(super) closed: bool,
    /// Where the walk stopped the time before, and how many chunks are given up for another try.
    stuck_at: u64,
    before: usize,
}

impl Walked {
    /// Walks from the first place from which chunks lead to the end, or else farthest.
    pub(super) fn new<B: AsRef<[u8]>>(
        space: &Space<B>,
        start: u64,
        end: u64,
        is_brk: bool,
    ) -> Self {
        let mut best = Self {
            start,
            end,
            is_brk,
            chunks: Vec::new(),
            at: start,
            closed: false,
            stuck_at: 0,
            before: BEFORE_CHUNKS,
        };
        // A thread arena's heap begins with a header.
        let skip = if is_brk { 0 } else { ALIGNMENT };
        for offset in (skip..=MAX_FIRST_OFFSET).step_by(ALIGNMENT as usize) {
            let mut walked = Self {
                chunks: Vec::new(),
                at: start + offset,
                ..best
            };
            walked.go_on(space);
            // The farthest of those that have more than one chunk: any word may look like one.
            if walked.closed || (walked.chunks.len() > 1 && walked.at > best.at) {
                best = walked;
            }
            if best.closed || best.chunks.len() > SURE_CHUNKS {
                break;
            }
        }
        best
    }

    /// Follows the chain as far as it leads.
    fn go_on<B: AsRef<[u8]>>(&mut self, space: &Space<B>) {
        while self.at < self.end {
            let Some((size, flags)) = header(space, self.at) else {
                return;
            };
            if let Some(last) = self.chunks.last_mut() {
                last.in_use = flags & PREV_INUSE != 0;
            }
            let left = self.end - self.at;
            // What is left of a heap that its arena has left behind ends in a chunk of no size.
            if size == 0 && left <= 2 * SMALLEST_BYTES && !self.chunks.is_empty() {
                self.closed = true;
                return;
            }
            let next = self.at.saturating_add(size);
            // `brk` moved after the mappings were listed: the last chunk, which malloc has not
            // given out yet, ends with a page behind what was known as the end.
            let is_top = self.is_brk
                && next.is_multiple_of(PAGE_BYTES)
                && size <= left.saturating_add(MAX_GROWTH);
            let sane = size >= HEADER_BYTES
                && size.is_multiple_of(ALIGNMENT)
                && flags & IS_MMAPPED == 0
                && (size <= left || is_top);
            if !sane {
                return;
            }
            self.chunks.push(Chunk {
                addr: RemoteAddr(self.at + HEADER_BYTES),
                bytes: size,
                // The last one is the top.
                in_use: false,
            });
            self.at = next;
        }
        self.closed = !self.chunks.is_empty();
    }

    /// Whether the walk waits for memory that was left out or is swapped: it will not come.
    pub(super) fn is_absent<B: AsRef<[u8]>>(&self, space: &Space<B>) -> bool {
        space.is_absent(self.at, self.at.saturating_add(HEADER_BYTES))
    }

    /// What is worth to be copied again.
    pub(super) fn wanted(&self) -> impl Iterator<Item = (RemoteAddr, u64)> {
        let from = self.resume_at();
        let to = self.at.saturating_add(BEHIND_BYTES);
        // Behind a header with its size, where it is no `brk` heap.
        let head = (!self.is_brk).then_some((RemoteAddr(self.start), PAGE_BYTES));
        head.into_iter()
            .chain([(RemoteAddr(from), to.saturating_sub(from))])
    }

    /// The chunk from which the walk goes on after that.
    fn resume_at(&self) -> u64 {
        let kept = self.chunks.len().saturating_sub(self.before);
        self.chunks
            .get(kept)
            .map_or(self.start, |chunk| chunk.addr.0 - HEADER_BYTES)
    }

    /// Goes on after what it wanted was copied again. `end` is where the heap ends by now.
    pub(super) fn again<B: AsRef<[u8]>>(&mut self, space: &Space<B>, end: u64) {
        self.end = end;
        if self.chunks.len() <= self.before {
            let before = self.before;
            *self = Self::new(space, self.start, end, self.is_brk);
            self.before = before;
        } else {
            self.at = self.resume_at();
            self.chunks.truncate(self.chunks.len() - self.before);
            self.go_on(space);
        }
        // The chunks before the break may be gone too.
        let is_stuck = self.at <= self.stuck_at;
        self.before = if is_stuck {
            (2 * self.before).min(MOST_BEFORE)
        } else {
            BEFORE_CHUNKS
        };
        self.stuck_at = self.stuck_at.max(self.at);
    }
}

/// The end of a thread arena's heap that begins at `at`: `heap_info` has a pointer to the arena,
/// which lies just behind the first heap's, the previous heap, and the size.
pub(super) fn thread_heap<B: AsRef<[u8]>>(space: &Space<B>, at: u64) -> Option<u64> {
    if !at.is_multiple_of(THREAD_HEAP_BYTES) {
        return None;
    }
    let word = |offset| space.u64(RemoteAddr(at.checked_add(offset)?));
    let (arena, previous, size) = (word(0)?, word(8)?, word(16)?);
    let behind = arena % THREAD_HEAP_BYTES;
    let first = arena - behind == at;
    let sane = (16..MAX_FIRST_OFFSET).contains(&behind)
        && first == (previous == 0)
        && previous.is_multiple_of(THREAD_HEAP_BYTES)
        && size.is_multiple_of(PAGE_BYTES)
        && (PAGE_BYTES..=THREAD_HEAP_BYTES).contains(&size);
    if sane { at.checked_add(size) } else { None }
}
