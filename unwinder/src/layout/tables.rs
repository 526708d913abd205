//! Layouts of 3.8 – 3.12, which do not describe themselves, and the constants that the debug
//! offsets of 3.13+ lack.
//!
//! x86-64, glibc, release builds with the lock. Every number is `offsetof` against the headers
//! of the release named beside it; `tests/dwarf.rs` takes them again from the debug
//! information of every build of the matrix that has any, and compares.

use super::{
    Attributes, Calls, Code, DataStack, DictKeys, FrameRoot, FrameSize, Frames, Instructions,
    Interpreter, InterpreterFrame, Layout, Minor, ObjectFrame, Objects, Recursion, Runtime,
    StackPointer, Status, Thread,
};

/// Versions that can be read, oldest first.
pub const SUPPORTED: [Minor; 8] = [
    Minor::new(3, 8),
    Minor::new(3, 9),
    Minor::new(3, 10),
    Minor::new(3, 11),
    Minor::new(3, 12),
    Minor::new(3, 13),
    Minor::new(3, 14),
    Minor::new(3, 15),
];

/// The layout of a version without debug offsets; `None` for every other version.
#[must_use]
pub fn for_version(version: Minor) -> Option<Layout> {
    match (version.major, version.minor) {
        (3, 8) => Some(PY38),
        (3, 9) => Some(PY39),
        (3, 10) => Some(PY310),
        (3, 11) => Some(PY311),
        (3, 12) => Some(PY312),
        _ => None,
    }
}

/// `sizeof(_PyRuntimeState)` of a known build: a cheap fingerprint of a patched interpreter.
/// 3.11's and 3.12's grow at their end with patch releases, 3.8 – 3.10 never changed.
#[must_use]
pub fn runtime_size(version: Minor) -> Option<u64> {
    match (version.major, version.minor) {
        (3, 8) => Some(1464),
        (3, 9) => Some(656),
        (3, 10) => Some(672),
        _ => None,
    }
}

const OBJECTS_38: Objects = Objects {
    str_ascii_data: 48,
    str_compact_data: 72,
    tuple_items: 24,
    int_has_tag: false,
    dict_keys: DictKeys::Sized,
    dict_values: 0,
    attributes: Attributes::DictOffset,
    cached_keys: 872,
};

const CODE_38: Code = Code {
    first_line: 40,
    filename: 104,
    name: 112,
    qualname: None,
    line_table: 120,
    instructions: Instructions::Bytes { code: 48 },
    consts: 56,
    names: 64,
    flags: 36,
    version: None,
    header_bytes: 176,
};

const FRAME_38: ObjectFrame = ObjectFrame {
    back: 24,
    code: 32,
    lasti: 104,
    lasti_unit: 1,
    state: 116,
    running: [1, 1],
};

const THREAD_38: Thread = Thread {
    next: 8,
    interp: 16,
    thread_id: 176,
    native_thread_id: None,
    id: Some(256),
    gil_requested: None,
    root: FrameRoot::FrameObject { frame: 24 },
    data_stack: None,
    status: None,
    recursion: None,
};

/// 3.8.18.
const PY38: Layout = Layout {
    version: Minor::new(3, 8),
    runtime: Runtime {
        finalizing: 16,
        interpreters_head: 32,
        tstate_current: Some(1368),
        gil: Some(1152),
    },
    interpreter: Interpreter {
        next: 0,
        id: 16,
        threads_head: 8,
        gil: None,
        modules: 56,
    },
    thread: THREAD_38,
    frames: Frames::Objects(FRAME_38),
    code: CODE_38,
    objects: OBJECTS_38,
};

/// 3.9.18.
const PY39: Layout = Layout {
    version: Minor::new(3, 9),
    runtime: Runtime {
        finalizing: 16,
        interpreters_head: 32,
        tstate_current: Some(568),
        gil: Some(352),
    },
    interpreter: Interpreter {
        next: 0,
        id: 24,
        threads_head: 8,
        gil: None,
        modules: 856,
    },
    objects: Objects {
        cached_keys: 864,
        ..OBJECTS_38
    },
    ..PY38
};

