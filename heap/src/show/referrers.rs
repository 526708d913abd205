//! Who refers to an object: one pass over all memory for all objects that are asked for.

use onlooker_unwinder::memory::RemoteAddr;
use rustc_hash::FxHashMap;

use super::{Heap, How};
use crate::blocks::{Block, Use};
use crate::objects::{self, Object};
use crate::outside::outside;

/// What refers to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Another object, or itself.
    Object(Object),
    /// A block that is no object: memory of an extension module or of the interpreter.
    Block(Block),
    /// A word outside of both allocators: frames and stacks of threads, the interpreter's own
    /// data.
    Memory(RemoteAddr),
}

/// One reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Referrer {
    /// From where.
    pub source: Source,
    /// How.
    pub how: How,
}

/// The references to one object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Referrers {
    /// The first of them, exact ones first.
    pub shown: Vec<Referrer>,
    /// How many are exact.
    pub exact: u64,
    /// How many may be chance.
    pub conservative: u64,
}

impl Referrers {
    /// References that are not among those shown.
    #[must_use]
    pub fn more(&self) -> u64 {
        (self.exact + self.conservative).saturating_sub(self.shown.len() as u64)
    }
}

/// What is looked for.
struct Targets {
    numbers: FxHashMap<u64, usize>,
    lowest: u64,
    highest: u64,
    limit: usize,
    found: Vec<Referrers>,
    /// Conservative ones, to be shown where exact ones leave room.
    perhaps: Vec<Vec<Referrer>>,
}

impl Targets {
    #[inline]
    fn meet(&mut self, word: u64, source: impl FnOnce() -> Source, how: How) {
        // Most words are far from all that is asked for.
        if word < self.lowest || word > self.highest {
            return;
        }
        let Some(&number) = self.numbers.get(&word) else {
            return;
        };
        let found = &mut self.found[number];
        let shown = if how.is_conservative() {
            found.conservative += 1;
            &mut self.perhaps[number]
        } else {
            found.exact += 1;
            &mut found.shown
        };
        if shown.len() < self.limit {
            let source = source();
            shown.push(Referrer { source, how });
        }
    }
}

impl<B: AsRef<[u8]>> Heap<'_, B> {
    /// The references to each of `targets`, of which no address may occur twice: how many there
    /// are, and the first `limit`. Looks at every word of memory that may be one, once.
    #[must_use]
    pub fn referrers(&self, targets: &[RemoteAddr], limit: usize) -> Vec<Referrers> {
        let addresses = || targets.iter().map(|target| target.0);
        let mut targets = Targets {
            numbers: addresses().zip(0..).collect(),
            lowest: addresses().min().unwrap_or(u64::MAX),
            highest: addresses().max().unwrap_or_default(),
            limit,
            found: vec![Referrers::default(); targets.len()],
            perhaps: vec![Vec::new(); targets.len()],
        };
        self.in_blocks(&mut targets);
        self.elsewhere(&mut targets);
        let mut found = targets.found;
        for (found, perhaps) in found.iter_mut().zip(targets.perhaps) {
            let room = limit.saturating_sub(found.shown.len());
            found.shown.extend(perhaps.into_iter().take(room));
        }
        found
    }

    fn in_blocks(&self, targets: &mut Targets) {
        self.references.begin();
        let census = self.census;
        let debug = self.is_debug();
        for block in census.blocks.iter() {
            match census.blocks.use_of(block.index) {
                Use::Object => {
                    let (blocks, types) = (&census.blocks, &census.types);
                    let object = objects::of_block(self.space, debug, blocks, types, block);
                    if let Some(object) = object {
                        self.references.of(&object, |word, how| {
                            targets.meet(word, || Source::Object(object), how);
                        });
                    }
                }
                Use::Unowned => {
                    self.references
                        .words(block.addr, block.bytes / 8, |at, word| {
                            targets.meet(word, || Source::Block(block), How::Word(8 * at));
                        });
                }
                // The tables of objects are told with their objects; what is free or parked
                // refers to nothing.
                _ => {}
            }
        }
    }

    /// The words outside of arenas and of what was walked of malloc's heaps.
    fn elsewhere(&self, targets: &mut Targets) {
        let heaps = self.census.heaps.iter();
        let heaps = heaps.map(|heap| (heap.start, heap.walked_end));
        for (start, end) in outside(self.space, &self.census.blocks, heaps) {
            let bytes = self.space.tail(RemoteAddr(start));
            let bytes = bytes.get(..(end - start) as usize).unwrap_or(bytes);
            for (index, word) in (0..).zip(bytes.as_chunks::<8>().0) {
                let addr = RemoteAddr(start + 8 * index);
                let word = u64::from_le_bytes(*word);
                targets.meet(word, || Source::Memory(addr), How::Word(0));
            }
        }
    }
}
