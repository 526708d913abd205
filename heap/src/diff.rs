//! What changed between two censuses.
//!
//! By type, by module and by arena the figures of both stand side by side. Of one process, objects
//! are told apart too: one that has the same address, a type of the same address and name, a block
//! of the same size and, where its type has items, as many of them as before, is taken for the same
//! one; of an object that only the lists of the garbage collector led to no block is known, and the
//! rest tells it. (An object that was freed and whose block went to another like it cannot be told from it.)

use std::cmp::Reverse;
use std::collections::BTreeMap;

use onlooker_unwinder::memory::{Lookup, RemoteAddr};
use rustc_hash::FxHashMap;

use crate::census::Census;
use crate::names::Name;
use crate::objects::Object;
use crate::space::Space;

/// `ob_size` of `PyVarObject`; in an `int` of 3.12+ `lv_tag`, which does not change either.
const SIZE: u64 = 16;

/// A census and the memory that it is of.
#[derive(Debug)]
pub struct Side<'a, B> {
    /// The figures.
    pub census: &'a Census,
    /// The memory.
    pub space: &'a Space<B>,
}

/// Count and bytes, before and after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// How many.
    pub count: [u64; 2],
    /// Their bytes.
    pub bytes: [u64; 2],
}

impl Change {
    fn add(&mut self, side: usize, count: u64, bytes: u64) {
        self.count[side] += count;
        self.bytes[side] += bytes;
    }

    /// How many more there are.
    #[must_use]
    pub fn count_gained(&self) -> i64 {
        self.count[1]
            .cast_signed()
            .wrapping_sub(self.count[0].cast_signed())
    }

    /// How many bytes more they have.
    #[must_use]
    pub fn bytes_gained(&self) -> i64 {
        self.bytes[1]
            .cast_signed()
            .wrapping_sub(self.bytes[0].cast_signed())
    }

    /// Largest first.
    fn rank(&self) -> impl Ord + use<> {
        let bytes = self.bytes_gained().unsigned_abs();
        Reverse((bytes, self.count_gained().unsigned_abs()))
    }
}

/// Objects that are in one census only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moves {
    /// In the later one only.
    pub appeared: u64,
    /// In the earlier one only.
    pub gone: u64,
}

/// What changed of one type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeChange {
    /// Its name.
    pub name: Name,
    /// Live objects and their own bytes.
    pub change: Change,
    /// `None` where the two are not of one process.
    pub moves: Option<Moves>,
}

/// What changed. Each list has the largest change of bytes first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// By type.
    pub types: Vec<TypeChange>,
    /// By module of the type.
    pub modules: Vec<(String, Change)>,
    /// Blocks in use and their bytes by arena, which is known by its address. `None` where the two
    /// are not of one process.
    pub arenas: Option<Vec<(u64, Change)>>,
}

/// Compares two censuses; `one_process` says whether addresses mean the same in both.
#[must_use]
pub fn diff<A: AsRef<[u8]>, B: AsRef<[u8]>>(
    before: &Side<A>,
    after: &Side<B>,
    one_process: bool,
) -> Difference {
    let mut moves = one_process.then(|| moves(before, after));
    let mut types: BTreeMap<&Name, Change> = BTreeMap::new();
    let mut modules: BTreeMap<&str, Change> = BTreeMap::new();
    for (side, census) in [before.census, after.census].into_iter().enumerate() {
        for each in &census.counts {
            let change = types.entry(&each.name).or_default();
            change.add(side, each.count, each.own_bytes);
            let change = modules.entry(&each.name.module).or_default();
            change.add(side, each.count, each.own_bytes);
        }
    }
    let types = types.into_iter().map(|(name, change)| TypeChange {
        moves: moves
            .as_mut()
            .map(|moves| moves.remove(name).unwrap_or_default()),
        name: name.clone(),
        change,
    });
    let mut types: Vec<TypeChange> = types.collect();
    types.sort_by_key(|each| each.change.rank());
    let modules = modules
        .into_iter()
        .map(|(name, change)| (name.to_owned(), change));
    let mut modules: Vec<_> = modules.collect();
    modules.sort_by_key(|(_, change)| change.rank());
    Difference {
        types,
        modules,
        arenas: one_process.then(|| arenas(before.census, after.census)),
    }
}