/// 3.10.13.
const PY310: Layout = Layout {
    version: Minor::new(3, 10),
    frames: Frames::Objects(ObjectFrame {
        lasti: 96,
        lasti_unit: 2,
        state: 108,
        running: [0, 2],
        ..FRAME_38
    }),
    code: Code { ..CODE_38 },
    objects: Objects {
        cached_keys: 872,
        ..OBJECTS_38
    },
    ..PY39
};

const CODE_311: Code = Code {
    first_line: 72,
    filename: 112,
    name: 120,
    qualname: Some(128),
    line_table: 136,
    instructions: Instructions::Inline {
        start: 184,
        first_traceable: 168,
        units: super::fields::OB_SIZE,
        frame_size: FrameSize::Sum {
            locals: 76,
            stack: 68,
            specials: 9,
        },
    },
    consts: 24,
    names: 32,
    flags: 48,
    version: None,
    header_bytes: 184,
};

/// 3.11.7; 3.11.2 is the same.
const PY311: Layout = Layout {
    version: Minor::new(3, 11),
    runtime: Runtime {
        finalizing: 24,
        interpreters_head: 40,
        tstate_current: Some(576),
        gil: Some(360),
    },
    interpreter: Interpreter {
        next: 0,
        id: 48,
        threads_head: 16,
        gil: None,
        modules: 888,
    },
    thread: Thread {
        next: 8,
        interp: 16,
        thread_id: 152,
        native_thread_id: Some(160),
        id: None,
        gil_requested: None,
        root: FrameRoot::CFrame {
            cframe: 56,
            current_frame: 8,
        },
        data_stack: Some(DataStack {
            chunk: 296,
            top: 304,
            limit: 312,
        }),
        // `_initialized`, an int that is 0 or 1.
        status: Some(Status {
            word: 24,
            alive: 1,
            dead: 0,
        }),
        recursion: Some(Recursion {
            remaining: 32,
            limit: 36,
        }),
    },
    frames: Frames::Interpreter(InterpreterFrame {
        code: 32,
        code_tag_mask: 0,
        previous: 48,
        instr: 56,
        owner: 69,
        header_bytes: 72,
        first_entry_owner: None,
        needed_from: 32,
        calls: Some(Calls {
            function: 0,
            stack_pointer: StackPointer::Words(64),
            generator_frame: 80,
        }),
    }),
    code: CODE_311,
    objects: Objects {
        dict_keys: DictKeys::Log2,
        attributes: Attributes::ValuesBefore,
        ..OBJECTS_38
    },
};

const OBJECTS_312: Objects = Objects {
    str_ascii_data: 40,
    str_compact_data: 56,
    tuple_items: 24,
    int_has_tag: true,
    dict_keys: DictKeys::Log2,
    dict_values: 0,
    attributes: Attributes::TaggedBefore,
    cached_keys: 880,
};

