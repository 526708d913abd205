//! Every block of pymalloc and every chunk of malloc, under one numbering, and what each is.

use onlooker_unwinder::memory::RemoteAddr;
use rustc_hash::FxHashMap;

use crate::malloc::Chunk;
use crate::pymalloc::{Geometry, POOL_HEADER_BYTES, Pool, Pymalloc};

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
    /// All of them, in their order.
    pub(crate) const ALL: [Self; 9] = [
        Self::Free,
        Self::Object,
        Self::Parked,
        Self::DictKeys,
        Self::Values,
        Self::ListItems,
        Self::SetTable,
        Self::Buffer,
        Self::Unowned,
    ];

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

/// What a block is in two bytes, for there are as many as there is memory: a use that is not
/// [`Use::Object`] as its number, an object as the number of its type, from [`FIRST_TYPE`] on.
type Mark = u16;

/// Uses by their marks.
const USES: [Use; 8] = [
    Use::Free,
    Use::Parked,
    Use::DictKeys,
    Use::Values,
    Use::ListItems,
    Use::SetTable,
    Use::Buffer,
    Use::Unowned,
];
const FREE: Mark = 0;
const FIRST_TYPE: Mark = 16;
/// An object of a type whose number is too large: it is kept beside.
const MANY_TYPES: Mark = Mark::MAX;

/// The mark of a block; `of` is the type of an object.
#[inline]
fn mark_of(what: Use, of: u32) -> Mark {
    if what == Use::Object {
        let mark = of.saturating_add(FIRST_TYPE.into());
        Mark::try_from(mark).unwrap_or(MANY_TYPES)
    } else {
        let mark = USES.iter().position(|each| *each == what);
        mark.unwrap_or_default() as Mark
    }
}

/// Some pools without a gap in their numbers, and what their blocks are.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    pub(crate) pools: &'a [Pool],
    /// The number of the first block.
    pub(crate) first: u32,
    marks: &'a mut [Mark],
    /// Types that are too large for a mark, by number of the block.
    many: Vec<(u32, u32)>,
}

