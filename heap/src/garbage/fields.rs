//! Which words of an object its collector counts as references.
//!
//! The collector knows of each object what `tp_traverse` of its type visits
//! (`subtract_refs`, `Modules/gcmodule.c` up to 3.12, `Python/gc.c` after it), and so must whoever proves
//! that nobody else refers to an object. Containers, instances, classes, functions, methods, frames and
//! generators are known here, field by field. Of a type that is not, any word may be a reference.

use onlooker_unwinder::layout::{Frames, Layout, Minor, fields, owner};
use onlooker_unwinder::memory::{Lookup, RemoteAddr};

use crate::objects::Object;
use crate::references::{How, References, VALUES_VALID};
use crate::space::Space;
use crate::types::{Shape, Type, c_string};

/// `PyTypeObject.tp_weaklistoffset`.
const WEAK_LIST_OFFSET: u64 = 208;
/// `Py_TPFLAGS_BASE_EXC_SUBCLASS`.
const FLAG_EXCEPTION: u64 = 1 << 30;
/// `PyWeakReference.wr_callback`: the only strong field (`Include/cpython/weakrefobject.h`, 3.8:
/// `Include/weakrefobject.h`).
const WEAK_CALLBACK: u64 = 24;
/// What `type_traverse` visits beside `tp_dict` and `ht_module` (`Objects/typeobject.c`):
/// `tp_base`, `tp_bases`, `tp_mro`, `tp_cache`.
const CLASS_FIELDS: [u64; 4] = [256, 336, 344, 352];
/// `tp_weaklist`.
const CLASS_WEAK_LIST: u64 = 368;
/// Words in front of the frame in a generator (3.11+): `gi_origin_or_finalizer`, and the byte
/// `gi_frame_state` (`_PyGenObject_HEAD`, `Include/cpython/genobject.h`).
const BEFORE_FRAME_ORIGIN: u64 = 16;
const BEFORE_FRAME_STATE: u64 = 5;
/// `PyFrameObject.f_frame` (3.11+).
const FRAME_DATA: u64 = 24;

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

/// What a word of an object is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Worth {
    /// A reference that the collector visits and the count of its target includes.
    Counted,
    /// It leads on, but the collector does not visit it, or the count does not include it.
    Followed,
    /// Perhaps a reference that the collector visits, perhaps nothing.
    Perhaps,
    /// Nothing.
    Nothing,
}

/// What is known of the fields of the objects of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fields {
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

/// The frame within a generator or a frame object, as far as it holds references.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Inside {
    start: u64,
    /// End of the live part of its stack; `None` while it runs, when nobody knows.
    end: Option<u64>,
}

/// What is known of a type.
#[derive(Clone, Copy, Debug)]
struct OfType {
    fields: Fields,
    /// Where the list of weak references to an object is.
    weak_list: u64,
    /// What the reference of an object to its class is worth.
    class: Worth,
    /// 3.13: where the values of an instance are. 3.13.0 visits its dict only where they are not in use
    /// (`PyObject_VisitManagedDict`, `Objects/dictobject.c`), later ones always.
    values: Option<u64>,
}

/// Tells the references of objects as the collector sees them.
pub(super) struct Visits<'a, B> {
    space: &'a Space<B>,
    layout: &'a Layout,
    references: References<'a, B>,
    /// By number of the type.
    of_type: Vec<OfType>,
}

