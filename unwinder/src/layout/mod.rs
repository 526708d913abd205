//! Where CPython keeps what: offsets as data.
//!
//! A [`Layout`] is a table of byte offsets, never a struct per version. It comes from the
//! interpreter's own debug offsets where it has them ([`debug_offsets`], 3.13 and newer), from
//! [`tables`] where not, and from DWARF (in `profiler`) for an unknown build. Wherever it
//! comes from, [`proof`] checks it against the live process before anything is shown.

pub mod debug_offsets;
pub mod fields;
pub mod proof;
pub mod tables;

use std::fmt;

use serde::{Deserialize, Serialize};

/// Byte offset of a field inside a structure of the target.
pub type Offset = u64;

/// A CPython version as far as layouts care.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Minor {
    /// 2 or 3.
    pub major: u8,
    /// 12 in 3.12.
    pub minor: u8,
}

impl Minor {
    /// `Minor::new(3, 12)`.
    #[must_use]
    pub const fn new(major: u8, minor: u8) -> Self {
        Self { major, minor }
    }
}

impl fmt::Display for Minor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Everything that reading stacks, names and objects of one interpreter build needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// The version that it describes.
    pub version: Minor,
    /// `_PyRuntimeState`.
    pub runtime: Runtime,
    /// `PyInterpreterState`.
    pub interpreter: Interpreter,
    /// `PyThreadState`.
    pub thread: Thread,
    /// The frames of a thread.
    pub frames: Frames,
    /// `PyCodeObject`.
    pub code: Code,
    /// `str`, `dict` and what else names are made of.
    pub objects: Objects,
}

/// `_PyRuntimeState` (`Include/internal/pycore_runtime.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runtime {
    /// `_finalizing`: the thread state that ends the interpreter, NULL until then
    /// (`Py_FinalizeEx`, `Python/pylifecycle.c`: before modules and objects are taken down).
    pub finalizing: Offset,
    /// `interpreters.head`.
    pub interpreters_head: Offset,
    /// `gilstate.tstate_current`: the holder of the one lock of 3.8 – 3.11, NULL when free.
    /// `None` from 3.12, where each interpreter has its own.
    pub tstate_current: Option<Offset>,
    /// `ceval.gil`, the one lock of 3.8 – 3.11. `None` from 3.12.
    pub gil: Option<Offset>,
}

/// `PyInterpreterState` (`Include/internal/pycore_interp.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interpreter {
    /// `next`.
    pub next: Offset,
    /// `id`.
    pub id: Offset,
    /// `tstate_head`, `threads.head` from 3.11: the newest thread state.
    pub threads_head: Offset,
    /// `ceval.gil`, a pointer to the lock (3.12+).
    pub gil: Option<Offset>,
    /// `sys.modules`, a dict.
    pub modules: Offset,
}

/// `struct _gil_runtime_state` (`Include/internal/pycore_gil.h`), 3.12+.
pub mod gil {
    use super::Offset;
    /// `last_holder`; holds the lock only while `locked` is 1.
    pub const LAST_HOLDER: Offset = 8;
    /// `locked`, an `int`: 1 held, 0 free, -1 not yet created.
    pub const LOCKED: Offset = 16;
    /// `cond`: what those who want the lock wait on; behind it its mutex and another such pair
    /// (`switch_cond`), on which who gave the lock away waits until it was taken.
    pub const COND: Offset = 32;
    /// Size of the structure with glibc.
    pub const BYTES: u64 = 208;
}

/// `PyThreadState` (`Include/cpython/pystate.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thread {
    /// `next`: an older thread's state.
    pub next: Offset,
    /// `interp`.
    pub interp: Offset,
    /// `thread_id`: `pthread_self()`, and `threading.get_ident()`.
    pub thread_id: Offset,
    /// `native_thread_id` (3.11+): the kernel's id, in the target's own PID namespace.
    pub native_thread_id: Option<Offset>,
    /// `id` (3.8 – 3.10): tells a thread state from a later one at the same address, where the
    /// kernel's id does not.
    pub id: Option<Offset>,
    /// `gil_requested`, an `int` (3.15): the thread waits for the lock.
    pub gil_requested: Option<Offset>,
    /// How to get from the state to the newest frame.
    pub root: FrameRoot,
    /// The data stack (3.11+).
    pub data_stack: Option<DataStack>,
    /// The status bits (3.12+).
    pub status: Option<Status>,
    /// `recursion_remaining` and `recursion_limit`: a hint of the depth.
    pub recursion: Option<Recursion>,
}

/// The bits of `PyThreadState._status` that say whether a state is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Offset of the word.
    pub word: Offset,
    /// Set when the state can be looked at.
    pub alive: u32,
    /// Set when it is being, or has been, torn down.
    pub dead: u32,
}

