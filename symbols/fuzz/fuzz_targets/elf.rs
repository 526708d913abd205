//! Any file: every question of `ElfFile` has an answer, without a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onlooker_symbols::ElfFile;

fuzz_target!(|file: &[u8]| {
    let Ok(elf) = ElfFile::parse(file) else {
        return;
    };
    let _ = elf.symbols(&["_PyRuntime", "Py_Version", "arenas", ""]);
    let _ = elf.build_id();
    let _ = elf.bias(&[
        (0x1000, 0x2000, 0),
        (0x3000, 0x9000, 0x1000),
        (0, u64::MAX, 0),
    ]);
    for name in [".PyRuntime", ".debug_info", ""] {
        let section = elf.section(name);
        let _ = section.and_then(|section| elf.section_bytes(&section));
    }
    for segment in elf.segments() {
        let _ = elf.bytes_at(segment.addr, segment.file_size);
    }
});
