//! Reads the files of real interpreters: shared, static, stripped, and stripped further.

mod interpreters;

use std::collections::HashMap;
use std::fs;

use onlooker_symbols::elf::{ElfFile, Symbol, SymbolTable};
use onlooker_symbols::{FileOffset, ImageAddr};

/// Sizes of `_PyRuntime` in release builds; a symbol of another size is not the runtime.
fn runtime_size(version: (u8, u8)) -> Option<u64> {
    HashMap::from([
        ((3, 7), 1520),
        ((3, 8), 1464),
        ((3, 9), 656),
        ((3, 10), 672),
        ((3, 11), 166_688),
        ((3, 12), 459_944),
        ((3, 13), 283_320),
    ])
    .get(&version)
    .copied()
}

fn runtime(elf: &ElfFile<'_>) -> Symbol {
    elf.symbol("_PyRuntime").expect("_PyRuntime")
}

#[test]
fn finds_the_runtime_of_every_interpreter() {
    for interpreter in interpreters::all() {
        let bytes = fs::read(&interpreter.image).expect("read the image");
        let whose = interpreter.image.display();
        let elf = ElfFile::parse(&bytes).unwrap_or_else(|error| panic!("{whose}: {error}"));
        let [thread_state, runtime, nothing] =
            elf.symbols(&["PyThreadState_Get", "_PyRuntime", "_PyRuntim"])[..]
        else {
            panic!("three names, three answers")
        };
        assert!(thread_state.is_some(), "{whose}");
        assert_eq!(nothing, None, "{whose}");
        assert!(elf.build_id().is_none_or(|id| id.len() >= 16), "{whose}");
        if interpreter.version < (3, 7) {
            assert_eq!(runtime, None);
            let interp_head = elf.symbol("interp_head").expect("static in 3.6 and older");
            assert_eq!(interp_head.table, SymbolTable::SymTab);
            continue;
        }
        let runtime = runtime.unwrap_or_else(|| panic!("{whose}: no _PyRuntime"));
        assert_eq!(runtime.table, SymbolTable::DynSym, "{whose}");
        assert!(runtime.unique, "{whose}");
        if let Some(size) = runtime_size(interpreter.version).filter(|_| interpreter.is_pyenv()) {
            assert_eq!(runtime.size, size, "{whose}");
        }
        let mut writable = elf.writable_ranges();
        assert!(
            writable.any(|range| {
                let into = runtime.addr.checked_sub(range.addr);
                into.is_some_and(|into| into + runtime.size <= range.mem_size)
            }),
            "{whose}: the runtime is not in writable memory"
        );
        // The section exists since 3.10 and holds the runtime alone.
        let section = elf.section(".PyRuntime");
        assert_eq!(section.is_some(), interpreter.version >= (3, 10), "{whose}");
        if let Some(section) = section {
            assert_eq!((section.addr, section.size), (runtime.addr, runtime.size));
        }
    }
}

#[test]
fn reads_constants_from_the_file() {
    for interpreter in interpreters::all() {
        let bytes = fs::read(&interpreter.image).expect("read the image");
        let elf = ElfFile::parse(&bytes).expect("parse");
        // Exported since 3.11 (Python/getversion.c).
        let Some(symbol) = elf.symbol("Py_Version") else {
            assert!(interpreter.version < (3, 11));
            continue;
        };
        let word = elf.bytes_at(symbol.addr, 4).expect("in .rodata");
        let (major, minor) = interpreter.version;
        assert_eq!(word[2..], [minor, major]);
    }
}

#[test]
fn finds_the_runtime_without_section_headers() {
    for interpreter in interpreters::all() {
        if interpreter.version < (3, 7) {
            continue;
        }
        let mut bytes = fs::read(&interpreter.image).expect("read the image");
        let expected = runtime(&ElfFile::parse(&bytes).expect("parse"));
        // What sstrip does: e_shoff, e_shnum and e_shstrndx become zero.
        bytes[0x28..0x30].fill(0);
        bytes[0x3c..0x40].fill(0);
        let elf = ElfFile::parse(&bytes).expect("parse");
        assert_eq!(elf.section(".PyRuntime"), None);
        assert_eq!(runtime(&elf), expected, "{}", interpreter.image.display());
    }
}

/// The mappings of `image` in a running process, as the process itself reads them.
fn mappings(interpreter: &interpreters::Interpreter) -> Vec<(u64, u64, u64)> {
    let output = interpreter
        .command()
        .args(["-c", "print(open('/proc/self/maps').read())"])
        .output()
        .expect("run the interpreter");
    let hex = |digits: &str| u64::from_str_radix(digits, 16).expect("hex");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let image = interpreter.image.to_str().expect("UTF-8");
    let lines = text.lines().filter(|line| line.ends_with(image));
    lines
        .map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (start, end) = fields[0].split_once('-').expect("a range");
            (hex(start), hex(end), hex(fields[2]))
        })
        .collect()
}

#[test]
fn bias_puts_every_segment_where_it_is_mapped() {
    for interpreter in interpreters::all() {
        let bytes = fs::read(&interpreter.image).expect("read the image");
        let elf = ElfFile::parse(&bytes).expect("parse");
        let maps = mappings(&interpreter);
        let bias = elf.bias(&maps).expect("a bias");
        assert_eq!(bias == 0, !elf.is_pie_or_shared());
        for segment in elf.segments() {
            let at = segment.addr.loaded_at(bias).expect("an address");
            assert!(
                maps.iter().any(|&(start, end, offset)| {
                    (start..end).contains(&at) && at - start + offset == segment.file_offset.0
                }),
                "{}: {segment:?} at {at:#x} of {maps:x?}",
                interpreter.image.display()
            );
        }
        if elf.is_pie_or_shared() {
            // Without the mapping of offset 0, and with the file mapped once more as data.
            assert_eq!(elf.bias(&maps[1..]), Ok(bias));
            let mut twice = maps.clone();
            twice.push((0x10_0000, 0x10_0000 + bytes.len() as u64, 0));
            assert_eq!(elf.bias(&twice), Ok(bias));
        }
    }
}

#[test]
fn file_offsets_and_addresses_are_different_spaces() {
    assert_eq!(ImageAddr(u64::MAX).loaded_at(1), None);
    assert_eq!(ImageAddr(5).checked_sub(ImageAddr(6)), None);
    assert_eq!(FileOffset(1).checked_add(u64::MAX), None);
}
