//! The stack of one thread: which frames, in which chunks, at which addresses.
//!
//! Frames are pushed as CPython pushes them, oldest first, so that a chunk is full before the
//! next one is used, and the tails and holes are where they are in a real process.

use onlooker_unwinder::datastack::{Chunk, ChunkKind};
use onlooker_unwinder::layout::Frames;
use onlooker_unwinder::memory::RemoteAddr;

use super::arena::{Arena, PAGE};
use super::layouts::Build;

/// Of C functions between two entry frames.
const C_FRAME_BYTES: u64 = 700;

/// What one link of a frame chain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A call, in the data stack.
    Plain,
    /// In a generator or coroutine object, outside the chunks.
    Generator,
    /// An entry frame on the C stack (3.12+).
    Entry,
    /// In the data stack, before its first traceable instruction: a shim, or a frame that is
    /// being built. The walk returns it; only its code object tells.
    Shim,
    /// In the data stack, torn down so far that it has no code any more.
    NoCode,
}

/// One link, and how many words it takes in the data stack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    pub(crate) kind: Kind,
    pub(crate) words: u64,
}

/// An arena of pymalloc (3.10+).
const ARENA_BYTES: u64 = 1 << 20;

/// Where chunks lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// Side by side, as `mmap` usually gives them: downwards.
    NewestLowest,
    /// Side by side, upwards.
    NewestHighest,
    /// Each in a mapping of its own.
    Apart,
    /// Downwards, in runs of so many chunks, newest first, with an arena between two runs.
    Runs([usize; 3]),
}

/// One thread to be laid out.
#[derive(Clone, Debug)]
pub(crate) struct ThreadSpec {
    /// Oldest first.
    pub(crate) links: Vec<Link>,
    pub(crate) chunks: ChunkKind,
    pub(crate) placement: Placement,
    /// Distance of generators and of frame objects in the heap.
    pub(crate) heap_stride: u64,
}

impl ThreadSpec {
    pub(crate) fn new(links: Vec<Link>) -> Self {
        Self {
            links,
            chunks: ChunkKind::Linked,
            placement: Placement::NewestLowest,
            heap_stride: 512,
        }
    }

    pub(crate) fn chunks(mut self, kind: ChunkKind, placement: Placement) -> Self {
        self.chunks = kind;
        self.placement = placement;
        self
    }

    pub(crate) fn heap_stride(mut self, bytes: u64) -> Self {
        self.heap_stride = bytes;
        self
    }
}

/// `count` ordinary calls of 20 words each.
pub(crate) fn plain(count: usize) -> Vec<Link> {
    let link = Link {
        kind: Kind::Plain,
        words: 20,
    };
    vec![link; count]
}

/// Calls of all kinds and several sizes, `count` links in all.
pub(crate) fn mixed(count: usize) -> Vec<Link> {
    (0..count)
        .map(|i| Link {
            kind: match i % 11 {
                0 => Kind::Entry,
                4 => Kind::Generator,
                7 => Kind::Shim,
                9 if i % 3 == 0 => Kind::NoCode,
                _ => Kind::Plain,
            },
            words: 14 + (i as u64 * 7) % 90,
        })
        .collect()
}

/// Whether a build has such links.
pub(crate) fn exists(build: &Build, kind: Kind) -> bool {
    match build.layout.frames {
        Frames::Objects(_) => matches!(kind, Kind::Plain | Kind::Generator),
        Frames::Interpreter(frame) => kind != Kind::Entry || frame.first_entry_owner.is_some(),
    }
}

/// A stack with addresses.
#[derive(Clone, Debug, Default)]
pub(crate) struct Placed {
    /// Oldest first, one for each link.
    pub(crate) frames: Vec<RemoteAddr>,
    /// Newest first, as a reader finds them.
    pub(crate) chunks: Vec<Chunk>,
}

/// Gives every link an address and writes the chunks' headers.
pub(crate) fn place(arena: &mut Arena, build: &Build, spec: &ThreadSpec) -> Placed {
    let mut placed = Placed::default();
    let mut chunks = match build.has_data_stack() {
        true => reserve(arena, spec),
        false => Vec::new(),
    };
    arena.new_mapping();
    let entries = spec.links.iter().filter(|l| l.kind == Kind::Entry).count() as u64;
    let entry_step = (88 + C_FRAME_BYTES).next_multiple_of(8);
    let mut c_stack = arena.alloc(entries * entry_step + 8, 16).0 + entries * entry_step;
    arena.new_mapping();
    let mut current = 0;
    for link in &spec.links {
        let addr = match link.kind {
            Kind::Entry => {
                c_stack -= entry_step;
                c_stack
            }
            Kind::Generator => arena.alloc(spec.heap_stride, 16).0 + 72,
            _ if !build.has_data_stack() => arena.alloc(spec.heap_stride, 16).0,
            _ => {
                let addr = chunks[current].push(link.words);
                addr.unwrap_or_else(|used| {
                    current += 1;
                    chunks[current].begin(used);
                    chunks[current].push(link.words).expect("a chunk that fits")
                })
            }
        };
        placed.frames.push(RemoteAddr(addr));
    }
    arena.new_mapping();
    write_headers(arena, &chunks);
    placed.chunks = chunks.iter().rev().map(|c| c.expected(&chunks)).collect();
    placed
}