fn arenas(before: &Census, after: &Census) -> Vec<(u64, Change)> {
    let mut arenas: BTreeMap<u64, Change> = BTreeMap::new();
    for (side, census) in [before, after].into_iter().enumerate() {
        let pools = &census.blocks.pymalloc.pools;
        for arena in &census.blocks.pymalloc.arenas {
            let from = pools.partition_point(|pool| pool.addr.0 < arena.start);
            let to = pools.partition_point(|pool| pool.addr.0 < arena.end());
            let change = arenas.entry(arena.start).or_default();
            for pool in &pools[from..to.max(from)] {
                let count = u64::from(pool.count);
                change.add(side, count, count * u64::from(pool.size));
            }
        }
    }
    let mut arenas: Vec<_> = arenas.into_iter().collect();
    arenas.sort_by_key(|(_, change)| change.rank());
    arenas
}

/// What is in one census only, by type: both tell their objects in the same order.
fn moves<'a, A: AsRef<[u8]>, B: AsRef<[u8]>>(
    before: &'a Side<A>,
    after: &'a Side<B>,
) -> FxHashMap<&'a Name, Moves> {
    let mut gone = vec![0_u64; before.census.types.all().len()];
    let mut appeared = vec![0_u64; after.census.types.all().len()];
    let twins = twins(before.census, after.census);
    let mut old_reached = reached(before.census);
    let mut new_reached = reached(after.census);
    let mut old = before.census.objects_in(before.space).peekable();
    let mut new = after.census.objects_in(after.space).peekable();
    let is_same = |addr, old: u32, new: u32| {
        let is_twin = twins[old as usize] == Some(new);
        is_twin && items(before, addr, old) == items(after, addr, new)
    };
    let place = |census: &Census, object: &Object| {
        (census.blocks.is_chunk(object.block.index), object.addr)
    };
    loop {
        let order = match (old.peek(), new.peek()) {
            (Some(old), Some(new)) => place(before.census, old).cmp(&place(after.census, new)),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (None, None) => break,
        };
        let old = if order.is_le() { old.next() } else { None };
        let new = if order.is_ge() { new.next() } else { None };
        if let (Some(old), Some(new)) = (old, new)
            && twins[old.of as usize] == Some(new.of)
            && old.block.bytes == new.block.bytes
            && items(before, old.addr, old.of) == items(after, new.addr, new.of)
        {
            continue;
        }
        // A block that was not walked on the other side, where a list led to its object.
        if let Some(old) = old {
            let there = new_reached.get(&old.addr).copied();
            if there.is_some_and(|new| is_same(old.addr, old.of, new)) {
                new_reached.remove(&old.addr);
            } else {
                gone[old.of as usize] += 1;
            }
        }
        if let Some(new) = new {
            let there = old_reached.get(&new.addr).copied();
            if there.is_some_and(|old| is_same(new.addr, old, new.of)) {
                old_reached.remove(&new.addr);
            } else {
                appeared[new.of as usize] += 1;
            }
        }
    }
    for (addr, old) in old_reached {
        let there = new_reached.get(&addr).copied();
        if there.is_some_and(|new| is_same(addr, old, new)) {
            new_reached.remove(&addr);
        } else {
            gone[old as usize] += 1;
        }
    }
    for new in new_reached.into_values() {
        appeared[new as usize] += 1;
    }
    let mut moves: FxHashMap<&Name, Moves> = FxHashMap::default();
    for (name, count) in before.census.names.iter().zip(gone) {
        moves.entry(name).or_default().gone += count;
    }
    for (name, count) in after.census.names.iter().zip(appeared) {
        moves.entry(name).or_default().appeared += count;
    }
    moves
}

/// The types of objects in no block, by address.
fn reached(census: &Census) -> FxHashMap<RemoteAddr, u32> {
    let reached = census.reached_objects.iter();
    reached.map(|each| (each.addr, each.of)).collect()
}

/// The later number of each earlier type.
fn twins(before: &Census, after: &Census) -> Vec<Option<u32>> {
    let key = |census: &Census, at: usize| (census.types.all()[at].addr, census.names[at].clone());
    let later: FxHashMap<_, u32> = (0..after.names.len())
        .zip(0..)
        .map(|(at, number)| (key(after, at), number))
        .collect();
    (0..before.names.len())
        .map(|at| later.get(&key(before, at)).copied())
        .collect()
}

/// How many items an object has, where that never changes.
fn items<B: AsRef<[u8]>>(side: &Side<B>, addr: RemoteAddr, of: u32) -> Option<u64> {
    let found = &side.census.types.all()[of as usize];
    if found.item_bytes == 0 {
        return None;
    }
    side.space.u64(addr.offset(SIZE)?)
}
