//! The mappings of a process as a census sees them: what may hold blocks, and what counts as what.

use std::io;

pub use onlooker_heap::mappings::{Kind, Mapping, What};

use crate::target::smaps;

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
