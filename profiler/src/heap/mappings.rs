//! The mappings of a process as a census sees them: what may hold blocks, and what counts as what.

use std::io;

use crate::target::smaps;

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

/// Reads them ([`smaps::read`]), by address.
///
/// # Errors
/// When the process is gone or the file may not be read.
pub fn read(pid: i32) -> io::Result<Vec<Mapping>> {
    Ok(smaps::read(pid)?.iter().map(mapping).collect())
}

fn mapping(map: &smaps::Mapping) -> Mapping {
    let (writable, private) = (map.is_writable(), map.is_private());
    let kind = match map.name.as_str() {
        "[heap]" => Kind::Heap,
        name if name.starts_with("[stack") => Kind::Stack,
        "" if private => Kind::Anonymous,
        // Named with PR_SET_VMA_ANON_NAME, as 3.15 can do with its arenas.
        name if name.starts_with("[anon:") => Kind::Anonymous,
        name if name.starts_with('[') => Kind::Kernel,
        name if !name.is_empty() && writable && private => Kind::Data,
        _ => Kind::File,
    };
    Mapping {
        start: map.start,
        end: map.end,
        kind,
        writable,
        resident_bytes: map.sizes.rss_bytes,
        swapped_bytes: map.sizes.swap_bytes,
    }
}
