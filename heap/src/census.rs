//! Every live object, counted by type.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use onlooker_unwinder::layout::Layout;
use onlooker_unwinder::memory::{Lookup, ReadMemory, RemoteAddr, u64_at};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::blocks::{Blocks, NO_TYPE, Use};
pub use crate::figures::{ArenaUse, Census, Interpreter, Large, SizeClass, Sum, TypeCount};
use crate::figures::{arenas, size_classes};
use crate::gc;
use crate::guards::{self, Domain, Violation};
use crate::malloc::{Heap, Malloc, Region, may_be_in_fast_bin};
use crate::names::{self, Name};
use crate::owned;
use crate::pymalloc::{Geometry, PoolState, Pymalloc, Roots, interpreters};
use crate::space::Space;
use crate::types::{Found, Types, is_immortal, is_live};

/// Objects that are named one by one.
const LARGEST: usize = 20;
/// Violations of guards that are told one by one.
const MAX_VIOLATIONS: usize = 1000;
/// Links of the garbage collector before an object.
const GC_HEAD_BYTES: u64 = 16;
/// Blocks that decide whether the debug allocator is in use.
const WITNESSES: usize = 256;

/// Both allocators, walked.
#[derive(Debug)]
pub struct Walk {
    /// Arenas and pools.
    pub pymalloc: Pymalloc,
    /// Chunks.
    pub malloc: Malloc,
    regions: Vec<Region>,
    geometry: Geometry,
}

impl Walk {
    /// Walks both allocators. `regions` are where malloc may be, by address.
    #[must_use]
    pub fn new<B: AsRef<[u8]>>(
        space: &Space<B>,
        layout: &Layout,
        roots: &Roots,
        regions: Vec<Region>,
    ) -> Self {
        let geometry = Geometry::of(layout.version);
        let pymalloc = Pymalloc::walk(space, layout, roots);
        let malloc = Malloc::walk(space, &regions, &pymalloc.arenas);
        Self {
            pymalloc,
            malloc,
            regions,
            geometry,
        }
    }

    /// What did not close, and is worth to be copied again: address and length.
    #[must_use]
    pub fn open(&self) -> Vec<(RemoteAddr, u64)> {
        let pools = self.pymalloc.inconsistent();
        let heaps = self.malloc.heaps.iter().filter(|heap| !heap.closed);
        pools
            .map(|pool| (pool.addr, self.geometry.pool_bytes))
            .chain(heaps.map(|heap| (RemoteAddr(heap.start), heap.end - heap.start)))
            .collect()
    }

    /// Looks at it again after it was copied again.
    pub fn again<B: AsRef<[u8]>>(&mut self, space: &Space<B>) {
        self.pymalloc.again(space, self.geometry);
        if self.malloc.heaps.iter().any(|heap| !heap.closed) {
            self.malloc = Malloc::walk(space, &self.regions, &self.pymalloc.arenas);
        }
    }
}

/// What is counted on the way, by number of the type.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    count: u64,
    own_bytes: u64,
    block_bytes: u64,
    gc_tracked: u64,
}

/// What the lists of the garbage collector say.
#[derive(Debug, Default)]
struct Listed {
    interpreters: Vec<Interpreter>,
    /// Blocks with a frozen object.
    frozen: FxHashSet<u32>,
    /// Frozen ones, those outside of blocks included.
    frozen_count: u64,
    /// Blocks with an object on a list.
    members: Vec<bool>,
    /// Links that lie in no block.
    outside: Vec<RemoteAddr>,
}

impl Listed {
    /// Whether an object is tracked exactly when it is on a list.
    fn is_complete(&self) -> bool {
        let mut lists = self.interpreters.iter().map(|each| each.lists);
        lists.all(|lists| lists.is_some_and(|lists| lists.all_closed()))
    }

    fn is_collecting(&self) -> bool {
        let mut lists = self.interpreters.iter().map(|each| each.lists);
        lists.any(|lists| lists.is_none_or(|lists| lists.collecting))
    }
}

struct Taker<'a, B> {
    space: &'a Space<B>,
    layout: &'a Layout,
    blocks: Blocks,
    types: Types,
    tallies: Vec<Tally>,
    debug: bool,
    immortal: u64,
    domains: FxHashMap<&'static str, Sum>,
    violations: Vec<(Violation, Option<u32>)>,
}

