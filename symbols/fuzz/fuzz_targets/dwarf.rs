//! Any file with debug information: layouts or an error, without a panic. Begin with a
//! corpus of small compiled programs; random bytes are not even ELF.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onlooker_symbols::DwarfLayouts;

fuzz_target!(|file: &[u8]| {
    let wanted = ["everything", "anonymous", "late", "PyObject", "_ts"];
    let Ok(layouts) = DwarfLayouts::from_elf(file, &wanted) else {
        return;
    };
    for name in wanted {
        let _ = layouts.size_of(name);
        let _ = layouts.field(name, "outer.middle.deep");
    }
});
