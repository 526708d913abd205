//! Objects that lie in the data of the interpreter and its extension modules (3.12+): static types,
//! small ints, single characters, what was frozen into the executable.
//!
//! They are in no block, so they are told by what they say of themselves: all are immortal. From
//! 3.14 on flags say so (`_Py_STATICALLY_ALLOCATED_FLAG`, or `_Py_IMMORTAL_FLAGS` alone for types that
//! are filled in at the start; `Include/refcount.h`); in 3.12 and 3.13 they keep the count that they
//! were made with (`_Py_IMMORTAL_REFCNT`, 2^32 - 1).

use onlooker_unwinder::layout::Minor;
use onlooker_unwinder::memory::{RemoteAddr, u64_at};
use rustc_hash::FxHashMap;

use super::Taker;
use crate::malloc::Heap;
use crate::outside::outside;
use crate::space::Space;
use crate::types::is_immortal;

/// `ob_flags` are the upper two bytes of the word with the count.
const IMMORTAL_FLAGS: u64 = 5 << 48;
const COMPILED_COUNT: u64 = 0xffff_ffff;
/// Objects are aligned to a word at least.
const WORD_BYTES: u64 = 8;

/// Whether the first word of an object says that it is static.
fn is_static(version: Minor, word: u64) -> bool {
    if version >= Minor::new(3, 14) {
        is_immortal(version, word) && word & IMMORTAL_FLAGS != 0
    } else {
        word == COMPILED_COUNT
    }
}

impl Taker<'_> {
    /// Static objects by number of their type; `None` before 3.12, where nothing tells them.
    pub(super) fn statics<B: AsRef<[u8]>>(
        &mut self,
        space: &Space<B>,
        heaps: &[Heap],
    ) -> Option<FxHashMap<u32, u64>> {
        let version = self.layout.version;
        if version < Minor::new(3, 12) {
            return None;
        }
        let mut found = FxHashMap::default();
        let heaps = heaps.iter().map(|heap| (heap.start, heap.end));
        for (start, end) in outside(space, &self.blocks, heaps) {
            let bytes = space.tail(RemoteAddr(start));
            let len = (end - start).min(bytes.len() as u64);
            for at in (0..len).step_by(WORD_BYTES as usize) {
                let Some(word) = u64_at(bytes, at) else { break };
                if is_static(version, word)
                    && let Some(of) = u64_at(bytes, at + WORD_BYTES)
                    && let Some(of) = self.seen.types.at(space, of)
                {
                    *found.entry(of).or_default() += 1;
                }
            }
        }
        Some(found)
    }
}
