//! The data stack of one thread: its chain of chunks, newest first (3.11+).
//!
//! Two layouts exist and are told apart by validation, never by version:
//! * *linked*: `previous, size, top, data` (`_PyStackChunk`, `Include/cpython/pystate.h`, 3.11 –
//!   3.15), at least 16 KiB. `top` counts used slots and is written only when the next chunk is
//!   pushed; for the current chunk it is stale and `datastack_top` counts.
//! * *array*: `size, previous, data` (python/cpython#148681), at least 4 KiB. No `top`; frames
//!   pushed before a resize stay where they are, so an older chunk holds the lower part of the
//!   stack and the newer one begins with a hole as long as the stack was.
//!
//! A detached spare chunk (`datastack_cached_chunk`, late 3.13 and newer) is not on the chain
//! and is never looked at.

use crate::memory::{Lookup, RemoteAddr, u64_at};

/// Which of the two layouts a chain has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkKind {
    /// `previous, size, top, data`.
    Linked,
    /// `size, previous, data`.
    Array,
}

impl ChunkKind {
    /// Bytes before the first slot.
    #[must_use]
    pub fn header_bytes(self) -> u64 {
        match self {
            Self::Linked => 24,
            Self::Array => 16,
        }
    }

    fn min_size(self) -> u64 {
        match self {
            Self::Linked => 16 << 10,
            Self::Array => 4096,
        }
    }
}

/// All that a header can need; the first data slot follows in the array layout.
pub const HEADER_BYTES: usize = 24;
const PAGE: u64 = 4096;
/// A chunk is doubled until one frame fits (`push_chunk`, `Python/pystate.c`); no frame has
/// millions of slots.
const MAX_CHUNK_BYTES: u64 = 128 << 20;
/// A limit that is further away is that of another chunk, or the chunk's own is not needed.
const NEAR_BYTES: u64 = 1 << 20;
/// More chunks than a recursion limit of a hundred million needs.
const MAX_CHUNKS: usize = 1 << 16;

/// One chunk of a validated chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Where it begins, header included.
    pub addr: RemoteAddr,
    /// Its whole length in bytes.
    pub size: u64,
    /// First byte behind the slots in use; for an older chunk of the array layout, which does
    /// not know it, the end of the chunk.
    pub live_end: RemoteAddr,
    /// Its layout, the same in the whole chain.
    pub kind: ChunkKind,
}

impl Chunk {
    /// Whether `len` bytes at `addr` lie in its live slots.
    #[must_use]
    pub fn holds(&self, addr: RemoteAddr, len: u64) -> bool {
        addr.0 >= self.addr.0 + self.kind.header_bytes()
            && addr
                .0
                .checked_add(len)
                .is_some_and(|end| end <= self.live_end.0)
    }

    /// Whether `addr` lies in it, in use or not: a frame that was popped while it was read
    /// stands above the live slots.
    #[must_use]
    pub fn spans(&self, addr: RemoteAddr) -> bool {
        addr.0
            .checked_sub(self.addr.0)
            .is_some_and(|offset| offset < self.size)
    }
}

/// Why a chain is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChunkError {
    /// A link that no chunk can have.
    #[error("a chunk link points to {0}")]
    Link(RemoteAddr),
    /// The first two words fit neither layout.
    #[error("the chunk at {addr} begins with {first:#x}, {second:#x}: no layout has that")]
    Header {
        /// Where the chunk is.
        addr: RemoteAddr,
        /// First word.
        first: u64,
        /// Second word.
        second: u64,
    },
    /// `datastack_top`, `datastack_limit` or `top` do not lie in their chunk.
    #[error("the top {top} does not lie in the chunk at {addr} of {size} bytes")]
    Top {
        /// Where the chunk is.
        addr: RemoteAddr,
        /// Its size.
        size: u64,
        /// The top that was found.
        top: RemoteAddr,
    },
    /// The chain comes back to a chunk that it had.
    #[error("the chunk at {0} is linked twice")]
    Cycle(RemoteAddr),
    /// The chain does not end.
    #[error("more than {MAX_CHUNKS} chunks")]
    TooMany,
}

/// How looking at a chain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainEnd {
    /// Every chunk down to the first is known.
    Complete,
    /// The header of this chunk is not in the snapshot.
    Miss(RemoteAddr),
    /// The chain is broken; the chunks before the break are good.
    Broken(ChunkError),
}

/// What the thread state says about its data stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataStackState {
    /// `datastack_chunk`.
    pub chunk: RemoteAddr,
    /// `datastack_top`.
    pub top: RemoteAddr,
    /// `datastack_limit`. While a chunk is given back to the kernel it still is that chunk's, and
    /// `chunk` and `top` are of the one before (`_PyThreadState_PopFrame`, `Python/pystate.c`, up to
    /// 3.13).
    pub limit: RemoteAddr,
}

impl DataStackState {
    /// The end of the chunk, as far as this tells without its header.
    pub(crate) fn end(&self) -> RemoteAddr {
        let near = |limit: &RemoteAddr| {
            let size = limit.offset_from(self.chunk);
            *limit >= self.top && size.is_some_and(|size| size <= NEAR_BYTES)
        };
        let of_page = RemoteAddr(self.top.0.saturating_add(PAGE - 1) & !(PAGE - 1));
        Some(self.limit).filter(near).unwrap_or(of_page)
    }

