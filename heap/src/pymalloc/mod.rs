//! CPython's allocator for blocks of up to 512 bytes (`Objects/obmalloc.c`).
//!
//! Arenas (256 KiB up to 3.9, 1 MiB from 3.10, 2 MiB where 3.15 was built for huge pages) are cut
//! into pools (4 KiB, 16 KiB from 3.10), a pool into blocks of one size. A block that was carved
//! and is not on its pool's chain of free blocks is in use.

mod arenas;
mod find;
mod pools;
mod roots;

use onlooker_unwinder::layout::Minor;

pub use arenas::Arena;
pub(crate) use arenas::are_invented;
pub(crate) use pools::free_bits;
pub use pools::{Pool, PoolState, is_pool};
pub(crate) use roots::arenas_of;
pub use roots::{Roots, StaticRoots, Table, interpreters};

use crate::space::Space;
use onlooker_unwinder::layout::Layout;

/// Size of `struct pool_header`.
pub const POOL_HEADER_BYTES: u64 = 48;
/// Blocks are multiples of this.
pub const ALIGNMENT: u64 = 16;
/// The largest block.
pub const LARGEST_BYTES: u64 = 512;

/// Sizes that a version was built with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// `ARENA_SIZE`.
    pub arena_bytes: u64,
    /// `POOL_SIZE`; pools are aligned to it.
    pub pool_bytes: u64,
}

impl Geometry {
    /// The sizes of a version (`Objects/obmalloc.c` up to 3.11, `pycore_obmalloc.h` after it).
    #[must_use]
    pub fn of(version: Minor) -> Self {
        if version < Minor::new(3, 10) {
            Self {
                arena_bytes: 256 << 10,
                pool_bytes: 4 << 10,
            }
        } else {
            Self {
                arena_bytes: 1 << 20,
                pool_bytes: 16 << 10,
            }
        }
    }

    /// How many blocks of this size a pool has.
    #[must_use]
    pub fn blocks(self, size: u64) -> u64 {
        (self.pool_bytes - POOL_HEADER_BYTES) / size
    }
}

/// The arenas of all tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// By address.
    pub arenas: Vec<Arena>,
    /// Blocks that malloc gave because they are larger (3.9+ where it could be read).
    pub raw_blocks: Option<u64>,
    /// Whether they were found by a scan: the interpreter's own table was out of reach.
    pub scanned: bool,
}

impl Found {
    /// The arenas of all interpreters, from their tables or by a scan. None where another
    /// allocator is in use (`PYTHONMALLOC=malloc`).
    #[must_use]
    pub fn new<B: AsRef<[u8]>>(space: &Space<B>, layout: &Layout, roots: &Roots) -> Self {
        let geometry = Geometry::of(layout.version);
        let tables = roots::tables(space, layout, roots);
        let mut found = Self::default();
        for table in &tables {
            found.arenas.extend(arenas::read(space, geometry, table));
            if let Some(raw) = table.raw_blocks {
                let sum = found.raw_blocks.get_or_insert(0);
                *sum = sum.saturating_add(raw);
            }
        }
        if tables.is_empty()
            && let Some(table) = find::table(space, geometry)
        {
            found.scanned = true;
            found.arenas = arenas::read(space, geometry, &table);
        }
        arenas::keep_apart(space, &mut found.arenas);
        found
    }
}

/// All of pymalloc's memory.
#[derive(Clone, Debug, Default)]
pub struct Pymalloc {
    /// By address.
    pub arenas: Vec<Arena>,
    /// Pools that were carved at some time, by address.
    pub pools: Vec<Pool>,
    /// Blocks that malloc gave because they are larger (3.9+ where it could be read).
    pub raw_blocks: Option<u64>,
    /// Whether arenas were found by a scan: the interpreter's own table was out of reach.
    pub scanned: bool,
}

impl Pymalloc {
    /// The pools of arenas that were found before.
    #[must_use]
    pub fn of<B: AsRef<[u8]>>(space: &Space<B>, geometry: Geometry, found: Found) -> Self {
        let mut pools = Vec::new();
        let mut scratch = Vec::new();
        for arena in &found.arenas {
            for addr in arena.carved(geometry) {
                let pool = pools::read(space, geometry, addr, arena.index, &mut scratch);
                pools.push(pool);
            }
        }
        pools.sort_unstable_by_key(|pool| pool.addr);
        pools.dedup_by_key(|pool| pool.addr);
        Self {
            arenas: found.arenas,
            pools,
            raw_blocks: found.raw_blocks,
            scanned: found.scanned,
        }
    }

    /// What [`of`](Self::of) makes this from again.
    #[must_use]
    pub fn found(&self) -> Found {
        Found {
            arenas: self.arenas.clone(),
            raw_blocks: self.raw_blocks,
            scanned: self.scanned,
        }
    }

    /// Looks again at the pools between these addresses, whose memory was copied again.
    pub fn again<B: AsRef<[u8]>>(
        &mut self,
        space: &Space<B>,
        geometry: Geometry,
        start: u64,
        end: u64,
    ) {
        let mut scratch = Vec::new();
        let first = self
            .pools
            .partition_point(|pool| pool.addr.0.saturating_add(geometry.pool_bytes) <= start);
        let pools = self.pools[first..].iter_mut();
        for pool in pools.take_while(|pool| pool.addr.0 < end) {
            *pool = pools::read(space, geometry, pool.addr, pool.arena_index, &mut scratch);
        }
    }

    /// Blocks in use, as the pools count them.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.pools.iter().map(|pool| u64::from(pool.count)).sum()
    }

    /// Pools whose carved blocks minus the free ones are not as many as they count.
    pub fn inconsistent(&self) -> impl Iterator<Item = &Pool> {
        let pools = self.pools.iter();
        pools.filter(|pool| pool.state == PoolState::Inconsistent)
    }

    /// Pools of which some is swapped out or was left out.
    pub fn absent(&self) -> impl Iterator<Item = &Pool> {
        let pools = self.pools.iter();
        pools.filter(|pool| pool.state == PoolState::Absent)
    }
}
