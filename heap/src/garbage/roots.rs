//! The words that are no object of the collector: who refers to it from there keeps an object alive.

use onlooker_unwinder::layout::Layout;
use onlooker_unwinder::memory::{Lookup, RemoteAddr};

use super::Known;
use crate::blocks::Use;
use crate::gc::Collector;
use crate::objects;
use crate::outside::outside;
use crate::references::References;
use crate::space::Space;

/// More threads than any process has.
const MAX_THREADS: usize = 1 << 16;

/// Calls `each` with every word outside of the objects that `is_member` tells: other objects, blocks
/// that are none, memory that belongs to no allocator. The tables of objects are told with them.
pub(super) fn words<B: AsRef<[u8]>>(
    known: &Known<'_, B>,
    references: &References<'_, B>,
    is_member: impl Fn(u64) -> bool,
    mut each: impl FnMut(u64),
) {
    let Known { space, blocks, .. } = known;
    references.begin();
    for block in blocks.iter() {
        match blocks.use_of(block.index) {
            Use::Object => {
                let object = objects::of_block(space, known.debug, blocks, known.types, block);
                if let Some(object) = object.filter(|object| !is_member(object.addr.0)) {
                    references.of(&object, |word, _| each(word));
                }
            }
            Use::Unowned => {
                references.words(block.addr, block.bytes / 8, |_, word| each(word));
            }
            _ => {}
        }
    }
    let stale = stale_stacks(space, known.layout, known.collectors);
    let heaps = known.heaps.iter();
    let heaps = heaps.map(|heap| (heap.start, heap.walked_end));
    for (start, end) in outside(space, blocks, heaps.chain(stale)) {
        let bytes = space.tail(RemoteAddr(start));
        let bytes = bytes.get(..(end - start) as usize).unwrap_or(bytes);
        for word in bytes.as_chunks::<8>().0 {
            each(u64::from_le_bytes(*word));
        }
    }
}

/// What of the data stacks of threads is free (3.11+): frames that ended left their words there.
fn stale_stacks<B: AsRef<[u8]>>(
    space: &Space<B>,
    layout: &Layout,
    collectors: &[Collector],
) -> Vec<(u64, u64)> {
    let Some(stack) = layout.thread.data_stack else {
        return Vec::new();
    };
    let word = |at: RemoteAddr, offset| {
        let at = at.offset(offset)?;
        space.u64(at).filter(|word| *word != 0)
    };
    let mut stale = Vec::new();
    for Collector { interpreter, .. } in collectors {
        let mut next = word(*interpreter, layout.interpreter.threads_head);
        let mut threads = 0;
        while let Some(thread) = next.map(RemoteAddr).filter(|_| threads < MAX_THREADS) {
            threads += 1;
            let range = word(thread, stack.top).zip(word(thread, stack.limit));
            stale.extend(range.filter(|(top, limit)| top < limit));
            next = word(thread, layout.thread.next);
        }
    }
    stale
}