impl Census {
    /// Takes it. `memory` gives what of names was not copied.
    pub fn take<B: AsRef<[u8]>, M: ReadMemory>(
        space: &mut Space<B>,
        memory: &mut M,
        layout: &Layout,
        roots: &Roots,
        walk: Walk,
    ) -> Self {
        let geometry = walk.geometry;
        let types = Types::new(layout.version, &walk.pymalloc.arenas);
        let heaps = walk.malloc.heaps;
        let blocks = Blocks::new(walk.pymalloc, walk.malloc.chunks, geometry);
        let mut taker = Taker {
            space,
            layout,
            debug: is_debug(space, &blocks),
            blocks,
            types,
            tallies: Vec::new(),
            immortal: 0,
            domains: FxHashMap::default(),
            violations: Vec::new(),
        };
        taker.type_blocks();
        let Taker {
            blocks,
            types,
            debug,
            immortal,
            domains,
            violations,
            ..
        } = taker;
        names::fetch(space, memory, types.all());
        let mut taker = Taker {
            space,
            layout,
            blocks,
            types,
            tallies: Vec::new(),
            debug,
            immortal,
            domains,
            violations,
        };
        taker.types.find_shapes(space);
        let lists = taker.lists(roots);
        taker.drop_look_alikes(&lists);
        let large = taker.count(&lists);
        let reached = taker.reach(&lists.outside);
        taker.finish(heaps, large, lists, reached)
    }
}

