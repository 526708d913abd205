//! What the files of a CPython process say about it: where its symbols are, which version
//! it is, how its structs are laid out and which line an instruction belongs to.
//!
//! Everything here is a pure function over bytes. The crate opens no file and reads no
//! process: the caller maps the executable or `libpython`, or copies a line table out of
//! the target, and hands in the slice. All of those bytes are outside data, so no parser
//! may panic, overflow, run forever or allocate what a length field asks for.
//!
//! * [`ElfFile`] finds symbols and sections and the load bias.
//! * [`PyVersion`] reads versions from hex words, memory and file names.
//! * [`LineTable`] decodes the four formats of line tables.
//! * [`names::CodeTable`] caches names and lines of code objects; it alone is handed a way to
//!   read, because what it caches must be read again.
//! * [`DwarfLayouts`] takes struct offsets from debug information.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod addr;
pub mod dwarf;
pub mod elf;
pub mod linetable;
pub mod names;
mod said;
pub mod version;

pub use addr::{FileOffset, ImageAddr};
pub use dwarf::{DwarfError, DwarfLayouts};
pub use elf::{ElfError, ElfFile};
pub use linetable::{LineTable, LineTableFormat, Position};
pub use version::PyVersion;
