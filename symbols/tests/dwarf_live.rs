//! Layouts of real interpreters, checked against what the same files say elsewhere.

mod interpreters;

use std::fs;
use std::time::{Duration, Instant};

use onlooker_symbols::{DwarfError, DwarfLayouts, ElfFile};

/// One second is what attaching may cost at most; tests run unoptimized and in parallel.
const TIME_LIMIT: Duration = Duration::from_secs(2);

const WANTED: [&str; 24] = [
    "_PyRuntimeState",
    "PyInterpreterState",
    "PyThreadState",
    "PyFrameObject",
    "_PyInterpreterFrame",
    "_PyCFrame",
    "_PyStackChunk",
    "PyCodeObject",
    "PyObject",
    "PyVarObject",
    "PyASCIIObject",
    "PyCompactUnicodeObject",
    "PyUnicodeObject",
    "PyBytesObject",
    "PyTupleObject",
    "PyListObject",
    "PyLongObject",
    "PyDictObject",
    "PyDictKeysObject",
    "PyTypeObject",
    "PyGenObject",
    "_gil_runtime_state",
    "_gc_runtime_state",
    "_Py_DebugOffsets",
];

#[test]
fn layouts_agree_with_the_symbols_of_every_interpreter() {
    let mut checked = 0;
    for interpreter in interpreters::all() {
        let whose = interpreter.image.display();
        let bytes = fs::read(&interpreter.image).expect("read the image");
        let started = Instant::now();
        let layouts = match DwarfLayouts::from_elf(&bytes, &WANTED) {
            Err(DwarfError::NoDebugInfo) => {
                eprintln!("SKIPPED: no debug information in {whose}");
                continue;
            }
            layouts => layouts.unwrap_or_else(|error| panic!("{whose}: {error}")),
        };
        let took = started.elapsed();
        assert!(took < TIME_LIMIT, "{whose}: {took:?}");
        // The same in every release build (Include/object.h).
        assert_eq!(layouts.offset_of("PyObject", "ob_type"), Some(8));
        assert_eq!(layouts.offset_of("PyVarObject", "ob_size"), Some(16));
        assert_eq!(layouts.offset_of("PyObject", "no_such_member"), None);
        let kind = layouts.field("PyASCIIObject", "state.kind");
        let runtime = ElfFile::parse(&bytes).expect("parse").symbol("_PyRuntime");
        if interpreter.version >= (3, 7) {
            let size = runtime.expect("_PyRuntime").size;
            assert_eq!(layouts.size_of("_PyRuntimeState"), Some(size), "{whose}");
            let bits = kind.and_then(|kind| kind.bits).expect("a bit field");
            assert_eq!((bits.shift, bits.width), (2, 3), "{whose}");
            checked += 1;
        }
        let found = layouts.names().count();
        eprintln!("{whose}: {found} of {} structs in {took:?}", WANTED.len());
    }
    assert!(checked > 0 || interpreters::all().iter().all(|found| !found.is_pyenv()));
}

/// CPython 3.13+ writes offsets into its own data (`_Py_DebugOffsets`, Include/internal/
/// pycore_runtime.h): the file holds both the numbers and the debug information.
#[test]
fn layouts_equal_the_debug_offsets_of_3_13() {
    // Paths in the table, and the member that they describe.
    const SAME: [(&str, &str, &str); 12] = [
        (
            "runtime_state.interpreters_head",
            "_PyRuntimeState",
            "interpreters.head",
        ),
        ("interpreter_state.next", "PyInterpreterState", "next"),
        (
            "interpreter_state.threads_head",
            "PyInterpreterState",
            "threads.head",
        ),
        (
            "interpreter_state.imports_modules",
            "PyInterpreterState",
            "imports.modules",
        ),
        (
            "interpreter_state.gil_runtime_state_locked",
            "PyInterpreterState",
            "_gil.locked",
        ),
        (
            "thread_state.current_frame",
            "PyThreadState",
            "current_frame",
        ),
        (
            "thread_state.datastack_chunk",
            "PyThreadState",
            "datastack_chunk",
        ),
        ("interpreter_frame.owner", "_PyInterpreterFrame", "owner"),
        ("code_object.linetable", "PyCodeObject", "co_linetable"),
        (
            "unicode_object.length",
            "PyUnicodeObject",
            "_base._base.length",
        ),
        ("long_object.lv_tag", "PyLongObject", "long_value.lv_tag"),
        ("type_object.tp_name", "PyTypeObject", "tp_name"),
    ];
    for interpreter in interpreters::all() {
        if interpreter.version < (3, 13) {
            continue;
        }
        let bytes = fs::read(&interpreter.image).expect("read the image");
        let Ok(layouts) = DwarfLayouts::from_elf(&bytes, &WANTED) else {
            eprintln!(
                "SKIPPED: no debug information in {}",
                interpreter.image.display()
            );
            continue;
        };
        let elf = ElfFile::parse(&bytes).expect("parse");
        let table = elf.symbol("_PyRuntime").expect("_PyRuntime").addr;
        for (path, name, member) in SAME {
            let at = layouts.offset_of("_Py_DebugOffsets", path).expect(path);
            let at = table.checked_add(at).expect("an address");
            let number = elf.bytes_at(at, 8).expect("in .PyRuntime");
            let number = u64::from_le_bytes(number.try_into().expect("8 bytes"));
            assert_eq!(layouts.offset_of(name, member), Some(number), "{path}");
        }
    }
}
