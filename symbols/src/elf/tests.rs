//! A hand-built shared object with every table that is looked at, whole and damaged.

use goblin::elf::sym::{STT_FUNC, STT_NOTYPE, STT_OBJECT};
use proptest::prelude::*;

use super::*;

/// Everything is in one segment that is linked 0x1000 behind its place in the file.
const SHIFT: u64 = 0x1000;

fn word(value: u64) -> [u8; 8] {
    value.to_le_bytes()
}

fn halves(values: &[u32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

/// `st_name, st_info (global), st_other, st_shndx, st_value, st_size`
fn symbol(name: u32, kind: u8, section: u16, value: u64) -> Vec<u8> {
    let mut entry = halves(&[name]);
    entry.extend([0x10 | kind, 0]);
    entry.extend(section.to_le_bytes());
    entry.extend(word(value));
    entry.extend(word(8));
    entry
}

fn segment(kind: u32, offset: u64, size: u64) -> Vec<u8> {
    let mut header = halves(&[kind, 6]);
    for value in [offset, offset + SHIFT, 0, size, size, 4] {
        header.extend(word(value));
    }
    header
}

fn section(name: u32, kind: u32, offset: u64, size: u64, link: u32) -> Vec<u8> {
    let mut header = halves(&[name, kind]);
    for value in [2, offset + SHIFT, offset, size] {
        header.extend(word(value));
    }
    header.extend(halves(&[link, 0]));
    header.extend([word(1), word(0)].concat());
    header
}

/// The image and where its System V and GNU hash tags are in the dynamic section.
fn image() -> (Vec<u8>, usize, usize) {
    // 1: _PyRuntime, 12: arenas, 19: .PyRuntime, 30: other
    let names = b"\0_PyRuntime\0arenas\0.PyRuntime\0other\0";
    let dynsym = [
        symbol(0, STT_NOTYPE, 0, 0),
        symbol(12, STT_OBJECT, 0, 0), // an import
        symbol(1, STT_OBJECT, 1, 0x5000),
        symbol(30, STT_FUNC, 1, 0x5008),
    ]
    .concat();
    let symtab = [
        symbol(12, STT_FUNC, 1, 0x6000),
        symbol(12, STT_OBJECT, 1, 0x6100),
        symbol(12, STT_OBJECT, 1, 0x6200),
    ]
    .concat();
    let sysv = halves(&[1, 4, 2, 0, 0, 0, 3]);
    // Two buckets, the first hashed symbol is 2, one bloom word, chains of one.
    let gnu = halves(&[2, 2, 1, 6, 0, 0, 2, 3, 0x11, 0x21]);
    let mut note = halves(&[4, 8, 3]);
    note.extend(b"GNU\0\x01\x23\x45\x67\x89\xab\xcd\xef");

    let mut file = vec![0; 64 + 3 * 56];
    let mut place = |bytes: &[u8]| {
        let at = file.len() as u64;
        file.extend(bytes);
        file.resize(file.len().next_multiple_of(8), 0);
        (at, bytes.len() as u64)
    };
    let (names_at, names_size) = place(names);
    let (dynsym_at, dynsym_size) = place(&dynsym);
    let (symtab_at, symtab_size) = place(&symtab);
    let (sysv_at, _) = place(&sysv);
    let (gnu_at, _) = place(&gnu);
    let (note_at, note_size) = place(&note);
    let tags = [
        [5, names_at + SHIFT],
        [10, names_size],
        [6, dynsym_at + SHIFT],
        [4, sysv_at + SHIFT],
        [0x6fff_fef5, gnu_at + SHIFT],
        [0, 0],
    ];
    let tags: Vec<u8> = tags.as_flattened().iter().flat_map(|&v| word(v)).collect();
    let (dynamic_at, dynamic_size) = place(&tags);
    let sections = [
        section(0, 0, 0, 0, 0),
        section(0, 3, names_at, names_size, 0),
        section(0, 11, dynsym_at, dynsym_size, 1),
        section(0, 2, symtab_at, symtab_size, 1),
        section(19, 8, 0x4000, 0x20, 0),
    ];
    let (sections_at, _) = place(&sections.concat());

    let size = file.len() as u64;
    let segments = [
        segment(1, 0, size),
        segment(2, dynamic_at, dynamic_size),
        segment(4, note_at, note_size),
    ];
    file[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0");
    file[16..20].copy_from_slice(&[3, 0, 62, 0]);
    file[32..40].copy_from_slice(&word(64));
    file[40..48].copy_from_slice(&word(sections_at));
    file[52..64].copy_from_slice(&[64, 0, 56, 0, 3, 0, 64, 0, 5, 0, 1, 0]);
    file[64..64 + 3 * 56].copy_from_slice(&segments.concat());
    let tag = |index: usize| usize::try_from(dynamic_at).unwrap() + 16 * index;
    (file, tag(3), tag(4))
}

#[test]
fn answers_from_a_whole_file() {
    let (file, ..) = image();
    let elf = ElfFile::parse(&file).unwrap();
    assert_eq!(elf.machine(), Machine::X86_64);
    let runtime = elf.symbol("_PyRuntime").unwrap();
    assert_eq!(runtime.addr, ImageAddr(0x5000));
    assert_eq!((runtime.size, runtime.table), (8, SymbolTable::DynSym));
    // A section without bytes in the file has an address all the same.
    let section = elf.section(".PyRuntime").unwrap();
    assert_eq!(section.addr, ImageAddr(0x5000));
    assert_eq!((section.size, section.file_offset), (0x20, None));
    assert_eq!(elf.section_bytes(&section), None);
    assert_eq!(elf.build_id().as_deref(), Some("0123456789abcdef"));
    assert_eq!(elf.bytes_at(ImageAddr(SHIFT), 4), Some(&b"\x7fELF"[..]));
    assert_eq!(elf.bytes_at(ImageAddr(SHIFT), file.len() as u64 + 1), None);
}

#[test]
fn an_ambiguous_static_name_is_marked_and_data_wins() {
    let (file, ..) = image();
    let arenas = ElfFile::parse(&file).unwrap().symbol("arenas").unwrap();
    assert_eq!(arenas.table, SymbolTable::SymTab);
    assert_eq!(arenas.addr, ImageAddr(0x6100));
    assert!(!arenas.unique);
}

#[test]
fn either_hash_table_gives_the_length_of_a_stripped_dynsym() {
    let (mut file, sysv, gnu) = image();
    file[40..48].fill(0);
    let find = |file: &[u8]| ElfFile::parse(file).unwrap().symbol("other");
    assert_eq!(find(&file).map(|other| other.addr), Some(ImageAddr(0x5008)));
    let unknown = word(0x7000_0000);
    file[gnu..gnu + 8].copy_from_slice(&unknown);
    assert_eq!(find(&file).map(|other| other.addr), Some(ImageAddr(0x5008)));
    file[sysv..sysv + 8].copy_from_slice(&unknown);
    assert_eq!(find(&file), None);
}

#[test]
fn the_parts_are_all_that_symbols_need() {
    let (file, ..) = image();
    let mut sparse = vec![0; file.len()];
    let mut take = |part: std::ops::Range<u64>| {
        let part = usize::try_from(part.start).unwrap()..usize::try_from(part.end).unwrap();
        sparse[part.clone()].copy_from_slice(&file[part]);
    };
    take(0..parts::HEADER_BYTES);
    parts::headers(&file)
        .unwrap()
        .into_iter()
        .for_each(&mut take);
    let elf = ElfFile::parse(&file).unwrap();
    elf.symbol_parts().unwrap().into_iter().for_each(&mut take);
    assert_ne!(sparse, file, "hash tables and tags are left out");
    let parsed = ElfFile::parse(&sparse).unwrap();
    let names = ["_PyRuntime", "arenas", "other"];
    assert_eq!(parsed.symbols(&names), elf.symbols(&names));
    assert_eq!(parsed.section(".PyRuntime"), elf.section(".PyRuntime"));
    assert_eq!(parsed.build_id(), elf.build_id());
    // Without section headers only the dynamic section leads to symbols.
    let mut stripped = file;
    stripped[40..48].fill(0);
    let elf = ElfFile::parse(&stripped).unwrap();
    assert_eq!(elf.symbol_parts(), None);
}

#[test]
fn refuses_what_is_not_an_image() {
    let (file, ..) = image();
    let with = |at: usize, value: u8| {
        let mut file = file.clone();
        file[at] = value;
        ElfFile::parse(&file).err().unwrap()
    };
    let found = vec![0x7f, b'E', b'L', b'G'];
    assert_eq!(with(3, b'G'), ElfError::Magic { found });
    assert_eq!(with(4, 1), ElfError::Class { class: 1, data: 1 });
    assert_eq!(with(16, 4), ElfError::Kind(4));
    assert_eq!(with(18, 3), ElfError::Machine(3));
    assert_eq!(with(57, 0xff), ElfError::ProgramHeaders(0xff03));
    let header = "program headers";
    let len_bytes = 70;
    let cut = ElfFile::parse(&file[..70]).err().unwrap();
    assert_eq!(cut, ElfError::Truncated { header, len_bytes });
}

#[test]
fn bias_needs_a_mapping_of_this_file() {
    let (file, ..) = image();
    let elf = ElfFile::parse(&file).unwrap();
    assert_eq!(elf.bias(&[(0x7000, 0x9000, 0)]), Ok(0x6000));
    let none = BiasError::NoMatch {
        mappings: 1,
        segments: 1,
    };
    assert_eq!(elf.bias(&[(0x7000, 0x9000, 0x1000)]), Err(none.clone()));
    // Below where it was linked to: no bias can be negative.
    assert_eq!(elf.bias(&[(0, 0x1000, 0)]), Err(none));
    let twice = elf.bias(&[(0x9000, 0xb000, 0), (0x7000, 0x9000, 0)]);
    let (first, second) = (0x6000, 0x8000);
    assert_eq!(twice, Err(BiasError::Ambiguous { first, second }));
}

/// Asks everything; the answers do not matter.
fn ask_everything(file: &[u8]) {
    let Ok(elf) = ElfFile::parse(file) else {
        return;
    };
    let _ = elf.symbols(&["_PyRuntime", "arenas", ""]);
    let _ = elf.build_id();
    let _ = elf.bias(&[(0, u64::MAX, 0), (0x1000, 0x2000, 0)]);
    for name in [".PyRuntime", ""] {
        let section = elf.section(name);
        let _ = section.and_then(|section| elf.section_bytes(&section));
    }
    for segment in elf.segments() {
        let _ = elf.bytes_at(segment.addr, segment.file_size);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_survived(file in prop::collection::vec(any::<u8>(), 0..300)) {
        ask_everything(&file);
    }

    #[test]
    fn any_damage_is_survived(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        keep in any::<prop::sample::Index>(),
        cut: bool,
        stripped: bool,
    ) {
        let (mut file, ..) = image();
        for (at, value) in damage {
            let at = at.index(file.len());
            file[at] = value;
        }
        if stripped {
            file[40..48].fill(0);
        }
        if cut {
            file.truncate(keep.index(file.len()));
        }
        ask_everything(&file);
    }
}