impl<'a, B: AsRef<[u8]>> Visits<'a, B> {
    pub(super) fn new(
        space: &'a Space<B>,
        layout: &'a Layout,
        references: References<'a, B>,
        types: &[Type],
    ) -> Self {
        let of_type = (0..).zip(types).map(|(number, of)| {
            let word = |at: RemoteAddr, offset| at.offset(offset).and_then(|at| space.u64(at));
            let solid = references.solid(number).unwrap_or(of.addr);
            let name = word(solid, fields::TYPE_NAME)
                .and_then(|name| c_string(space, RemoteAddr(name)))
                .unwrap_or_default();
            let basic_bytes = word(solid, fields::TYPE_BASIC_SIZE).unwrap_or_default();
            let known = fields_of(layout, of, &name, basic_bytes);
            let weak_list = word(of.addr, WEAK_LIST_OFFSET).unwrap_or_default();
            // `subtype_traverse` visits the class of instances of classes written in Python, types in C do
            // so themselves from 3.9 on (bpo-40217).
            let class = if solid == of.addr && layout.version == Minor::new(3, 8) {
                Worth::Followed
            } else {
                Worth::Counted
            };
            OfType {
                fields: known,
                weak_list,
                class,
                values: (layout.version == Minor::new(3, 13)
                    && of.flags & fields::FLAG_INLINE_VALUES != 0)
                    .then_some(of.basic_bytes),
            }
        });
        Self {
            space,
            layout,
            of_type: of_type.collect(),
            references,
        }
    }

    /// Begins a pass over all objects, as [`References::begin`].
    pub(super) fn begin(&self) {
        self.references.begin();
    }

    /// Calls `each` with every word that may be a reference of an object, and its worth.
    pub(super) fn of(&self, object: &Object, mut each: impl FnMut(u64, Worth)) {
        let Some(of_type) = self.of_type.get(object.of as usize) else {
            return;
        };
        let known = of_type.fields;
        let inside = self.inside(object, known);
        self.references.of(object, |word, how| {
            let worth = match how {
                How::Word(offset) if offset == of_type.weak_list => Worth::Nothing,
                How::Word(offset) => self.field(object, known, inside, offset),
                How::Class => of_type.class,
                How::Dict
                    if of_type
                        .values
                        .is_some_and(|at| self.uses_values(object, at)) =>
                {
                    Worth::Followed
                }
                // Strings.
                How::AttributeName => Worth::Nothing,
                _ => Worth::Counted,
            };
            if worth != Worth::Nothing {
                each(word, worth);
            }
        });
    }

    fn uses_values(&self, object: &Object, values: u64) -> bool {
        let valid = object.addr.offset(values + VALUES_VALID);
        let valid = valid.and_then(|at| self.space.bytes(at, 1));
        valid.is_some_and(|valid| valid[0] == 1)
    }

    fn field(&self, object: &Object, known: Fields, inside: Option<Inside>, at: u64) -> Worth {
        match known {
            Fields::Unknown => Worth::Perhaps,
            Fields::Counted(end) if at < end => Worth::Counted,
            Fields::WeakReference if at == WEAK_CALLBACK => Worth::Counted,
            Fields::Counted(_) | Fields::WeakReference => Worth::Nothing,
            Fields::Class { .. } if at == CLASS_WEAK_LIST => Worth::Nothing,
            Fields::Class { is_plain } => {
                // 3.9+, behind `ht_cached_keys`.
                let is_module = at == self.layout.objects.cached_keys + 8
                    && self.layout.version > Minor::new(3, 8);
                if is_module || CLASS_FIELDS.contains(&at) {
                    Worth::Counted
                } else if is_plain {
                    // `tp_subclasses` and `ht_slots` are not visited, and so are held from outside.
                    Worth::Nothing
                } else {
                    Worth::Perhaps
                }
            }
            Fields::FrameObject => self.frame_object(object, at),
            Fields::Frame => match inside {
                Some(inside) if at >= inside.start => self.frame(inside, at),
                _ if at == FRAME_DATA => Worth::Nothing,
                // Where the frame is elsewhere, the room for it was never filled.
                None if at >= self.frame_room() => Worth::Nothing,
                _ => Worth::Counted,
            },
            Fields::Generator(start, _) if at >= start => match inside {
                Some(inside) => self.frame(inside, at),
                None => Worth::Nothing,
            },
            Fields::Generator(start, false) if at == start - BEFORE_FRAME_ORIGIN => Worth::Followed,
            Fields::Generator(..) => Worth::Counted,
        }
    }

    /// `_f_frame_data`: three words in 3.11 and 3.12, five in 3.13, six after it.
    fn frame_room(&self) -> u64 {
        match self.layout.version.minor {
            ..=12 => 48,
            13 => 64,
            _ => 72,
        }
    }

