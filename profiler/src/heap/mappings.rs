//! The mappings of a process with how much of each is resident, from `smaps`.

use std::io;
use std::path::Path;

use procfs::FromBufRead;
use procfs::process::{MMPermissions, MMapPath, MemoryMap, MemoryMaps};

pub use onlooker_heap::mappings::{Kind, Mapping, What};

use crate::target::maps::io_error;
use crate::target::read_text;

/// Reads `/proc/PID/smaps`, by address. Costs the kernel a walk over the page tables.
///
/// # Errors
/// When the process is gone or the file may not be read.
pub fn read(pid: i32) -> io::Result<Vec<Mapping>> {
    let text = read_text(Path::new(&format!("/proc/{pid}/smaps")))?;
    let maps = MemoryMaps::from_buf_read(text.as_bytes()).map_err(io_error)?;
    let mut mappings: Vec<Mapping> = maps.into_iter().map(|map| mapping(&map)).collect();
    mappings.sort_unstable_by_key(|mapping| mapping.start);
    Ok(mappings)
}

fn mapping(map: &MemoryMap) -> Mapping {
    let writable = map.perms.contains(MMPermissions::WRITE);
    let private = map.perms.contains(MMPermissions::PRIVATE);
    let kind = match &map.pathname {
        MMapPath::Heap => Kind::Heap,
        MMapPath::Stack | MMapPath::TStack(_) => Kind::Stack,
        MMapPath::Anonymous if private => Kind::Anonymous,
        MMapPath::Path(_) if writable && private => Kind::Data,
        MMapPath::Path(_) | MMapPath::Anonymous | MMapPath::Vsys(_) => Kind::File,
        // Named with PR_SET_VMA_ANON_NAME, as 3.15 can do with its arenas.
        MMapPath::Other(name) if name.starts_with("anon:") => Kind::Anonymous,
        _ => Kind::Kernel,
    };
    let figure = |name: &str| map.extension.map.get(name).copied().unwrap_or(0);
    Mapping {
        start: map.address.0,
        end: map.address.1,
        kind,
        writable,
        resident_bytes: figure("Rss"),
        swapped_bytes: figure("Swap"),
    }
}
