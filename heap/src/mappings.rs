//! The mappings of a process, as the kernel tells of them.

use serde::{Deserialize, Serialize};

/// What lies behind a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `[heap]`: what `brk` gave to malloc.
    Heap,
    /// Private memory with no file behind it.
    Anonymous,
    /// The stack of the main thread.
    Stack,
    /// A private writable mapping of a file: data of programs and libraries.
    Data,
    /// Any other mapping of a file, and shared memory.
    File,
    /// What the kernel keeps for itself (`[vdso]`, …).
    Kernel,
}

/// One mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// Address after the last one.
    pub end: u64,
    /// What it is.
    pub kind: Kind,
    /// Whether the process can write to it.
    pub writable: bool,
    /// `Rss` of `smaps`, in bytes.
    pub resident_bytes: u64,
    /// `Swap` of `smaps`, in bytes.
    pub swapped_bytes: u64,
}

/// What a run of pages is, the most wanted first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum What {
    /// Data of the program and its libraries, `.bss` included: the roots.
    Data,
    /// The `brk` heap.
    BrkHeap,
    /// Arenas, heaps of threads, anything else.
    Anonymous,
    /// Large buffers behind their first page.
    LargeBuffers,
}

impl What {
    /// Its name in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::BrkHeap => "brk_heap",
            Self::Anonymous => "anonymous",
            Self::LargeBuffers => "large_buffers",
        }
    }
}