/// Two `int`s whose difference is the depth of the recursion, more or less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recursion {
    /// `py_recursion_remaining` (3.12+), `recursion_remaining` (3.11).
    pub remaining: Offset,
    /// `py_recursion_limit`, `recursion_limit`.
    pub limit: Offset,
}

/// `datastack_chunk`, `datastack_top`, `datastack_limit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataStack {
    /// The current (newest) chunk.
    pub chunk: Offset,
    /// First free slot; the current chunk's `top` field is stale.
    pub top: Offset,
    /// End of the current chunk's slots.
    pub limit: Offset,
}

/// How a thread state leads to its newest frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FrameRoot {
    /// 3.8 – 3.10: `frame`, a `PyFrameObject`.
    FrameObject {
        /// Offset of the pointer.
        frame: Offset,
    },
    /// 3.11, 3.12: `cframe`, a structure on the C stack that holds `current_frame`.
    CFrame {
        /// Offset of the pointer in the thread state.
        cframe: Offset,
        /// Offset of `current_frame` in the `_PyCFrame`.
        current_frame: Offset,
    },
    /// 3.13+: `current_frame` in the thread state itself.
    Direct {
        /// Offset of the pointer.
        current_frame: Offset,
        /// 3.15: pointer to the sentinel that ends every complete walk.
        base_frame: Option<Offset>,
    },
}

/// The frames of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Frames {
    /// 3.8 – 3.10: `PyFrameObject` in the heap.
    Objects(ObjectFrame),
    /// 3.11+: `_PyInterpreterFrame` in the data stack, in generators, on the C stack.
    Interpreter(InterpreterFrame),
}

/// `PyFrameObject` of 3.8 – 3.10 (`Include/cpython/frameobject.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectFrame {
    /// `f_back`.
    pub back: Offset,
    /// `f_code`.
    pub code: Offset,
    /// `f_lasti`, an `int`; -1 before the first instruction.
    pub lasti: Offset,
    /// Bytes per unit of `f_lasti`: 1 up to 3.9, 2 in 3.10.
    pub lasti_unit: i32,
    /// `f_executing` up to 3.9, `f_state` in 3.10, a byte.
    pub state: Offset,
    /// What it is in a frame that runs or has called: 1 up to 3.9; in 3.10 `FRAME_EXECUTING` or
    /// `FRAME_UNWINDING`.
    pub running: [u8; 2],
}

/// `_PyInterpreterFrame` (`Include/internal/pycore_frame.h`, `pycore_interpframe_structs.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterpreterFrame {
    /// `f_code`, `f_executable` from 3.13.
    pub code: Offset,
    /// Bits of the code word that are a tag (3.13 object pointer: none; 3.14+ `_PyStackRef`).
    pub code_tag_mask: u64,
    /// `previous`.
    pub previous: Offset,
    /// `prev_instr` (3.11, 3.12), `instr_ptr` (3.13+).
    pub instr: Offset,
    /// `owner`, one byte.
    pub owner: Offset,
    /// `localsplus`: size of the fixed part.
    pub header_bytes: u64,
    /// Owner values from here on are entry frames, which run no Python code. `None` in 3.11,
    /// which has none.
    pub first_entry_owner: Option<u8>,
    /// First word that a walk needs; the words before it are not read on the C stack.
    pub needed_from: Offset,
    /// How a frame tells what it has called; `None` where that is not known (images of earlier
    /// versions of ours).
    #[serde(default)]
    pub calls: Option<Calls>,
}

/// What a frame keeps of a call that it is in. A caller saves its stack pointer before its callee
/// runs, and takes it back, which leaves a mark, when it goes on itself
/// (`_PyFrame_SetStackPointer` and `_PyFrame_GetStackPointer`, `pycore_frame.h`,
/// `pycore_interpframe.h`). What was called lies there all the time, for nothing is pushed over
/// it but the result (`CALL` and its kin, `SEND`, `FOR_ITER`, `Python/bytecodes.c`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calls {
    /// `f_func` (3.11), `f_funcobj` (3.12+): the function that a frame runs.
    pub function: Offset,
    /// Where a frame that has called keeps its stack pointer.
    pub stack_pointer: StackPointer,
    /// `gi_iframe`: from a generator or coroutine to its frame.
    pub generator_frame: Offset,
}

/// A saved stack pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StackPointer {
    /// `stacktop`, an `int`: words of `localsplus` in use; negative while the frame runs (3.11 –
    /// 3.13).
    Words(Offset),
    /// `stackpointer`, an address; NULL while the frame runs (3.14+).
    Address(Offset),
}

