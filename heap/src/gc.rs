//! The lists of the garbage collector: three generations and what `gc.freeze` put away.
//!
//! Where they are inside the collector's state differs by version, patch release and distributor
//! (Debian's 3.13 packs `PyGC_Head`, which moves the generations from +24 to +20, and no version
//! number tells). So each place that is known is tried, and the one is taken where a list's head
//! is what its first element points back to.

use onlooker_unwinder::layout::{Layout, Minor};
use onlooker_unwinder::memory::{Lookup, RemoteAddr};

use crate::space::Space;

/// `sizeof(struct gc_generation)`.
const GENERATION_BYTES: u64 = 24;
const GENERATIONS: u64 = 3;
/// Known places of `generations` in `struct _gc_runtime_state`: 3.8 – 3.14; Debian's 3.13; 3.15.
const GENERATIONS_AT: [u64; 3] = [24, 20, 8];
/// Known places of `permanent_generation`: 3.8 – 3.13; 3.14; 3.15.
const PERMANENT_AT: [u64; 3] = [104, 96, 80];
/// Flags in the low bits of both links.
const LINK_MASK: u64 = !3;
/// More objects than any process has; a longer list is torn.
const MAX_OBJECTS: u64 = 1 << 34;

/// One list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct List {
    /// Its elements, as far as they could be followed.
    pub count: u64,
    /// Whether it came back to its head, each element pointing back to the one before.
    pub closed: bool,
}

/// The lists of one interpreter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lists {
    /// From young to old.
    pub generations: [List; GENERATIONS as usize],
    /// What `gc.freeze` put away.
    pub permanent: List,
    /// Whether a collection was going on: the links of its objects hold other things meanwhile.
    pub collecting: bool,
}

/// The collector's state of an interpreter: inside `_PyRuntime` in 3.8, in the interpreter after it.
fn state<B: AsRef<[u8]>>(
    space: &Space<B>,
    layout: &Layout,
    runtime: RemoteAddr,
    interpreter: RemoteAddr,
) -> Option<RemoteAddr> {
    let minor = |minor| Minor::new(3, minor);
    match layout.version {
        v if v == minor(8) => runtime.offset(344),
        v if v <= minor(10) => interpreter.offset(616),
        v if v == minor(11) => interpreter.offset(648),
        v if v == minor(12) => interpreter.offset(112),
        // `_Py_DebugOffsets.interpreter_state.gc`; 3.14 put `threads_main` before it.
        v => {
            let field = if v == minor(13) { 80 } else { 88 };
            interpreter.offset(space.u64(runtime.offset(field)?)?)
        }
    }
}

/// `collecting`, an `int`; 3.13+ tell its place (`_Py_DebugOffsets.gc.collecting`).
fn is_collecting<B: AsRef<[u8]>>(
    space: &Space<B>,
    layout: &Layout,
    runtime: RemoteAddr,
    state: RemoteAddr,
) -> bool {
    let told = match layout.version.minor {
        13 => Some(576),
        14 => Some(656),
        15 => Some(760),
        _ => None,
    };
    let offset = match told {
        Some(field) => runtime.offset(field).and_then(|at| space.u64(at)),
        None => Some(200),
    };
    let word = offset.and_then(|offset| space.i32(state.offset(offset)?));
    word.is_some_and(|word| word != 0)
}

/// Whether a neighbour of the links at `node` points back to it: not where something else only
/// looks like an object that is tracked.
pub(crate) fn is_linked<B: AsRef<[u8]>>(space: &Space<B>, node: RemoteAddr) -> bool {
    answers(space, node.0) > 0
}

fn link<B: AsRef<[u8]>>(space: &Space<B>, node: u64, offset: u64) -> Option<u64> {
    space
        .u64(RemoteAddr(node.checked_add(offset)?))
        .map(|word| word & LINK_MASK)
}

/// How many of a head's two neighbours point back to it. The head of 20 bytes' distance is
/// aligned to four bytes only.
fn answers<B: AsRef<[u8]>>(space: &Space<B>, head: u64) -> u32 {
    let next = link(space, head, 0).and_then(|next| link(space, next, 8));
    let previous = link(space, head, 8).and_then(|previous| link(space, previous, 0));
    u32::from(next == Some(head & LINK_MASK)) + u32::from(previous == Some(head & LINK_MASK))
}

/// Where the first of `count` heads is.
fn heads<B: AsRef<[u8]>>(
    space: &Space<B>,
    state: RemoteAddr,
    places: &[u64],
    count: u64,
) -> Option<u64> {
    let score = |place: &u64| -> u32 {
        let heads = (0..count).map(|n| state.0.wrapping_add(place + GENERATION_BYTES * n));
        heads.map(|head| answers(space, head)).sum()
    };
    let best = places.iter().max_by_key(|place| score(place))?;
    (score(best) > count as u32).then(|| state.0.wrapping_add(*best))
}

/// Walks a list; `each` is told the address of each element's links.
fn walk<B: AsRef<[u8]>>(space: &Space<B>, head: u64, each: &mut impl FnMut(u64)) -> List {
    let mut list = List::default();
    let mut before = head;
    let Some(mut node) = link(space, head, 0) else {
        return list;
    };
    while node != head & LINK_MASK {
        if link(space, node, 8) != Some(before & LINK_MASK) || list.count >= MAX_OBJECTS {
            return list;
        }
        each(node);
        list.count += 1;
        before = node;
        match link(space, node, 0) {
            Some(next) => node = next,
            None => return list,
        }
    }
    list.closed = true;
    list
}

/// The lists of an interpreter; `None` where no place holds them. `each` is told the links of
/// each element and whether it is frozen.
pub fn lists<B: AsRef<[u8]>>(
    space: &Space<B>,
    layout: &Layout,
    runtime: RemoteAddr,
    interpreter: RemoteAddr,
    mut each: impl FnMut(RemoteAddr, bool),
) -> Option<Lists> {
    let state = state(space, layout, runtime, interpreter)?;
    let first = heads(space, state, &GENERATIONS_AT, GENERATIONS)?;
    let mut lists = Lists {
        collecting: is_collecting(space, layout, runtime, state),
        ..Lists::default()
    };
    for (n, list) in (0..).zip(&mut lists.generations) {
        let head = first.wrapping_add(GENERATION_BYTES * n);
        *list = walk(space, head, &mut |node| each(RemoteAddr(node), false));
    }
    if let Some(head) = heads(space, state, &PERMANENT_AT, 1) {
        lists.permanent = walk(space, head, &mut |node| each(RemoteAddr(node), true));
    }
    Some(lists)
}

impl Lists {
    /// Whether every list came back to its head.
    #[must_use]
    pub fn all_closed(&self) -> bool {
        self.generations.iter().all(|list| list.closed) && self.permanent.closed
    }
}
