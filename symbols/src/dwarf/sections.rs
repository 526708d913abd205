//! Gets the debug sections out of the file, decompressed where they are compressed.
//!
//! Three ways are in use: plain, `SHF_COMPRESSED` with zlib or zstd (the default of some
//! distributions), and GNU's older `.zdebug_*`.

use std::borrow::Cow;
use std::io::Read;

use gimli::{Dwarf, DwarfSections, EndianSlice, LittleEndian, SectionId};

use super::DwarfError;
use crate::ElfFile;

pub(super) type Bytes<'a> = EndianSlice<'a, LittleEndian>;

/// `ELFCOMPRESS_ZLIB` and `ELFCOMPRESS_ZSTD` of the ELF specification.
const ZLIB: u32 = 1;
const ZSTD: u32 = 2;

/// `Elf64_Chdr`: type, reserved, size, alignment.
const COMPRESSION_HEADER_BYTES: usize = 24;

/// Real debug information shrinks to a fifth or so, and zlib cannot do better than 1:1032;
/// a header that promises more would only make us allocate.
const MAX_RATIO: u64 = 1032;
const MAX_SECTION_BYTES: u64 = 1 << 30;

/// The sections that the search reads.
pub(super) fn load(file: &[u8]) -> Result<DwarfSections<Cow<'_, [u8]>>, DwarfError> {
    let elf = ElfFile::parse(file)?;
    let mut has_info = false;
    let sections = DwarfSections::load(|id| match id {
        SectionId::DebugInfo => {
            let info = section(&elf, id.name())?;
            has_info = !info.is_empty();
            Ok(info)
        }
        SectionId::DebugAbbrev
        | SectionId::DebugStr
        | SectionId::DebugLineStr
        | SectionId::DebugStrOffsets => section(&elf, id.name()),
        _ => Ok(Cow::Borrowed(&[][..])),
    })?;
    if has_info {
        Ok(sections)
    } else {
        Err(DwarfError::NoDebugInfo)
    }
}

/// The same sections as `gimli` reads them.
pub(super) fn borrow<'a>(sections: &'a DwarfSections<Cow<'_, [u8]>>) -> Dwarf<Bytes<'a>> {
    sections.borrow(|bytes| EndianSlice::new(bytes, LittleEndian))
}

/// A section by its plain name; empty when the file has none.
fn section<'a>(elf: &ElfFile<'a>, name: &'static str) -> Result<Cow<'a, [u8]>, DwarfError> {
    let truncated = DwarfError::Truncated { section: name };
    if let Some(section) = elf.section(name) {
        if section.file_offset.is_none() {
            // The stripped half of a pair of files keeps the header only.
            return Ok(Cow::Borrowed(&[]));
        }
        let bytes = elf.section_bytes(&section).ok_or(truncated)?;
        if !section.compressed {
            return Ok(Cow::Borrowed(bytes));
        }
        let (kind, size, data) = compression_header(bytes).ok_or(truncated_header(name))?;
        return decompress(name, kind, size, data).map(Cow::Owned);
    }
    let Some(section) = elf.section(&name.replacen(".debug", ".zdebug", 1)) else {
        return Ok(Cow::Borrowed(&[]));
    };
    let bytes = elf.section_bytes(&section).ok_or(truncated)?;
    let (size, data) = gnu_header(bytes).ok_or(truncated_header(name))?;
    decompress(name, ZLIB, size, data).map(Cow::Owned)
}

fn truncated_header(section: &'static str) -> DwarfError {
    DwarfError::Truncated { section }
}

fn compression_header(bytes: &[u8]) -> Option<(u32, u64, &[u8])> {
    let (header, data) = bytes.split_at_checked(COMPRESSION_HEADER_BYTES)?;
    let kind = u32::from_le_bytes(header[..4].try_into().ok()?);
    let size = u64::from_le_bytes(header[8..16].try_into().ok()?);
    Some((kind, size, data))
}

/// `ZLIB` and the size, big-endian on every machine.
fn gnu_header(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (size, data) = bytes.strip_prefix(b"ZLIB")?.split_at_checked(8)?;
    Some((u64::from_be_bytes(size.try_into().ok()?), data))
}

fn decompress(
    section: &'static str,
    kind: u32,
    size: u64,
    data: &[u8],
) -> Result<Vec<u8>, DwarfError> {
    let failed = DwarfError::Compression {
        section,
        kind,
        size,
    };
    let most = MAX_SECTION_BYTES.min((data.len() as u64).saturating_mul(MAX_RATIO));
    let bytes = match usize::try_from(size) {
        Ok(limit) if size <= most => match kind {
            ZLIB => miniz_oxide::inflate::decompress_to_vec_zlib_with_limit(data, limit).ok(),
            ZSTD => unzstd(data, size).ok(),
            _ => None,
        },
        _ => None,
    };
    bytes
        .filter(|bytes| bytes.len() as u64 == size)
        .ok_or(failed)
}

/// Stops one byte behind `size`: enough to see that the header lied.
fn unzstd(data: &[u8], size: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let decoder = zstd::stream::read::Decoder::new(data)?;
    decoder.take(size + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"a section, a section, a section, a section, a section, a section";

    #[test]
    fn both_compressions_come_back() {
        let size = TEXT.len() as u64;
        let zlib = miniz_oxide::deflate::compress_to_vec_zlib(TEXT, 6);
        assert_eq!(decompress("s", ZLIB, size, &zlib).unwrap(), TEXT);
        let packed = zstd::encode_all(TEXT, 1).unwrap();
        assert_eq!(decompress("s", ZSTD, size, &packed).unwrap(), TEXT);
        for (kind, size, data) in [
            (ZLIB, size - 1, &zlib),
            (ZLIB, size + 1, &zlib),
            (ZSTD, size - 1, &packed),
            (ZSTD, size + 1, &packed),
            (ZSTD, u64::MAX, &packed),
            (ZSTD, size, &zlib),
            (3, size, &zlib),
        ] {
            let error = decompress("s", kind, size, data).unwrap_err();
            assert!(
                matches!(error, DwarfError::Compression { .. }),
                "{kind} {size}"
            );
        }
    }

    #[test]
    fn headers_are_read_whole_or_not_at_all() {
        let mut header = [0u8; 26];
        header[0] = 2;
        header[8] = 9;
        assert_eq!(compression_header(&header), Some((ZSTD, 9, &[0, 0][..])));
        assert_eq!(compression_header(&header[..23]), None);
        let gnu = b"ZLIB\0\0\0\0\0\0\x01\x02rest";
        assert_eq!(gnu_header(gnu), Some((0x102, &b"rest"[..])));
        assert_eq!(gnu_header(b"ZLIB\0"), None);
    }
}
