//! Where the resident memory is, to the last page.

use crate::blocks::Use;
use crate::census::Census;
use crate::space::{PAGE_BYTES, Space};

/// A kind of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// Live objects and the blocks that belong to them.
    PythonObjects,
    /// Other blocks of pymalloc in use: buffers without a known owner, objects on free lists.
    PymallocOther,
    /// Free blocks, headers and what is not carved yet, in pools that are in use.
    PymallocFree,
    /// Pools without a block in use.
    PymallocEmptyPools,
    /// Ends of arenas that no pool was carved from yet.
    PymallocArenaTails,
    /// Chunks of malloc in use that are neither objects nor belong to one.
    MallocUsed,
    /// Free chunks of malloc.
    MallocFree,
    /// Mapped files and shared memory.
    Files,
    /// Stacks of threads.
    Stacks,
    /// All else: `.bss`, data stacks of the interpreter, memory that others mapped.
    Rest,
}

impl Part {
    /// All parts, in the order of the report.
    pub const ALL: [Self; 10] = [
        Self::PythonObjects,
        Self::PymallocOther,
        Self::PymallocFree,
        Self::PymallocEmptyPools,
        Self::PymallocArenaTails,
        Self::MallocUsed,
        Self::MallocFree,
        Self::Files,
        Self::Stacks,
        Self::Rest,
    ];

    /// Its name in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PythonObjects => "python_objects",
            Self::PymallocOther => "pymalloc_other",
            Self::PymallocFree => "pymalloc_free_blocks",
            Self::PymallocEmptyPools => "pymalloc_empty_pools",
            Self::PymallocArenaTails => "pymalloc_arena_tails",
            Self::MallocUsed => "malloc_used",
            Self::MallocFree => "malloc_free",
            Self::Files => "files",
            Self::Stacks => "stacks",
            Self::Rest => "rest",
        }
    }
}

/// Resident bytes that the kernel tells of kinds of mappings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapped {
    /// All mappings together: the RSS.
    pub total_bytes: u64,
    /// Mappings of files, and shared ones.
    pub files_bytes: u64,
    /// The main thread's stack.
    pub stack_bytes: u64,
    /// Anonymous mappings that may end in a stack, by address.
    pub stacks: Vec<Stack>,
}

/// An anonymous mapping that ends in what may be the stack of a thread, with `struct pthread` at
/// its top. The kernel makes one mapping of neighbours, so that arenas may lie below in it; what
/// the dynamic loader mapped for the main thread's `struct pthread` is no stack at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stack {
    /// First address of the mapping.
    pub start: u64,
    /// Address after its last one.
    pub end: u64,
    /// `pthread_self()`.
    pub thread_id: u64,
    /// Resident bytes of the mapping.
    pub resident_bytes: u64,
}

/// Less is no stack.
const SMALLEST_STACK_BYTES: u64 = 64 << 10;

/// Resident bytes by part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// Of each part, in the order of [`Part::ALL`].
    pub bytes: Vec<(Part, u64)>,
    /// By how much they are more than the RSS: 0, unless the process grew or shrank between what
    /// the kernel told of its mappings and the copy.
    pub excess_bytes: u64,
}

/// What the resident memory is made of. The parts add up to the total, and the excess.
#[must_use]
pub fn parts<B: AsRef<[u8]>>(space: &Space<B>, census: &Census, mapped: &Mapped) -> Parts {
    let mut sums = [0_u64; Part::ALL.len()];
    let mut add = |part: Part, bytes: u64| sums[part as usize] += bytes;
    let blocks = &census.blocks;
    let pool_bytes = blocks.geometry.pool_bytes;
    for (at, pool) in blocks.pymalloc.pools.iter().enumerate() {
        let resident = space.resident(pool.addr.0, pool.addr.0 + pool_bytes);
        if pool.count == 0 {
            add(Part::PymallocEmptyPools, resident);
            continue;
        }
        let first = blocks.first_of(at);
        let (mut objects, mut other) = (0, 0);
        for index in first..first + pool.carved {
            match blocks.use_of(index) {
                Use::Free => {}
                what if is_python(what) => objects += u64::from(pool.size),
                _ => other += u64::from(pool.size),
            }
        }
        let objects = objects.min(resident);
        let other = other.min(resident - objects);
        add(Part::PythonObjects, objects);
        add(Part::PymallocOther, other);
        add(Part::PymallocFree, resident - objects - other);
    }
    for arena in &blocks.pymalloc.arenas {
        let pools = arena.start.next_multiple_of(pool_bytes);
        add(
            Part::PymallocArenaTails,
            space.resident(arena.start, pools.min(arena.end()))
                + space.resident(arena.carved_end.max(pools), arena.end()),
        );
    }
    for (at, chunk) in blocks.chunks.iter().enumerate() {
        let start = chunk.addr.0 - 16;
        // A chunk within one page is as resident as the header that was read.
        let bytes = if chunk.bytes < PAGE_BYTES {
            chunk.bytes
        } else {
            space.resident(start, start + chunk.bytes)
        };
        let part = match blocks.use_of(blocks.of_chunk(at)) {
            Use::Free => Part::MallocFree,
            each if is_python(each) => Part::PythonObjects,
            _ => Part::MallocUsed,
        };
        add(part, bytes);
    }
    add(Part::Files, mapped.files_bytes);
    add(Part::Stacks, mapped.stack_bytes);
    for stack in &mapped.stacks {
        add(Part::Stacks, stack_bytes(space, census, stack));
    }
    let known: u64 = sums.iter().sum();
    sums[Part::Rest as usize] = mapped.total_bytes.saturating_sub(known);
    Parts {
        bytes: Part::ALL.into_iter().zip(sums).collect(),
        excess_bytes: known.saturating_sub(mapped.total_bytes),
    }
}

/// Resident bytes of a stack: what is behind the last arena or chunk below its `struct pthread`.
fn stack_bytes<B: AsRef<[u8]>>(space: &Space<B>, census: &Census, stack: &Stack) -> u64 {
    let blocks = &census.blocks;
    let arenas = blocks.pymalloc.arenas.iter().map(|a| (a.start, a.end()));
    let heaps = census.heaps.iter().map(|heap| (heap.start, heap.end));
    let next = blocks
        .chunks
        .partition_point(|chunk| chunk.addr.0 <= stack.thread_id);
    let chunk = next.checked_sub(1).and_then(|last| blocks.chunks.get(last));
    let chunk = chunk.map(|chunk| {
        (
            chunk.addr.0,
            (chunk.addr.0 - 16).saturating_add(chunk.bytes),
        )
    });
    let below = arenas.chain(heaps).chain(chunk);
    let below = below.filter(|(start, _)| *start <= stack.thread_id);
    let start = below.fold(stack.start, |start, (_, end)| start.max(end));
    if stack.end.saturating_sub(start) < SMALLEST_STACK_BYTES {
        0
    } else if start == stack.start {
        stack.resident_bytes
    } else {
        space.resident(start, stack.end)
    }
}

fn is_python(what: Use) -> bool {
    !matches!(what, Use::Free | Use::Parked | Use::Unowned)
}
