//! Which bytes of a file symbols and sections are found by: a tenth of a library with debug
//! information. Where all others are zeros, [`ElfFile::symbols`], [`ElfFile::section`],
//! [`ElfFile::bias`] and [`ElfFile::build_id`] answer as for the whole file.

use std::ops::Range;

use goblin::elf::header::header64::Header;
use goblin::elf::program_header::PT_NOTE;
use goblin::elf::section_header::{SHT_DYNSYM, SHT_NOTE, SHT_STRTAB, SHT_SYMTAB};

use super::ElfFile;

/// Bytes from the start of a file that surely hold its ELF header.
pub const HEADER_BYTES: u64 = size_of::<Header>() as u64;

/// Where the headers of a file are, from its first [`HEADER_BYTES`]: what
/// [`ElfFile::parse`] needs. `None` when that is no ELF header.
#[must_use]
pub fn headers(start: &[u8]) -> Option<[Range<u64>; 2]> {
    let header = Header::parse(start).ok()?;
    let table = |at: u64, count: u16, size: u16| {
        let bytes = u64::from(count) * u64::from(size);
        Some(at..at.checked_add(bytes)?)
    };
    Some([
        table(header.e_phoff, header.e_phnum, header.e_phentsize)?,
        table(header.e_shoff, header.e_shnum, header.e_shentsize)?,
    ])
}

impl ElfFile<'_> {
    /// Where symbols, names and notes are in a file of which the headers were parsed; `None`
    /// when that cannot be said without all of it, for its section headers were stripped.
    #[must_use]
    pub fn symbol_parts(&self) -> Option<Vec<Range<u64>>> {
        let sections = self.section_headers.iter().filter(|section| {
            let kind = section.sh_type;
            matches!(kind, SHT_DYNSYM | SHT_NOTE | SHT_STRTAB | SHT_SYMTAB)
        });
        let notes = self.program_headers.iter();
        let notes = notes.filter(|ph| ph.p_type == PT_NOTE);
        let parts: Option<Vec<_>> = sections
            .map(|section| (section.sh_offset, section.sh_size))
            .chain(notes.map(|ph| (ph.p_offset, ph.p_filesz)))
            .map(|(start, len)| Some(start..start.checked_add(len)?))
            .collect();
        let has_dynsym = |_: &Vec<_>| {
            let mut sections = self.section_headers.iter();
            sections.any(|section| section.sh_type == SHT_DYNSYM)
        };
        parts.filter(has_dynsym)
    }
}