    /// Whether an address lies in the chunk, in use or not.
    pub(crate) fn spans(&self, addr: RemoteAddr) -> bool {
        addr >= self.chunk && addr < self.end()
    }
}

/// Follows the chain from the newest chunk and leaves what is good in `chunks`.
pub fn chain<L: Lookup>(view: &L, state: DataStackState, chunks: &mut Vec<Chunk>) -> ChainEnd {
    chunks.clear();
    let mut addr = state.chunk;
    // Brent: the chain is compared with a chunk that moves on at powers of two.
    let mut anchor = RemoteAddr::NULL;
    let mut next_anchor = 1;
    while !addr.is_null() {
        if !addr.is_plausible_pointer() {
            return ChainEnd::Broken(ChunkError::Link(addr));
        }
        if addr == anchor {
            return ChainEnd::Broken(ChunkError::Cycle(addr));
        }
        if chunks.len() == next_anchor {
            anchor = addr;
            next_anchor *= 2;
        }
        if chunks.len() >= MAX_CHUNKS {
            return ChainEnd::Broken(ChunkError::TooMany);
        }
        let Some(header) = view.bytes(addr, HEADER_BYTES) else {
            return ChainEnd::Miss(addr);
        };
        let words = [0, 8, 16].map(|offset| u64_at(header, offset).unwrap_or_default());
        let result = match chunks.first() {
            None => newest(addr, words, state),
            Some(newest) => older(addr, words, newest.kind),
        };
        match result {
            Ok((chunk, previous)) => {
                chunks.push(chunk);
                addr = previous;
            }
            Err(error) => return ChainEnd::Broken(error),
        }
    }
    ChainEnd::Complete
}

/// The newest chunk decides the layout: it is the one whose size also bounds `datastack_limit`.
fn newest(
    addr: RemoteAddr,
    words: [u64; 3],
    state: DataStackState,
) -> Result<(Chunk, RemoteAddr), ChunkError> {
    let mut wrong_top = None;
    let mut left = None;
    for kind in [ChunkKind::Linked, ChunkKind::Array] {
        let Some((size, previous)) = split(words, kind) else {
            continue;
        };
        let (start, end) = (addr.0 + kind.header_bytes(), addr.0.saturating_add(size));
        let fits = |a: RemoteAddr| a.0 >= start && a.0 <= end && a.0.is_multiple_of(8);
        let chunk = Chunk {
            addr,
            size,
            live_end: state.top,
            kind,
        };
        if fits(state.top) && fits(state.limit) && state.top <= state.limit {
            return Ok((chunk, previous));
        }
        let limit = state.limit;
        let elsewhere =
            !fits(limit) && limit.is_plausible_pointer() && limit.0.is_multiple_of(PAGE);
        if kind == ChunkKind::Linked && fits(state.top) && elsewhere {
            left = Some((chunk, previous));
        }
        wrong_top = Some(ChunkError::Top {
            addr,
            size,
            top: state.top,
        });
    }
    if let Some(found) = left {
        return Ok(found);
    }
    let [first, second, _] = words;
    Err(wrong_top.unwrap_or(ChunkError::Header {
        addr,
        first,
        second,
    }))
}

fn older(
    addr: RemoteAddr,
    words: [u64; 3],
    kind: ChunkKind,
) -> Result<(Chunk, RemoteAddr), ChunkError> {
    let [first, second, used] = words;
    let (size, previous) = split(words, kind).ok_or(ChunkError::Header {
        addr,
        first,
        second,
    })?;
    let end = addr.0.saturating_add(size);
    let live_end = match kind {
        ChunkKind::Array => end,
        ChunkKind::Linked => used
            .checked_mul(8)
            .and_then(|bytes| bytes.checked_add(addr.0 + kind.header_bytes()))
            .filter(|top| *top <= end)
            .ok_or(ChunkError::Top {
                addr,
                size,
                top: RemoteAddr(used),
            })?,
    };
    Ok((
        Chunk {
            addr,
            size,
            live_end: RemoteAddr(live_end),
            kind,
        },
        previous,
    ))
}

/// Size and link of a header, if it can be one of this layout.
fn split(words: [u64; 3], kind: ChunkKind) -> Option<(u64, RemoteAddr)> {
    let (size, previous) = match kind {
        ChunkKind::Linked => (words[1], words[0]),
        ChunkKind::Array => (words[0], words[1]),
    };
    let previous = RemoteAddr(previous);
    // Chunks of the linked layout come from the arena allocator and are page-aligned; the
    // array's come from any allocator.
    let aligned = match kind {
        ChunkKind::Linked => previous.0.is_multiple_of(PAGE),
        ChunkKind::Array => true,
    };
    let link = previous.is_null() || (previous.is_plausible_pointer() && aligned);
    let sized = size.is_multiple_of(PAGE) && (kind.min_size()..=MAX_CHUNK_BYTES).contains(&size);
    (link && sized).then_some((size, previous))
}

#[cfg(test)]
mod tests;
