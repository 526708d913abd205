//! Takes the layout of structs from debug information.
//!
//! Offsets of interpreter structs are tables elsewhere; this is what proves those tables
//! against a build with debug information, and what stands in for them for a build that no
//! table knows. Only structs that are asked for are loaded, with the structs that they
//! hold by value; functions, variables and line programs are skipped, and the search stops
//! as soon as everything is found, because the debug information of CPython 3.13 is 15 MB
//! of entries in which a dozen structs matter.
//!
//! A struct is found by its tag (`_ts`) or by a `typedef` (`PyThreadState`), whose tag
//! differs between versions. Most compilation units know most structs by declaration only,
//! so the first complete definition is taken, from whichever unit.

mod place;
mod search;
mod sections;
mod units;

use std::collections::{HashMap, HashSet};

use crate::ElfError;

/// Why no layouts could be taken from a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DwarfError {
    /// The file is not an ELF image.
    #[error(transparent)]
    Elf(#[from] ElfError),
    /// The file was built without debug information, or stripped.
    #[error("the file has no debug information (section .debug_info)")]
    NoDebugInfo,
    /// A section is compressed in a way that is not known or does not decompress.
    #[error("section {section} does not decompress (compression type {kind}, {size} bytes)")]
    Compression {
        /// The name of the section.
        section: &'static str,
        /// `ch_type` of its header: 1 is zlib, 2 is zstd.
        kind: u32,
        /// The size that its header promises.
        size: u64,
    },
    /// A section is cut off by the end of the file.
    #[error("section {section} is not wholly in the file")]
    Truncated {
        /// The name of the section.
        section: &'static str,
    },
    /// Entries that cannot be decoded.
    #[error("malformed debug information in the unit at {unit:#x}: {source}")]
    Malformed {
        /// Where the compilation unit begins in `.debug_info`.
        unit: u64,
        /// What is wrong with it.
        source: gimli::Error,
    },
    /// The structs asked for have more members than any real ones.
    #[error("more than {limit} members in the structs asked for")]
    TooManyMembers {
        /// How many are accepted.
        limit: usize,
    },
}

/// Where a member is in a struct.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// In bytes from the start of the struct that was asked for. For a bit field: the byte
    /// that holds its lowest bit.
    pub offset: u64,
    /// In bytes, of all elements of an array; `None` for a flexible array and for what the
    /// debug information does not tell.
    pub size: Option<u64>,
    /// Only of bit fields.
    pub bits: Option<Bits>,
}

/// The place of a bit field, counted from the lowest bit as on little-endian machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bits {
    /// The lowest bit, 0 to 7, in the byte at [`Field::offset`].
    pub shift: u8,
    /// How many bits.
    pub width: u64,
}

/// The layouts of some structs of one file.
#[derive(Debug, Default)]
pub struct DwarfLayouts {
    by_name: HashMap<String, StructId>,
    structs: Vec<Struct>,
}

/// An index into [`DwarfLayouts::structs`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct StructId(usize);

/// A struct or union.
#[derive(Debug, Default)]
struct Struct {
    size: Option<u64>,
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    /// `None` for an anonymous struct or union, whose members are its parent's.
    name: Option<String>,
    field: Field,
    /// Its type, if that is a struct, or the struct that an array holds.
    inner: Option<StructId>,
}

impl DwarfLayouts {
    /// Loads the structs whose tag or `typedef` is in `wanted`. Names that the file does
    /// not define are left out. `elf` is an executable, a shared object, or the separate
    /// file with its debug information.
    ///
    /// # Errors
    ///
    /// When the file has no debug information or it cannot be decoded.
    pub fn from_elf(elf: &[u8], wanted: &[&str]) -> Result<Self, DwarfError> {
        let sections = sections::load(elf)?;
        let dwarf = sections::borrow(&sections);
        search::layouts(&units::Units::new(&dwarf)?, wanted)
    }

    /// The names that were asked for and found, in no order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// The size of a struct in bytes; `None` when it was not asked for or not found.
    pub fn size_of(&self, name: &str) -> Option<u64> {
        self.structs[self.by_name.get(name)?.0].size
    }

    /// The offset of a member in bytes; see [`field`](Self::field).
    pub fn offset_of(&self, name: &str, path: &str) -> Option<u64> {
        self.field(name, path).map(|field| field.offset)
    }

    /// Where the member at a path such as `ceval.gil.locked` is. Members of anonymous
    /// structs and unions belong to the struct around them, as in C. A path through an
    /// array leads into its first element; no path leads through a pointer.
    pub fn field(&self, name: &str, path: &str) -> Option<Field> {
        let mut inside = Some(*self.by_name.get(name)?);
        let mut base = 0u64;
        let mut last = None;
        for part in path.split('.') {
            let (field, inner) = self.member(inside?, part)?;
            base = base.checked_add(field.offset)?;
            last = Some(field);
            inside = inner;
        }
        last.map(|field| Field {
            offset: base,
            ..field
        })
    }

    /// Looks for a member by name, through anonymous members, each struct at most once:
    /// hostile ones may hold themselves.
    fn member(&self, of: StructId, name: &str) -> Option<(Field, Option<StructId>)> {
        let mut seen = HashSet::from([of]);
        let mut queue = vec![(of, 0u64)];
        while let Some((id, base)) = queue.pop() {
            for member in &self.structs[id.0].members {
                let Some(offset) = base.checked_add(member.field.offset) else {
                    continue;
                };
                match (&member.name, member.inner) {
                    (Some(known), inner) if known == name => {
                        let field = Field {
                            offset,
                            ..member.field
                        };
                        return Some((field, inner));
                    }
                    (None, Some(inner)) if seen.insert(inner) => queue.push((inner, offset)),
                    _ => {}
                }
            }
        }
        None
    }
}