    /// The frame in an object that owns one, if it holds references.
    fn inside(&self, object: &Object, known: Fields) -> Option<Inside> {
        let Frames::Interpreter(frame) = self.layout.frames else {
            return None;
        };
        let start = match known {
            Fields::Generator(start, _) => start,
            Fields::Frame => {
                let data = self.references.word(object.addr, FRAME_DATA);
                data.checked_sub(object.addr.0)
                    .filter(|start| *start == self.frame_room())?
            }
            _ => return None,
        };
        let byte = |offset| {
            let at = object.addr.offset(offset)?;
            Some(self.space.bytes(at, 1)?[0])
        };
        let version = self.layout.version;
        let is_alive = if known == Fields::Frame {
            byte(start + frame.owner) == Some(owner::FRAME_OBJECT)
        } else {
            // `FRAME_COMPLETED`, `FRAME_CLEARED` (`pycore_frame.h`): the fields of such a frame are
            // stale. 3.14 empties them.
            let state = byte(start - BEFORE_FRAME_STATE)?.cast_signed();
            version >= Minor::new(3, 14) || state <= 0
        };
        // `stackpointer` (3.14+) or `stacktop`, a number, stand behind the instruction.
        let top = self.references.word(object.addr, start + frame.instr + 8);
        let stack = start + frame.header_bytes;
        let end = if version >= Minor::new(3, 14) {
            top.checked_sub(object.addr.0)
        } else {
            let slots = u64::try_from((top as u32).cast_signed()).ok();
            slots.map(|slots| stack + 8 * slots)
        };
        let end = end.filter(|end| (stack..stack + object.block.bytes).contains(end));
        is_alive.then_some(Inside { start, end })
    }

    /// A word of an interpreter's frame (`_PyFrame_Traverse`, `Python/frame.c`).
    fn frame(&self, inside: Inside, at: u64) -> Worth {
        let Frames::Interpreter(frame) = self.layout.frames else {
            return Worth::Perhaps;
        };
        let field = at - inside.start;
        if field >= frame.header_bytes {
            return match inside.end {
                Some(end) if at < end => Worth::Counted,
                Some(_) => Worth::Nothing,
                None => Worth::Followed,
            };
        }
        // Function, locals, code, frame object; those between are borrowed.
        let strong = if self.layout.version == Minor::new(3, 11) {
            [0, 24, 32, 40]
        } else {
            [0, 16, 40, 48]
        };
        if strong.contains(&field) {
            Worth::Counted
        } else {
            Worth::Followed
        }
    }

    /// A word of a frame object of 3.8 – 3.10 (`frame_traverse`, `Objects/frameobject.c`).
    fn frame_object(&self, object: &Object, at: u64) -> Worth {
        const FIRST_STRONG: std::ops::Range<u64> = 24..64;
        const VALUE_STACK: u64 = 64;
        let is_310 = self.layout.version == Minor::new(3, 10);
        // 3.10 has a depth in place of `f_stacktop`, behind `f_trace`.
        let (trace, generator, locals) = if is_310 { (72, 88, 352) } else { (80, 96, 360) };
        if FIRST_STRONG.contains(&at) || at == trace {
            return Worth::Counted;
        }
        if at < locals {
            // `f_gen` is borrowed.
            return if at == generator {
                Worth::Nothing
            } else {
                Worth::Followed
            };
        }
        let word = |offset| self.references.word(object.addr, offset);
        let stack = word(VALUE_STACK).saturating_sub(object.addr.0);
        let end = if is_310 {
            let depth = (word(80) as u32).cast_signed();
            u64::try_from(depth)
                .ok()
                .map(|depth| stack.saturating_add(8 * depth))
        } else {
            word(72).checked_sub(object.addr.0)
        };
        match end {
            _ if at < stack => Worth::Counted,
            Some(end) if at < end => Worth::Counted,
            Some(_) => Worth::Nothing,
            None => Worth::Followed,
        }
    }
}

/// What is known of the objects of a type that begin as those of the type `name` do.
fn fields_of(layout: &Layout, of: &Type, name: &str, basic_bytes: u64) -> Fields {
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
