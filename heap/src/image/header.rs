//! The first bytes of an image.

use onlooker_unwinder::memory::{u32_at, u64_at};

use super::{ImageError, VERSION};
use crate::space::PAGE_BYTES;

/// As in PNG: a byte above ASCII and both ends of a line, so that a transfer as text is noticed.
const MAGIC: &[u8; 8] = b"\x89OLKH\r\n\x1a";
const BYTE_ORDER: u32 = 0x0a0b_0c0d;
/// Sections of the file, in their order.
pub(super) const SECTIONS: [&str; 7] = [
    "meta", "mappings", "arenas", "absent", "ranges", "pieces", "pages",
];
/// The last section.
pub(super) const PAGES: usize = SECTIONS.len() - 1;
/// Magic, byte order, version, length of the file.
const FIXED_BYTES: usize = 24;
/// Length, CRC-32, zero.
const SECTION_BYTES: usize = 16;
/// CRC-32 of what comes before it.
const CRC_BYTES: usize = 4;
pub(super) const HEADER_BYTES: usize = FIXED_BYTES + SECTION_BYTES * SECTIONS.len() + CRC_BYTES;

/// One section.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) bytes: u64,
    pub(super) crc: u32,
}

/// Length and checksum of each section; their places follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) sections: [Section; SECTIONS.len()],
}

impl Header {
    /// Where a section begins; `None` where no file can be so long.
    pub(super) fn start(&self, section: usize) -> Option<u64> {
        let before = self.sections.iter().take(section).map(|each| each.bytes);
        let mut at = HEADER_BYTES as u64;
        for bytes in before {
            at = at.checked_add(bytes)?;
        }
        if section == PAGES {
            at = at.checked_next_multiple_of(PAGE_BYTES)?;
        }
        Some(at)
    }

    fn file_bytes(&self) -> Option<u64> {
        self.start(PAGES)?.checked_add(self.sections[PAGES].bytes)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend(MAGIC);
        bytes.extend(BYTE_ORDER.to_le_bytes());
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(self.file_bytes().unwrap_or_default().to_le_bytes());
        for section in self.sections {
            bytes.extend(section.bytes.to_le_bytes());
            bytes.extend(section.crc.to_le_bytes());
            bytes.extend(0_u32.to_le_bytes());
        }
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        bytes
    }

    /// The header of a file, which is as long as it says.
    pub(super) fn decode(file: &[u8]) -> Result<Self, ImageError> {
        let start = &file[..file.len().min(MAGIC.len())];
        if start.is_empty() || !MAGIC.starts_with(start) {
            return Err(ImageError::Foreign);
        }
        let truncated = |expected| ImageError::Truncated {
            bytes: file.len() as u64,
            expected,
        };
        let damaged = ImageError::Damaged("its header");
        let Some(bytes) = file.get(..HEADER_BYTES) else {
            return Err(truncated(HEADER_BYTES as u64));
        };
        // Before the checksum: a later version may have a longer header.
        let version = u32_at(bytes, 12).ok_or(ImageError::Foreign)?;
        if version != VERSION {
            return Err(ImageError::Version(version));
        }
        let (checked, crc) = bytes.split_at(HEADER_BYTES - CRC_BYTES);
        if u32_at(crc, 0) != Some(crc32fast::hash(checked)) || u32_at(bytes, 8) != Some(BYTE_ORDER)
        {
            return Err(damaged);
        }
        let mut header = Self::default();
        for (index, section) in header.sections.iter_mut().enumerate() {
            let at = (FIXED_BYTES + SECTION_BYTES * index) as u64;
            section.bytes = u64_at(bytes, at).unwrap_or_default();
            section.crc = u32_at(bytes, at + 8).unwrap_or_default();
        }
        let expected = u64_at(bytes, 16);
        match header.file_bytes() {
            Some(bytes) if Some(bytes) != expected => Err(damaged),
            Some(bytes) if bytes > file.len() as u64 => Err(truncated(bytes)),
            Some(bytes) if bytes < file.len() as u64 => {
                Err(ImageError::Damaged("more bytes behind its end"))
            }
            Some(_) => Ok(header),
            None => Err(damaged),
        }
    }
}
