//! Where the references of the objects of a type lie.

use onlooker_unwinder::layout::{Attributes, Layout, Offset, fields};
use onlooker_unwinder::memory::{Lookup, RemoteAddr, u64_at};

use crate::space::Space;
use crate::types::{BASE, Shape, Type};

/// `PyTypeObject.tp_members`: an array of [`MEMBER_BYTES`] each that ends with a NULL name.
const MEMBERS: Offset = 240;
/// `sizeof(PyMemberDef)` (`Include/structmember.h`): name, type, offset, flags, doc.
const MEMBER_BYTES: u64 = 40;
const MEMBER_TYPE: u64 = 8;
const MEMBER_OFFSET: u64 = 16;
/// `T_OBJECT` and `T_OBJECT_EX`: the members that are references.
const OBJECT_MEMBERS: [u32; 2] = [6, 16];
const MAX_MEMBERS: u64 = 1 << 12;
const MAX_BASES: usize = 64;
/// Where the fields of an object begin.
const HEAD_BYTES: u64 = 16;

/// A slot of `__slots__`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) offset: u64,
    /// A C string.
    pub(super) name: RemoteAddr,
}

/// Where the `__dict__` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dict {
    None,
    /// At `tp_dictoffset`.
    At(i64),
    /// Before the object, or its values are (3.11+).
    Managed,
}

/// Which words may be references though nothing is known of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scan {
    Nothing,
    /// Those between two distances from the object.
    Between(u64, u64),
    /// Those from a distance to the end of its block.
    From(u64),
}

/// Where the references of the objects of a type lie.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) shape: Shape,
    pub(super) slots: Vec<Slot>,
    pub(super) dict: Dict,
    pub(super) scan: Scan,
    /// The type itself, where its objects count as references to it.
    pub(super) class: Option<RemoteAddr>,
    /// `ht_cached_keys`, the names of attributes.
    pub(super) keys: RemoteAddr,
    /// Distance of the values behind the object (3.13+).
    pub(super) inline_values: Option<u64>,
    pub(super) basic_bytes: u64,
    pub(super) item_bytes: u64,
}

impl Plan {
    pub(super) fn new<B: AsRef<[u8]>>(space: &Space<B>, layout: &Layout, of: &Type) -> Self {
        let word = |at: RemoteAddr, offset: u64| {
            let at = at.offset(offset);
            at.and_then(|at| space.u64(at)).unwrap_or_default()
        };
        // What classes written in Python add, down to what they are made from.
        let mut slots = Vec::new();
        let mut solid = of.addr;
        for _ in 0..MAX_BASES {
            let base = word(solid, BASE);
            if base == 0 || !is_written_in_python(space, layout, solid) {
                break;
            }
            add_slots(space, RemoteAddr(word(solid, MEMBERS)), &mut slots);
            solid = RemoteAddr(base);
        }
        let inline = layout.objects.attributes == Attributes::Inline
            && of.flags & fields::FLAG_INLINE_VALUES != 0;
        let managed = layout.objects.attributes != Attributes::DictOffset
            && of.flags & fields::FLAG_MANAGED_DICT != 0;
        let dict_offset = word(of.addr, fields::TYPE_DICT_OFFSET).cast_signed();
        let dict = match dict_offset {
            _ if managed => Dict::Managed,
            0 => Dict::None,
            offset => Dict::At(offset),
        };
        let keys = if of.is_heap_type() {
            word(of.addr, layout.objects.cached_keys)
        } else {
            0
        };
        Self {
            shape: of.shape,
            slots,
            dict,
            scan: scan(
                of,
                solid,
                word(solid, fields::TYPE_BASIC_SIZE),
                word(solid, BASE) == 0,
            ),
            class: of.is_heap_type().then_some(of.addr),
            keys: RemoteAddr(keys),
            inline_values: inline.then_some(of.basic_bytes),
            basic_bytes: of.basic_bytes,
            item_bytes: of.item_bytes,
        }
    }
}

/// What is not known of the fields that the type `solid`, of which `of` is made, gives its objects.
fn scan(of: &Type, solid: RemoteAddr, basic_bytes: u64, is_root: bool) -> Scan {
    // The fields of a known struct, and what types in C add behind them.
    let beyond = |known: u64| {
        if basic_bytes > known {
            Scan::Between(known, basic_bytes)
        } else {
            Scan::Nothing
        }
    };
    match of.shape {
        Shape::Dict => beyond(48),
        Shape::List => beyond(40),
        Shape::Set => beyond(200),
        Shape::Cell => beyond(24),
        Shape::Type => Scan::From(HEAD_BYTES),
        Shape::Other if is_root => Scan::Nothing,
        Shape::Other if solid != of.addr && of.item_bytes == 0 => {
            Scan::Between(HEAD_BYTES, basic_bytes)
        }
        Shape::Other => Scan::From(HEAD_BYTES),
        Shape::Tuple
        | Shape::Str
        | Shape::Bytes
        | Shape::Int
        | Shape::Float
        | Shape::None
        | Shape::ByteArray
        | Shape::Array
        | Shape::Deque => Scan::Nothing,
    }
}

/// Whether a class statement (or `type()`) made a type, and no extension module: its C name is
/// then the UTF-8 form of the `str` that is its name (`type_new`, `Objects/typeobject.c`).
fn is_written_in_python<B: AsRef<[u8]>>(space: &Space<B>, layout: &Layout, of: RemoteAddr) -> bool {
    let word = |at: RemoteAddr, offset: u64| {
        let at = at.offset(offset);
        at.and_then(|at| space.u64(at)).unwrap_or_default()
    };
    if word(of, fields::TYPE_FLAGS) & crate::types::HEAP_TYPE == 0 {
        return false;
    }
    // `ht_name` stands three words before `ht_cached_keys` in every version.
    let name = RemoteAddr(word(of, layout.objects.cached_keys.saturating_sub(24)));
    let objects = &layout.objects;
    let c_name = word(of, fields::TYPE_NAME);
    !name.is_null()
        && (name.offset(objects.str_ascii_data) == Some(RemoteAddr(c_name))
            || word(name, objects.str_ascii_data + 8) == c_name)
}

fn add_slots<B: AsRef<[u8]>>(space: &Space<B>, members: RemoteAddr, slots: &mut Vec<Slot>) {
    for n in 0..MAX_MEMBERS {
        let member = members
            .offset(n * MEMBER_BYTES)
            .and_then(|at| space.bytes(at, MEMBER_BYTES as usize));
        let Some(member) = member else { return };
        let word = |offset| u64_at(member, offset).unwrap_or_default();
        if word(0) == 0 {
            return;
        }
        if OBJECT_MEMBERS.contains(&(word(MEMBER_TYPE) as u32)) {
            slots.push(Slot {
                offset: word(MEMBER_OFFSET),
                name: RemoteAddr(word(0)),
            });
        }
    }
}
