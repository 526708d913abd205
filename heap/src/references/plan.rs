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
/// Of a type and its bases.
const MAX_MEMBERS: usize = 1 << 12;
/// All types have fewer slots together than memory has of these: each is 1 KiB and more, and few
/// have or inherit more than some.
pub(super) const BYTES_PER_SLOT: u64 = 16;
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
    /// The type in C, or written in an extension, whose fields its objects begin with.
    pub(super) solid: RemoteAddr,
    /// `ht_cached_keys`, the names of attributes.
    pub(super) keys: RemoteAddr,
    /// Distance of the values behind the object (3.13+).
    pub(super) inline_values: Option<u64>,
    pub(super) basic_bytes: u64,
    pub(super) item_bytes: u64,
}

impl Plan {
    /// `room` is how many slots there may still be of all types.
    pub(super) fn new<B: AsRef<[u8]>>(
        space: &Space<B>,
        layout: &Layout,
        of: &Type,
        room: &mut u64,
    ) -> Self {
        let word = |at: RemoteAddr, offset: u64| {
            let at = at.offset(offset);
            at.and_then(|at| space.u64(at)).unwrap_or_default()
        };
        // What classes written in Python add, down to what they are made from.
        let mut slots = Slots {
            found: Vec::new(),
            basic_bytes: of.basic_bytes,
            most: MAX_MEMBERS.min((of.basic_bytes / 8).min(*room) as usize),
        };
        let mut solid = of.addr;
        for _ in 0..MAX_BASES {
            let base = word(solid, BASE);
            if base == 0 || base == solid.0 || !is_written_in_python(space, layout, solid) {
                break;
            }
            slots.add(space, RemoteAddr(word(solid, MEMBERS)));
            solid = RemoteAddr(base);
        }
        *room -= slots.found.len() as u64;
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
            slots: slots.found,
            dict,
            scan: scan(
                of,
                solid,
                word(solid, fields::TYPE_BASIC_SIZE),
                word(solid, BASE) == 0,
            ),
            class: of.is_heap_type().then_some(of.addr),
            solid,
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

/// The slots of a type. Each takes a word of its objects, so there are no more than words.
struct Slots {
    found: Vec<Slot>,
    basic_bytes: u64,
    most: usize,
}

impl Slots {
    fn add<B: AsRef<[u8]>>(&mut self, space: &Space<B>, members: RemoteAddr) {
        for n in 0..self.most as u64 {
            let member = members
                .offset(n * MEMBER_BYTES)
                .and_then(|at| space.bytes(at, MEMBER_BYTES as usize));
            let Some(member) = member else { return };
            let word = |offset| u64_at(member, offset).unwrap_or_default();
            if word(0) == 0 || self.found.len() >= self.most {
                return;
            }
            let offset = word(MEMBER_OFFSET);
            let is_inside = offset.is_multiple_of(8)
                && offset >= HEAD_BYTES
                && offset.saturating_add(8) <= self.basic_bytes;
            if is_inside && OBJECT_MEMBERS.contains(&(word(MEMBER_TYPE) as u32)) {
                self.found.push(Slot {
                    offset,
                    name: RemoteAddr(word(0)),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use onlooker_unwinder::layout::{Minor, tables};

    use super::*;
    use crate::space::Range;
    use crate::types::HEAP_TYPE;

    const BASE_ADDR: u64 = 0x10000;
    const TYPE: u64 = BASE_ADDR;
    /// Nothing says that this was written in Python.
    const OBJECT: u64 = BASE_ADDR + 0x400;
    const NAME: u64 = BASE_ADDR + 0x800;
    const TABLE: u64 = BASE_ADDR + 0x1000;
    const MEMBERS_THERE: u64 = 1000;

    /// The slots of a class with a member at each of these offsets.
    fn slots(base: u64, offsets: &[u64], basic_bytes: u64, room: &mut u64) -> Vec<u64> {
        let layout = tables::for_version(Minor::new(3, 12)).expect("a table");
        let mut bytes = vec![0; 0x1000 + ((MEMBERS_THERE + 1) * MEMBER_BYTES) as usize];
        let mut put = |addr: u64, word: u64| {
            let at = (addr - BASE_ADDR) as usize;
            bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
        };
        put(TYPE + BASE, base);
        put(TYPE + fields::TYPE_FLAGS, HEAP_TYPE);
        put(
            TYPE + fields::TYPE_NAME,
            NAME + layout.objects.str_ascii_data,
        );
        put(TYPE + layout.objects.cached_keys - 24, NAME);
        put(TYPE + MEMBERS, TABLE);
        for (n, offset) in (0..).zip(offsets) {
            let member = TABLE + n * MEMBER_BYTES;
            put(member, NAME);
            put(member + MEMBER_TYPE, 6);
            put(member + MEMBER_OFFSET, *offset);
        }
        let range = Range {
            start: BASE_ADDR,
            len: bytes.len() as u64,
            at: 0,
        };
        let space = Space::new(vec![range], bytes).expect("one range");
        let of = Type {
            addr: RemoteAddr(TYPE),
            raw_name: RemoteAddr(NAME),
            flags: HEAP_TYPE,
            basic_bytes,
            item_bytes: 0,
            distance: 0,
            shape: Shape::Other,
            is_ordered: false,
        };
        let plan = Plan::new(&space, &layout, &of, room);
        plan.slots.iter().map(|slot| slot.offset).collect()
    }

    #[test]
    fn slots_lie_in_their_object() {
        // In the head, between words, across the end, behind it.
        let offsets = [16, 8, 20, 36, 32, 40, u64::MAX - 7, u64::MAX];
        let mut room = 100;
        assert_eq!(slots(OBJECT, &offsets, 40, &mut room), [16, 32]);
        assert_eq!(room, 98);
    }

    #[test]
    fn no_class_has_more_slots_than_words() {
        let same = [16; MEMBERS_THERE as usize];
        let mut room = 100;
        assert_eq!(slots(OBJECT, &same, 40, &mut room).len(), 5);
        assert_eq!(slots(OBJECT, &same, 1 << 28, &mut room).len(), 95);
        assert_eq!(slots(OBJECT, &same, 1 << 28, &mut room).len(), 0);
        // One that is its own base ends.
        assert_eq!(slots(TYPE, &same, 40, &mut 100).len(), 0);
    }
}