/// Values of `owner` that hold in every version.
pub mod owner {
    /// `FRAME_OWNED_BY_THREAD`: in the data stack.
    pub const THREAD: u8 = 0;
    /// `FRAME_OWNED_BY_GENERATOR`: inside a generator or coroutine object.
    pub const GENERATOR: u8 = 1;
    /// `FRAME_OWNED_BY_FRAME_OBJECT`: a detached copy, never on a live chain.
    pub const FRAME_OBJECT: u8 = 2;
    /// 3.12: `FRAME_OWNED_BY_CSTACK`; 3.14+: `FRAME_OWNED_BY_INTERPRETER`.
    pub const ENTRY: u8 = 3;
    /// 3.14: `FRAME_OWNED_BY_CSTACK`. No greater value exists.
    pub const LAST: u8 = 4;
}

/// `PyCodeObject` (`Include/cpython/code.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Code {
    /// `co_firstlineno`, an `int`.
    pub first_line: Offset,
    /// `co_filename`.
    pub filename: Offset,
    /// `co_name`.
    pub name: Offset,
    /// `co_qualname` (3.11+).
    pub qualname: Option<Offset>,
    /// `co_lnotab` (up to 3.9) or `co_linetable`, a `bytes` object; the version tells its format.
    pub line_table: Offset,
    /// The instructions.
    pub instructions: Instructions,
    /// `co_consts`; part of the identity.
    pub consts: Offset,
    /// `co_names`; part of the identity.
    pub names: Offset,
    /// `co_flags`, an `int`.
    pub flags: Offset,
    /// `co_version` (3.12+): unlike addresses never used twice.
    pub version: Option<Offset>,
    /// Size of the fixed part, all that is read of a code object.
    pub header_bytes: u64,
}

/// Where a code object keeps its instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Instructions {
    /// 3.8 – 3.10: `co_code`, a `bytes` object.
    Bytes {
        /// Offset of the pointer.
        code: Offset,
    },
    /// 3.11+: inside the code object.
    Inline {
        /// `co_code_adaptive`: the first instruction.
        start: Offset,
        /// `_co_firsttraceable`, an `int` in code units: a frame that has not come so far is
        /// still being built.
        first_traceable: Offset,
        /// Number of code units: `ob_size` of the variable-sized object.
        units: Offset,
        /// `co_framesize` in words (3.12+): distance from a frame to the next in its chunk.
        frame_size: FrameSize,
    },
}

/// How large the frames of a code object are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FrameSize {
    /// `co_framesize`, an `int` in words.
    Field(Offset),
    /// 3.11: `co_nlocalsplus + co_stacksize + FRAME_SPECIALS_SIZE` words
    /// (`Python/ceval.c`, `_PyThreadState_PushFrame` callers).
    Sum {
        /// `co_nlocalsplus`.
        locals: Offset,
        /// `co_stacksize`.
        stack: Offset,
        /// `FRAME_SPECIALS_SIZE`.
        specials: u64,
    },
}

/// Objects that names are made of. Fields that no version of the matrix moves are constants
/// in [`fields`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Objects {
    /// `sizeof(PyASCIIObject)`: data of a compact ASCII `str`.
    pub str_ascii_data: Offset,
    /// `sizeof(PyCompactUnicodeObject)`: data of a compact `str`; also where a `str` that is not
    /// compact keeps the pointer to its data.
    pub str_compact_data: Offset,
    /// `PyTupleObject.ob_item`.
    pub tuple_items: Offset,
    /// `PyLongObject` has `lv_tag` (3.12+) where it had `ob_size`.
    pub int_has_tag: bool,
    /// How the keys of dicts are stored.
    pub dict_keys: DictKeys,
    /// First value in a `PyDictValues`.
    pub dict_values: Offset,
    /// Where instances keep their attributes.
    pub attributes: Attributes,
    /// `PyHeapTypeObject.ht_cached_keys`.
    pub cached_keys: Offset,
}

/// Two encodings of `PyDictKeysObject` (`Include/internal/pycore_dict.h`, `Objects/dict-common.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DictKeys {
    /// 3.8 – 3.10: size as a number, 24-byte entries, indices at 40.
    Sized,
    /// 3.11+: sizes as powers of two, two kinds of entries, indices at 32.
    Log2,
}

/// Where an instance keeps its attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Attributes {
    /// 3.8 – 3.10: a dict at `tp_dictoffset`.
    DictOffset,
    /// 3.11: values at -32 or a dict at -24.
    ValuesBefore,
    /// 3.12: one word at -24; low bit set: values.
    TaggedBefore,
    /// 3.13+: a dict at -24, or if that is NULL, values after the object.
    Inline,
}
