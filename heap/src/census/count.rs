//! Adds up.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use onlooker_unwinder::memory::RemoteAddr;
use rustc_hash::FxHashMap;

use super::garbage::by_name as garbage_by_name;
use super::listed::Listed;
use super::sums::Sums;
use super::{Taker, Tally};
use crate::blocks::Cursor;
use crate::figures::{Census, Large, Reached, Sum, TypeCount, Untold};
use crate::garbage::OfType;
use crate::malloc::Heap;
use crate::names::{self, Name};
use crate::owned;
use crate::space::Space;

/// Objects that are named one by one.
const LARGEST: usize = 20;

/// What was found beside what is tallied.
pub(super) struct Beside {
    pub(super) heaps: Vec<Heap>,
    pub(super) reached: (Sum, Vec<Reached>),
    /// By number of the type, as is the next.
    pub(super) statics: Option<FxHashMap<u32, u64>>,
    pub(super) garbage: Result<FxHashMap<u32, OfType>, Untold>,
    pub(super) sums: Sums,
}

impl Taker<'_> {
    /// Gives every object its separate blocks; the largest objects.
    pub(super) fn own<B: AsRef<[u8]>>(&mut self, space: &Space<B>) -> Vec<(u64, RemoteAddr, u32)> {
        self.tallies = vec![Tally::default(); self.seen.types.all().len()];
        let mut largest = BinaryHeap::new();
        // Damaged blocks with no object in them, whose owners are met on the way.
        let lost = self.seen.damage.iter().filter(|each| each.object.is_none());
        let mut lost: FxHashMap<u32, Option<(RemoteAddr, u32)>> =
            lost.map(|each| (each.block, None)).collect();
        let mut cursor = Cursor::default();
        while let Some(block) = cursor.next(&self.blocks) {
            let Some(of) = self.blocks.type_of(block.index) else {
                continue;
            };
            let addr = self.object_addr(space, block.addr, of);
            let mut own = block.bytes;
            let blocks = &mut self.blocks;
            let found = &self.seen.types.all()[of as usize];
            if owned::may_have_parts(found) {
                owned::parts(space, self.layout, found, addr, |part, what| {
                    let claimed = owned::claim(blocks, part, what);
                    own += claimed;
                    if claimed > 0
                        && !lost.is_empty()
                        && let Some(damaged) = blocks.locate(part)
                        && let Some(owner) = lost.get_mut(&damaged.index)
                    {
                        *owner = Some((addr, of));
                    }
                    claimed > 0
                });
                self.tallies[of as usize].own_bytes += own - block.bytes;
            }
            let each = Reverse((own, addr.0, of));
            if largest.len() < LARGEST {
                largest.push(each);
            } else if let Some(mut least) = largest.peek_mut()
                && each < *least
            {
                *least = each;
            }
        }
        for each in &mut self.seen.damage {
            let owner = lost.get(&each.block).copied().flatten();
            each.object = each.object.or(owner);
        }
        let mut largest: Vec<_> = largest.into_iter().map(|Reverse(each)| each).collect();
        largest.sort_unstable_by_key(|each| Reverse(*each));
        largest
            .into_iter()
            .map(|(own, addr, of)| (own, RemoteAddr(addr), of))
            .collect()
    }

    pub(super) fn finish<B: AsRef<[u8]>>(
        self,
        space: &Space<B>,
        large: Vec<(u64, RemoteAddr, u32)>,
        listed: Listed,
        beside: Beside,
    ) -> Census {
        let Beside {
            heaps,
            reached,
            statics,
            garbage,
            sums,
        } = beside;
        let is_named = |of: u32, tally: &Tally| {
            tally.count > 0 || statics.as_ref().is_some_and(|all| all.contains_key(&of))
        };
        let named = (0..).zip(self.seen.types.all().iter().zip(&self.tallies));
        let names: Vec<Name> = named
            .map(|(of, (found, tally))| {
                if is_named(of, tally) {
                    names::of(space, self.layout, found)
                } else {
                    Name {
                        module: String::new(),
                        qualname: String::new(),
                    }
                }
            })
            .collect();
        let statics = statics.map(|all| by_most(&names, all));
        let garbage = garbage.map(|all| garbage_by_name(&names, all));
        let mut by_name: FxHashMap<&Name, Tally> = FxHashMap::default();
        for (name, tally) in names.iter().zip(&self.tallies) {
            if tally.count == 0 {
                continue;
            }
            let sum = by_name.entry(name).or_default();
            sum.count += tally.count;
            sum.own_bytes += tally.own_bytes;
            sum.block_bytes += tally.block_bytes;
            sum.gc_tracked += tally.gc_tracked;
        }
        let mut counts: Vec<TypeCount> = by_name
            .into_iter()
            .map(|(name, tally)| TypeCount {
                name: name.clone(),
                count: tally.count,
                own_bytes: tally.own_bytes,
                block_bytes: tally.block_bytes,
                gc_tracked: tally.gc_tracked,
            })
            .collect();
        counts.sort_unstable_by(|a, b| {
            let key = |each: &TypeCount| (Reverse(each.own_bytes), Reverse(each.count));
            key(a).cmp(&key(b)).then_with(|| a.name.cmp(&b.name))
        });
        let domains = self.debug.then(|| self.seen.domains.into_iter().collect());
        Census {
            objects: counts.iter().map(|each| each.count).sum(),
            largest: large
                .into_iter()
                .map(|(own_bytes, addr, of)| Large {
                    addr,
                    name: names[of as usize].clone(),
                    own_bytes,
                })
                .collect(),
            size_classes: sums.size_classes,
            arenas: sums.arenas,
            blocks: self.blocks,
            heaps,
            types: self.seen.types,
            names,
            counts,
            reached: reached.0,
            reached_objects: reached.1,
            immortal: self.seen.immortal,
            statics,
            frozen: listed.frozen_count,
            garbage,
            uses: sums.uses,
            interpreters: listed.interpreters,
            domains,
            damage: self.seen.damage,
        }
    }
}

/// Counts by name, the most first; types of one name together.
fn by_most(names: &[Name], counts: FxHashMap<u32, u64>) -> Vec<(Name, u64)> {
    let mut by_name: FxHashMap<&Name, u64> = FxHashMap::default();
    for (of, count) in counts {
        if let Some(name) = names.get(of as usize) {
            *by_name.entry(name).or_default() += count;
        }
    }
    let mut all: Vec<(Name, u64)> = by_name
        .into_iter()
        .map(|(name, count)| (name.clone(), count))
        .collect();
    all.sort_unstable_by(|a, b| (Reverse(a.1), &a.0).cmp(&(Reverse(b.1), &b.0)));
    all
}
