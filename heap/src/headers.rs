//! What two copies of a page differ in: counts of references and headers of the collector, which
//! change without any value changing, or more.
//!
//! A word is believed to be a reference count when it is a number that counts and a type stands behind
//! it (`ob_type`): an object whose type is a metaclass, as is its type, until one is its own. Any
//! other object is none, or the attributes of an instance would pass for objects. The two words before such an object are the collector's
//! (`_gc_next`, `_gc_prev`) when its type has `Py_TPFLAGS_HAVE_GC`. The same in 3.8 – 3.15 with
//! the lock (`Include/object.h`, `Include/internal/pycore_gc.h`).

use onlooker_unwinder::layout::fields;
use onlooker_unwinder::memory::{ReadMemory, RemoteAddr, u64_at};
use rustc_hash::FxHashMap;

pub use crate::space::PAGE_BYTES;

/// How far behind a page one must see to know its last words: a collector's header, a count
/// and a type.
pub const LOOKAHEAD_BYTES: u64 = 32;

/// Words of a page.
const WORDS: usize = (PAGE_BYTES / 8) as usize;

const HAVE_GC: u64 = 1 << 14;
const TYPE_SUBCLASS: u64 = 1 << 31;
const READY: u64 = 1 << 12;
/// Counts of references are below, in all bits but the upper ones, which are flags (3.14+) or not set.
const MAX_COUNT: u64 = 1 << 32;
const COUNT_MASK: u64 = 0xffff_ffff_ffff;
/// A metaclass of a metaclass of …
const MAX_META: usize = 8;

/// In what two copies of a page differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Difference {
    /// In nothing: what was written was undone, or was the same.
    Nothing,
    /// In counts of references alone.
    References,
    /// In headers of the collector alone.
    Collector,
    /// In both and nothing else.
    Headers,
    /// In values.
    Values,
}

/// Bytes of pages by what their two copies differ in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// [`Difference::Nothing`].
    pub same: u64,
    /// [`Difference::References`].
    pub references: u64,
    /// [`Difference::Collector`].
    pub collector: u64,
    /// [`Difference::Headers`].
    pub headers: u64,
    /// [`Difference::Values`].
    pub values: u64,
    /// Could not be compared: swapped out, or gone meanwhile.
    pub unread: u64,
}

impl Contents {
    /// Adds bytes of pages that differ in this; `None` where they could not be compared.
    pub fn add(&mut self, difference: Option<Difference>, bytes: u64) {
        *match difference {
            Some(Difference::Nothing) => &mut self.same,
            Some(Difference::References) => &mut self.references,
            Some(Difference::Collector) => &mut self.collector,
            Some(Difference::Headers) => &mut self.headers,
            Some(Difference::Values) => &mut self.values,
            None => &mut self.unread,
        } += bytes;
    }
}

/// Words of a page, one bit for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Words([u64; WORDS / 64]);

impl Words {
    fn set(&mut self, offset: u64) {
        let word = offset as usize / 8;
        self.0[word / 64] |= 1 << (word % 64);
    }

    fn is_empty(&self) -> bool {
        self.0 == Self::default().0
    }

    /// Whether any word from offset `start` to `end` of the page is one of them.
    #[must_use]
    pub fn any(&self, start: u64, end: u64) -> bool {
        let words = start as usize / 8..(end as usize).div_ceil(8).min(WORDS);
        let mut words = words;
        words.any(|word| self.0[word / 64] & (1 << (word % 64)) != 0)
    }
}

/// The words in which two copies of a page differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Counts of references.
    pub references: Words,
    /// Words of headers of the collector.
    pub collector: Words,
    /// All others.
    pub values: Words,
}

impl Changes {
    /// What that comes to.
    #[must_use]
    pub fn difference(&self) -> Difference {
        if !self.values.is_empty() {
            return Difference::Values;
        }
        match (self.references.is_empty(), self.collector.is_empty()) {
            (true, true) => Difference::Nothing,
            (false, true) => Difference::References,
            (true, false) => Difference::Collector,
            (false, false) => Difference::Headers,
        }
    }
}

/// The types of one process, remembered.
#[derive(Debug)]
pub struct Types<M> {
    memory: M,
    /// Whether it is a type, and then whether its objects have a collector's header.
    known: FxHashMap<u64, Option<bool>>,
}

impl<M: ReadMemory> Types<M> {
    /// The types of the process that `memory` reads.
    #[must_use]
    pub fn new(memory: M) -> Self {
        let known = FxHashMap::default();
        Self { memory, known }
    }

    /// The memory.
    pub fn memory_mut(&mut self) -> &mut M {
        &mut self.memory
    }

    fn has_gc(&mut self, addr: u64) -> Option<bool> {
        if let Some(known) = self.known.get(&addr) {
            return *known;
        }
        let answer = self.look(RemoteAddr(addr));
        self.known.insert(addr, answer);
        answer
    }

    fn look(&mut self, addr: RemoteAddr) -> Option<bool> {
        let mut meta = self.type_of(addr)?;
        for _ in 0..MAX_META {
            if self.flags(meta)? & TYPE_SUBCLASS == 0 {
                return None;
            }
            let next = self.type_of(meta)?;
            if next == meta {
                let flags = self.flags(addr)?;
                return (flags & READY != 0).then_some(flags & HAVE_GC != 0);
            }
            meta = next;
        }
        None
    }