impl<B: AsRef<[u8]>> Taker<'_, B> {
    /// Says of every block in use whether it is an object.
    fn type_blocks(&mut self) {
        let mut scratch = Vec::new();
        for at in 0..self.blocks.pymalloc.pools.len() {
            let pool = self.blocks.pymalloc.pools[at];
            if pool.carved == 0 {
                continue;
            }
            let free =
                crate::pymalloc::free_bits(self.space, self.blocks.geometry, &pool, &mut scratch);
            let pool_bytes = self.blocks.geometry.pool_bytes as usize;
            let Some(bytes) = self.space.zeroed(pool.addr, pool_bytes, &mut scratch) else {
                continue;
            };
            let first = self.blocks.first_of(at);
            for index in 0..pool.carved {
                if free.get(index as usize) {
                    continue;
                }
                let from = (pool.block(index).0 - pool.addr.0) as usize;
                let Some(block) = bytes.get(from..from + pool.size as usize) else {
                    break;
                };
                let (what, of) = self.look(pool.block(index), block);
                let number = (first + index) as usize;
                self.blocks.uses[number] = what;
                self.blocks.types[number] = of;
            }
        }
        for at in 0..self.blocks.chunks.len() {
            let chunk = self.blocks.chunks[at];
            if !chunk.in_use {
                continue;
            }
            // The last word of a chunk is the first of the next one's header.
            let len = chunk.bytes.saturating_sub(8) as usize;
            let tail = self.space.tail(chunk.addr);
            let block = tail.get(..len).unwrap_or(tail);
            let (what, of) = if self.debug && !guards::is_block(block) {
                // What the program took from malloc itself has no header.
                (Use::Unowned, NO_TYPE)
            } else {
                // An object whose end is not resident is one all the same.
                self.look(chunk.addr, block)
            };
            let (what, of) = match u64_at(block, 0) {
                // No count of references is a link; other objects have lost theirs when they are freed.
                Some(word)
                    if what == Use::Object
                        && self.types.all()[of as usize].distance == 0
                        && !self.debug
                        && may_be_in_fast_bin(&self.blocks.chunks, &chunk, word) =>
                {
                    (Use::Parked, NO_TYPE)
                }
                _ => (what, of),
            };
            let number = self.blocks.of_chunk(at) as usize;
            self.blocks.uses[number] = what;
            self.blocks.types[number] = of;
        }
    }

    /// What a block in use is, from its bytes.
    fn look(&mut self, addr: RemoteAddr, block: &[u8]) -> (Use, u32) {
        let mut data = block;
        if self.debug {
            let violation = guards::check(addr, block);
            let (at, header) = match guards::data(block) {
                Some((at, header)) => (at, Some(header)),
                None => (guards::HEADER_BYTES, None),
            };
            data = block.get(at as usize..).unwrap_or_default();
            if let Some(header) = header {
                let sum = self.domains.entry(header.domain.name()).or_default();
                sum.count += 1;
                sum.bytes += header.len;
            }
            let domain = header.map(|header| header.domain);
            let found = match domain {
                Some(Domain::Raw | Domain::Mem) => Found::Nothing,
                Some(Domain::Object) | None => self.types.of_block(self.space, data),
            };
            if let Some(violation) = violation
                && self.violations.len() < MAX_VIOLATIONS
            {
                let of = match found {
                    Found::Object(of) => Some(of),
                    _ => None,
                };
                self.violations.push((violation, of));
            }
            return self.as_use(found, data);
        }
        let found = self.types.of_block(self.space, data);
        self.as_use(found, data)
    }

    fn as_use(&mut self, found: Found, data: &[u8]) -> (Use, u32) {
        match found {
            Found::Object(of) => {
                let distance = self.types.all()[of as usize].distance;
                let count = u64_at(data, distance).unwrap_or_default();
                self.immortal += u64::from(is_immortal(self.layout.version, count));
                (Use::Object, of)
            }
            Found::Parked => (Use::Parked, NO_TYPE),
            Found::Nothing => (Use::Unowned, NO_TYPE),
        }
    }

    fn object_addr(&self, block: RemoteAddr, of: u32) -> RemoteAddr {
        let header = if self.debug {
            let block = self.space.tail(block);
            guards::data(block).map_or(guards::HEADER_BYTES, |(at, _)| at)
        } else {
            0
        };
        let distance = self.types.all()[of as usize].distance;
        RemoteAddr(block.0 + header + distance)
    }

    /// Gives every object its separate blocks, then adds up; the largest objects.
    fn count(&mut self, lists: &Listed) -> Vec<(u64, RemoteAddr, u32)> {
        self.tallies = vec![Tally::default(); self.types.all().len()];
        let objects: Vec<(u32, RemoteAddr, u64)> = self
            .blocks
            .iter()
            .filter(|block| self.blocks.use_of(block.index) == Use::Object)
            .map(|block| (block.index, block.addr, block.bytes))
            .collect();
        let mut largest = BinaryHeap::new();
        for &(index, block, bytes) in &objects {
            let of = self.blocks.types[index as usize];
            if of == NO_TYPE {
                continue;
            }
            let addr = self.object_addr(block, of);
            let mut own = bytes;
            let blocks = &mut self.blocks;
            let found = &self.types.all()[of as usize];
            owned::parts(self.space, self.layout, found, addr, |part, what| {
                own += owned::claim(blocks, part, what);
            });
            self.tallies[of as usize].own_bytes += own - bytes;
            largest.push(Reverse((own, addr.0, of)));
            if largest.len() > LARGEST {
                largest.pop();
            }
        }
        for &(index, block, bytes) in &objects {
            let of = self.blocks.types[index as usize];
            // A table that looked like an object.
            if of == NO_TYPE {
                continue;
            }
            let tracked = self.types.all()[of as usize].has_gc()
                && !lists.frozen.contains(&index)
                && self.links(self.object_addr(block, of)).is_some();
            let tally = &mut self.tallies[of as usize];
            tally.count += 1;
            tally.block_bytes += bytes;
            tally.own_bytes += bytes;
            tally.gc_tracked += u64::from(tracked);
        }
        let mut largest: Vec<_> = largest.into_iter().map(|Reverse(each)| each).collect();
        largest.sort_unstable_by_key(|each| Reverse(*each));
        largest
            .into_iter()
            .map(|(own, addr, of)| (own, RemoteAddr(addr), of))
            .collect()
    }

    /// The links of an object that is tracked.
    fn links(&self, object: RemoteAddr) -> Option<RemoteAddr> {
        let links = RemoteAddr(object.0.checked_sub(GC_HEAD_BYTES)?);
        // `_gc_next` is 0 in an object that is not tracked, and never else.
        self.space.u64(links).filter(|next| *next != 0)?;
        Some(links)
    }

    /// The lists of every interpreter.
    fn lists(&self, roots: &Roots) -> Listed {
        let mut listed = Listed {
            members: vec![false; self.blocks.uses.len()],
            ..Listed::default()
        };
        let (space, layout) = (self.space, self.layout);
        for addr in interpreters(space, layout, roots.runtime) {
            let id = addr
                .offset(layout.interpreter.id)
                .and_then(|at| space.u64(at));
            let lists = gc::lists(space, layout, roots.runtime, addr, |links, is_frozen| {
                listed.frozen_count += u64::from(is_frozen);
                match self.blocks.locate(links) {
                    Some(block) => {
                        listed.members[block.index as usize] = true;
                        if is_frozen {
                            listed.frozen.insert(block.index);
                        }
                    }
                    None => listed.outside.push(links),
                }
            });
            listed.interpreters.push(Interpreter {
                id: id.unwrap_or_default().cast_signed(),
                lists,
            });
        }
        listed
    }

    /// Takes back what only looked like an object: one that is tracked is on a list, or at least
    /// one of its neighbours knows it where the lists changed while they were copied.
    fn drop_look_alikes(&mut self, listed: &Listed) {
        if listed.is_collecting() {
            return;
        }
        let complete = listed.is_complete();
        let mut look_alikes = Vec::new();
        for block in self.blocks.iter() {
            let of = self.blocks.types[block.index as usize];
            if of == NO_TYPE || !self.types.all()[of as usize].has_gc() {
                continue;
            }
            let Some(links) = self.links(self.object_addr(block.addr, of)) else {
                continue;
            };
            let known = listed.members[block.index as usize]
                || (!complete && gc::is_linked(self.space, links));
            if !known {
                look_alikes.push(block.index as usize);
            }
        }
        for index in look_alikes {
            self.blocks.uses[index] = Use::Unowned;
            self.blocks.types[index] = NO_TYPE;
        }
    }

    /// Counts objects on a list that are in no block that was walked, by what their types say of
    /// their size.
    fn reach(&mut self, outside: &[RemoteAddr]) -> Sum {
        let mut reached = Sum::default();
        for links in outside {
            let object = RemoteAddr(links.0 + GC_HEAD_BYTES);
            let Some(head) = self.space.bytes(object, 24) else {
                continue;
            };
            let word = |offset| u64_at(head, offset).unwrap_or_default();
            let Some(of) = self.types.at(self.space, word(8)) else {
                continue;
            };
            if !is_live(self.layout.version, word(0)) {
                continue;
            }
            let found = &self.types.all()[of as usize];
            let items = if found.item_bytes > 0 { word(16) } else { 0 };
            let items = items.cast_signed().unsigned_abs().min(1 << 32);
            let bytes = found.distance + found.basic_bytes + items.saturating_mul(found.item_bytes);
            self.tallies
                .resize(self.types.all().len(), Tally::default());
            let tally = &mut self.tallies[of as usize];
            tally.count += 1;
            tally.gc_tracked += 1;
            tally.own_bytes += bytes;
            tally.block_bytes += bytes;
            reached.count += 1;
            reached.bytes += bytes;
        }
        reached
    }

    fn finish(
        self,
        heaps: Vec<Heap>,
        large: Vec<(u64, RemoteAddr, u32)>,
        listed: Listed,
        reached: Sum,
    ) -> Census {
        let named = self.types.all().iter().zip(&self.tallies);
        let names: Vec<Name> = named
            .map(|(found, tally)| {
                if tally.count > 0 {
                    names::of(self.space, self.layout, found)
                } else {
                    Name {
                        module: String::new(),
                        qualname: String::new(),
                    }
                }
            })
            .collect();
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
        let mut uses: BTreeMap<Use, Sum> = BTreeMap::new();
        for block in self.blocks.iter() {
            let what = self.blocks.use_of(block.index);
            if what != Use::Free {
                let sum = uses.entry(what).or_default();
                sum.count += 1;
                sum.bytes += block.bytes;
            }
        }
        let domains = self.debug.then(|| self.domains.into_iter().collect());
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
            size_classes: size_classes(&self.blocks),
            arenas: arenas(&self.blocks),
            blocks: self.blocks,
            heaps,
            types: self.types,
            names,
            counts,
            reached,
            immortal: self.immortal,
            frozen: listed.frozen_count,
            uses,
            interpreters: listed.interpreters,
            domains,
            violations: self.violations,
        }
    }
}

