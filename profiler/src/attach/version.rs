//! Which CPython an image is, where its debug offsets do not say (up to 3.12).

use onlooker_symbols::version::find_version;
use onlooker_symbols::{ElfFile, PyVersion};
use onlooker_unwinder::memory::{ReadMemory, RemoteAddr, Segment};

use crate::target::maps::{MappedFile, Maps};

/// Writable data of an interpreter is one or two megabytes; a program that embeds one may
/// have more of its own.
const MAX_DATA_BYTES: u64 = 64 << 20;
const CHUNK_BYTES: u64 = 1 << 20;
/// The text may lie across two pieces of a scan.
const OVERLAP_BYTES: u64 = 256;

/// The version of an image: `Py_Version` (3.11+), the text of `Py_GetVersion()`, the name.
pub(super) fn of_image<M: ReadMemory>(
    memory: &mut M,
    maps: &Maps,
    image: &MappedFile,
    file: Option<&[u8]>,
) -> Option<PyVersion> {
    file.and_then(|bytes| from_symbol(memory, image, bytes))
        .or_else(|| from_text(memory, maps, image))
        .or_else(|| PyVersion::from_file_name(&image.path.to_string_lossy()))
        .or_else(|| from_libraries(maps))
}

fn from_symbol<M: ReadMemory>(
    memory: &mut M,
    image: &MappedFile,
    bytes: &[u8],
) -> Option<PyVersion> {
    let elf = ElfFile::parse(bytes).ok()?;
    let maps: Vec<_> = image
        .pieces
        .iter()
        .map(|p| (p.start, p.end, p.file_offset))
        .collect();
    let addr = elf
        .symbol("Py_Version")?
        .addr
        .loaded_at(elf.bias(&maps).ok()?)?;
    let hex = memory.read_u64(RemoteAddr(addr)).ok()?;
    PyVersion::from_hex(u32::try_from(hex).ok()?).ok()
}

fn from_text<M: ReadMemory>(memory: &mut M, maps: &Maps, image: &MappedFile) -> Option<PyVersion> {
    writable_ranges(maps, image).find_map(|(start, end)| {
        let mut from = start;
        while from < end {
            let to = end.min(from.saturating_add(CHUNK_BYTES));
            if let Some(version) = read_range(memory, from, to).and_then(|b| find_version(&b)) {
                return Some(version);
            }
            from = if to < end { to - OVERLAP_BYTES } else { end };
        }
        None
    })
}

/// Extension modules of the standard library are named after the version that they are for.
fn from_libraries(maps: &Maps) -> Option<PyVersion> {
    maps.files.iter().find_map(|file| {
        let path = file.path.to_string_lossy();
        path.split('/').find_map(PyVersion::from_file_name)
    })
}

/// The writable memory of an image: its data and the `.bss` behind it.
pub(crate) fn writable_ranges<'a>(
    maps: &'a Maps,
    image: &'a MappedFile,
) -> impl Iterator<Item = (u64, u64)> + 'a {
    let data = image
        .pieces
        .iter()
        .filter(|p| p.writable)
        .map(|p| (p.start, p.end));
    data.chain(maps.bss_of(image))
        .map(|(start, end)| (start, end.min(start + MAX_DATA_BYTES)))
}

/// What is readable of a range from its start.
pub(super) fn read_range<M: ReadMemory>(memory: &mut M, start: u64, end: u64) -> Option<Vec<u8>> {
    let len = u32::try_from(end.checked_sub(start)?).ok()?;
    let mut bytes = vec![0; len as usize];
    let got = memory
        .read(
            &[Segment {
                addr: RemoteAddr(start),
                len,
            }],
            &mut bytes,
        )
        .ok()?;
    bytes.truncate(got);
    Some(bytes)
}
