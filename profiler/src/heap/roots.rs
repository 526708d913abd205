//! Where the walk of a heap starts: `_PyRuntime`, and up to 3.11 static variables of `obmalloc.c`.

use onlooker_heap::pymalloc::{Roots, StaticRoots};
use onlooker_symbols::ElfFile;
use onlooker_unwinder::layout::Minor;
use onlooker_unwinder::memory::RemoteAddr;

use crate::target::maps::{MappedFile, Maps};

/// The roots of an interpreter. Where the symbols are stripped, `statics` is `None` and the
/// table of arenas is looked for in memory.
#[must_use]
pub fn find(pid: i32, version: Minor, runtime: RemoteAddr) -> Roots {
    let statics = (version < Minor::new(3, 12))
        .then(|| Maps::read(pid).ok())
        .flatten()
        .and_then(|maps| {
            let file = file_of(&maps, runtime)?;
            of_file(file, &file.symbols(pid).ok()?, version)
        });
    Roots { runtime, statics }
}

/// The file that holds `_PyRuntime`: in `.data`, or in the `.bss` behind it.
fn file_of(maps: &Maps, runtime: RemoteAddr) -> Option<&MappedFile> {
    maps.files.iter().find(|file| {
        let mut pieces = file.pieces.iter().map(|piece| (piece.start, piece.end));
        pieces.any(|(start, end)| (start..end).contains(&runtime.0))
            || maps
                .bss_of(file)
                .is_some_and(|(start, end)| (start..end).contains(&runtime.0))
    })
}

fn of_file(file: &MappedFile, bytes: &[u8], version: Minor) -> Option<StaticRoots> {
    let elf = ElfFile::parse(bytes).ok()?;
    let pieces = file.pieces.iter();
    let maps: Vec<_> = pieces.map(|p| (p.start, p.end, p.file_offset)).collect();
    let bias = elf.bias(&maps).ok()?;
    let found = elf.symbols(&["arenas", "maxarenas", "raw_allocated_blocks"]);
    let addr = |index: usize| {
        let symbol = found.get(index).copied().flatten()?;
        symbol.addr.loaded_at(bias).map(RemoteAddr)
    };
    Some(StaticRoots {
        arenas: addr(0)?,
        max_arenas: addr(1)?,
        raw_blocks: addr(2).filter(|_| version >= Minor::new(3, 9)),
    })
}