    fn type_of(&mut self, addr: RemoteAddr) -> Option<RemoteAddr> {
        if !addr.is_plausible_pointer() {
            return None;
        }
        let word = self.memory.read_u64(addr.offset(fields::OB_TYPE)?).ok()?;
        Some(RemoteAddr(word)).filter(|addr| addr.is_plausible_pointer())
    }

    fn flags(&mut self, addr: RemoteAddr) -> Option<u64> {
        self.memory.read_u64(addr.offset(fields::TYPE_FLAGS)?).ok()
    }

    /// Compares two copies of one page; both may go on behind it, up to [`LOOKAHEAD_BYTES`].
    pub fn compare(&mut self, ours: &[u8], theirs: &[u8]) -> Changes {
        let mut changes = Changes::default();
        let page = |bytes: &[u8]| bytes.len().min(PAGE_BYTES as usize);
        if ours[..page(ours)] == theirs[..page(theirs)] {
            return changes;
        }
        for offset in (0..PAGE_BYTES).step_by(8) {
            if u64_at(ours, offset) == u64_at(theirs, offset) {
                continue;
            }
            // The type of a live object at `offset + ahead`, the same in both copies.
            let mut object = |ahead: u64| {
                let counts = [ours, theirs].map(|copy| u64_at(copy, offset + ahead));
                counts.into_iter().all(is_count).then_some(())?;
                let at = offset + ahead + fields::OB_TYPE;
                let ob_type = u64_at(ours, at)?;
                (u64_at(theirs, at) == Some(ob_type)).then_some(())?;
                self.has_gc(ob_type)
            };
            let words = if object(0).is_some() {
                &mut changes.references
            } else if object(16) == Some(true) || object(8) == Some(true) {
                &mut changes.collector
            } else {
                &mut changes.values
            };
            words.set(offset);
        }
        changes
    }
}

/// Whether a word counts the references of a live object.
fn is_count(word: Option<u64>) -> bool {
    word.is_some_and(|word| (1..=MAX_COUNT).contains(&(word & COUNT_MASK)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use onlooker_unwinder::memory::RecordedMemory;

    const TYPE: u64 = 0x10_0000;
    const PLAIN: u64 = 0x11_0000;
    const TRACKED: u64 = 0x12_0000;
    /// An object, whose words look like flags.
    const INSTANCE: u64 = 0x7f00_0013_0000;

    /// `type`, a type without and one with a collector's header, and an instance.
    fn types() -> Types<RecordedMemory> {
        let mut memory = RecordedMemory::new();
        for (addr, of, flags) in [
            (TYPE, TYPE, TYPE_SUBCLASS | HAVE_GC | READY),
            (PLAIN, TYPE, READY),
            (TRACKED, TYPE, HAVE_GC | READY),
            (INSTANCE, PLAIN, HAVE_GC | READY),
        ] {
            let mut bytes = vec![0; 400];
            bytes[8..16].copy_from_slice(&of.to_le_bytes());
            let at = fields::TYPE_FLAGS as usize;
            bytes[at..at + 8].copy_from_slice(&flags.to_le_bytes());
            memory.insert(RemoteAddr(addr), &bytes);
        }
        Types::new(memory)
    }

    /// A page of objects with a collector's header, 64 bytes each, and plain ones, 32 each.
    fn page() -> Vec<u8> {
        let mut page = vec![0; PAGE_BYTES as usize];
        let mut put = |at: usize, word: u64| page[at..at + 8].copy_from_slice(&word.to_le_bytes());
        for block in (0..2048).step_by(64) {
            put(block + 16, 1);
            put(block + 24, TRACKED);
        }
        for block in (2048..4096).step_by(32) {
            put(block, 1);
            put(block + 8, PLAIN);
        }
        page
    }

    #[test]
    fn headers_are_told_from_values() {
        let cases = [
            (vec![], Difference::Nothing),
            (vec![16], Difference::References),
            (vec![2048, 64 + 16], Difference::References),
            (vec![0, 8, 64], Difference::Collector),
            (vec![0, 2048], Difference::Headers),
            (vec![32], Difference::Values),
            (vec![16, 2048 + 16], Difference::Values),
            // Before an object whose type has no header there are values.
            (vec![2048 + 32 - 8], Difference::Values),
        ];
        for (written, expected) in cases {
            let mut copy = page();
            for at in &written {
                copy[*at] ^= 6;
            }
            let changes = types().compare(&page(), &copy);
            assert_eq!(changes.difference(), expected, "{written:?}");
            for at in written {
                let all = [changes.references, changes.collector, changes.values];
                let with = all
                    .iter()
                    .filter(|words| words.any(at as u64, at as u64 + 8));
                assert_eq!(with.count(), 1, "{at}");
            }
        }
    }

    /// Values of a dict or an instance: a number, and the object behind it.
    #[test]
    fn attributes_are_no_headers() {
        let mut page = page();
        let mut put = |at: usize, word: u64| page[at..at + 8].copy_from_slice(&word.to_le_bytes());
        put(32, 1);
        put(40, INSTANCE);
        // A pointer in front of a class.
        put(2048 + 16, INSTANCE);
        put(2048 + 24, PLAIN);
        for at in [32, 24, 2048 + 16] {
            let mut copy = page.clone();
            copy[at] ^= 6;
            let changes = types().compare(&page, &copy);
            assert_eq!(changes.difference(), Difference::Values, "{at}");
        }
    }
}