/// 3.12.1; later 3.12 releases add fields at the ends of structures only.
const PY312: Layout = Layout {
    version: Minor::new(3, 12),
    runtime: Runtime {
        finalizing: 24,
        interpreters_head: 40,
        tstate_current: None,
        gil: None,
    },
    interpreter: Interpreter {
        next: 0,
        id: 8,
        threads_head: 72,
        gil: Some(384),
        modules: 944,
    },
    thread: Thread {
        next: 8,
        interp: 16,
        thread_id: 136,
        native_thread_id: Some(144),
        id: None,
        gil_requested: None,
        root: FrameRoot::CFrame {
            cframe: 56,
            current_frame: 0,
        },
        data_stack: Some(DataStack {
            chunk: 232,
            top: 240,
            limit: 248,
        }),
        // initialized 0, bound 1 | finalizing 5 (still has its stack), cleared 6, finalized 7.
        status: Some(Status {
            word: 24,
            alive: 0b11,
            dead: 0b1100_0000,
        }),
        recursion: Some(Recursion {
            remaining: 28,
            limit: 32,
        }),
    },
    frames: Frames::Interpreter(InterpreterFrame {
        code: 0,
        code_tag_mask: 0,
        previous: 8,
        instr: 56,
        owner: 70,
        header_bytes: 72,
        first_entry_owner: Some(super::owner::ENTRY),
        needed_from: 0,
        calls: Some(CALLS_312),
    }),
    code: Code {
        first_line: 68,
        instructions: Instructions::Inline {
            start: 192,
            first_traceable: 176,
            units: super::fields::OB_SIZE,
            frame_size: FrameSize::Field(76),
        },
        version: Some(92),
        header_bytes: 192,
        ..CODE_311
    },
    objects: OBJECTS_312,
};

/// What the debug offsets of 3.13+ do not say, per version.
#[derive(Clone, Copy, Debug)]
pub(super) struct Supplement {
    pub(super) status: Status,
    pub(super) recursion: Recursion,
    pub(super) code_tag_mask: u64,
    pub(super) first_traceable: u64,
    pub(super) cached_keys: u64,
    pub(super) calls: Calls,
}

const CALLS_312: Calls = Calls {
    function: 16,
    stack_pointer: StackPointer::Words(64),
    generator_frame: 72,
};

/// 3.14, 3.15.
const CALLS_314: Calls = Calls {
    stack_pointer: StackPointer::Address(64),
    ..CALLS_312
};

/// 3.13.0 – 3.13.18, 3.14.0 – 3.14.10, 3.15.0 – 3.15.2.
pub(super) fn supplement(version: Minor) -> Option<Supplement> {
    match (version.major, version.minor) {
        (3, 13) => Some(Supplement {
            // holds_gil sits at bit 5, so cleared is 7 and finalized 8.
            status: Status {
                word: 32,
                alive: 0b11,
                dead: 0b1_1000_0000,
            },
            recursion: Recursion {
                remaining: 44,
                limit: 48,
            },
            code_tag_mask: 0,
            first_traceable: 184,
            cached_keys: 880,
            calls: CALLS_312,
        }),
        (3, 14) => Some(Supplement {
            status: Status {
                word: 32,
                alive: 0b11,
                dead: 0b1100_0000,
            },
            recursion: Recursion {
                remaining: 48,
                limit: 52,
            },
            code_tag_mask: 0b11,
            first_traceable: 192,
            cached_keys: 880,
            calls: CALLS_314,
        }),
        (3, 15) => Some(Supplement {
            status: Status {
                word: 32,
                alive: 0b11,
                dead: 0b1100_0000,
            },
            recursion: Recursion {
                remaining: 52,
                limit: 56,
            },
            code_tag_mask: 0b11,
            first_traceable: 192,
            cached_keys: 888,
            calls: CALLS_314,
        }),
        _ => None,
    }
}

/// Parts of 3.13+ that no release has moved and the debug offsets do not say.
pub(super) mod modern {
    use super::{Attributes, DictKeys, FrameSize, Objects};

    /// `co_framesize` (3.12 – 3.15).
    pub(in super::super) const FRAME_SIZE: FrameSize = FrameSize::Field(76);
    /// `co_consts`.
    pub(in super::super) const CONSTS: u64 = 24;
    /// `co_names`.
    pub(in super::super) const NAMES: u64 = 32;
    /// `co_flags`.
    pub(in super::super) const FLAGS: u64 = 48;
    /// `co_version`.
    pub(in super::super) const VERSION: u64 = 92;
    /// Objects, to be completed with what the debug offsets say.
    pub(in super::super) const OBJECTS: Objects = Objects {
        dict_keys: DictKeys::Log2,
        dict_values: 8,
        attributes: Attributes::Inline,
        ..super::OBJECTS_312
    };
}
