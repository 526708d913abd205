//! Finds symbols by name, in `.dynsym` first and in `.symtab` after it.
//!
//! `_PyRuntime` is exported since CPython 3.7, so it is in `.dynsym` and survives `strip`.
//! Static variables (`arenas` in Objects/obmalloc.c, `interp_head` in Python/pystate.c of
//! 3.6 and older) are in `.symtab` only. Tables are looked through once for all names; the
//! hash tables are not used to look up because one pass over a few thousand entries is as
//! fast, but they tell how long `.dynsym` is when section headers are stripped.

use goblin::elf::program_header::PT_DYNAMIC;
use goblin::elf::section_header::{SHT_DYNSYM, SHT_SYMTAB};
use goblin::elf::sym::{STT_FILE, STT_OBJECT, STT_SECTION, STT_TLS, Symtab, sym64::SIZEOF_SYM};

use super::{CTX, ElfFile, bytes, has_name};
use crate::{FileOffset, ImageAddr};

/// Where a symbol was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SymbolTable {
    /// Exported: the name means the same in every build.
    DynSym,
    /// The full table, where names of static variables may occur more than once.
    SymTab,
}

/// A defined symbol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Symbol {
    /// Where it was linked to.
    pub addr: ImageAddr,
    /// Its size in bytes as the linker recorded it; 0 when unknown.
    pub size: u64,
    /// The table that it is from.
    pub table: SymbolTable,
    /// Whether the name stands for one address only. When not (two static variables of the
    /// same name), this is the first one that holds data and must be proven by its use.
    pub unique: bool,
}

/// A symbol table and its names, as byte ranges of the file.
struct Table<'a> {
    kind: SymbolTable,
    entries: &'a [u8],
    names: &'a [u8],
}

/// What has been seen of one name.
#[derive(Clone, Copy)]
struct Candidate {
    symbol: Symbol,
    is_data: bool,
}

impl<'a> ElfFile<'a> {
    /// The defined symbol of that name, or `None`. Names are compared without versions.
    /// Thread-local variables are left out: their value is not an address.
    pub fn symbol(&self, name: &str) -> Option<Symbol> {
        self.symbols(&[name]).pop().flatten()
    }

    /// Finds several symbols in one pass; the answers are in the order of `names`.
    ///
    /// The cost is linear in the size of the tables; `.symtab` is looked at only when a
    /// name is not in `.dynsym`.
    pub fn symbols(&self, names: &[&str]) -> Vec<Option<Symbol>> {
        let mut found: Vec<Option<Symbol>> = vec![None; names.len()];
        let dynsym = self
            .table_from_sections(SymbolTable::DynSym)
            .or_else(|| self.dynsym_from_segments());
        let tables = [dynsym, self.table_from_sections(SymbolTable::SymTab)];
        for table in tables.into_iter().flatten() {
            let missing: Vec<usize> = (0..names.len()).filter(|&i| found[i].is_none()).collect();
            if missing.is_empty() {
                break;
            }
            let wanted: Vec<&str> = missing.iter().map(|&i| names[i]).collect();
            for (index, candidate) in missing.into_iter().zip(table.find(&wanted)) {
                found[index] = candidate.map(|candidate| candidate.symbol);
            }
        }
        found
    }