impl Part<'_> {
    /// As [`Blocks::set`], once for each block at most.
    #[inline]
    pub(crate) fn set(&mut self, index: u32, what: Use, of: u32) {
        let mark = mark_of(what, of);
        if mark == MANY_TYPES {
            self.many.push((index, of));
        }
        if let Some(place) = self.marks.get_mut((index - self.first) as usize) {
            *place = mark;
        }
    }

    /// Gives types other numbers, each the one at its place. What is to be [joined](Blocks::join).
    pub(crate) fn finish(mut self, numbers: &[u32]) -> Vec<(u32, u32)> {
        let is_same = numbers.iter().zip(0..).all(|(new, old)| *new == old);
        if is_same {
            return self.many;
        }
        let new = |of: u32| numbers.get(of as usize).copied().unwrap_or(of);
        self.many.iter_mut().for_each(|(_, of)| *of = new(*of));
        for (place, index) in self.marks.iter_mut().zip(self.first..) {
            if *place >= FIRST_TYPE && *place != MANY_TYPES {
                let of = new(u32::from(*place - FIRST_TYPE));
                *place = mark_of(Use::Object, of);
                if *place == MANY_TYPES {
                    self.many.push((index, of));
                }
            }
        }
        self.many
    }
}

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
    #[inline]
    #[must_use]
    pub fn use_of(&self, index: u32) -> Use {
        let mark = self.marks.get(index as usize).copied().unwrap_or_default();
        USES.get(usize::from(mark)).copied().unwrap_or(Use::Object)
    }

    /// The type of the object in block `index`.
    #[inline]
    #[must_use]
    pub fn type_of(&self, index: u32) -> Option<u32> {
        match *self.marks.get(index as usize)? {
            MANY_TYPES => self.many.get(&index).copied(),
            mark => mark.checked_sub(FIRST_TYPE).map(u32::from),
        }
    }

    /// Whether block `index` is a chunk of malloc.
    #[must_use]
    pub fn is_chunk(&self, index: u32) -> bool {
        index >= self.first_chunk
    }

    /// Says what a block is; `of` is the type of an object and [`NO_TYPE`] for anything else.
    #[inline]
    pub(crate) fn set(&mut self, index: u32, what: Use, of: u32) {
        let mark = mark_of(what, of);
        if mark == MANY_TYPES {
            self.many.insert(index, of);
        }
        if let Some(place) = self.marks.get_mut(index as usize) {
            *place = mark;
        }
    }

    /// The blocks of pymalloc in at most `count` parts of about as many, for as many threads.
    pub(crate) fn split(&mut self, count: usize) -> Vec<Part<'_>> {
        let each = (self.first_chunk as usize).div_ceil(count.max(1)).max(1);
        let mut parts = Vec::new();
        let mut marks = &mut self.marks[..self.first_chunk as usize];
        let mut pools = &self.pymalloc.pools[..];
        let mut first = 0;
        while !pools.is_empty() {
            let mut blocks = 0;
            let whole = pools.iter().take_while(|pool| {
                let fits = blocks < each;
                blocks += if fits { pool.carved as usize } else { 0 };
                fits
            });
            let (here, other_pools) = pools.split_at(whole.count());
            let (own, other_marks) = marks.split_at_mut(blocks);
            parts.push(Part {
                pools: here,
                first,
                marks: own,
                many: Vec::new(),
            });
            first += blocks as u32;
            (pools, marks) = (other_pools, other_marks);
        }
        parts
    }

    /// Takes over what [`Part::finish`] gave.
    pub(crate) fn join(&mut self, many: Vec<(u32, u32)>) {
        self.many.extend(many);
    }

    /// Every block and chunk, free ones included.
    pub fn iter(&self) -> impl Iterator<Item = Block> + '_ {
        let mut cursor = Cursor::default();
        std::iter::from_fn(move || cursor.next(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pymalloc::PoolState;
    use onlooker_unwinder::layout::Minor;

    fn blocks() -> Blocks {
        let pool = |addr, carved| Pool {
            addr: RemoteAddr(addr),
            arena_index: 0,
            size: 64,
            carved,
            count: carved,
            state: PoolState::Whole,
        };
        let pymalloc = Pymalloc {
            pools: vec![pool(0x10000, 2), pool(0x14000, 0), pool(0x18000, 1)],
            ..Pymalloc::default()
        };
        let chunks = vec![Chunk {
            addr: RemoteAddr(0x40010),
            bytes: 1024,
            in_use: true,
        }];
        Blocks::new(pymalloc, chunks, Geometry::of(Minor::new(3, 12)))
    }

    #[test]
    fn every_block_has_one_number_and_its_place() {
        let blocks = blocks();
        let all: Vec<_> = blocks.iter().collect();
        let indices: Vec<_> = all.iter().map(|block| block.index).collect();
        assert_eq!(indices, [0, 1, 2, 3]);
        assert_eq!(all[2].addr, RemoteAddr(0x18000 + POOL_HEADER_BYTES));
        for block in all {
            assert_eq!(blocks.locate(block.addr), Some(block));
            assert_eq!(blocks.get(block.index), Some(block));
        }
        assert_eq!(blocks.get(4), None);
        assert!(blocks.is_chunk(3) && !blocks.is_chunk(2));
    }

    #[test]
    fn parts_are_all_of_it_and_types_get_their_numbers() {
        for count in 1..4 {
            let mut blocks = blocks();
            let parts = blocks.split(count);
            assert!(parts.len() <= count);
            assert_eq!(parts.iter().map(|part| part.pools.len()).sum::<usize>(), 3);
            let mut many = Vec::new();
            for mut part in parts {
                for index in part.first..part.first + part.marks.len() as u32 {
                    part.set(index, Use::Object, index);
                }
                many.extend(part.finish(&[5, 70000, 0]));
            }
            blocks.join(many);
            let types = [0, 1, 2].map(|index| blocks.type_of(index));
            assert_eq!(types, [Some(5), Some(70000), Some(0)]);
            assert_eq!(blocks.use_of(3), Use::Free);
        }
    }

    #[test]
    fn a_mark_is_read_as_it_was_set_whatever_the_number_of_the_type() {
        let mut blocks = blocks();
        for what in USES {
            blocks.set(1, what, NO_TYPE);
            assert_eq!((blocks.use_of(1), blocks.type_of(1)), (what, None));
        }
        for of in [0, 1, 65518, 65519, 65520, 1 << 20] {
            blocks.set(1, Use::Object, of);
            assert_eq!(
                (blocks.use_of(1), blocks.type_of(1)),
                (Use::Object, Some(of))
            );
        }
        assert_eq!(blocks.use_of(0), Use::Free);
    }
}
