//! Blocks one after the other, all or those of a range of addresses.

use super::{Block, Blocks};

/// A place in the order of all blocks, which may be changed between two of them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cursor {
    pool: usize,
    block: u32,
    chunk: usize,
}

impl Cursor {
    /// The block here; goes on to the next.
    #[inline]
    pub(crate) fn next(&mut self, blocks: &Blocks) -> Option<Block> {
        while let Some(pool) = blocks.pymalloc.pools.get(self.pool) {
            let index = self.block;
            if index < pool.carved {
                self.block += 1;
                return Some(Block {
                    index: blocks.first[self.pool] + index,
                    addr: pool.block(index),
                    bytes: u64::from(pool.size),
                });
            }
            self.pool += 1;
            self.block = 0;
        }
        let chunk = blocks.chunks.get(self.chunk)?;
        let index = blocks.of_chunk(self.chunk);
        self.chunk += 1;
        Some(Block {
            index,
            addr: chunk.addr,
            bytes: chunk.bytes,
        })
    }
}

impl Blocks {
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

    /// Every block and chunk, free ones included.
    pub fn iter(&self) -> impl Iterator<Item = Block> + '_ {
        let mut cursor = Cursor::default();
        std::iter::from_fn(move || cursor.next(self))
    }
}
