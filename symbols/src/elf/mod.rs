//! Reads an ELF file: segments, sections, symbols, build id, and where a process loaded it.
//!
//! Only the headers are parsed up front. `goblin`'s whole-file parser would read and
//! allocate every symbol, relocation and version entry of a file that may be hundreds of
//! megabytes; here `goblin` decodes single headers and tables are looked through lazily.
//! A caller that wants symbols and sections alone need not even read the rest ([`parts`]).
//!
//! The file may be stripped of its symbols (Debian), of its section headers (`sstrip`), or
//! cut short. What is missing makes an answer `None`; only a file that cannot be an image
//! of a supported machine is an error.

mod bias;
mod build_id;
mod bytes;
pub mod parts;
mod symbols;

use goblin::container::{Container, Ctx, Endian};
use goblin::elf::header::{EM_AARCH64, EM_X86_64, ET_DYN, ET_EXEC, header64};
use goblin::elf::program_header::{PF_R, PF_W, PF_X, PT_LOAD, ProgramHeader};
use goblin::elf::section_header::{SHN_XINDEX, SHT_NOBITS, SectionHeader};

pub use bias::{BiasError, Mapping};
pub use symbols::{Symbol, SymbolTable};

use crate::{FileOffset, ImageAddr};

/// Only 64-bit little-endian images are read.
const CTX: Ctx = Ctx {
    container: Container::Big,
    le: Endian::Little,
};

/// `load_elf_phdrs` (Linux, fs/binfmt_elf.c) refuses more than 64 KiB of program headers,
/// so a file with more cannot be running.
const MAX_PROGRAM_HEADERS: u16 = (65536 / size_of::<[u64; 7]>()) as u16;

/// Why a file is not an image that Onlooker can read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ElfError {
    /// The file does not begin with `\x7fELF`.
    #[error("not an ELF file: it begins with {found:02x?}")]
    Magic {
        /// Up to four bytes from the start of the file.
        found: Vec<u8>,
    },
    /// Neither a 32-bit nor a big-endian interpreter is supported.
    #[error("unsupported ELF class {class} with data encoding {data} (need 64-bit little-endian)")]
    Class {
        /// `e_ident[EI_CLASS]`; 2 is 64-bit.
        class: u8,
        /// `e_ident[EI_DATA]`; 1 is little-endian.
        data: u8,
    },
    /// Code for a processor that Onlooker does not know.
    #[error("unsupported machine {0} in the ELF header (need x86-64 or aarch64)")]
    Machine(u16),
    /// Neither an executable nor a shared object, but for example a core file.
    #[error("ELF type {0} is neither an executable nor a shared object")]
    Kind(u16),
    /// The file ends inside its headers.
    #[error("the file of {len_bytes} bytes ends inside its {header}")]
    Truncated {
        /// Which header is not whole.
        header: &'static str,
        /// The size of the file.
        len_bytes: u64,
    },
    /// More program headers than the kernel would load.
    #[error("{0} program headers, more than the kernel loads")]
    ProgramHeaders(u16),
}

/// The processor an image was built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Machine {
    /// `EM_X86_64`.
    X86_64,
    /// `EM_AARCH64`.
    Aarch64,
}

/// A part of the file that is mapped into memory (`PT_LOAD`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Where it was linked to.
    pub addr: ImageAddr,
    /// Where its bytes are in the file.
    pub file_offset: FileOffset,
    /// How many bytes the file holds.
    pub file_size: u64,
    /// How many bytes it takes in memory; what exceeds `file_size` starts as zeros (`.bss`).
    pub mem_size: u64,
    /// Mapped for reading.
    pub readable: bool,
    /// Mapped for writing. True for the read-only-after-relocation part as well, which
    /// shares a segment with `.data`.
    pub writable: bool,
    /// Mapped for executing.
    pub executable: bool,
}

/// A named section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Section {
    /// Where it was linked to; 0 for what is not loaded, such as `.debug_info`.
    pub addr: ImageAddr,
    /// Its size in memory, in bytes.
    pub size: u64,
    /// Where its bytes are in the file; `None` for what has none there (`.bss`).
    pub file_offset: Option<FileOffset>,
    /// `SHF_COMPRESSED`: the bytes begin with a compression header.
    pub compressed: bool,
}

/// An executable or shared object, borrowed from the caller's bytes.
pub struct ElfFile<'a> {
    bytes: &'a [u8],
    machine: Machine,
    pie_or_shared: bool,
    program_headers: Vec<ProgramHeader>,
    /// Empty when stripped or damaged.
    section_headers: Vec<SectionHeader>,
    /// Index of the section that holds the names of sections.
    names_index: usize,
}

