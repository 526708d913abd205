//! Which blocks in use are objects.

use std::num::NonZero;
use std::thread;

use onlooker_unwinder::layout::Minor;
use onlooker_unwinder::memory::{RemoteAddr, u64_at};
use rustc_hash::FxHashMap;

use super::listed::GC_HEAD_BYTES;
use super::{MAX_DAMAGE, Taker};
use crate::bits::Bits;
use crate::blocks::{Blocks, NO_TYPE, Part, Use};
use crate::figures::{Damage, Sum};
use crate::guards::{self, Domain};
use crate::malloc::may_be_in_fast_bin;
use crate::objects;
use crate::pymalloc::{Geometry, PoolState};
use crate::space::Space;
use crate::types::{Found, Types, is_immortal};

/// Blocks that decide whether the debug allocator is in use.
const WITNESSES: usize = 256;
/// More do not look faster: they wait for memory.
const MAX_THREADS: usize = 4;

/// What was seen of blocks by one thread.
#[derive(Debug)]
pub(super) struct Seen {
    version: Minor,
    /// Whether blocks have headers of the debug allocator.
    debug: bool,
    pub(super) types: Types,
    pub(super) immortal: u64,
    pub(super) domains: FxHashMap<&'static str, Sum>,
    pub(super) damage: Vec<Damage>,
    /// Blocks with an object whose links of the collector are not 0, which is what tracked means.
    pub(super) tracked: Bits,
}

impl Seen {
    pub(super) fn new(version: Minor, debug: bool, types: Types, blocks: usize) -> Self {
        Self {
            version,
            debug,
            types,
            immortal: 0,
            domains: FxHashMap::default(),
            damage: Vec::new(),
            tracked: Bits::none_of(blocks),
        }
    }

    /// Adds what another thread saw behind it. The numbers of its types here, each at the place of its
    /// number there: those that one thread would have given them.
    fn add<B: AsRef<[u8]>>(&mut self, space: &Space<B>, other: &Self) -> Vec<u32> {
        let types = other.types.all().iter();
        let numbers: Vec<u32> = types
            .map(|of| self.types.at(space, of.addr.0).unwrap_or(NO_TYPE))
            .collect();
        self.immortal += other.immortal;
        for (domain, more) in &other.domains {
            let sum = self.domains.entry(domain).or_default();
            sum.count += more.count;
            sum.bytes += more.bytes;
        }
        let room = MAX_DAMAGE.saturating_sub(self.damage.len());
        let more = other.damage.iter().take(room);
        self.damage.extend(more.map(|each| Damage {
            object: each.object.and_then(|(object, of)| {
                let of = numbers.get(of as usize).copied()?;
                Some((object, of))
            }),
            ..each.clone()
        }));
        self.tracked.add(&other.tracked);
        numbers
    }

    /// Looks at all blocks in use of some pools.
    fn pools<B: AsRef<[u8]>>(&mut self, space: &Space<B>, geometry: Geometry, part: &mut Part<'_>) {
        let mut scratch = Vec::new();
        let mut first = part.first;
        for pool in part.pools.iter().filter(|pool| pool.carved > 0) {
            let from = first;
            first += pool.carved;
            let free = crate::pymalloc::free_bits(space, geometry, pool, &mut scratch);
            let bytes = space.zeroed(pool.addr, geometry.pool_bytes as usize, &mut scratch);
            let Some(bytes) = bytes else { continue };
            for index in (0..pool.carved).filter(|index| !free.get(*index as usize)) {
                let at = (pool.block(index).0 - pool.addr.0) as usize;
                let Some(block) = bytes.get(at..at + pool.size as usize) else {
                    break;
                };
                let (what, of) = self.look(space, pool.block(index), from + index, block);
                part.set(from + index, what, of);
            }
        }
    }

    /// What a block in use is, from its bytes.
    fn look<B: AsRef<[u8]>>(
        &mut self,
        space: &Space<B>,
        addr: RemoteAddr,
        index: u32,
        block: &[u8],
    ) -> (Use, u32) {
        let mut data = block;
        if self.debug {
            let header = guards::data(block);
            let at = header.map_or(guards::HEADER_BYTES, |data| data.at);
            let domain = header.and_then(|data| data.domain);
            data = block.get(at as usize..).unwrap_or_default();
            if let Some((domain, header)) = domain.zip(header) {
                let sum = self.domains.entry(domain.name()).or_default();
                sum.count += 1;
                sum.bytes += header.len;
            }
            let found = match domain {
                Some(Domain::Raw | Domain::Mem) => Found::Nothing,
                Some(Domain::Object) | None => self.types.of_block(space, data),
            };
            for violation in guards::check(addr, block) {
                if self.damage.len() >= MAX_DAMAGE {
                    break;
                }
                let object = match found {
                    Found::Object(of) => {
                        let distance = self.types.all()[of as usize].distance;
                        addr.offset(at + distance).zip(Some(of))
                    }
                    _ => None,
                };
                self.damage.push(Damage {
                    violation,
                    block: index,
                    object,
                });
            }
            return self.as_use(found, index, data);
        }
        let found = self.types.of_block(space, data);
        self.as_use(found, index, data)
    }

