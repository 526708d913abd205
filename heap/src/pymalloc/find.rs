//! The table of arenas where no symbol tells it (a stripped interpreter up to 3.11, as Debian's).
//!
//! Pools are recognised by what their headers say of themselves. Each names the place of its arena
//! in the table, so the table is the one place in memory where the entries of all of them hold
//! their addresses.

use onlooker_unwinder::memory::{Lookup, RemoteAddr, u64_at};

use super::arenas::{ENTRY_BYTES, entry};
use super::{Geometry, Table, pools};
use crate::space::Space;

/// Pools that are compared with a place that may be the table.
const WITNESSES: usize = 64;

/// The table, found from the pools.
pub(super) fn table<B: AsRef<[u8]>>(space: &Space<B>, geometry: Geometry) -> Option<Table> {
    let pools = pools(space, geometry);
    let (first, first_index) = *pools.first()?;
    let step = pools.len().div_ceil(WITNESSES);
    let witnesses: Vec<_> = pools.iter().step_by(step).copied().collect();
    let len = pools.iter().map(|(_, index)| index + 1).max()?;
    for range in space.ranges() {
        let bytes = space.tail(RemoteAddr(range.start));
        for offset in (0..range.len).step_by(8) {
            let Some(address) = u64_at(bytes, offset) else {
                break;
            };
            // The first word of the entry of the first pool's arena.
            if first.0.wrapping_sub(address) >= 2 * geometry.arena_bytes {
                continue;
            }
            let here = range.start + offset;
            let Some(base) = here.checked_sub(ENTRY_BYTES * u64::from(first_index)) else {
                continue;
            };
            let arenas = RemoteAddr(base);
            let holds = |&(pool, index): &(RemoteAddr, u32)| {
                let at = arenas.offset(ENTRY_BYTES * u64::from(index));
                at.and_then(|at| space.bytes(at, ENTRY_BYTES as usize))
                    .and_then(|bytes| entry(bytes, geometry, index))
                    .is_some_and(|arena| pool.0 >= arena.start && pool.0 < arena.carved_end)
            };
            // A pool may be a look-alike, or gone while it was copied: half may disagree.
            let mut refusals = witnesses.iter().filter(|each| !holds(each));
            if refusals.nth(witnesses.len() / 2).is_none() {
                return Some(Table {
                    arenas,
                    len,
                    raw_blocks: None,
                });
            }
        }
    }
    None
}

/// Every pool in use, with the place of its arena.
fn pools<B: AsRef<[u8]>>(space: &Space<B>, geometry: Geometry) -> Vec<(RemoteAddr, u32)> {
    let mut found = Vec::new();
    let mut scratch = Vec::new();
    for range in space.ranges() {
        let first = range.start.next_multiple_of(geometry.pool_bytes);
        for addr in (first..range.end()).step_by(geometry.pool_bytes as usize) {
            let addr = RemoteAddr(addr);
            // Most are refused by their header, without a copy of the pool.
            if space.tail(addr).len() < ENTRY_BYTES as usize {
                continue;
            }
            let bytes = space.zeroed(addr, geometry.pool_bytes as usize, &mut scratch);
            if let Some(index) = bytes.and_then(|b| pools::recognise(b, addr, geometry)) {
                found.push((addr, index));
            }
        }
    }
    found
}