/// Whether blocks have headers of the debug allocator.
fn is_debug<B: AsRef<[u8]>>(space: &Space<B>, blocks: &Blocks) -> bool {
    let pools = &blocks.pymalloc.pools;
    let mut scratch = Vec::new();
    let mut seen = 0;
    let mut with_header = 0;
    let step = (pools.len() / WITNESSES).max(1);
    let whole = pools.iter().filter(|pool| pool.state == PoolState::Whole);
    for pool in whole.step_by(step) {
        let free = crate::pymalloc::free_bits(space, blocks.geometry, pool, &mut scratch);
        let first = (0..pool.carved).find(|index| !free.get(*index as usize));
        let Some(block) = first
            .and_then(|index| space.zeroed(pool.block(index), pool.size as usize, &mut scratch))
        else {
            continue;
        };
        seen += 1;
        with_header += usize::from(guards::header(block).is_some());
    }
    if seen > 0 {
        return 2 * with_header > seen;
    }
    // No pymalloc: `PYTHONMALLOC=malloc_debug` has headers on malloc's own chunks.
    let used: Vec<_> = blocks.chunks.iter().filter(|chunk| chunk.in_use).collect();
    let with_header = used.iter().filter(|chunk| {
        let tail = space.tail(chunk.addr);
        let len = chunk.bytes.saturating_sub(8) as usize;
        guards::header(tail.get(..len).unwrap_or(tail)).is_some()
    });
    2 * with_header.count() > used.len() && !used.is_empty()
}