    #[inline]
    fn as_use(&mut self, found: Found, index: u32, data: &[u8]) -> (Use, u32) {
        match found {
            Found::Object(of) => {
                let found = &self.types.all()[of as usize];
                let distance = found.distance;
                // `_gc_next` is 0 in an object that is not tracked, and never else. Noted while the
                // block is at hand, for a second pass over all memory costs more than all else of it.
                if found.has_gc()
                    && distance
                        .checked_sub(GC_HEAD_BYTES)
                        .and_then(|at| u64_at(data, at))
                        .is_some_and(|next| next != 0)
                {
                    self.tracked.set(index);
                }
                let count = u64_at(data, distance).unwrap_or_default();
                self.immortal += u64::from(is_immortal(self.version, count));
                (Use::Object, of)
            }
            Found::Parked => (Use::Parked, NO_TYPE),
            Found::Nothing => (Use::Unowned, NO_TYPE),
        }
    }
}

impl Taker<'_> {
    /// Says of every block in use whether it is an object.
    pub(super) fn type_blocks<B: AsRef<[u8]>>(&mut self, space: &Space<B>) {
        let count = self.blocks.count();
        let geometry = self.blocks.geometry;
        let (version, debug) = (self.layout.version, self.debug);
        let none = self.seen.types.clone();
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        let parts = self.blocks.split(threads.min(MAX_THREADS));
        let done: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = parts
                .into_iter()
                .map(|mut part| {
                    let space = space.share();
                    let mut seen = Seen::new(version, debug, none.clone(), count);
                    scope.spawn(move || {
                        seen.pools(&space, geometry, &mut part);
                        (seen, part)
                    })
                })
                .collect();
            let joined = threads.into_iter().map(|thread| match thread.join() {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            let numbered = joined.map(|(seen, part)| {
                let numbers = self.seen.add(space, &seen);
                part.finish(&numbers)
            });
            numbered.collect()
        });
        done.into_iter().for_each(|many| self.blocks.join(many));
        self.type_chunks(space);
    }

    fn type_chunks<B: AsRef<[u8]>>(&mut self, space: &Space<B>) {
        for at in 0..self.blocks.chunks.len() {
            let chunk = self.blocks.chunks[at];
            let index = self.blocks.of_chunk(at);
            if !chunk.in_use {
                continue;
            }
            // The last word of a chunk is the first of the next one's header.
            let len = chunk.bytes.saturating_sub(8) as usize;
            let tail = space.tail(chunk.addr);
            let block = tail.get(..len).unwrap_or(tail);
            let (what, of) = if self.debug && !guards::is_block(block) {
                // What the program took from malloc itself has no header.
                (Use::Unowned, NO_TYPE)
            } else {
                // An object whose end is not resident is one all the same.
                self.seen.look(space, chunk.addr, index, block)
            };
            let (what, of) = match u64_at(block, 0) {
                // No count of references is a link; other objects have lost theirs when they are freed.
                Some(word)
                    if what == Use::Object
                        && self.seen.types.all()[of as usize].distance == 0
                        && !self.debug
                        && may_be_in_fast_bin(&self.blocks.chunks, &chunk, word) =>
                {
                    (Use::Parked, NO_TYPE)
                }
                _ => (what, of),
            };
            self.blocks.set(index, what, of);
        }
    }

    pub(super) fn object_addr<B: AsRef<[u8]>>(
        &self,
        space: &Space<B>,
        block: RemoteAddr,
        of: u32,
    ) -> RemoteAddr {
        objects::addr(
            space,
            self.debug,
            block,
            &self.seen.types.all()[of as usize],
        )
    }
}

/// Whether blocks have headers of the debug allocator.
pub(super) fn is_debug<B: AsRef<[u8]>>(space: &Space<B>, blocks: &Blocks) -> bool {
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
