//! `_Py_DebugOffsets`: the layout as the interpreter itself states it (3.13+).
//!
//! The table stands at the start of `_PyRuntime`: cookie, version, a flag for free-threaded
//! builds, then groups of 8-byte offsets without any description of themselves, so they are
//! parsed by version (`Include/internal/pycore_debug_offsets.h` of each).

use super::{
    Code, DataStack, FrameRoot, Frames, Instructions, Interpreter, InterpreterFrame, Layout, Minor,
    Objects, Runtime, Thread, fields, owner, tables,
};
use crate::memory::u64_at;

/// The first eight bytes.
pub const COOKIE: &[u8; 8] = b"xdebugpy";
/// Enough bytes for the longest table (3.15: 888).
pub const TABLE_BYTES: usize = 888;
/// Bytes of the part that every version has: cookie, version, free-threaded.
pub const HEAD_BYTES: usize = 24;

/// Why a table was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DebugOffsetsError {
    /// No cookie: not a runtime of 3.13 or newer.
    #[error("no debug offsets: found {0:#018x} where the cookie should be")]
    NoCookie(u64),
    /// A version that is not known.
    #[error("debug offsets of CPython {0} are not known")]
    UnknownVersion(Minor),
    /// The build has no interpreter lock.
    #[error("a free-threaded build of CPython {0} is not supported yet")]
    FreeThreaded(Minor),
    /// Fewer bytes than the table of that version has.
    #[error("the debug offsets end after {0} bytes")]
    Short(usize),
    /// A field has a value that no build can have.
    #[error("debug offset {field} is {value}, which cannot be")]
    Implausible {
        /// `group.field`.
        field: &'static str,
        /// What was found.
        value: u64,
    },
}

/// The head of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// `PY_VERSION_HEX`.
    pub version_hex: u64,
    /// Whether the build is free-threaded.
    pub free_threaded: bool,
}

impl Head {
    /// Major and minor version.
    #[must_use]
    pub fn minor(self) -> Minor {
        Minor::new(
            (self.version_hex >> 24) as u8,
            (self.version_hex >> 16) as u8,
        )
    }
}

/// Reads cookie and version.
///
/// # Errors
/// [`DebugOffsetsError::NoCookie`], [`DebugOffsetsError::Short`], or an implausible version.
pub fn head(table: &[u8]) -> Result<Head, DebugOffsetsError> {
    let short = DebugOffsetsError::Short(table.len());
    let cookie = u64_at(table, 0).ok_or(short)?;
    if cookie != u64::from_le_bytes(*COOKIE) {
        return Err(DebugOffsetsError::NoCookie(cookie));
    }
    let version_hex = u64_at(table, 8).ok_or(short)?;
    let free_threaded = u64_at(table, 16).ok_or(short)?;
    if !(0x0300_0000..0x0400_0000).contains(&version_hex) {
        return Err(DebugOffsetsError::Implausible {
            field: "version",
            value: version_hex,
        });
    }
    if free_threaded > 1 {
        return Err(DebugOffsetsError::Implausible {
            field: "free_threaded",
            value: free_threaded,
        });
    }
    Ok(Head {
        version_hex,
        free_threaded: free_threaded == 1,
    })
}

/// Where each group starts, and which fields a version added inside it.
struct Groups {
    table_bytes: usize,
    thread: u64,
    frame: u64,
    code: u64,
    tuple: u64,
    unicode: u64,
    /// 3.15 put `base_frame` and two more after `current_frame`.
    base_frame: bool,
    /// 3.14 put `threads_main` after `threads_head`.
    threads_main: bool,
}

fn groups(version: Minor) -> Option<Groups> {
    match (version.major, version.minor) {
        (3, 13) => Some(Groups {
            table_bytes: 584,
            thread: 152,
            frame: 224,
            code: 272,
            tuple: 400,
            unicode: 536,
            base_frame: false,
            threads_main: false,
        }),
        (3, 14) => Some(Groups {
            table_bytes: 760,
            thread: 176,
            frame: 248,
            code: 312,
            tuple: 448,
            unicode: 616,
            base_frame: false,
            threads_main: true,
        }),
        (3, 15) => Some(Groups {
            table_bytes: 888,
            thread: 176,
            frame: 312,
            code: 376,
            tuple: 544,
            unicode: 712,
            base_frame: true,
            threads_main: true,
        }),
        _ => None,
    }
}

const RUNTIME_GROUP: u64 = 24;
const INTERPRETER_GROUP: u64 = 48;

/// Offsets inside `PyInterpreterState` and `_PyRuntimeState` stay far below this.
const MAX_LARGE: u64 = 1 << 24;
/// Offsets inside thread states, frames and objects stay far below this.
const MAX_SMALL: u64 = 1 << 14;

