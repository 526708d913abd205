//! Places where `_PyRuntime` may be, from the files that are mapped.

use onlooker_symbols::{ElfFile, PyVersion};
use onlooker_unwinder::memory::RemoteAddr;

use super::Found;
use crate::target::maps::{MappedFile, Maps};

/// A place to try.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    /// Where `_PyRuntime` would be.
    pub(super) runtime: RemoteAddr,
    /// Its size as the linker recorded it.
    pub(super) size: Option<u64>,
    /// How it was found.
    pub(super) found: Found,
    /// The version, where finding it told that.
    pub(super) version: Option<PyVersion>,
}

/// The programs and libraries of a process, the most likely ones first: what is named after
/// Python, then the executable itself, then the rest (an interpreter linked into a program or
/// a library of any name).
pub(super) fn images(maps: &Maps) -> Vec<MappedFile> {
    let mut images: Vec<MappedFile> = maps
        .files
        .iter()
        .filter(|file| file.executable)
        .cloned()
        .collect();
    let first = images.iter().map(|file| file.path.clone()).next();
    images.sort_by_key(|file| {
        let name = file.file_name();
        match () {
            () if name.starts_with("libpython") => 0,
            () if name.contains("python") => 1,
            () if Some(&file.path) == first.as_ref() => 2,
            () => 3,
        }
    });
    images
}

/// Whether the interpreter may be in an image whose symbols say nothing: extension modules and
/// the C library are left out of a scan.
pub(super) fn may_hold_runtime(image: &MappedFile) -> bool {
    let name = image.file_name();
    let library = name.contains(".so");
    !library || name.contains("python")
}

/// The places that the symbols and sections of a file name.
pub(super) fn in_file(image: &MappedFile, bytes: &[u8]) -> Vec<Candidate> {
    let Ok(elf) = ElfFile::parse(bytes) else {
        return Vec::new();
    };
    let maps: Vec<_> = image
        .pieces
        .iter()
        .map(|p| (p.start, p.end, p.file_offset))
        .collect();
    let Ok(bias) = elf.bias(&maps) else {
        return Vec::new();
    };
    let mut candidates = Vec::new();
    if let Some(symbol) = elf.symbol("_PyRuntime")
        && let Some(addr) = symbol.addr.loaded_at(bias)
    {
        candidates.push(Candidate {
            runtime: RemoteAddr(addr),
            size: Some(symbol.size).filter(|size| *size > 0),
            found: Found::Symbol,
            version: None,
        });
    }
    if let Some(section) = elf.section(".PyRuntime")
        && let Some(addr) = section.addr.loaded_at(bias)
        && !candidates.iter().any(|c| c.runtime.0 == addr)
    {
        candidates.push(Candidate {
            runtime: RemoteAddr(addr),
            size: None,
            found: Found::Section,
            version: None,
        });
    }
    candidates
}

/// The version of an interpreter that is too old to have a `_PyRuntime` (2.7, 3.6).
pub(super) fn unsupported(image: &MappedFile, bytes: &[u8]) -> Option<String> {
    let elf = ElfFile::parse(bytes).ok()?;
    let symbols = elf.symbols(&["_PyRuntime", "_PyThreadState_Current", "Py_GetVersion"]);
    match symbols[..] {
        [None, Some(_), Some(_)] => {}
        _ => return None,
    }
    let version = PyVersion::from_file_name(&image.path.to_string_lossy());
    Some(version.map_or_else(|| "3.6 or older".to_owned(), |version| version.to_string()))
}
