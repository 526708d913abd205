//! `struct arena_object`: one per arena, reused when an arena is freed.

use onlooker_unwinder::memory::{Lookup, RemoteAddr, u32_at, u64_at};

use super::{Geometry, Table};
use crate::space::{PAGE_BYTES, Space};

/// Size of `struct arena_object`, and its fields.
pub(super) const ENTRY_BYTES: u64 = 48;
const POOL_ADDRESS: u64 = 8;
const FREE_POOLS: u64 = 16;
const TOTAL_POOLS: u64 = 20;

/// One arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arena {
    /// First address.
    pub start: u64,
    /// Its size: what its version was built with, or twice that (3.15 with huge pages).
    pub len: u64,
    /// Address after the last pool that was carved at some time.
    pub carved_end: u64,
    /// Its place in the table, which its pools name.
    pub index: u32,
}

impl Arena {
    /// Address after its last byte.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.start + self.len
    }

    /// Addresses of the pools that were carved.
    pub(super) fn carved(&self, geometry: Geometry) -> impl Iterator<Item = RemoteAddr> + use<> {
        let first = self.start.next_multiple_of(geometry.pool_bytes);
        (first..self.carved_end)
            .step_by(geometry.pool_bytes as usize)
            .map(RemoteAddr)
    }
}

/// The arenas of a table. An entry that cannot be one is passed over: it is being written.
pub(super) fn read<B: AsRef<[u8]>>(
    space: &Space<B>,
    geometry: Geometry,
    table: &Table,
) -> Vec<Arena> {
    let mut arenas = Vec::new();
    for index in 0..table.len {
        let at = table.arenas.offset(ENTRY_BYTES * u64::from(index));
        let Some(bytes) = at.and_then(|at| space.bytes(at, ENTRY_BYTES as usize)) else {
            break;
        };
        arenas.extend(entry(bytes, geometry, index));
    }
    arenas
}

/// More arenas than come while memory is copied.
const MAX_NEW: usize = 4096;

/// Whether some of an arena is here, or was when memory was copied.
fn is_known<B: AsRef<[u8]>>(space: &Space<B>, arena: &Arena) -> bool {
    let (start, end) = (arena.start, arena.end());
    space.is_absent(start, end) || space.resident(start, end) > 0
}

/// Whether there are more arenas of which nothing is known than [`keep_apart`] keeps.
pub(crate) fn are_invented<B: AsRef<[u8]>>(space: &Space<B>, arenas: &[Arena]) -> bool {
    let new = arenas.iter().filter(|arena| !is_known(space, arena));
    new.count() > MAX_NEW
}

/// Puts arenas in order, without those that overlap another one. Of arenas of which
/// nothing is known only so many stay as may have come since.
pub(super) fn keep_apart<B: AsRef<[u8]>>(space: &Space<B>, arenas: &mut Vec<Arena>) {
    arenas.sort_unstable_by_key(|arena| arena.start);
    let mut end = 0;
    let mut new = 0;
    arenas.retain(|arena| {
        let is_known = is_known(space, arena);
        let keep = arena.start >= end && (is_known || new < MAX_NEW);
        if keep {
            end = arena.end();
            new += usize::from(!is_known);
        }
        keep
    });
}

/// One entry of the table; `None` for one that is not in use.
pub(super) fn entry(bytes: &[u8], geometry: Geometry, index: u32) -> Option<Arena> {
    let start = u64_at(bytes, 0)?;
    let pool_address = u64_at(bytes, POOL_ADDRESS)?;
    let free = u64::from(u32_at(bytes, FREE_POOLS)?);
    let total = u64::from(u32_at(bytes, TOTAL_POOLS)?);
    if start == 0 || !start.is_multiple_of(PAGE_BYTES) || start >= 1 << 57 {
        return None;
    }
    let normal = geometry.arena_bytes / geometry.pool_bytes;
    let len = match total {
        n if n == normal || n + 1 == normal => geometry.arena_bytes,
        n if n == 2 * normal || n + 1 == 2 * normal => 2 * geometry.arena_bytes,
        _ => return None,
    };
    let end = start + len;
    let sane = pool_address >= start
        && pool_address <= end
        && pool_address.is_multiple_of(geometry.pool_bytes)
        && free <= total;
    sane.then_some(Arena {
        start,
        len,
        carved_end: pool_address,
        index,
    })
}
