//! Which blocks belong to an object: the keys of a dict, the items of a list, the table of a set,
//! the values of an instance, buffers.

use onlooker_unwinder::layout::{Attributes, Layout, fields};
use onlooker_unwinder::memory::{Lookup, RemoteAddr};

use crate::blocks::{Blocks, NO_TYPE, Use};
use crate::space::Space;
use crate::types::{Shape, Type};

/// `PySetObject.smalltable`: the table of a set of up to four elements.
const SET_SMALL_TABLE: u64 = 64;
/// `PyByteArrayObject.ob_bytes`.
const BYTEARRAY_BYTES: u64 = 32;
/// `arrayobject.ob_item` (`Modules/arraymodule.c`).
const ARRAY_ITEMS: u64 = 24;
/// `dequeobject.leftblock`, `.rightblock`, and `struct BLOCK.rightlink`
/// (`Modules/_collectionsmodule.c`).
pub(crate) const DEQUE_LEFT: u64 = 24;
const DEQUE_RIGHT: u64 = 32;
pub(crate) const DEQUE_ITEMS: u64 = 64;
pub(crate) const DEQUE_LINK: u64 = 8 + 8 * DEQUE_ITEMS;
/// `PyODictObject.od_first`, `.od_last` and `.od_fast_nodes` behind those of a dict, and
/// `_ODictNode.next` (`Objects/odictobject.c`, the same in 3.8 - 3.15).
const ORDERED_FIRST: u64 = 48;
const ORDERED_LAST: u64 = 56;
const ORDERED_TABLE: u64 = 64;
const ORDERED_NEXT: u64 = 16;
/// `sizeof(_ODictNode)`.
const ORDERED_NODE_BYTES: u64 = 32;
/// `PyDictValues.embedded` (3.13+): the values lie in the instance.
const VALUES_EMBEDDED: u64 = 2;
const STR_COMPACT: u32 = 1 << 5;
const STR_ASCII: u32 = 1 << 6;

/// Whether objects of a type can have separate blocks.
pub(crate) fn may_have_parts(of: &Type) -> bool {
    match of.shape {
        Shape::Dict
        | Shape::List
        | Shape::Set
        | Shape::Str
        | Shape::ByteArray
        | Shape::Array
        | Shape::Deque
        | Shape::Type => true,
        Shape::Tuple
        | Shape::Bytes
        | Shape::Int
        | Shape::Float
        | Shape::None
        | Shape::Cell
        | Shape::Other => of.flags & fields::FLAG_MANAGED_DICT != 0,
    }
}

/// Calls `each` with the address of every separate block of an object, and what it is; it answers
/// whether the block was still without an owner, which ends a chain that leads in a circle.
pub(crate) fn parts<B: AsRef<[u8]>>(
    space: &Space<B>,
    layout: &Layout,
    of: &Type,
    object: RemoteAddr,
    mut each: impl FnMut(RemoteAddr, Use) -> bool,
) {
    let word = |offset: u64| {
        let at = object.offset(offset)?;
        space.u64(at).filter(|word| *word != 0).map(RemoteAddr)
    };
    if of.flags & fields::FLAG_MANAGED_DICT != 0
        && let Some(values) = managed_values(space, layout, object)
    {
        each(values, Use::Values);
    }
    if of.is_ordered {
        ordered_parts(space, object, &mut each);
    }
    let mut give = |part: Option<RemoteAddr>, as_what: Use| {
        if let Some(part) = part {
            each(part, as_what);
        }
    };
    match of.shape {
        Shape::Dict => match word(fields::DICT_VALUES) {
            // Its keys are those of a class then.
            Some(values) if !is_embedded(space, layout, values) => give(Some(values), Use::Values),
            Some(_) => {}
            None => give(word(fields::DICT_KEYS), Use::DictKeys),
        },
        Shape::List => give(word(fields::LIST_ITEMS), Use::ListItems),
        Shape::Set => {
            let small = object.offset(SET_SMALL_TABLE);
            give(
                word(fields::SET_TABLE).filter(|table| Some(*table) != small),
                Use::SetTable,
            );
        }
        Shape::Str => {
            let state = object
                .offset(fields::STR_STATE)
                .and_then(|at| space.i32(at));
            let state = state.unwrap_or_default().cast_unsigned();
            if state & STR_COMPACT == 0 {
                give(word(layout.objects.str_compact_data), Use::Buffer);
            } else if state & STR_ASCII == 0 {
                // `PyCompactUnicodeObject.utf8`: the cache of its UTF-8 form.
                give(word(layout.objects.str_ascii_data + 8), Use::Buffer);
            }
        }
        Shape::ByteArray => give(word(BYTEARRAY_BYTES), Use::Buffer),
        Shape::Array => give(word(ARRAY_ITEMS), Use::Buffer),
        Shape::Deque => {
            // As many as its items need: a chain may lead in a circle.
            let items = word(fields::OB_SIZE).map_or(0, |items| items.0);
            let most = items.min(space.len_bytes()) / DEQUE_ITEMS + 2;
            let mut block = word(DEQUE_LEFT);
            let last = word(DEQUE_RIGHT);
            for _ in 0..most {
                let Some(here) = block else { break };
                if !each(here, Use::Buffer) || block == last {
                    break;
                }
                let link = here.offset(DEQUE_LINK).and_then(|at| space.u64(at));
                block = link.filter(|link| *link != 0).map(RemoteAddr);
            }
        }
        Shape::Type if of.flags & fields::FLAG_TYPE != 0 => {
            let flags = object
                .offset(fields::TYPE_FLAGS)
                .and_then(|at| space.u64(at));
            // Static types end before it.
            if flags.unwrap_or_default() & (1 << 9) != 0 {
                give(word(layout.objects.cached_keys), Use::DictKeys);
            }
        }
        _ => {}
    }
}

