//! `struct pool_header` and the blocks behind it.

use onlooker_unwinder::memory::{Lookup, RemoteAddr, u32_at, u64_at};

use super::{ALIGNMENT, Geometry, LARGEST_BYTES, POOL_HEADER_BYTES};
use crate::space::Space;

const FREE_BLOCK: u64 = 8;
const ARENA_INDEX: u64 = 32;
const SIZE_CLASS: u64 = 36;
const NEXT_OFFSET: u64 = 40;
const MAX_NEXT_OFFSET: u64 = 44;
/// 4 KiB or 16 KiB of 16-byte blocks, and one more word.
const MAX_BLOCKS: usize = 1024;

/// What became of reading a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolState {
    /// No block of it is in use; it may get another size.
    Empty,
    /// Carved blocks minus free ones are as many as it counts.
    Whole,
    /// They are not: it changed while it was copied.
    Inconsistent,
    /// Some of it is swapped out or was left out. Its blocks are counted as far as its header is
    /// here; what they are is not known.
    Absent,
}

/// One pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Its header.
    pub addr: RemoteAddr,
    /// Place of its arena in the table.
    pub arena_index: u32,
    /// Size of its blocks in bytes; 0 where it is not known.
    pub size: u32,
    /// Blocks that were carved.
    pub carved: u32,
    /// Blocks in use, as it counts them.
    pub count: u32,
    /// Whether it closed.
    pub state: PoolState,
}

impl Pool {
    /// Address of a block.
    #[must_use]
    #[inline]
    pub fn block(&self, index: u32) -> RemoteAddr {
        RemoteAddr(self.addr.0 + POOL_HEADER_BYTES + u64::from(index) * u64::from(self.size))
    }
}

/// One bit for each block of a pool.
#[derive(Clone, Debug)]
pub(crate) struct Bits([u64; MAX_BLOCKS / 64]);

impl Bits {
    const NONE: Self = Self([0; MAX_BLOCKS / 64]);

    fn set(&mut self, index: usize) -> bool {
        let (word, bit) = (index / 64, 1 << (index % 64));
        let Some(word) = self.0.get_mut(word) else {
            return false;
        };
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    #[inline]
    pub(crate) fn get(&self, index: usize) -> bool {
        self.0
            .get(index / 64)
            .is_some_and(|word| word & (1 << (index % 64)) != 0)
    }
}

struct Header {
    count: u32,
    free: u64,
    arena_index: u32,
    size: u32,
    carved: u32,
    sane: bool,
}

fn header(bytes: &[u8], geometry: Geometry) -> Option<Header> {
    let count = u32_at(bytes, 0)?;
    let class = u64::from(u32_at(bytes, SIZE_CLASS)?);
    let next = u64::from(u32_at(bytes, NEXT_OFFSET)?);
    let last = u64::from(u32_at(bytes, MAX_NEXT_OFFSET)?);
    let size = (class + 1) * ALIGNMENT;
    let known = size <= LARGEST_BYTES;
    let used = next.wrapping_sub(POOL_HEADER_BYTES);
    let sane = known
        && last + size == geometry.pool_bytes
        && (POOL_HEADER_BYTES..=geometry.pool_bytes).contains(&next)
        && used.is_multiple_of(size)
        && u64::from(count) <= used / size;
    Some(Header {
        count,
        free: u64_at(bytes, FREE_BLOCK)?,
        arena_index: u32_at(bytes, ARENA_INDEX)?,
        size: if known { size as u32 } else { 0 },
        carved: if sane { (used / size) as u32 } else { 0 },
        sane,
    })
}

/// The free blocks of a pool, and how many; `None` when the chain leads out of it or comes back.
fn free_blocks(bytes: &[u8], addr: RemoteAddr, header: &Header) -> Option<(Bits, u32)> {
    let mut bits = Bits::NONE;
    let mut count = 0;
    let mut free = header.free;
    while free != 0 {
        let offset = free.checked_sub(addr.0 + POOL_HEADER_BYTES)?;
        let index = offset.checked_div(u64::from(header.size))?;
        let inside = index < u64::from(header.carved);
        if !inside || !offset.is_multiple_of(u64::from(header.size)) || !bits.set(index as usize) {
            return None;
        }
        count += 1;
        free = u64_at(bytes, offset + POOL_HEADER_BYTES)?;
    }
    Some((bits, count))
}

/// Reads the header of a pool and follows its chain.
pub(super) fn read<B: AsRef<[u8]>>(
    space: &Space<B>,
    geometry: Geometry,
    addr: RemoteAddr,
    arena_index: u32,
    scratch: &mut Vec<u8>,
) -> Pool {
    let mut pool = Pool {
        addr,
        arena_index,
        size: 0,
        carved: 0,
        count: 0,
        state: PoolState::Inconsistent,
    };
    if space.is_absent(addr.0, addr.0.saturating_add(geometry.pool_bytes)) {
        pool.state = PoolState::Absent;
        let head = space.bytes(addr, POOL_HEADER_BYTES as usize);
        if let Some(header) = head.and_then(|bytes| header(bytes, geometry))
            && header.sane
        {
            (pool.size, pool.count) = (header.size, header.count);
        }
        return pool;
    }
    let bytes = space.zeroed(addr, geometry.pool_bytes as usize, scratch);
    let Some((bytes, header)) = bytes.and_then(|b| header(b, geometry).map(|h| (b, h))) else {
        return pool;
    };
    // An empty pool keeps what it was, or was never initialised.
    if header.count == 0 {
        pool.state = PoolState::Empty;
        return pool;
    }
    pool.size = header.size;
    pool.count = header.count.min(MAX_BLOCKS as u32);
    if !header.sane || header.arena_index != arena_index {
        return pool;
    }
    pool.carved = header.carved;
    if let Some((_, free)) = free_blocks(bytes, addr, &header)
        && header.carved - free == header.count
    {
        pool.state = PoolState::Whole;
    }
    pool
}

/// Which blocks of a pool are free. Of one that does not close, as far as its chain goes.
pub(crate) fn free_bits<B: AsRef<[u8]>>(
    space: &Space<B>,
    geometry: Geometry,
    pool: &Pool,
    scratch: &mut Vec<u8>,
) -> Bits {
    let bytes = space.zeroed(pool.addr, geometry.pool_bytes as usize, scratch);
    bytes
        .and_then(|bytes| {
            let header = header(bytes, geometry)?;
            Some(free_blocks(bytes, pool.addr, &header)?.0)
        })
        .unwrap_or(Bits::NONE)
}

/// Whether a pool in use begins with these bytes, by all that its header says of itself; its
/// place in the table.
pub(super) fn recognise(bytes: &[u8], addr: RemoteAddr, geometry: Geometry) -> Option<u32> {
    let header = header(bytes, geometry)?;
    if header.count == 0 || !header.sane || header.arena_index > 1 << 20 {
        return None;
    }
    let (_, free) = free_blocks(bytes, addr, &header)?;
    (header.carved - free == header.count).then_some(header.arena_index)
}

/// Whether `bytes` begin with the header of a pool that has blocks, in use or not. Less than a
/// walk of it proves, and enough to tell whose memory a mapping is.
#[must_use]
pub fn is_pool(bytes: &[u8], geometry: Geometry) -> bool {
    header(bytes, geometry).is_some_and(|header| {
        header.sane && header.carved > 0 && header.free.is_multiple_of(ALIGNMENT)
    })
}
