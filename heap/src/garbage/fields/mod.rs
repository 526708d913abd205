//! Which words of an object its collector counts as references.
//!
//! The collector knows of each object what `tp_traverse` of its type visits
//! (`subtract_refs`, `Modules/gcmodule.c` up to 3.12, `Python/gc.c` after it), and so must whoever proves
//! that nobody else refers to an object. Containers, instances, classes, functions, methods, frames and
//! generators are known here, field by field. Of a type that is not, any word may be a reference.

mod frames;
mod kinds;

use onlooker_unwinder::layout::{Layout, Minor, fields};
use onlooker_unwinder::memory::{Lookup, RemoteAddr};

use crate::objects::Object;
use crate::references::{How, References, VALUES_VALID};
use crate::space::Space;
use crate::types::{Type, c_string};
use frames::{BEFORE_FRAME_ORIGIN, FRAME_DATA, Inside};
use kinds::{Fields, fields_of};

/// `PyTypeObject.tp_weaklistoffset`.
const WEAK_LIST_OFFSET: u64 = 208;
/// `PyWeakReference.wr_callback`: the only strong field (`Include/cpython/weakrefobject.h`, 3.8:
/// `Include/weakrefobject.h`).
const WEAK_CALLBACK: u64 = 24;
/// What `type_traverse` visits beside `tp_dict` and `ht_module` (`Objects/typeobject.c`):
/// `tp_base`, `tp_bases`, `tp_mro`, `tp_cache`.
const CLASS_FIELDS: [u64; 4] = [256, 336, 344, 352];
/// `tp_weaklist`.
const CLASS_WEAK_LIST: u64 = 368;

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
}
