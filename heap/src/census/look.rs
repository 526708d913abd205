//! Which blocks in use are objects.

use onlooker_unwinder::memory::{RemoteAddr, u64_at};

use super::listed::GC_HEAD_BYTES;
use super::{MAX_VIOLATIONS, Taker};
use crate::blocks::{Blocks, NO_TYPE, Use};
use crate::guards::{self, Domain};
use crate::malloc::may_be_in_fast_bin;
use crate::objects;
use crate::pymalloc::PoolState;
use crate::space::Space;
use crate::types::{Found, is_immortal};

/// Blocks that decide whether the debug allocator is in use.
const WITNESSES: usize = 256;

impl Taker<'_> {
    /// Says of every block in use whether it is an object.
    pub(super) fn type_blocks<B: AsRef<[u8]>>(&mut self, space: &Space<B>) {
        let mut scratch = Vec::new();
        for at in 0..self.blocks.pymalloc.pools.len() {
            let pool = self.blocks.pymalloc.pools[at];
            if pool.carved == 0 {
                continue;
            }
            let free = crate::pymalloc::free_bits(space, self.blocks.geometry, &pool, &mut scratch);
            let pool_bytes = self.blocks.geometry.pool_bytes as usize;
            let Some(bytes) = space.zeroed(pool.addr, pool_bytes, &mut scratch) else {
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
                let (what, of) = self.look(space, pool.block(index), first + index, block);
                self.blocks.set(first + index, what, of);
            }
        }
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
                self.look(space, chunk.addr, index, block)
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
            self.blocks.set(index, what, of);
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
                Some(Domain::Object) | None => self.types.of_block(space, data),
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
                self.immortal += u64::from(is_immortal(self.layout.version, count));
                (Use::Object, of)
            }
            Found::Parked => (Use::Parked, NO_TYPE),
            Found::Nothing => (Use::Unowned, NO_TYPE),
        }
    }

    pub(super) fn object_addr<B: AsRef<[u8]>>(
        &self,
        space: &Space<B>,
        block: RemoteAddr,
        of: u32,
    ) -> RemoteAddr {
        objects::addr(space, self.debug, block, &self.types.all()[of as usize])
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
