//! The figures of a census.

use std::collections::BTreeMap;

use onlooker_unwinder::memory::RemoteAddr;

use crate::blocks::{Blocks, NO_TYPE, Use};
use crate::gc::Lists;
use crate::guards::Violation;
use crate::malloc::Heap;
use crate::names::Name;
use crate::types::Types;

/// What is counted of one type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeCount {
    /// Its name.
    pub name: Name,
    /// Live objects.
    pub count: u64,
    /// Their blocks and the separate blocks that only they own.
    pub own_bytes: u64,
    /// Their blocks alone.
    pub block_bytes: u64,
    /// Those that the garbage collector knows.
    pub gc_tracked: u64,
}

/// A large object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Large {
    /// Its address.
    pub addr: RemoteAddr,
    /// Its type.
    pub name: Name,
    /// Its block and what only it owns.
    pub own_bytes: u64,
}

/// An object in no block that was walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Its address.
    pub addr: RemoteAddr,
    /// The number of its type.
    pub of: u32,
}

/// A guard that was overwritten, and whose block it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// What was seen.
    pub violation: Violation,
    /// The number of the block.
    pub block: u32,
    /// The object in the block, or the one that owns it, and the number of its type; `None` where
    /// no object is known to have it.
    pub object: Option<(RemoteAddr, u32)>,
}

/// Count and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// How many.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Objects that the garbage collector would find unreachable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Garbage {
    /// How many, what `gc.collect()` would return.
    pub objects: u64,
    /// Their blocks and the separate blocks that only they own.
    pub own_bytes: u64,
    /// By type, most bytes first; types of one name together.
    pub types: Vec<GarbageOf>,
}

/// Those of one type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GarbageOf {
    /// Its name.
    pub name: Name,
    /// How many.
    pub count: u64,
    /// Their blocks and the separate blocks that only they own.
    pub own_bytes: u64,
}

/// Why garbage is not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untold {
    /// The memory is not of one instant, so that counts and references need not agree.
    Moving,
    /// A collection was going on.
    Collecting,
    /// Not all that is tracked is here.
    Incomplete,
}

/// What is counted of one interpreter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interpreter {
    /// 0 is the main one.
    pub id: i64,
    /// The lists of its garbage collector; `None` where they were not found, or are the main one's.
    pub lists: Option<Lists>,
    /// Whether its objects are on the lists of the main one (3.8).
    pub shares_lists: bool,
    /// What it has in arenas; `None` where it shares those of the main one.
    pub share: Option<Share>,
}

/// What an interpreter has in arenas of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// How many arenas.
    pub arenas: u64,
    /// Blocks in use.
    pub blocks: u64,
    /// Their bytes.
    pub block_bytes: u64,
    /// Live objects among them.
    pub objects: u64,
}

/// Blocks of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeClass {
    /// Their size.
    pub block_bytes: u32,
    /// In use.
    pub used: u64,
    /// Carved and free, or not carved yet, in pools that are in use.
    pub free: u64,
}

/// An arena and what is in use of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArenaUse {
    /// First address.
    pub start: u64,
    /// Size.
    pub bytes: u64,
    /// Bytes of blocks in use.
    pub used_bytes: u64,
    /// The type of which most bytes are in it.
    pub pinned_by: u32,
}

