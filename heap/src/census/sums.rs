//! One pass over all blocks, whose owners are known by now.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use super::listed::Listed;
use super::{Taker, Tally};
use crate::blocks::Use;
use crate::figures::{ArenaUse, Share, SizeClass, Sum, arenas, size_classes};
use crate::gc::Collector;
use crate::space::Space;

/// What the blocks add up to.
pub(super) struct Sums {
    /// By number of the type, without what objects own beside their blocks.
    pub(super) tallies: Vec<Tally>,
    pub(super) uses: BTreeMap<Use, Sum>,
    pub(super) size_classes: Vec<SizeClass>,
    pub(super) arenas: Vec<ArenaUse>,
    /// By interpreter.
    pub(super) shares: FxHashMap<i64, Share>,
}

impl Taker<'_> {
    pub(super) fn sums<B: AsRef<[u8]>>(
        &self,
        space: &Space<B>,
        collectors: &[Collector],
        lists: &Listed,
    ) -> Sums {
        let types = self.seen.types.all().len();
        let mut tallies = vec![Tally::default(); types];
        let mut uses = BTreeMap::new();
        let mut others = [(); Use::Unowned as usize + 1].map(|()| Sum::default());
        for block in self.blocks.iter() {
            let Some(of) = self.blocks.type_of(block.index) else {
                let sum = &mut others[self.blocks.use_of(block.index) as usize];
                sum.count += 1;
                sum.bytes += block.bytes;
                continue;
            };
            let tracked = self.seen.tracked.get(block.index) && !lists.frozen.get(block.index);
            let tally = &mut tallies[of as usize];
            tally.count += 1;
            tally.block_bytes += block.bytes;
            tally.gc_tracked += u64::from(tracked);
        }
        for what in Use::ALL {
            let sum = if what == Use::Object {
                Sum {
                    count: tallies.iter().map(|tally| tally.count).sum(),
                    bytes: tallies.iter().map(|tally| tally.block_bytes).sum(),
                }
            } else {
                others[what as usize]
            };
            if sum.count > 0 && what != Use::Free {
                uses.insert(what, sum);
            }
        }
        Sums {
            tallies,
            uses,
            size_classes: size_classes(&self.blocks),
            arenas: arenas(&self.blocks, types),
            shares: self.shares(space, collectors),
        }
    }
}
