//! Every live object, counted by type.

mod builtins;
mod count;
mod garbage;
mod listed;
mod look;
mod shares;
mod statics;
mod sums;
mod walk;

use std::thread;

use onlooker_unwinder::layout::Layout;
use onlooker_unwinder::memory::ReadMemory;

use crate::blocks::Blocks;
pub use crate::figures::{
    ArenaUse, Census, Damage, Garbage, GarbageOf, Interpreter, Large, Reached, SizeClass, Sum,
    TypeCount, Untold,
};
use crate::names;
use crate::space::Space;
use crate::types::Types;
use count::Beside;
use garbage::untold;
use look::Seen;
pub use walk::{Walk, Wanted};

/// Violations of guards that are told one by one.
const MAX_DAMAGE: usize = 1000;

/// What is counted on the way, by number of the type.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    count: u64,
    own_bytes: u64,
    block_bytes: u64,
    gc_tracked: u64,
}

impl Tally {
    /// Adds blocks, which are their objects' own.
    fn add(&mut self, blocks: &Self) {
        self.count += blocks.count;
        self.own_bytes += blocks.block_bytes;
        self.block_bytes += blocks.block_bytes;
        self.gc_tracked += blocks.gc_tracked;
    }
}

struct Taker<'a> {
    layout: &'a Layout,
    blocks: Blocks,
    seen: Seen,
    tallies: Vec<Tally>,
    debug: bool,
}

impl Census {
    /// Takes it. `memory` gives what of names was not copied.
    pub fn take<B: AsRef<[u8]>, M: ReadMemory>(
        space: &mut Space<B>,
        memory: &mut M,
        layout: &Layout,
        walk: Walk,
    ) -> Self {
        let lists_complete = walk.lists_are_complete(space);
        let types = Types::new(layout.version, &walk.pymalloc.arenas);
        let (chunks, heaps) = walk.malloc.finish(space);
        let blocks = Blocks::new(walk.pymalloc, chunks, walk.geometry);
        let debug = look::is_debug(space, &blocks);
        let mut taker = Taker {
            layout,
            debug,
            seen: Seen::new(layout.version, debug, types, blocks.count()),
            blocks,
            tallies: Vec::new(),
        };
        taker.type_blocks(space);
        let statics = taker.statics(space, &heaps);
        builtins::meet(space, layout, &walk.collectors, &mut taker.seen.types);
        names::fetch(space, memory, taker.seen.types.all());
        taker.seen.types.find_shapes(space);
        let mut lists = taker.lists(space, &walk.collectors);
        if lists_complete {
            taker.drop_look_alikes(space, &lists);
        }
        let large = taker.own(space);
        let reached = taker.reach(space, &lists.outside);
        let collectors = &walk.collectors;
        let untold = untold(space, collectors, walk.at_once, reached.0.count);
        // Both only look, and take about as long.
        let (sums, garbage) = thread::scope(|scope| {
            let garbage = untold.map_or_else(
                || {
                    let (taker, heaps, space) = (&taker, &heaps, space.share());
                    Ok(scope.spawn(move || taker.garbage(&space, heaps, collectors)))
                },
                Err,
            );
            let sums = taker.sums(space, collectors, &lists);
            let garbage = garbage.map(|thread| match thread.join() {
                Ok(garbage) => garbage,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            (sums, garbage)
        });
        for (tally, more) in taker.tallies.iter_mut().zip(&sums.tallies) {
            tally.add(more);
        }
        for interpreter in &mut lists.interpreters {
            interpreter.share = sums.shares.get(&interpreter.id).copied();
        }
        let beside = Beside {
            heaps,
            reached,
            statics,
            garbage,
            sums,
        };
        taker.finish(space, large, lists, beside)
    }
}
