//! What is unreachable and not collected yet, where that can be told.

use std::cmp::Reverse;

use rustc_hash::FxHashMap;

use super::Taker;
use super::listed::GC_HEAD_BYTES;
use crate::figures::{Garbage, GarbageOf, Untold};
use crate::garbage::{self, Known, OfType};
use crate::gc::Collector;
use crate::malloc::Heap;
use crate::names::Name;
use crate::space::Space;

/// Why it cannot be told; `reached` are objects that are tracked and in no block.
pub(super) fn untold<B: AsRef<[u8]>>(
    space: &Space<B>,
    collectors: &[Collector],
    at_once: bool,
    reached: u64,
) -> Option<Untold> {
    let is_whole = collectors.iter().all(Collector::is_complete)
        && !collectors.is_empty()
        && space.absent().is_empty()
        && reached == 0;
    if !at_once {
        Some(Untold::Moving)
    } else if collectors.iter().any(|each| each.is_collecting(space)) {
        Some(Untold::Collecting)
    } else if !is_whole {
        Some(Untold::Incomplete)
    } else {
        None
    }
}

impl Taker<'_> {
    /// Garbage by number of the type.
    pub(super) fn garbage<B: AsRef<[u8]>>(
        &self,
        space: &Space<B>,
        heaps: &[Heap],
        collectors: &[Collector],
    ) -> FxHashMap<u32, OfType> {
        let known = Known {
            space,
            layout: self.layout,
            blocks: &self.blocks,
            types: &self.seen.types,
            heaps,
            collectors,
            debug: self.debug,
        };
        let listed = collectors.iter().flat_map(Collector::elements);
        let tracked = listed.filter(|(_, is_frozen)| !is_frozen);
        let objects = tracked.map(|(links, _)| links.0.saturating_add(GC_HEAD_BYTES));
        garbage::find(&known, objects)
    }
}

/// Types of one name together, most bytes first.
pub(super) fn by_name(names: &[Name], all: FxHashMap<u32, OfType>) -> Garbage {
    let mut by_name: FxHashMap<&Name, OfType> = FxHashMap::default();
    for (of, each) in all {
        if let Some(name) = names.get(of as usize) {
            let sum = by_name.entry(name).or_default();
            sum.count += each.count;
            sum.own_bytes += each.own_bytes;
        }
    }
    let mut types: Vec<GarbageOf> = by_name
        .into_iter()
        .map(|(name, sum)| GarbageOf {
            name: name.clone(),
            count: sum.count,
            own_bytes: sum.own_bytes,
        })
        .collect();
    types.sort_unstable_by(|a, b| {
        let key = |each: &GarbageOf| (Reverse(each.own_bytes), Reverse(each.count));
        key(a).cmp(&key(b)).then_with(|| a.name.cmp(&b.name))
    });
    Garbage {
        objects: types.iter().map(|each| each.count).sum(),
        own_bytes: types.iter().map(|each| each.own_bytes).sum(),
        types,
    }
}
