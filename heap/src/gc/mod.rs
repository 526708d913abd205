//! The lists of the garbage collector: three generations and what `gc.freeze` put away.
//!
//! Where they are inside the collector's state differs by version, patch release and distributor
//! (Debian's 3.13 packs `PyGC_Head`, which moves the generations from +24 to +20, and no version
//! number tells). So each place that is known is tried, and the one is taken where a list's head
//! is what its first element points back to.

mod links;
mod list;

use onlooker_unwinder::layout::{Layout, Minor};
use onlooker_unwinder::memory::{Lookup, RemoteAddr};

use crate::pymalloc::interpreters;
use crate::space::Space;
use list::Walked;

/// `sizeof(struct gc_generation)`.
const GENERATION_BYTES: u64 = 24;
const GENERATIONS: u64 = 3;
/// The generations and what was frozen.
const LISTS: usize = GENERATIONS as usize + 1;
/// Known places of `generations` in `struct _gc_runtime_state`: 3.8 – 3.14; Debian's 3.13; 3.15.
const GENERATIONS_AT: [u64; 3] = [24, 20, 8];
/// Known places of `permanent_generation`: 3.8 – 3.13; 3.14; 3.15.
const PERMANENT_AT: [u64; 3] = [104, 96, 80];
/// Flags in the low bits of both links.
const LINK_MASK: u64 = !3;
/// `sizeof(PyGC_Head)`.
const LINKS_BYTES: u64 = 16;
/// Bytes of the collector's state that hold the heads.
const HEADS_BYTES: u64 = 256;

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

