//! A layout from debug information: the fallback for an unknown build, and the check of the
//! tables in `tests/dwarf.rs`.

use onlooker_symbols::dwarf::{DwarfError, DwarfLayouts};
use onlooker_unwinder::layout::{
    Calls, Code, DataStack, FrameRoot, FrameSize, Frames, Instructions, Interpreter,
    InterpreterFrame, Layout, ObjectFrame, Objects, Recursion, Runtime, StackPointer, Thread,
    fields,
};

/// Why debug information gives no layout.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DwarfLayoutError {
    /// There is none, or it is damaged.
    #[error(transparent)]
    Dwarf(#[from] DwarfError),
    /// A field that this version must have is not there.
    #[error("the debug information has no {structure}.{field}")]
    Missing {
        /// The structure.
        structure: &'static str,
        /// The field.
        field: &'static str,
    },
    /// A field lies elsewhere than it does in every version.
    #[error("{structure}.{field} is at {found}, not at {expected}")]
    Moved {
        /// The structure.
        structure: &'static str,
        /// The field.
        field: &'static str,
        /// Where it is.
        found: u64,
        /// Where it is everywhere else.
        expected: u64,
    },
}

const RUNTIME: &str = "_PyRuntimeState";
const INTERPRETER: &str = "PyInterpreterState";
const THREAD: &str = "PyThreadState";
const CFRAME: [&str; 2] = ["_PyCFrame", "CFrame"];
const FRAME: &str = "_PyInterpreterFrame";
const GENERATOR: &str = "PyGenObject";
const FRAME_OBJECT: [&str; 2] = ["PyFrameObject", "_frame"];
const CODE: &str = "PyCodeObject";
const ASCII: &str = "PyASCIIObject";
const COMPACT: &str = "PyCompactUnicodeObject";
const UNICODE: &str = "PyUnicodeObject";
const BYTES: &str = "PyBytesObject";
const TUPLE: &str = "PyTupleObject";
const DICT: &str = "PyDictObject";
const TYPE: &str = "PyTypeObject";
const HEAP_TYPE: &str = "PyHeapTypeObject";
const GIL: &str = "_gil_runtime_state";

const WANTED: &[&str] = &[
    RUNTIME,
    INTERPRETER,
    THREAD,
    CFRAME[0],
    CFRAME[1],
    FRAME,
    GENERATOR,
    FRAME_OBJECT[0],
    FRAME_OBJECT[1],
    CODE,
    ASCII,
    COMPACT,
    UNICODE,
    BYTES,
    TUPLE,
    DICT,
    TYPE,
    HEAP_TYPE,
    GIL,
];

struct Fields(DwarfLayouts);

impl Fields {
    fn find(&self, structure: &str, field: &str) -> Option<u64> {
        self.0.offset_of(structure, field)
    }

    fn get(&self, structure: &'static str, field: &'static str) -> Result<u64, DwarfLayoutError> {
        self.find(structure, field)
            .ok_or(DwarfLayoutError::Missing { structure, field })
    }

