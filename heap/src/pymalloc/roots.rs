//! Where the table of arenas is.
//!
//! 3.12 keeps `struct _obmalloc_state` inside the interpreter state, 3.13+ has a pointer to it.
//! Its place is in no table of offsets: it is proven by the pool table `usedpools`, whose entries
//! point to themselves or to a pool of their size ([`right_entries`]). Up to 3.11 the table is a static variable.

use onlooker_unwinder::layout::{Layout, Minor};
use onlooker_unwinder::memory::{Lookup, RemoteAddr, u64_at};
use serde::{Deserialize, Serialize};

use super::{Geometry, arenas};
use crate::space::Space;

/// `struct _obmalloc_state` (`pycore_obmalloc.h`, 3.12 – 3.15): `pools.used`, then `mgmt`.
mod state {
    pub(super) const ARENAS: u64 = 512;
    pub(super) const MAX_ARENAS: u64 = 520;
    pub(super) const RAW_BLOCKS: u64 = 1088;
}
/// Interpreter states are searched so far: `obmalloc` is at 3960 in 3.12, below 11 000 after it.
const SEARCH_BYTES: u64 = 32 << 10;
/// `NB_SMALL_SIZE_CLASSES`.
const SIZE_CLASSES: u64 = 32;
/// Some of them may change while they are copied.
const MOVING_CLASSES: u64 = 4;
/// `struct pool_header.szidx`.
const SIZE_CLASS: u64 = 36;
/// More interpreters than any process has.
const MAX_INTERPRETERS: usize = 1 << 12;

/// Addresses of the static variables of `obmalloc.c` (up to 3.11), from `.symtab`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StaticRoots {
    /// `arenas`.
    pub arenas: RemoteAddr,
    /// `maxarenas`.
    pub max_arenas: RemoteAddr,
    /// `raw_allocated_blocks`, 3.9+ (`_Py_AllocatedBlocks` is something else in 3.8).
    pub raw_blocks: Option<RemoteAddr>,
}

/// What a walk starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roots {
    /// `_PyRuntime`.
    pub runtime: RemoteAddr,
    /// Static variables, where a version has them and they were found.
    pub statics: Option<StaticRoots>,
}

/// An array of `struct arena_object`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its first element.
    pub arenas: RemoteAddr,
    /// How many elements it has.
    pub len: u32,
    /// Blocks that were too large for pymalloc.
    pub raw_blocks: Option<u64>,
}

/// Addresses of all interpreter states, the newest first.
#[must_use]
pub fn interpreters<B: AsRef<[u8]>>(
    space: &Space<B>,
    layout: &Layout,
    runtime: RemoteAddr,
) -> Vec<RemoteAddr> {
    let mut found = Vec::new();
    let mut next = runtime.offset(layout.runtime.interpreters_head);
    while let Some(interpreter) = next.and_then(|at| space.u64(at)).map(RemoteAddr) {
        if !interpreter.is_plausible_pointer()
            || found.contains(&interpreter)
            || found.len() >= MAX_INTERPRETERS
        {
            break;
        }
        found.push(interpreter);
        next = interpreter.offset(layout.interpreter.next);
    }
    found
}

/// The tables of all interpreters; those that share one give it once.
pub(super) fn tables<B: AsRef<[u8]>>(
    space: &Space<B>,
    layout: &Layout,
    roots: &Roots,
) -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    if layout.version >= Minor::new(3, 12) {
        for interpreter in interpreters(space, layout, roots.runtime) {
            let state = state_of(space, layout.version, interpreter);
            let Some(table) = state.and_then(|state| of_state(space, state)) else {
                continue;
            };
            if !tables.iter().any(|known| known.arenas == table.arenas) {
                tables.push(table);
            }
        }
    } else if let Some(statics) = &roots.statics {
        tables.extend(of_statics(space, statics));
    }
    tables
}

/// Where the arenas of one interpreter begin; `None` up to 3.11, where all share the static table.
pub(crate) fn arenas_of<B: AsRef<[u8]>>(
    space: &Space<B>,
    version: Minor,
    interpreter: RemoteAddr,
) -> Option<Vec<u64>> {
    if version < Minor::new(3, 12) {
        return None;
    }
    let table = of_state(space, state_of(space, version, interpreter)?)?;
    let arenas = arenas::read(space, Geometry::of(version), &table);
    Some(arenas.iter().map(|arena| arena.start).collect())
}

/// `struct _obmalloc_state` of an interpreter: of all places, that where most entries of the pool
/// table are right. A place beside it has fewer, however few pools there are.
fn state_of<B: AsRef<[u8]>>(
    space: &Space<B>,
    version: Minor,
    interpreter: RemoteAddr,
) -> Option<RemoteAddr> {
    let places = (0..SEARCH_BYTES).step_by(8).filter_map(|offset| {
        let at = interpreter.offset(offset)?;
        let state = if version == Minor::new(3, 12) {
            at
        } else {
            RemoteAddr(space.u64(at)?)
        };
        let right = right_entries(space, state);
        (right >= SIZE_CLASSES - MOVING_CLASSES).then_some((right, state))
    });
    places
        .max_by_key(|(right, _)| *right)
        .map(|(_, state)| state)
}

/// How many pairs of a `usedpools` that begins at `addr` are right: both words of a size class
/// without a pool that has both free and used blocks point 16 bytes before the pair, so that it looks
/// like `nextpool` and `prevpool` of a pool header (`PTA` in obmalloc); else both point to such pools.
/// One word alone would do for the place 8 bytes on too, once every class has a pool.
fn right_entries<B: AsRef<[u8]>>(space: &Space<B>, addr: RemoteAddr) -> u64 {
    let mut right = 0;
    for class in 0..SIZE_CLASSES {
        let pair = addr.0.wrapping_add(16 * class);
        let Some(bytes) = space.bytes(RemoteAddr(pair), 16) else {
            return 0;
        };
        let is_right = |offset| {
            let pool = RemoteAddr(u64_at(bytes, offset).unwrap_or_default());
            pool.0 == pair.wrapping_sub(16)
                || (pool.is_plausible_pointer()
                    && pool.offset(SIZE_CLASS).and_then(|at| space.i32(at))
                        == i32::try_from(class).ok())
        };
        right += u64::from(is_right(0) && is_right(8));
        // Most places are refused by their first words.
        if class + 1 - right > MOVING_CLASSES {
            return 0;
        }
    }
    right
}

fn of_state<B: AsRef<[u8]>>(space: &Space<B>, state: RemoteAddr) -> Option<Table> {
    let arenas = RemoteAddr(space.u64(state.offset(state::ARENAS)?)?);
    let len = space.i32(state.offset(state::MAX_ARENAS)?)?;
    let raw = space.u64(state.offset(state::RAW_BLOCKS)?)?;
    Some(Table {
        // NULL before the first allocation, as in an interpreter that shares the main one's.
        arenas,
        len: u32::try_from(len).ok()?,
        raw_blocks: Some(raw),
    })
}

fn of_statics<B: AsRef<[u8]>>(space: &Space<B>, statics: &StaticRoots) -> Option<Table> {
    let arenas = RemoteAddr(space.u64(statics.arenas)?);
    let len = space.i32(statics.max_arenas)?;
    Some(Table {
        arenas,
        len: u32::try_from(len).ok()?,
        raw_blocks: statics.raw_blocks.and_then(|at| space.u64(at)),
    })
}
