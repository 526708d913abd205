//! Every block of pymalloc and every chunk of malloc, under one numbering, and what each is.

mod kinds;
mod marks;
mod order;
mod parts;
#[cfg(test)]
mod tests;

use onlooker_unwinder::memory::RemoteAddr;
use rustc_hash::FxHashMap;

use crate::malloc::Chunk;
use crate::pymalloc::{Geometry, POOL_HEADER_BYTES, Pymalloc};
pub use kinds::Use;
use marks::{FREE, Mark};
pub(crate) use order::Cursor;
pub(crate) use parts::Part;

/// No type.
pub(crate) const NO_TYPE: u32 = u32::MAX;

/// A block, its address and its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Block {
    /// Its number.
    pub index: u32,
    /// First byte that its user may use (before the header of the debug allocator).
    pub addr: RemoteAddr,
    /// Its size, what malloc itself keeps included.
    pub bytes: u64,
}

/// Pools without a gap between them.
#[derive(Clone, Copy, Debug)]
struct Run {
    start: u64,
    end: u64,
    /// Place of the first one among all pools.
    first: usize,
}

/// All blocks.
#[derive(Debug)]
pub struct Blocks {
    /// Arenas and pools.
    pub pymalloc: Pymalloc,
    /// The chunks of malloc, by address.
    pub chunks: Vec<Chunk>,
    pub(crate) geometry: Geometry,
    /// Number of the first block of each pool.
    first: Vec<u32>,
    /// Number of the first chunk.
    first_chunk: u32,
    /// Pools side by side, by address: few steps find one of very many.
    runs: Vec<Run>,
    marks: Vec<Mark>,
    /// Types of the blocks that are marked with [`MANY_TYPES`].
    many: FxHashMap<u32, u32>,
}

impl Blocks {
    /// Numbers the blocks; all are [`Use::Free`] until they are looked at.
    #[must_use]
    pub fn new(pymalloc: Pymalloc, chunks: Vec<Chunk>, geometry: Geometry) -> Self {
        let mut count = 0;
        let mut first = Vec::with_capacity(pymalloc.pools.len());
        let mut runs: Vec<Run> = Vec::new();
        for (at, pool) in pymalloc.pools.iter().enumerate() {
            first.push(count);
            count += pool.carved;
            match runs.last_mut() {
                Some(run) if run.end == pool.addr.0 => run.end += geometry.pool_bytes,
                _ => runs.push(Run {
                    start: pool.addr.0,
                    end: pool.addr.0 + geometry.pool_bytes,
                    first: at,
                }),
            }
        }
        let total = count as usize + chunks.len();
        Self {
            first_chunk: count,
            first,
            runs,
            marks: vec![FREE; total],
            many: FxHashMap::default(),
            pymalloc,
            chunks,
            geometry,
        }
    }

    /// The number of the first block of pool `pool`.
    #[must_use]
    pub(crate) fn first_of(&self, pool: usize) -> u32 {
        self.first.get(pool).copied().unwrap_or(self.first_chunk)
    }

    /// The number of chunk `chunk`.
    #[must_use]
    pub(crate) fn of_chunk(&self, chunk: usize) -> u32 {
        self.first_chunk + chunk as u32
    }

    /// The block of that number.
    #[must_use]
    pub(crate) fn get(&self, index: u32) -> Option<Block> {
        if let Some(chunk) = index.checked_sub(self.first_chunk) {
            let chunk = self.chunks.get(chunk as usize)?;
            return Some(Block {
                index,
                addr: chunk.addr,
                bytes: chunk.bytes,
            });
        }
        // Of pools without blocks, which have the number of the next one, the last.
        let after = self.first.partition_point(|first| *first <= index);
        let at = after.checked_sub(1)?;
        let pool = self.pymalloc.pools.get(at)?;
        Some(Block {
            index,
            addr: pool.block(index - self.first[at]),
            bytes: u64::from(pool.size),
        })
    }

    /// The block that holds an address, if it was carved at some time.
    #[inline]
    #[must_use]
    pub fn locate(&self, addr: RemoteAddr) -> Option<Block> {
        if let Some(at) = self.pool_of(addr) {
            let pool = &self.pymalloc.pools[at];
            let offset = addr.0.checked_sub(pool.addr.0 + POOL_HEADER_BYTES)?;
            let size = u64::from(pool.size);
            let index = u32::try_from(offset.checked_div(size)?).ok()?;
            return (index < pool.carved).then(|| Block {
                index: self.first[at] + index,
                addr: pool.block(index),
                bytes: size,
            });
        }
        let after = self.chunks.partition_point(|chunk| chunk.addr.0 <= addr.0);
        let at = after.checked_sub(1)?;
        let chunk = self.chunks[at];
        (addr.0 < chunk.addr.0 + chunk.bytes).then(|| Block {
            index: self.of_chunk(at),
            addr: chunk.addr,
            bytes: chunk.bytes,
        })
    }

    /// The place of the pool that holds an address.
    #[inline]
    fn pool_of(&self, addr: RemoteAddr) -> Option<usize> {
        let next = self.runs.partition_point(|run| run.end <= addr.0);
        let run = self.runs.get(next).filter(|run| run.start <= addr.0)?;
        Some(run.first + ((addr.0 - run.start) / self.geometry.pool_bytes) as usize)
    }

    /// How many there are, free ones included.
    #[must_use]
    pub fn count(&self) -> usize {
        self.marks.len()
    }

    /// Whether block `index` is a chunk of malloc.
    #[must_use]
    pub fn is_chunk(&self, index: u32) -> bool {
        index >= self.first_chunk
    }
}
