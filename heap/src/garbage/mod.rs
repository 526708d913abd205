//! Garbage that is not collected yet: objects that the collector of the target would find
//! unreachable if it ran now.
//!
//! The proof is the collector's own (`deduce_unreachable`, `Modules/gcmodule.c` up to 3.12, `Python/gc.c`
//! after it): an object whose references all come from objects that it tracks, and from none that is reached
//! from elsewhere, is garbage. Whatever is counted more often than that is held from outside: by
//! an object that is not tracked, a frame, C.
//!
//! 1. What `sys.modules` leads to is alive ([`mark`]). It is most of all, and costs one look each.
//! 2. Of the rest, the references among themselves are counted ([`fields`] says which the collector
//!    visits). Whatever its own count has more is alive, with all that it leads to.
//! 3. Where only words of a type that is not known explain a count, so that one of them may be
//!    chance, the object is garbage only if no other word that was copied is its address ([`roots`]).
//!
//! What it would take for something alive to be told: a reference held in nothing but a register or the
//! stack of the main thread, which is not copied, while a word that is none, in an object of a type that
//! is not known, happens to be the same address.

mod fields;
mod mark;
mod places;
mod roots;

use onlooker_unwinder::layout::{Layout, Minor};
use onlooker_unwinder::memory::{Lookup, RemoteAddr};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::blocks::Blocks;
use crate::gc::Collector;
use crate::malloc::Heap;
use crate::owned;
use crate::references::References;
use crate::space::Space;
use crate::types::{Types, is_immortal};
use fields::{Visits, Worth};
use mark::{Marks, object_at};
use places::Places;

/// What was found before.
pub(crate) struct Known<'a, B> {
    pub(crate) space: &'a Space<B>,
    pub(crate) layout: &'a Layout,
    pub(crate) blocks: &'a Blocks,
    pub(crate) types: &'a Types,
    pub(crate) heaps: &'a [Heap],
    pub(crate) collectors: &'a [Collector],
    /// Whether blocks have headers of the debug allocator.
    pub(crate) debug: bool,
}

/// Garbage of one type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OfType {
    pub(crate) count: u64,
    pub(crate) own_bytes: u64,
}

/// Garbage by number of the type. `tracked` are the objects on the lists of collectors, but those that are
/// frozen.
pub(crate) fn find<B: AsRef<[u8]>>(
    known: &Known<'_, B>,
    tracked: impl Iterator<Item = u64>,
) -> FxHashMap<u32, OfType> {
    let Known {
        space,
        layout,
        blocks,
        ..
    } = *known;
    let references = || References::new(space, layout, blocks, known.types.all());
    let visits = Visits::new(space, layout, references(), known.types.all());
    let tracked = Places::of(tracked);
    let mut marks = Marks::new(blocks, &tracked);
    visits.begin();
    for Collector { interpreter, .. } in known.collectors {
        let modules = interpreter.offset(layout.interpreter.modules);
        let modules = modules.and_then(|at| space.u64(at));
        marks.mark(modules.unwrap_or_default());
    }
    marks.spread(&visits);
    let rest = Places::of(marks.others());
    drop(marks);
    let counts = count(known, &visits, &rest);
    let mut marks = Marks::new(blocks, &rest);
    let mut doubtful = Vec::new();
    for ((addr, counts), number) in rest.iter().zip(&counts).zip(0_u32..) {
        match proof(known, addr, counts) {
            Proof::Alive => marks.mark(addr),
            Proof::Explained => {}
            Proof::Doubtful => doubtful.push((number, addr)),
        }
    }
    drop(counts);
    visits.begin();
    marks.spread(&visits);
    doubtful.retain(|(number, _)| !marks.is_alive(*number));
    if !doubtful.is_empty() {
        let doubtful = Places::of(doubtful.into_iter().map(|(_, addr)| addr));
        let is_member = |addr| tracked.find(addr).is_some();
        roots::words(known, &references(), is_member, |word| {
            if doubtful.find(word & !mark::TAGS).is_some() {
                marks.mark(word);
            }
        });
        visits.begin();
        marks.spread(&visits);
    }
    by_type(known, marks.others())
}

/// The references to one object from others of which nothing is known yet.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    counted: u32,
    perhaps: u32,
}

fn count<B: AsRef<[u8]>>(
    known: &Known<'_, B>,
    visits: &Visits<'_, B>,
    rest: &Places,
) -> Vec<Counts> {
    let mut counts = vec![Counts::default(); rest.len()];
    visits.begin();
    for object in rest.iter().filter_map(|addr| object_at(known.blocks, addr)) {
        visits.of(&object, |word, worth| {
            if let Some(counts) = rest.find(word).and_then(|to| counts.get_mut(to as usize)) {
                match worth {
                    Worth::Counted => counts.counted += 1,
                    Worth::Perhaps => counts.perhaps += 1,
                    Worth::Followed | Worth::Nothing => {}
                }
            }
        });
    }
    counts
}

/// What the count of references of an object says of it.
enum Proof {
    /// Somebody else refers to it, or it is immortal.
    Alive,
    /// All of its references are known.
    Explained,
    /// Perhaps they are.
    Doubtful,
}

fn proof<B: AsRef<[u8]>>(known: &Known<'_, B>, addr: u64, counts: &Counts) -> Proof {
    let version = known.layout.version;
    let Some(word) = known.space.u64(RemoteAddr(addr)) else {
        return Proof::Alive;
    };
    // From 3.14 on the upper half is flags.
    let count = if version >= Minor::new(3, 14) {
        word & 0xffff_ffff
    } else {
        word
    };
    let (counted, perhaps) = (u64::from(counts.counted), u64::from(counts.perhaps));
    if is_immortal(version, word) || count > counted + perhaps || count < counted {
        Proof::Alive
    } else if count == counted {
        Proof::Explained
    } else {
        Proof::Doubtful
    }
}

fn by_type<B: AsRef<[u8]>>(
    known: &Known<'_, B>,
    garbage: impl Iterator<Item = u64>,
) -> FxHashMap<u32, OfType> {
    let mut sums: FxHashMap<u32, OfType> = FxHashMap::default();
    let mut seen = FxHashSet::default();
    for object in garbage.filter_map(|addr| object_at(known.blocks, addr)) {
        let Some(of) = known.types.all().get(object.of as usize) else {
            continue;
        };
        let sum = sums.entry(object.of).or_default();
        sum.count += 1;
        sum.own_bytes += object.block.bytes;
        owned::parts(known.space, known.layout, of, object.addr, |part, what| {
            let block = known.blocks.locate(part);
            let owned = block.filter(|block| known.blocks.use_of(block.index) == what);
            let new = owned.filter(|block| seen.insert(block.index));
            sum.own_bytes += new.map_or(0, |block| block.bytes);
            new.is_some()
        });
    }
    sums
}