impl<'a> ElfFile<'a> {
    /// Parses the headers of a whole file.
    ///
    /// # Errors
    ///
    /// When the file cannot be a loaded image of a supported machine. Missing or damaged
    /// section headers are no error: nothing needs them at run time.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ElfError> {
        let truncated = |header| ElfError::Truncated {
            header,
            len_bytes: bytes.len() as u64,
        };
        if !bytes.starts_with(b"\x7fELF") {
            let found = bytes.iter().take(4).copied().collect();
            return Err(ElfError::Magic { found });
        }
        let (Some(&class), Some(&data)) = (bytes.get(4), bytes.get(5)) else {
            return Err(truncated("ELF header"));
        };
        if (class, data) != (2, 1) {
            return Err(ElfError::Class { class, data });
        }
        let header = header64::Header::parse(bytes).map_err(|_| truncated("ELF header"))?;
        let machine = match header.e_machine {
            EM_X86_64 => Machine::X86_64,
            EM_AARCH64 => Machine::Aarch64,
            other => return Err(ElfError::Machine(other)),
        };
        let pie_or_shared = match header.e_type {
            ET_DYN => true,
            ET_EXEC => false,
            other => return Err(ElfError::Kind(other)),
        };
        if header.e_phnum > MAX_PROGRAM_HEADERS {
            return Err(ElfError::ProgramHeaders(header.e_phnum));
        }
        let program_headers = usize::try_from(header.e_phoff)
            .ok()
            .and_then(|at| ProgramHeader::parse(bytes, at, usize::from(header.e_phnum), CTX).ok())
            .ok_or_else(|| truncated("program headers"))?;
        let section_headers = usize::try_from(header.e_shoff)
            .ok()
            .and_then(|at| SectionHeader::parse(bytes, at, usize::from(header.e_shnum), CTX).ok())
            .unwrap_or_default();
        // With more than 65 279 sections the index does not fit and stands in section 0.
        let names_index = match section_headers.first() {
            Some(first) if u32::from(header.e_shstrndx) == SHN_XINDEX => first.sh_link as usize,
            _ => usize::from(header.e_shstrndx),
        };
        Ok(Self {
            bytes,
            machine,
            pie_or_shared,
            program_headers,
            section_headers,
            names_index,
        })
    }

    /// The processor that the image is for.
    pub fn machine(&self) -> Machine {
        self.machine
    }

    /// Whether the image can be loaded anywhere (`ET_DYN`) and not only where it was linked
    /// to (`ET_EXEC`, as Debian's `python3.13` is).
    pub fn is_pie_or_shared(&self) -> bool {
        self.pie_or_shared
    }

    /// The loaded parts of the file, in the order of the program headers.
    pub fn segments(&self) -> impl Iterator<Item = Segment> + '_ {
        let loads = self.program_headers.iter();
        loads.filter(|ph| ph.p_type == PT_LOAD).map(|ph| Segment {
            addr: ImageAddr(ph.p_vaddr),
            file_offset: FileOffset(ph.p_offset),
            file_size: ph.p_filesz,
            mem_size: ph.p_memsz,
            readable: ph.p_flags & PF_R != 0,
            writable: ph.p_flags & PF_W != 0,
            executable: ph.p_flags & PF_X != 0,
        })
    }

    /// The segments that hold `.data` and `.bss`, to be scanned in memory when the file is
    /// stripped of everything that would say more.
    pub fn writable_ranges(&self) -> impl Iterator<Item = Segment> + '_ {
        self.segments().filter(|segment| segment.writable)
    }

    /// The first section of that name, or `None` (also when section headers are stripped).
    pub fn section(&self, name: &str) -> Option<Section> {
        let header = self.section_header(name)?;
        let in_file = header.sh_type != SHT_NOBITS;
        Some(Section {
            addr: ImageAddr(header.sh_addr),
            size: header.sh_size,
            file_offset: in_file.then_some(FileOffset(header.sh_offset)),
            compressed: header.sh_flags & u64::from(goblin::elf::section_header::SHF_COMPRESSED)
                != 0,
        })
    }

    /// The bytes of a section as they are in the file, compressed or not; `None` when the
    /// section has none there or the file is cut short.
    pub fn section_bytes(&self, section: &Section) -> Option<&'a [u8]> {
        bytes::slice(self.bytes, section.file_offset?.0, section.size)
    }

    /// What the file holds for `len` bytes at `addr`: the value before any relocation and
    /// before the program wrote to it. `None` outside the file's part of a segment.
    pub fn bytes_at(&self, addr: ImageAddr, len: u64) -> Option<&'a [u8]> {
        self.segments().find_map(|segment| {
            let skip = addr.checked_sub(segment.addr)?;
            let left = segment.file_size.checked_sub(skip)?;
            let offset = segment.file_offset.checked_add(skip)?;
            (len <= left).then(|| bytes::slice(self.bytes, offset.0, len))?
        })
    }

    fn section_header(&self, name: &str) -> Option<&SectionHeader> {
        let names = self.section_headers.get(self.names_index)?;
        let names = bytes::slice(self.bytes, names.sh_offset, names.sh_size)?;
        let mut headers = self.section_headers.iter();
        headers.find(|header| has_name(names, header.sh_name as u64, name))
    }
}

/// Whether the NUL-terminated string at `at` in a string table is `name`. Compares in
/// place: a long run of bytes without a NUL costs nothing.
fn has_name(table: &[u8], at: u64, name: &str) -> bool {
    let name = name.as_bytes();
    bytes::tail(table, at)
        .and_then(|rest| rest.strip_prefix(name))
        .is_some_and(|rest| rest.first() == Some(&0))
}

#[cfg(test)]
mod tests;