/// Whether all interpreters have one collector (3.8: `_PyRuntime.gc`, `Include/internal/pycore_runtime.h`).
fn is_global(layout: &Layout) -> bool {
    layout.version == Minor::new(3, 8)
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
        _ if is_global(layout) => runtime.offset(344),
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

/// Where `collecting` is, an `int`; 3.13+ tell its place (`_Py_DebugOffsets.gc.collecting`).
fn collecting_at<B: AsRef<[u8]>>(
    space: &Space<B>,
    layout: &Layout,
    runtime: RemoteAddr,
    state: RemoteAddr,
) -> Option<RemoteAddr> {
    let told = match layout.version.minor {
        13 => Some(576),
        14 => Some(656),
        15 => Some(760),
        _ => None,
    };
    let offset = match told {
        Some(field) => runtime.offset(field).and_then(|at| space.u64(at))?,
        None => 200,
    };
    state.offset(offset)
}

fn link<B: AsRef<[u8]>>(space: &Space<B>, node: u64, offset: u64) -> Option<u64> {
    space
        .u64(RemoteAddr(node.checked_add(offset)?))
        .map(|word| word & LINK_MASK)
}

/// Whether links are swapped out or were left out.
fn is_absent<B: AsRef<[u8]>>(space: &Space<B>, node: u64) -> bool {
    space.is_absent(node, node.saturating_add(LINKS_BYTES))
}

/// How many of a head's two neighbours point back to it. The head of 20 bytes' distance is
/// aligned to four bytes only.
fn answers<B: AsRef<[u8]>>(space: &Space<B>, head: u64) -> u32 {
    let next = link(space, head, 0).and_then(|next| link(space, next, 8));
    let previous = link(space, head, 8).and_then(|previous| link(space, previous, 0));
    u32::from(next == Some(head & LINK_MASK)) + u32::from(previous == Some(head & LINK_MASK))
}

/// Whether a neighbour of the links at `node` points back to it.
pub(crate) fn is_linked<B: AsRef<[u8]>>(space: &Space<B>, node: RemoteAddr) -> bool {
    answers(space, node.0) > 0
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

/// The collector of one interpreter and what its lists led to.
#[derive(Clone, Debug)]
pub struct Collector {
    /// Of the interpreter; 0 is the main one.
    pub id: i64,
    /// Its interpreter's state.
    pub interpreter: RemoteAddr,
    /// Where `int collecting` is: whether a collection is going on.
    pub collecting_at: Option<RemoteAddr>,
    /// Whether its objects are on the lists of the main interpreter, and it has none (3.8).
    pub shares_lists: bool,
    state: Option<RemoteAddr>,
    /// Generations and what was frozen; `None` where no place holds them.
    lists: Option<[Walked; LISTS]>,
}

impl Collector {
    /// The collectors of all interpreters, the newest first.
    #[must_use]
    pub fn all<B: AsRef<[u8]>>(
        space: &Space<B>,
        layout: &Layout,
        runtime: RemoteAddr,
    ) -> Vec<Self> {
        let interpreters = interpreters(space, layout, runtime);
        let main = interpreters.last().copied();
        let each = |interpreter: RemoteAddr| {
            let id = interpreter.offset(layout.interpreter.id);
            let shares_lists = is_global(layout) && Some(interpreter) != main;
            let state = match shares_lists {
                true => None,
                false => state(space, layout, runtime, interpreter),
            };
            Self {
                shares_lists,
                id: id
                    .and_then(|at| space.u64(at))
                    .unwrap_or_default()
                    .cast_signed(),
                collecting_at: state.and_then(|state| collecting_at(space, layout, runtime, state)),
                lists: state.and_then(|state| lists(space, state)),
                state,
                interpreter,
            }
        };
        interpreters.iter().copied().map(each).collect()
    }

    /// What its lists came to; `None` where they were not found, or are the main interpreter's.
    #[must_use]
    pub fn lists<B: AsRef<[u8]>>(&self, space: &Space<B>) -> Option<Lists> {
        let of = |walked: &Walked| List {
            count: walked.elements.len() as u64,
            closed: walked.closed,
        };
        let [young, middle, old, permanent] = self.lists.as_ref()?;
        Some(Lists {
            generations: [of(young), of(middle), of(old)],
            permanent: of(permanent),
            collecting: self.is_collecting(space),
        })
    }

    /// Whether a collection was going on: links back hold other things meanwhile.
    #[must_use]
    pub fn is_collecting<B: AsRef<[u8]>>(&self, space: &Space<B>) -> bool {
        let word = self.collecting_at.and_then(|at| space.i32(at));
        word.is_some_and(|word| word != 0)
    }

    /// The links of every element, and whether it is frozen.
    pub(crate) fn elements(&self) -> impl Iterator<Item = (RemoteAddr, bool)> {
        let lists = self.lists.iter().flatten().enumerate();
        lists.flat_map(|(n, list)| {
            let links = list.elements.iter();
            links.map(move |links| (links, n == LISTS - 1))
        })
    }

    /// Whether every list was found and came back to its head.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let mut lists = self.lists.iter().flatten();
        self.shares_lists || (self.lists.is_some() && lists.all(|list| list.closed))
    }

    /// Places in memory that are worth to be copied again; what is swapped out or was left out is
    /// not, and neither is what leads there.
    #[must_use]
    pub fn wanted<B: AsRef<[u8]>>(&self, space: &Space<B>) -> Vec<RemoteAddr> {
        match &self.lists {
            Some(lists) => lists.iter().flat_map(|list| list.wanted(space)).collect(),
            None => {
                let state = self.state.into_iter();
                let neighbours = state.clone().flat_map(|state| {
                    let words = (0..HEADS_BYTES).step_by(4);
                    words.filter_map(move |offset| space.u64(state.offset(offset)?))
                });
                let neighbours = neighbours.map(RemoteAddr);
                let wanted: Vec<RemoteAddr> = state
                    .chain(neighbours.filter(|addr| addr.is_plausible_pointer()))
                    .collect();
                // One of them may be what would have answered.
                if wanted.iter().any(|at| is_absent(space, at.0)) {
                    return Vec::new();
                }
                wanted
            }
        }
    }

    /// Goes on after that.
    pub fn again<B: AsRef<[u8]>>(&mut self, space: &Space<B>) {
        match &mut self.lists {
            Some(lists) => lists.iter_mut().for_each(|list| list.again(space)),
            None => self.lists = self.state.and_then(|state| lists(space, state)),
        }
    }
}

/// The lists of a collector.
fn lists<B: AsRef<[u8]>>(space: &Space<B>, state: RemoteAddr) -> Option<[Walked; LISTS]> {
    let first = heads(space, state, &GENERATIONS_AT, GENERATIONS)?;
    let permanent = heads(space, state, &PERMANENT_AT, 1)?;
    let generation = |n| Walked::new(space, first.wrapping_add(GENERATION_BYTES * n));
    let permanent = Walked::new(space, permanent);
    Some([generation(0), generation(1), generation(2), permanent])
}

impl Lists {
    /// Whether every list came back to its head.
    #[must_use]
    pub fn all_closed(&self) -> bool {
        self.generations.iter().all(|list| list.closed) && self.permanent.closed
    }
}
