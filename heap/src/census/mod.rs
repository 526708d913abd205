//! Every live object, counted by type.

mod builtins;
mod count;
mod garbage;
mod listed;
mod look;
mod shares;
mod statics;
mod walk;

use onlooker_unwinder::layout::Layout;
use onlooker_unwinder::memory::ReadMemory;
use rustc_hash::FxHashMap;

use crate::bits::Bits;
use crate::blocks::Blocks;
pub use crate::figures::{
    ArenaUse, Census, Garbage, GarbageOf, Interpreter, Large, Reached, SizeClass, Sum, TypeCount,
    Untold,
};
use crate::guards::Violation;
use crate::names;
use crate::space::Space;
use crate::types::Types;
use count::Beside;
use garbage::untold;
pub use walk::{Walk, Wanted};

/// Violations of guards that are told one by one.
const MAX_VIOLATIONS: usize = 1000;

/// What is counted on the way, by number of the type.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    count: u64,
    own_bytes: u64,
    block_bytes: u64,
    gc_tracked: u64,
}

struct Taker<'a> {
    layout: &'a Layout,
    blocks: Blocks,
    types: Types,
    tallies: Vec<Tally>,
    debug: bool,
    /// Blocks with an object whose links of the collector are not 0, which is what tracked means.
    tracked: Bits,
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
        walk: Walk,
    ) -> Self {
        let lists_complete = walk.lists_are_complete(space);
        let types = Types::new(layout.version, &walk.pymalloc.arenas);
        let (chunks, heaps) = walk.malloc.finish(space);
        let blocks = Blocks::new(walk.pymalloc, chunks, walk.geometry);
        let mut taker = Taker {
            layout,
            debug: look::is_debug(space, &blocks),
            tracked: Bits::none_of(blocks.count()),
            blocks,
            types,
            tallies: Vec::new(),
            immortal: 0,
            domains: FxHashMap::default(),
            violations: Vec::new(),
        };
        taker.type_blocks(space);
        let statics = taker.statics(space, &heaps);
        builtins::meet(space, layout, &walk.collectors, &mut taker.types);
        names::fetch(space, memory, taker.types.all());
        taker.types.find_shapes(space);
        let mut lists = taker.lists(space, &walk.collectors);
        if lists_complete {
            taker.drop_look_alikes(space, &lists);
        }
        let large = taker.count(space, &lists);
        let reached = taker.reach(space, &lists.outside);
        let shares = taker.shares(space, &walk.collectors);
        for interpreter in &mut lists.interpreters {
            interpreter.share = shares.get(&interpreter.id).copied();
        }
        let garbage = match untold(space, &walk.collectors, walk.at_once, reached.0.count) {
            None => Ok(taker.garbage(space, &heaps, &walk.collectors)),
            Some(untold) => Err(untold),
        };
        let beside = Beside {
            heaps,
            reached,
            statics,
            garbage,
        };
        taker.finish(space, large, lists, beside)
    }
}