    /// The first of several names that a field had over time.
    fn any(
        &self,
        structure: &'static str,
        names: &[&'static str],
    ) -> Result<u64, DwarfLayoutError> {
        let found = names.iter().find_map(|name| self.find(structure, name));
        let field = names.first().copied().unwrap_or_default();
        found.ok_or(DwarfLayoutError::Missing { structure, field })
    }

    fn size(&self, structure: &'static str) -> Result<u64, DwarfLayoutError> {
        let size = self.0.size_of(structure);
        size.ok_or(DwarfLayoutError::Missing {
            structure,
            field: "sizeof",
        })
    }

    /// A field that is a constant of ours because no version moves it.
    fn constant(
        &self,
        structure: &'static str,
        field: &'static str,
        expected: u64,
    ) -> Result<(), DwarfLayoutError> {
        let found = self.get(structure, field)?;
        if found == expected {
            Ok(())
        } else {
            Err(DwarfLayoutError::Moved {
                structure,
                field,
                found,
                expected,
            })
        }
    }
}

/// Takes the layout of an interpreter from the debug information in `elf`.
///
/// `pattern` is a layout of the same version: it tells which fields there are, and what is no
/// offset (tags, encodings, status bits) is taken from it.
///
/// # Errors
/// When there is no debug information, or it lacks a field.
pub fn layout(pattern: &Layout, elf: &[u8]) -> Result<Layout, DwarfLayoutError> {
    let fields = Fields(DwarfLayouts::from_elf(elf, WANTED)?);
    check_constants(&fields)?;
    let frame = frames(&fields, pattern)?;
    Ok(Layout {
        version: pattern.version,
        runtime: Runtime {
            // `finalizing` in 3.8.
            finalizing: fields.any(RUNTIME, &["_finalizing", "finalizing"])?,
            interpreters_head: fields.get(RUNTIME, "interpreters.head")?,
            tstate_current: match pattern.runtime.tstate_current {
                Some(_) => Some(fields.get(RUNTIME, "gilstate.tstate_current")?),
                None => None,
            },
            gil: match pattern.runtime.gil {
                Some(_) => Some(fields.get(RUNTIME, "ceval.gil")?),
                None => None,
            },
        },
        interpreter: Interpreter {
            next: fields.get(INTERPRETER, "next")?,
            id: fields.get(INTERPRETER, "id")?,
            threads_head: fields.any(INTERPRETER, &["threads.head", "tstate_head"])?,
            gil: match pattern.interpreter.gil {
                Some(_) => Some(fields.get(INTERPRETER, "ceval.gil")?),
                None => None,
            },
            modules: fields.any(INTERPRETER, &["imports.modules", "modules"])?,
        },
        thread: thread(&fields, pattern)?,
        frames: frame,
        code: code(&fields, pattern)?,
        objects: Objects {
            str_ascii_data: fields.size(ASCII)?,
            str_compact_data: fields.size(COMPACT)?,
            tuple_items: fields.get(TUPLE, "ob_item")?,
            cached_keys: fields.get(HEAP_TYPE, "ht_cached_keys")?,
            ..pattern.objects
        },
    })
}

fn check_constants(f: &Fields) -> Result<(), DwarfLayoutError> {
    use onlooker_unwinder::layout::gil;
    f.constant(GIL, "last_holder", gil::LAST_HOLDER)?;
    f.constant(GIL, "locked", gil::LOCKED)?;
    f.constant(GIL, "cond", gil::COND)?;
    f.constant(ASCII, "length", fields::STR_LENGTH)?;
    f.constant(ASCII, "hash", fields::STR_HASH)?;
    f.constant(ASCII, "state", fields::STR_STATE)?;
    f.constant(BYTES, "ob_sval", fields::BYTES_DATA)?;
    f.constant(DICT, "ma_keys", fields::DICT_KEYS)?;
    f.constant(DICT, "ma_values", fields::DICT_VALUES)?;
    f.constant(TYPE, "tp_name", fields::TYPE_NAME)?;
    f.constant(TYPE, "tp_basicsize", fields::TYPE_BASIC_SIZE)?;
    f.constant(TYPE, "tp_flags", fields::TYPE_FLAGS)?;
    f.constant(TYPE, "tp_dictoffset", fields::TYPE_DICT_OFFSET)
}

fn thread(f: &Fields, pattern: &Layout) -> Result<Thread, DwarfLayoutError> {
    let cframe = CFRAME
        .into_iter()
        .find(|name| f.find(name, "current_frame").is_some());
    let root = match pattern.thread.root {
        FrameRoot::FrameObject { .. } => FrameRoot::FrameObject {
            frame: f.get(THREAD, "frame")?,
        },
        FrameRoot::CFrame { .. } => FrameRoot::CFrame {
            cframe: f.get(THREAD, "cframe")?,
            current_frame: f.get(cframe.unwrap_or(CFRAME[0]), "current_frame")?,
        },
        FrameRoot::Direct { base_frame, .. } => FrameRoot::Direct {
            current_frame: f.get(THREAD, "current_frame")?,
            base_frame: match base_frame {
                Some(_) => Some(f.get(THREAD, "base_frame")?),
                None => None,
            },
        },
    };
    Ok(Thread {
        next: f.get(THREAD, "next")?,
        interp: f.get(THREAD, "interp")?,
        thread_id: f.get(THREAD, "thread_id")?,
        native_thread_id: match pattern.thread.native_thread_id {
            Some(_) => Some(f.get(THREAD, "native_thread_id")?),
            None => None,
        },
        id: match pattern.thread.id {
            Some(_) => Some(f.get(THREAD, "id")?),
            None => None,
        },
        gil_requested: match pattern.thread.gil_requested {
            Some(_) => Some(f.get(THREAD, "gil_requested")?),
            None => None,
        },
        root,
        data_stack: match pattern.thread.data_stack {
            Some(_) => Some(DataStack {
                chunk: f.get(THREAD, "datastack_chunk")?,
                top: f.get(THREAD, "datastack_top")?,
                limit: f.get(THREAD, "datastack_limit")?,
            }),
            None => None,
        },
        status: match pattern.thread.status {
            Some(status) => Some(onlooker_unwinder::layout::Status {
                word: f.any(THREAD, &["_status", "_initialized"])?,
                ..status
            }),
            None => None,
        },
        recursion: match pattern.thread.recursion {
            Some(_) => Some(Recursion {
                remaining: f.any(THREAD, &["py_recursion_remaining", "recursion_remaining"])?,
                limit: f.any(THREAD, &["py_recursion_limit", "recursion_limit"])?,
            }),
            None => None,
        },
    })
}

fn frames(f: &Fields, pattern: &Layout) -> Result<Frames, DwarfLayoutError> {
    Ok(match pattern.frames {
        Frames::Objects(frame) => {
            let name = FRAME_OBJECT
                .into_iter()
                .find(|name| f.find(name, "f_back").is_some());
            let name = name.unwrap_or(FRAME_OBJECT[0]);
            Frames::Objects(ObjectFrame {
                back: f.get(name, "f_back")?,
                code: f.get(name, "f_code")?,
                lasti: f.get(name, "f_lasti")?,
                state: f.any(name, &["f_executing", "f_state"])?,
                ..frame
            })
        }
        Frames::Interpreter(frame) => {
            let code = f.any(FRAME, &["f_executable", "f_code"])?;
            Frames::Interpreter(InterpreterFrame {
                code,
                previous: f.get(FRAME, "previous")?,
                instr: f.any(FRAME, &["instr_ptr", "prev_instr"])?,
                owner: f.get(FRAME, "owner")?,
                header_bytes: f.get(FRAME, "localsplus")?,
                calls: match frame.calls {
                    Some(pattern) => Some(calls(f, pattern)?),
                    None => None,
                },
                ..frame
            })
        }
    })
}

fn calls(f: &Fields, pattern: Calls) -> Result<Calls, DwarfLayoutError> {
    Ok(Calls {
        function: f.any(FRAME, &["f_funcobj", "f_func"])?,
        stack_pointer: match pattern.stack_pointer {
            StackPointer::Words(_) => StackPointer::Words(f.get(FRAME, "stacktop")?),
            StackPointer::Address(_) => StackPointer::Address(f.get(FRAME, "stackpointer")?),
        },
        generator_frame: f.get(GENERATOR, "gi_iframe")?,
    })
}

fn code(f: &Fields, pattern: &Layout) -> Result<Code, DwarfLayoutError> {
    let instructions = match pattern.code.instructions {
        Instructions::Bytes { .. } => Instructions::Bytes {
            code: f.get(CODE, "co_code")?,
        },
        Instructions::Inline {
            units, frame_size, ..
        } => Instructions::Inline {
            start: f.get(CODE, "co_code_adaptive")?,
            first_traceable: f.get(CODE, "_co_firsttraceable")?,
            units,
            frame_size: match frame_size {
                FrameSize::Field(_) => FrameSize::Field(f.get(CODE, "co_framesize")?),
                FrameSize::Sum { specials, .. } => FrameSize::Sum {
                    locals: f.get(CODE, "co_nlocalsplus")?,
                    stack: f.get(CODE, "co_stacksize")?,
                    specials,
                },
            },
        },
    };
    Ok(Code {
        first_line: f.get(CODE, "co_firstlineno")?,
        filename: f.get(CODE, "co_filename")?,
        name: f.get(CODE, "co_name")?,
        qualname: match pattern.code.qualname {
            Some(_) => Some(f.get(CODE, "co_qualname")?),
            None => None,
        },
        line_table: f.any(CODE, &["co_linetable", "co_lnotab"])?,
        instructions,
        consts: f.get(CODE, "co_consts")?,
        names: f.get(CODE, "co_names")?,
        flags: f.get(CODE, "co_flags")?,
        version: match pattern.code.version {
            Some(_) => Some(f.get(CODE, "co_version")?),
            None => None,
        },
        header_bytes: match instructions {
            Instructions::Inline { start, .. } => start,
            Instructions::Bytes { .. } => f.size(CODE)?,
        },
    })
}
