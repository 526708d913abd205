//! Layouts of a small C program, in every version and packing of debug information that the
//! compiler at hand can write, against the offsets that the program prints itself.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use onlooker_symbols::dwarf::{Bits, Field};
use onlooker_symbols::{DwarfLayouts, ElfFile};
use proptest::prelude::*;

const SOURCES: [&str; 2] = [
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dwarf_compiled.c"),
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dwarf_compiled_late.c"),
];

/// What every C compiler can do comes first and may not be skipped.
const VARIANTS: [&[&str]; 8] = [
    &["-g"],
    &["-gdwarf-4"],
    &["-gdwarf-5"],
    &["-gdwarf-2", "-gstrict-dwarf"],
    &["-gdwarf-5", "-gz=zlib"],
    &["-gdwarf-4", "-gz=zlib-gnu"],
    &["-gdwarf-5", "-gz=zstd"],
    &["-gdwarf-5", "-gdwarf64"],
];

const WANTED: [&str; 5] = ["everything", "anonymous", "late", "inner_alias", "nothing"];

/// Compiles with these flags; `None` where the compiler does not know them.
fn compile(name: &str, flags: &[&str]) -> Option<PathBuf> {
    let name = format!("{name}{}", flags.concat());
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let output = Command::new("cc")
        .args(flags)
        .args(SOURCES)
        .arg("-o")
        .arg(&program)
        .output()
        .expect("a C compiler");
    if !output.status.success() {
        eprintln!("SKIPPED: cc does not know {flags:?}");
    }
    output.status.success().then_some(program)
}

#[test]
fn offsets_equal_those_of_the_compiler() {
    for (index, flags) in VARIANTS.iter().enumerate() {
        let Some(program) = compile("dwarf_compiled", flags) else {
            assert!(index > 2, "cc fails with {flags:?}");
            continue;
        };
        let bytes = std::fs::read(&program).expect("read the program");
        let layouts = DwarfLayouts::from_elf(&bytes, &WANTED)
            .unwrap_or_else(|error| panic!("{flags:?}: {error}"));
        assert_eq!(layouts.names().count(), 4, "{flags:?}");
        let output = Command::new(&program).output().expect("run the program");
        let text = String::from_utf8(output.stdout).expect("ASCII");
        assert_eq!(text.lines().count(), 15);
        for line in text.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            let offset = layouts.offset_of(fields[0], fields[1]);
            assert_eq!(offset, fields[2].parse().ok(), "{flags:?} {line}");
        }
        check_sizes_and_bits(&layouts, flags);
        std::fs::remove_file(&program).expect("remove the program");
    }
}

fn check_sizes_and_bits(layouts: &DwarfLayouts, flags: &[&str]) {
    let size = |path| layouts.field("everything", path).expect(path).size;
    assert_eq!(size("first"), Some(4));
    assert_eq!(size("array"), Some(3 * 2 * 4));
    assert_eq!(size("pointer"), Some(8));
    assert_eq!(size("flexible"), None);
    assert_eq!(layouts.size_of("inner_alias"), Some(4));
    assert_eq!(layouts.size_of("nothing"), None);
    assert_eq!(layouts.field("everything", "next.first"), None);
    // The bits stand directly behind `outer`, which ends at a multiple of eight.
    let outer = layouts.field("everything", "outer").expect("outer");
    let word = outer.offset + outer.size.expect("a size");
    for (name, byte, shift, width) in [("low", 0, 0, 3), ("mid", 0, 3, 7), ("high", 1, 2, 9)] {
        let expected = Field {
            offset: word + byte,
            size: None,
            bits: Some(Bits { shift, width }),
        };
        assert_eq!(
            layouts.field("everything", name),
            Some(expected),
            "{flags:?}"
        );
    }
}

/// A program and where its debug information is in the file.
fn damageable() -> &'static (Vec<u8>, Vec<std::ops::Range<usize>>) {
    static PROGRAM: OnceLock<(Vec<u8>, Vec<std::ops::Range<usize>>)> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let program = compile("dwarf_damaged", &["-g"]).expect("cc -g");
        let bytes = std::fs::read(&program).expect("read the program");
        std::fs::remove_file(&program).expect("remove the program");
        let elf = ElfFile::parse(&bytes).expect("parse");
        let ranges = [".debug_info", ".debug_info", ".debug_abbrev", ".debug_str"].map(|name| {
            let section = elf.section(name).expect(name);
            let start = usize::try_from(section.file_offset.expect(name).0).expect("an offset");
            start..start + usize::try_from(section.size).expect("a size")
        });
        let ranges = ranges.to_vec();
        (bytes, ranges)
    })
}

proptest! {
    // A failing case would be stored beside `lib.rs`, which an integration test lacks.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_damage_is_survived(
        damage in prop::collection::vec(
            (0..4usize, any::<prop::sample::Index>(), any::<u8>()),
            1..20,
        ),
    ) {
        let (bytes, ranges) = damageable();
        let mut bytes = bytes.clone();
        for (section, at, value) in damage {
            let range = ranges[section].clone();
            bytes[range.start + at.index(range.len())] = value;
        }
        if let Ok(layouts) = DwarfLayouts::from_elf(&bytes, &WANTED) {
            for name in WANTED {
                let _ = layouts.size_of(name);
                let _ = layouts.field(name, "outer.middle.deep");
                let _ = layouts.field(name, "three");
            }
        }
    }
}
