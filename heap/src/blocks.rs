//! Every block of pymalloc and every chunk of malloc, under one numbering, and what each is.

use onlooker_unwinder::memory::RemoteAddr;

use crate::malloc::Chunk;
use crate::pymalloc::{Geometry, POOL_HEADER_BYTES, Pymalloc};

/// What a block is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Use {
    /// Not in use.
    #[default]
    Free,
    /// A live object.
    Object,
    /// An object that CPython keeps on a free list to use it again: it is not live.
    Parked,
    /// The keys of a dict or of a class's instances.
    DictKeys,
    /// The values of a dict or of an instance.
    Values,
    /// The items of a list.
    ListItems,
    /// The table of a set.
    SetTable,
    /// A buffer of another object.
    Buffer,
    /// In use, by nothing that was recognised.
    Unowned,
}

impl Use {
    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Object => "object",
            Self::Parked => "free_list",
            Self::DictKeys => "dict_keys",
            Self::Values => "values",
            Self::ListItems => "list_items",
            Self::SetTable => "set_table",
            Self::Buffer => "buffer",
            Self::Unowned => "unowned",
        }
    }
}

/// No type.
pub(crate) const NO_TYPE: u32 = u32::MAX;

/// A block, its address and its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its number.
    pub index: u32,
    /// First byte that its user may use (before the header of the debug allocator).
    pub addr: RemoteAddr,
    /// Its size, what malloc itself keeps included.
    pub bytes: u64,
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
    pub(crate) uses: Vec<Use>,
    pub(crate) types: Vec<u32>,
}

impl Blocks {
    /// Numbers the blocks; all are [`Use::Free`] until they are looked at.
    #[must_use]
    pub fn new(pymalloc: Pymalloc, chunks: Vec<Chunk>, geometry: Geometry) -> Self {
        let mut count = 0;
        let mut first = Vec::with_capacity(pymalloc.pools.len());
        for pool in &pymalloc.pools {
            first.push(count);
            count += pool.carved;
        }
        let total = count as usize + chunks.len();
        Self {
            first_chunk: count,
            first,
            uses: vec![Use::Free; total],
            types: vec![NO_TYPE; total],
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

    /// The block that holds an address, if it was carved at some time.
    #[must_use]
    pub fn locate(&self, addr: RemoteAddr) -> Option<Block> {
        if let Some(at) = self.pymalloc.pool_of(self.geometry, addr) {
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

    /// The blocks and chunks that have bytes between two addresses, free ones included.
    pub fn within(&self, start: u64, end: u64) -> impl Iterator<Item = Block> + '_ {
        let pool_bytes = self.geometry.pool_bytes;
        let pools = &self.pymalloc.pools;
        let first = pools.partition_point(|pool| pool.addr.0 + pool_bytes <= start);
        let pools = pools.iter().zip(&self.first).skip(first);
        let pools = pools.take_while(move |(pool, _)| pool.addr.0 < end);
        let blocks = pools.flat_map(move |(pool, first)| {
            let (base, size) = (pool.block(0).0, u64::from(pool.size.max(1)));
            let from = start.saturating_sub(base) / size;
            let to = end.saturating_sub(base).div_ceil(size);
            let to = to.min(pool.carved.into());
            (from.min(to) as u32..to as u32).map(move |index| Block {
                index: first + index,
                addr: pool.block(index),
                bytes: size,
            })
        });
        let first = self
            .chunks
            .partition_point(|chunk| chunk.addr.0 + chunk.bytes <= start);
        let chunks = self.chunks.iter().zip(self.first_chunk..).skip(first);
        let chunks = chunks.take_while(move |(chunk, _)| chunk.addr.0 < end);
        blocks.chain(chunks.map(|(chunk, index)| Block {
            index,
            addr: chunk.addr,
            bytes: chunk.bytes,
        }))
    }

    /// What block `index` is.
    #[must_use]
    pub fn use_of(&self, index: u32) -> Use {
        self.uses.get(index as usize).copied().unwrap_or_default()
    }

    /// Every block and chunk, free ones included.
    pub fn iter(&self) -> impl Iterator<Item = Block> + '_ {
        let pools = self.pymalloc.pools.iter().zip(&self.first);
        let blocks = pools.flat_map(|(pool, first)| {
            (0..pool.carved).map(move |index| Block {
                index: first + index,
                addr: pool.block(index),
                bytes: u64::from(pool.size),
            })
        });
        let chunks = self.chunks.iter().zip(self.first_chunk..);
        blocks.chain(chunks.map(|(chunk, index)| Block {
            index,
            addr: chunk.addr,
            bytes: chunk.bytes,
        }))
    }
}