/// A chunk while frames are pushed into it.
#[derive(Clone, Debug)]
struct Growing {
    addr: u64,
    kind: ChunkKind,
    size: u64,
    /// First slot that is not in use, in words from the data's start.
    used: u64,
}

impl Growing {
    fn capacity(&self) -> u64 {
        (self.size - self.kind.header_bytes()) / 8
    }

    fn data(&self) -> u64 {
        self.addr + self.kind.header_bytes()
    }

    /// The array goes on at the offset where the stack was: what lies below is a hole.
    fn begin(&mut self, used: u64) {
        self.used = match self.kind {
            ChunkKind::Linked => 0,
            ChunkKind::Array => used,
        };
    }

    /// The address of a frame, or the slots in use of a chunk where it does not fit.
    fn push(&mut self, words: u64) -> Result<u64, u64> {
        if self.used + words > self.capacity() {
            return Err(self.used);
        }
        let addr = self.data() + 8 * self.used;
        self.used += words;
        Ok(addr)
    }

    /// What a reader must find.
    fn expected(&self, all: &[Self]) -> Chunk {
        let newest = all.last().is_some_and(|last| last.addr == self.addr);
        let live_end = match self.kind {
            ChunkKind::Array if !newest => self.addr + self.size,
            _ => self.data() + 8 * self.used,
        };
        Chunk {
            addr: RemoteAddr(self.addr),
            size: self.size,
            live_end: RemoteAddr(live_end),
            kind: self.kind,
        }
    }
}

/// As many chunks as the links need, oldest first, with addresses.
fn reserve(arena: &mut Arena, spec: &ThreadSpec) -> Vec<Growing> {
    let first = match spec.chunks {
        ChunkKind::Linked => 16 << 10,
        ChunkKind::Array => 4 << 10,
    };
    let new = |size| Growing {
        addr: 0,
        kind: spec.chunks,
        size,
        used: 0,
    };
    let mut chunks = vec![new(first)];
    // The root chunk of the linked layout keeps its first slot free.
    chunks[0].used = u64::from(spec.chunks == ChunkKind::Linked);
    let in_stack = |l: &&Link| !matches!(l.kind, Kind::Entry | Kind::Generator);
    for link in spec.links.iter().filter(in_stack) {
        let last = chunks.last_mut().expect("the root chunk");
        if let Err(used) = last.push(link.words) {
            let mut next = new(first);
            next.begin(used);
            let needed = match spec.chunks {
                // `push_chunk` leaves room for a thousand slots (Python/pystate.c).
                ChunkKind::Linked if link.words > 1048 => link.words + 1000,
                _ => next.used + link.words,
            };
            while next.capacity() < needed {
                next.size *= 2;
            }
            next.push(link.words).expect("a chunk that fits");
            chunks.push(next);
        }
    }
    arena.new_mapping();
    match spec.placement {
        Placement::Apart => {
            for chunk in &mut chunks {
                // Memory of any allocator does not begin with a page.
                let before = match spec.chunks {
                    ChunkKind::Linked => 0,
                    ChunkKind::Array => 16,
                };
                chunk.addr = arena.alloc(before + chunk.size, PAGE).0 + before;
                arena.new_mapping();
            }
        }
        Placement::Runs(runs) => {
            let total: u64 = chunks.iter().map(|c| c.size).sum();
            let mut low = arena.alloc(total + 3 * ARENA_BYTES, PAGE).0;
            let ends = [runs[0], runs[0] + runs[1], runs.iter().sum()];
            for (n, chunk) in chunks.iter_mut().rev().enumerate() {
                if ends.contains(&n) {
                    low += ARENA_BYTES;
                }
                chunk.addr = low;
                low += chunk.size;
            }
        }
        adjacent => {
            let total = chunks.iter().map(|c| c.size).sum();
            let mut low = arena.alloc(total, PAGE).0;
            let mut place = |chunk: &mut Growing| {
                chunk.addr = low;
                low += chunk.size;
            };
            match adjacent {
                Placement::NewestLowest => chunks.iter_mut().rev().for_each(&mut place),
                _ => chunks.iter_mut().for_each(&mut place),
            }
        }
    }
    // Pushed again when the frames get their addresses.
    for (i, chunk) in chunks.iter_mut().enumerate() {
        chunk.used = u64::from(i == 0 && spec.chunks == ChunkKind::Linked);
    }
    chunks
}

fn write_headers(arena: &mut Arena, chunks: &[Growing]) {
    for (i, chunk) in chunks.iter().enumerate() {
        let previous = i.checked_sub(1).map_or(0, |older| chunks[older].addr);
        let newest = i + 1 == chunks.len();
        let words = match chunk.kind {
            // The current chunk's own `top` is stale.
            ChunkKind::Linked => [previous, chunk.size, if newest { 2028 } else { chunk.used }],
            ChunkKind::Array => [chunk.size, previous, 0],
        };
        let header = (chunk.kind.header_bytes() / 8) as usize;
        for (n, word) in words.iter().take(header).enumerate() {
            arena.put_u64(RemoteAddr(chunk.addr + 8 * n as u64), *word);
        }
    }
}
