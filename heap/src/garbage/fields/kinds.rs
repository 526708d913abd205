//! Which fields the objects of a type have that a collector visits.

use onlooker_unwinder::layout::{Frames, Layout};

use crate::types::{Shape, Type};

/// `Py_TPFLAGS_BASE_EXC_SUBCLASS`.
const FLAG_EXCEPTION: u64 = 1 << 30;

/// Types in C all fields of which are counted references, or none: but that at `tp_weaklistoffset`.
/// `tp_traverse` of each visits whatever of them can be tracked (`Objects/`, `Modules/itertoolsmodule.c`,
/// `Modules/_functoolsmodule.c`, 3.8 – 3.15). `itertools.groupby` is not among them, for it has one that is
/// borrowed. A class of that name that is written in Python is none of them.
const ALL_COUNTED: &[&str] = &[
    "builtin_function_or_method",
    "builtin_method",
    "callable_iterator",
    "classmethod",
    "classmethod_descriptor",
    "coroutine_wrapper",
    "dict_itemiterator",
    "dict_items",
    "dict_keyiterator",
    "dict_keys",
    "dict_valueiterator",
    "dict_values",
    "enumerate",
    "filter",
    "function",
    "functools.partial",
    "getset_descriptor",
    "instancemethod",
    "iterator",
    "itertools._grouper",
    "itertools.accumulate",
    "itertools.chain",
    "itertools.compress",
    "itertools.count",
    "itertools.cycle",
    "itertools.dropwhile",
    "itertools.filterfalse",
    "itertools.islice",
    "itertools.repeat",
    "itertools.starmap",
    "itertools.takewhile",
    "itertools.zip_longest",
    "list_iterator",
    "list_reverseiterator",
    "map",
    "mappingproxy",
    "member_descriptor",
    "method",
    "method-wrapper",
    "method_descriptor",
    "module",
    "property",
    "reversed",
    "set_iterator",
    "slice",
    "staticmethod",
    "super",
    "traceback",
    "tuple_iterator",
    "types.GenericAlias",
    "zip",
];

/// What is known of the fields of the objects of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fields {
    Unknown,
    /// Counted up to here.
    Counted(u64),
    WeakReference,
    /// One whose class is no type in C but `type` itself.
    Class {
        is_plain: bool,
    },
    /// 3.8 – 3.10.
    FrameObject,
    /// 3.11+.
    Frame,
    /// 3.11+: where the frame is, and whether the origin is visited.
    Generator(u64, bool),
}

/// What is known of the objects of a type that begin as those of the type `name` do.
pub(super) fn fields_of(layout: &Layout, of: &Type, name: &str, basic_bytes: u64) -> Fields {
    if of.shape == Shape::Type {
        return Fields::Class {
            is_plain: name == "type",
        };
    }
    if of.shape != Shape::Other {
        return Fields::Unknown;
    }
    let frame = match layout.frames {
        Frames::Interpreter(frame) => Some(frame),
        Frames::Objects(_) => None,
    };
    // Up to 3.8 without the module.
    match name.strip_prefix("weakref.").unwrap_or(name) {
        "weakref" | "weakproxy" | "weakcallableproxy" | "ReferenceType" | "ProxyType"
        | "CallableProxyType" => Fields::WeakReference,
        "frame" if frame.is_none() => Fields::FrameObject,
        "frame" => Fields::Frame,
        "generator" | "coroutine" | "async_generator" => match frame {
            Some(frame) => match basic_bytes.checked_sub(frame.header_bytes) {
                Some(start) if start >= 64 => Fields::Generator(start, name == "async_generator"),
                _ => Fields::Unknown,
            },
            // `cr_origin` is not visited.
            None if name == "coroutine" => Fields::Counted(basic_bytes.saturating_sub(8)),
            None => Fields::Counted(basic_bytes),
        },
        name if ALL_COUNTED.contains(&name) => Fields::Counted(basic_bytes),
        _ if of.flags & FLAG_EXCEPTION != 0 => Fields::Counted(basic_bytes),
        _ => Fields::Unknown,
    }
}