    fn table_from_sections(&self, kind: SymbolTable) -> Option<Table<'a>> {
        let section_type = match kind {
            SymbolTable::DynSym => SHT_DYNSYM,
            SymbolTable::SymTab => SHT_SYMTAB,
        };
        let mut headers = self.section_headers.iter();
        let header = headers.find(|header| header.sh_type == section_type)?;
        let names = self.section_headers.get(header.sh_link as usize)?;
        Some(Table {
            kind,
            entries: bytes::slice(self.bytes, header.sh_offset, header.sh_size)?,
            names: bytes::slice(self.bytes, names.sh_offset, names.sh_size)?,
        })
    }

    /// `.dynsym` as the dynamic loader finds it, which no tool can strip.
    fn dynsym_from_segments(&self) -> Option<Table<'a>> {
        let mut headers = self.program_headers.iter();
        let dynamic = headers.find(|ph| ph.p_type == PT_DYNAMIC)?;
        let dynamic = bytes::slice(self.bytes, dynamic.p_offset, dynamic.p_filesz)?;
        let tags = DynamicTags::read(dynamic);

        let names_at = self.offset_of(ImageAddr(tags.strtab?))?;
        let names = bytes::slice(self.bytes, names_at.0, tags.strsz?)?;
        let gnu = tags.gnu_hash.and_then(|addr| self.gnu_hash_count(addr));
        let count = gnu.or_else(|| tags.hash.and_then(|addr| self.sysv_hash_count(addr)))?;
        let entries_at = self.offset_of(ImageAddr(tags.symtab?))?;
        let entries_size = u64::from(count).checked_mul(SIZEOF_SYM as u64)?;
        Some(Table {
            kind: SymbolTable::DynSym,
            entries: bytes::slice(self.bytes, entries_at.0, entries_size)?,
            names,
        })
    }

    /// `nchain` of the System V hash table is the number of symbols.
    fn sysv_hash_count(&self, addr: u64) -> Option<u32> {
        let at = self.offset_of(ImageAddr(addr))?;
        bytes::u32_at(self.bytes, at.checked_add(4)?.0)
    }

    /// The GNU hash table does not say how many symbols there are: the last one is the end
    /// of the chain that starts at the highest bucket. The layout is `nbuckets, symoffset,
    /// bloom_size, bloom_shift, bloom[bloom_size] (u64), buckets[nbuckets], chains[]`.
    fn gnu_hash_count(&self, addr: u64) -> Option<u32> {
        let table = bytes::tail(self.bytes, self.offset_of(ImageAddr(addr))?.0)?;
        let bucket_count = u64::from(bytes::u32_at(table, 0)?);
        let first_hashed = bytes::u32_at(table, 4)?;
        let bloom_size = u64::from(bytes::u32_at(table, 8)?);
        let buckets_at = 16 + bloom_size * 8;
        let buckets = bytes::slice(table, buckets_at, bucket_count * 4)?;
        let chains_at = buckets_at + bucket_count * 4;
        let highest = buckets
            .chunks_exact(4)
            .map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
            .max()
            .unwrap_or(0);
        // All buckets empty: nothing is exported, all symbols are imports.
        let Some(mut chain) = highest.checked_sub(first_hashed) else {
            return Some(first_hashed);
        };
        // The lowest bit marks the end of a chain; the end of the file ends it as well.
        while bytes::u32_at(table, chains_at + u64::from(chain) * 4)? & 1 == 0 {
            chain = chain.checked_add(1)?;
        }
        first_hashed.checked_add(chain)?.checked_add(1)
    }

    /// Where the file holds the byte at `addr`.
    fn offset_of(&self, addr: ImageAddr) -> Option<FileOffset> {
        self.segments().find_map(|segment| {
            let skip = addr.checked_sub(segment.addr)?;
            (skip < segment.file_size).then(|| segment.file_offset.checked_add(skip))?
        })
    }
}

/// The entries of the dynamic section that lead to `.dynsym`.
#[derive(Default)]
struct DynamicTags {
    symtab: Option<u64>,
    strtab: Option<u64>,
    strsz: Option<u64>,
    hash: Option<u64>,
    gnu_hash: Option<u64>,
}

impl DynamicTags {
    fn read(dynamic: &[u8]) -> Self {
        use goblin::elf::dynamic::{DT_GNU_HASH, DT_HASH, DT_NULL, DT_STRSZ, DT_STRTAB, DT_SYMTAB};
        let mut tags = Self::default();
        for entry in dynamic.chunks_exact(16) {
            let (Some(tag), Some(value)) = (bytes::u64_at(entry, 0), bytes::u64_at(entry, 8))
            else {
                break;
            };
            match tag {
                DT_NULL => break,
                DT_SYMTAB => tags.symtab = Some(value),
                DT_STRTAB => tags.strtab = Some(value),
                DT_STRSZ => tags.strsz = Some(value),
                DT_HASH => tags.hash = Some(value),
                DT_GNU_HASH => tags.gnu_hash = Some(value),
                _ => {}
            }
        }
        tags
    }
}

impl Table<'_> {
    fn find(&self, wanted: &[&str]) -> Vec<Option<Candidate>> {
        let mut found: Vec<Option<Candidate>> = vec![None; wanted.len()];
        let count = self.entries.len() / SIZEOF_SYM;
        let Ok(symbols) = Symtab::parse(self.entries, 0, count, CTX) else {
            return found;
        };
        for symbol in &symbols {
            let kind = symbol.st_type();
            // Section index 0 is an import; the other types have no address of their own.
            if symbol.st_shndx == 0 || matches!(kind, STT_TLS | STT_FILE | STT_SECTION) {
                continue;
            }
            let candidate = Candidate {
                symbol: Symbol {
                    addr: ImageAddr(symbol.st_value),
                    size: symbol.st_size,
                    table: self.kind,
                    unique: true,
                },
                is_data: kind == STT_OBJECT,
            };
            for (name, slot) in wanted.iter().zip(&mut found) {
                if has_name(self.names, symbol.st_name as u64, name) {
                    *slot = Some(slot.map_or(candidate, |first| better(first, candidate)));
                }
            }
        }
        found
    }
}

/// Of two symbols of one name the earlier one, unless only the later one holds data.
fn better(first: Candidate, second: Candidate) -> Candidate {
    let same = first.symbol.addr == second.symbol.addr;
    let mut chosen = if second.is_data && !first.is_data {
        second
    } else {
        first
    };
    chosen.symbol.unique = first.symbol.unique && same;
    chosen
}
