//! The layout tables against the debug information of every build that has some.
//!
//! The same code is the fallback for an unknown build, so this also shows that the fallback
//! works: where a table is right, it must give the same layout.

#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::path::PathBuf;

use onlooker::attach::dwarf;
use onlooker_symbols::ElfFile;
use onlooker_unwinder::layout::{Layout, Minor, debug_offsets, tables};
use support::{Interpreter, matrix, say};

/// The file that holds the interpreter: a shared library where there is one.
fn image(interpreter: &Interpreter) -> PathBuf {
    let folder = interpreter.prefix().join("lib");
    let library = format!("libpython{}.so.1.0", interpreter.minor_version());
    let library = folder.join(library);
    if library.exists() {
        library
    } else {
        interpreter.executable.clone()
    }
}

/// The layout that attach would use: a table, or the debug offsets in the file.
fn layout(version: Minor, elf: &[u8]) -> Layout {
    if let Some(layout) = tables::for_version(version) {
        return layout;
    }
    let parsed = ElfFile::parse(elf).expect("an ELF file");
    let symbol = parsed.symbol("_PyRuntime").expect("_PyRuntime");
    let bytes = parsed.bytes_at(symbol.addr, debug_offsets::TABLE_BYTES as u64);
    debug_offsets::parse(bytes.expect("the table is initialised data")).expect("debug offsets")
}

#[test]
fn tables_equal_debug_information() {
    matrix(|interpreter| {
        if !interpreter.is_pyenv() {
            return;
        }
        let elf = fs::read(image(interpreter)).expect("the image");
        let (major, minor, _) = interpreter.version;
        let expected = layout(Minor::new(major, minor), &elf);
        match dwarf::layout(&expected, &elf) {
            Ok(found) => assert_eq!(found, expected),
            Err(error) => panic!("{}: {error}", interpreter.label),
        }
        say(&format!(
            "{}: layout equals its debug information",
            interpreter.label
        ));
    });
}