/// The order of an `OrderedDict`: a node for each key, linked, and a table of them that goes with the
/// dict's.
fn ordered_parts<B: AsRef<[u8]>>(
    space: &Space<B>,
    object: RemoteAddr,
    each: &mut impl FnMut(RemoteAddr, Use) -> bool,
) {
    let word = |of: RemoteAddr, offset: u64| {
        let word = of.offset(offset).and_then(|at| space.u64(at));
        word.filter(|word| *word != 0).map(RemoteAddr)
    };
    if let Some(table) = word(object, ORDERED_TABLE) {
        each(table, Use::Buffer);
    }
    let last = word(object, ORDERED_LAST);
    let mut node = word(object, ORDERED_FIRST);
    // A chain may lead in a circle.
    for _ in 0..space.len_bytes() / ORDERED_NODE_BYTES {
        let Some(here) = node else { break };
        if !each(here, Use::Buffer) || node == last {
            break;
        }
        node = word(here, ORDERED_NEXT);
    }
}

/// The values of an instance that lie in a block of their own (3.11, 3.12).
pub(crate) fn managed_values<B: AsRef<[u8]>>(
    space: &Space<B>,
    layout: &Layout,
    object: RemoteAddr,
) -> Option<RemoteAddr> {
    let before = |distance: u64| object.0.checked_sub(distance).map(RemoteAddr);
    match layout.objects.attributes {
        Attributes::ValuesBefore => {
            let values = space.u64(before(32)?)?;
            (values != 0).then_some(RemoteAddr(values))
        }
        Attributes::TaggedBefore => {
            let word = space.u64(before(24)?)?;
            (word & 1 == 1).then(|| RemoteAddr(word.wrapping_add(1)))
        }
        Attributes::DictOffset | Attributes::Inline => None,
    }
}

/// Whether the values of a dict lie in the instance whose attributes they are (3.13+).
pub(crate) fn is_embedded<B: AsRef<[u8]>>(
    space: &Space<B>,
    layout: &Layout,
    values: RemoteAddr,
) -> bool {
    layout.objects.attributes == Attributes::Inline
        && values
            .offset(VALUES_EMBEDDED)
            .and_then(|at| space.bytes(at, 1))
            .is_none_or(|byte| byte[0] != 0)
}

/// Notes that the block that holds `part` belongs to an object; its size, 0 where it is none or
/// belongs to another one already.
pub(crate) fn claim(blocks: &mut Blocks, part: RemoteAddr, as_what: Use) -> u64 {
    let Some(block) = blocks.locate(part) else {
        return 0;
    };
    let may = match blocks.use_of(block.index) {
        Use::Parked | Use::Unowned => true,
        // Words of a table can look like an object's header.
        Use::Object => as_what != Use::Buffer,
        _ => false,
    };
    if !may {
        return 0;
    }
    blocks.set(block.index, as_what, NO_TYPE);
    block.bytes
}