/// The answer.
#[derive(Debug)]
pub struct Census {
    /// All blocks and what they are.
    pub blocks: Blocks,
    /// Heaps of malloc.
    pub heaps: Vec<Heap>,
    /// All types.
    pub types: Types,
    /// The name of each type, by its number; empty for one without objects.
    pub names: Vec<Name>,
    /// Types with objects, most bytes first; types of one name together.
    pub counts: Vec<TypeCount>,
    /// Live objects.
    pub objects: u64,
    /// Objects that only the lists of the garbage collector led to.
    pub reached: Sum,
    /// Each of them.
    pub reached_objects: Vec<Reached>,
    /// Immortal ones among them (3.12+).
    pub immortal: u64,
    /// Objects in the data of the interpreter and its extension modules by type, the most first;
    /// they are in no other figure. `None` before 3.12, where nothing tells them.
    pub statics: Option<Vec<(Name, u64)>>,
    /// Frozen by `gc.freeze`.
    pub frozen: u64,
    /// What is unreachable and not collected yet.
    pub garbage: Result<Garbage, Untold>,
    /// Blocks in use, by what they are.
    pub uses: BTreeMap<Use, Sum>,
    /// The largest objects, largest first.
    pub largest: Vec<Large>,
    /// The interpreters, the newest first.
    pub interpreters: Vec<Interpreter>,
    /// By size.
    pub size_classes: Vec<SizeClass>,
    /// By address.
    pub arenas: Vec<ArenaUse>,
    /// Blocks by domain, where the debug allocator is in use.
    pub domains: Option<BTreeMap<&'static str, Sum>>,
    /// Guards that were overwritten.
    pub damage: Vec<Damage>,
}

impl Census {
    /// Objects that the garbage collector knows, as far as they were recognised.
    #[must_use]
    pub fn gc_tracked(&self) -> u64 {
        self.counts.iter().map(|each| each.gc_tracked).sum()
    }

    /// The interpreters that have lists of their own.
    pub fn collectors(&self) -> impl Iterator<Item = &Interpreter> + Clone {
        let all = self.interpreters.iter();
        all.filter(|each| !each.shares_lists)
    }

    /// How many elements the generations of all interpreters have; `None` where a list is not whole.
    #[must_use]
    pub fn gc_listed(&self) -> Option<u64> {
        let of = |each: &Interpreter| {
            let lists = each
                .lists
                .filter(|lists| lists.all_closed() && !lists.collecting)?;
            Some(lists.generations.iter().map(|list| list.count).sum::<u64>())
        };
        self.collectors().map(of).sum()
    }
}

pub(crate) fn size_classes(blocks: &Blocks) -> Vec<SizeClass> {
    let mut classes: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
    for pool in blocks.pymalloc.pools.iter().filter(|pool| pool.size > 0) {
        let class = classes.entry(pool.size).or_default();
        let all = blocks.geometry.blocks(pool.size.into());
        class.0 += u64::from(pool.count);
        class.1 += all.saturating_sub(pool.count.into());
    }
    classes
        .into_iter()
        .map(|(block_bytes, (used, free))| SizeClass {
            block_bytes,
            used,
            free,
        })
        .collect()
}

/// `types` is how many there are.
pub(crate) fn arenas(blocks: &Blocks, types: usize) -> Vec<ArenaUse> {
    let mut by_type = vec![0_u64; types];
    let mut found = Vec::with_capacity(blocks.pymalloc.arenas.len());
    let pools = &blocks.pymalloc.pools;
    for arena in &blocks.pymalloc.arenas {
        let from = pools.partition_point(|pool| pool.addr.0 < arena.start);
        let to = pools.partition_point(|pool| pool.addr.0 < arena.end());
        let mut used_bytes = 0;
        by_type.fill(0);
        for (at, pool) in pools.iter().enumerate().take(to).skip(from) {
            used_bytes += u64::from(pool.count) * u64::from(pool.size);
            let first = blocks.first_of(at);
            for of in (first..first + pool.carved).filter_map(|index| blocks.type_of(index)) {
                by_type[of as usize] += u64::from(pool.size);
            }
        }
        let most = (0..).zip(&by_type).max_by_key(|(_, bytes)| **bytes);
        found.push(ArenaUse {
            start: arena.start,
            bytes: arena.len,
            used_bytes,
            pinned_by: most
                .filter(|(_, bytes)| **bytes > 0)
                .map_or(NO_TYPE, |(of, _)| of),
        });
    }
    found
}