/// A sample reads the links of an interpreter state as one piece; in every version they lie
/// within a hundred bytes.
const MAX_LINKS_SPAN: u64 = 4096;

/// One group of the table; fields by their position.
struct Group<'a> {
    table: &'a [u8],
    start: u64,
    limit: u64,
}

impl Group<'_> {
    fn field(&self, index: u64, name: &'static str) -> Result<u64, DebugOffsetsError> {
        let value = u64_at(self.table, self.start + 8 * index)
            .ok_or(DebugOffsetsError::Short(self.table.len()))?;
        if value >= self.limit {
            return Err(DebugOffsetsError::Implausible { field: name, value });
        }
        Ok(value)
    }

    fn pointer(&self, index: u64, name: &'static str) -> Result<u64, DebugOffsetsError> {
        let value = self.field(index, name)?;
        if value.is_multiple_of(8) {
            Ok(value)
        } else {
            Err(DebugOffsetsError::Implausible { field: name, value })
        }
    }
}

/// Makes a layout of a table and the constants that it lacks.
///
/// # Errors
/// When the table is foreign, of an unknown version, too short, or not plausible.
pub fn parse(table: &[u8]) -> Result<Layout, DebugOffsetsError> {
    let head = head(table)?;
    let version = head.minor();
    if head.free_threaded {
        return Err(DebugOffsetsError::FreeThreaded(version));
    }
    let unknown = DebugOffsetsError::UnknownVersion(version);
    let groups = groups(version).ok_or(unknown)?;
    let supplement = tables::supplement(version).ok_or(unknown)?;
    let table = table
        .get(..groups.table_bytes)
        .ok_or(DebugOffsetsError::Short(table.len()))?;
    let large = |start| Group {
        table,
        start,
        limit: MAX_LARGE,
    };
    let small = |start| Group {
        table,
        start,
        limit: MAX_SMALL,
    };

    let runtime = large(RUNTIME_GROUP);
    let interp = large(INTERPRETER_GROUP);
    let after_head = u64::from(groups.threads_main);
    let thread = small(groups.thread);
    let after_current = if groups.base_frame { 3 } else { 0 };
    let frame = small(groups.frame);
    let code = small(groups.code);
    let tuple = small(groups.tuple);
    let unicode = small(groups.unicode);

    let [id, next, threads_head] = [
        interp.pointer(1, "interpreter_state.id")?,
        interp.pointer(2, "interpreter_state.next")?,
        interp.pointer(3, "interpreter_state.threads_head")?,
    ];
    for (field, value) in [
        ("interpreter_state.id", id),
        ("interpreter_state.threads_head", threads_head),
    ] {
        if value.abs_diff(next) > MAX_LINKS_SPAN {
            return Err(DebugOffsetsError::Implausible { field, value });
        }
    }
    let chunk = thread.pointer(7 + after_current, "thread_state.datastack_chunk")?;
    let instructions = code.pointer(9, "code_object.co_code_adaptive")?;
    Ok(Layout {
        version,
        runtime: Runtime {
            finalizing: runtime.pointer(1, "runtime_state.finalizing")?,
            interpreters_head: runtime.pointer(2, "runtime_state.interpreters_head")?,
            tstate_current: None,
            gil: None,
        },
        interpreter: Interpreter {
            id,
            next,
            threads_head,
            modules: interp.pointer(5 + after_head, "interpreter_state.imports_modules")?,
            gil: Some(interp.pointer(8 + after_head, "interpreter_state.ceval_gil")?),
        },
        thread: Thread {
            next: thread.pointer(2, "thread_state.next")?,
            interp: thread.pointer(3, "thread_state.interp")?,
            thread_id: thread.pointer(5 + after_current, "thread_state.thread_id")?,
            native_thread_id: Some(
                thread.pointer(6 + after_current, "thread_state.native_thread_id")?,
            ),
            id: None,
            // 3.15 put `holds_gil` and `gil_requested` behind `status`.
            gil_requested: if groups.base_frame {
                Some(thread.field(10 + after_current, "thread_state.gil_requested")?)
                    .filter(|offset| *offset != 0)
            } else {
                None
            },
            root: FrameRoot::Direct {
                current_frame: thread.pointer(4, "thread_state.current_frame")?,
                base_frame: if groups.base_frame {
                    Some(thread.pointer(5, "thread_state.base_frame")?)
                } else {
                    None
                },
            },
            // `datastack_top` and `datastack_limit` follow `datastack_chunk` in every version
            // (Include/cpython/pystate.h); the table names only the first.
            data_stack: Some(DataStack {
                chunk,
                top: chunk + 8,
                limit: chunk + 16,
            }),
            status: Some(super::Status {
                word: thread.field(8 + after_current, "thread_state.status")?,
                ..supplement.status
            }),
            recursion: Some(supplement.recursion),
        },
        frames: Frames::Interpreter(InterpreterFrame {
            previous: frame.pointer(1, "interpreter_frame.previous")?,
            code: frame.pointer(2, "interpreter_frame.executable")?,
            code_tag_mask: supplement.code_tag_mask,
            instr: frame.pointer(3, "interpreter_frame.instr_ptr")?,
            header_bytes: frame.pointer(4, "interpreter_frame.localsplus")?,
            owner: frame.field(5, "interpreter_frame.owner")?,
            first_entry_owner: Some(owner::ENTRY),
            needed_from: 0,
            calls: Some(supplement.calls),
        }),
        code: Code {
            filename: code.pointer(1, "code_object.filename")?,
            name: code.pointer(2, "code_object.name")?,
            qualname: Some(code.pointer(3, "code_object.qualname")?),
            line_table: code.pointer(4, "code_object.linetable")?,
            first_line: code.field(5, "code_object.firstlineno")?,
            instructions: Instructions::Inline {
                start: instructions,
                first_traceable: supplement.first_traceable,
                units: fields::OB_SIZE,
                frame_size: tables::modern::FRAME_SIZE,
            },
            consts: tables::modern::CONSTS,
            names: tables::modern::NAMES,
            flags: tables::modern::FLAGS,
            version: Some(tables::modern::VERSION),
            header_bytes: instructions,
        },
        objects: Objects {
            tuple_items: tuple.pointer(1, "tuple_object.ob_item")?,
            str_ascii_data: unicode.pointer(3, "unicode_object.asciiobject_size")?,
            cached_keys: supplement.cached_keys,
            ..tables::modern::OBJECTS
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_table_is_refused() {
        assert_eq!(
            parse(&[0; TABLE_BYTES]),
            Err(DebugOffsetsError::NoCookie(0))
        );
        assert_eq!(parse(&[]), Err(DebugOffsetsError::Short(0)));
    }

    fn table(version_hex: u64, free_threaded: u64) -> Vec<u8> {
        let mut table = COOKIE.to_vec();
        table.extend(version_hex.to_le_bytes());
        table.extend(free_threaded.to_le_bytes());
        table.resize(TABLE_BYTES, 0);
        table
    }

    #[test]
    fn versions_and_builds_that_are_not_known_are_named() {
        let unknown = Minor::new(3, 16);
        assert_eq!(
            parse(&table(0x0310_00f0, 0)),
            Err(DebugOffsetsError::UnknownVersion(unknown))
        );
        let threaded = Minor::new(3, 14);
        assert_eq!(
            parse(&table(0x030e_00f0, 1)),
            Err(DebugOffsetsError::FreeThreaded(threaded))
        );
        assert!(matches!(
            parse(&table(0x02_07_12_f0, 0)),
            Err(DebugOffsetsError::Implausible {
                field: "version",
                ..
            })
        ));
    }

    proptest::proptest! {
        /// Whatever stands in a table: no panic, and what is parsed asks for little.
        #[test]
        fn no_table_decides_how_much_is_read(
            minor in 13_u64..=15,
            words in proptest::collection::vec(
                proptest::prop_oneof![0_u64..2048, 0_u64..1 << 25, proptest::num::u64::ANY],
                TABLE_BYTES / 8 - 3,
            ),
            coarse in proptest::bool::ANY,
        ) {
            let mut bytes = table(0x0300_00f0 | minor << 16, 0);
            for (i, word) in words.iter().enumerate() {
                // Most tables must get far: small and aligned.
                let word = if coarse { (word % 4096) & !7 } else { *word };
                bytes[24 + 8 * i..][..8].copy_from_slice(&word.to_le_bytes());
            }
            if let Ok(layout) = parse(&bytes) {
                let pieces = crate::threads::interpreter_pieces(&layout);
                assert!(pieces.iter().all(|(_, len)| *len <= 3 * MAX_LINKS_SPAN));
                let state = crate::threads::thread_state_bytes(&layout);
                assert!(state <= MAX_SMALL + 24 && layout.code.header_bytes < MAX_SMALL);
            } else {
                assert!(!coarse, "a table of plausible offsets");
            }
        }
    }

    #[test]
    fn absurd_offsets_are_refused() {
        let mut bytes = table(0x030d_00f0, 0);
        bytes[40..48].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(
            parse(&bytes),
            Err(DebugOffsetsError::Implausible {
                field: "runtime_state.interpreters_head",
                value: u64::MAX
            })
        );
    }
}
